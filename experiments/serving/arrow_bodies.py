"""Bodies as streams of Arrow (IPC): a column for each input, and the answers as a table with units in the schema.

A stream comes from somebody else. Its messages are checked before memory is allocated for them, its buffers are checked
in full, and only plain types are taken: texts, numbers, booleans and lists of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from data.spec import Variable
from experiments.serving.json_bodies import unknown
from experiments.serving.limits import RequestLimits
from experiments.serving.refusals import malformed, unusable
from experiments.serving.rows import MISSING, Answer, Column, Question
from experiments.serving.values import is_numeric

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
REMEDY = "Send a stream that pyarrow.ipc.new_stream writes, with a column for each input; GET /spec names them"
#: Columns beside the outputs.
ERROR_KIND, REASON = "error_kind", "reason"
#: Types of messages, and the places of the entries of their tables (Arrow's Message.fbs).
_DICTIONARY, _RECORDS = 2, 3
_HEADER_TYPE, _HEADER, _OF_DICTIONARY, _COMPRESSION = 1, 2, 1, 3


def read_arrow(body: bytes, inputs: Sequence[Variable], limits: RequestLimits) -> Question:
    """The rows of a body.

    Args:
        body: the body.
        inputs: variables of a request.
        limits: the limits of the server.

    Raises:
        RequestError: 400: it is no such stream, or its buffers are wrong; 413: it has too many rows; 422: it has
            other columns, or a column has a type that is not taken.
    """
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(pa.BufferReader(body)) as stream:
            _refuse_types(stream.schema, inputs)
            batches = []
            rows = 0
            for batch in stream:
                rows += batch.num_rows
                limits.refuse_rows(max(rows, 1))
                batch.validate(full=True)
                batches.append(batch)
            table = pa.Table.from_batches(batches, stream.schema)
    except (pa.ArrowException, OSError, ValueError, struct.error, IndexError, MemoryError) as error:
        raise malformed(f"it is no stream of Arrow: {error}", REMEDY) from None
    limits.refuse_rows(table.num_rows)
    by_name = {variable.name: variable for variable in inputs}
    columns = {name: _values(table.column(name), by_name[name]) for name in table.column_names}
    return Question(table.num_rows, columns)


def _refuse_types(schema: pa.Schema, inputs: Sequence[Variable]) -> None:
    names = [variable.name for variable in inputs]
    if len(set(schema.names)) < len(schema.names):
        raise unusable("two columns have the same name", remedy="Send one column for each input")
    for variable in inputs:
        if variable.name not in schema.names:
            continue
        kind = schema.field(variable.name).type
        inner = kind
        while pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner):
            inner = inner.value_type
        numbers = pa.types.is_integer(inner) or pa.types.is_floating(inner)
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (numbers if is_numeric(variable) else texts):
            taken = "numbers or lists of numbers" if is_numeric(variable) else "texts (utf8)"
            raise unusable(f"its type is {kind}", variable.name, f"Cast the column to {taken}")
    for name in schema.names:
        if name not in names:
            problem, where, remedy = unknown(name, names)
            raise unusable(problem, where, remedy)


def _values(column: pa.ChunkedArray, variable: Variable) -> Column:
    """The values of a column: an array of numbers, or a list with a text, an array or `MISSING` for each row."""
    kind = column.type
    if not pa.types.is_nested(kind):
        if is_numeric(variable) and not column.null_count and not pa.types.is_float16(kind):
            numbers: np.ndarray = column.to_numpy()
            return numbers
        return [MISSING if value is None else value for value in column.to_pylist()]
    return [_array(value) for chunk in column.chunks for value in chunk]


def _array(scalar: Any) -> Any:
    """A list of a column as an array; lists of different lengths stay lists, which are refused later."""
    if not scalar.is_valid:
        return MISSING
    values = scalar.values
    shape = [len(values)]
    while pa.types.is_nested(values.type):
        inner = values.flatten()
        lengths = {0} if not len(values) else set(pa.compute.list_value_length(values).to_pylist())
        if len(lengths) > 1 or None in lengths:
            return scalar.as_py()
        shape.append(lengths.pop())
        values = inner
    if values.null_count:
        return scalar.as_py()
    return values.to_numpy(zero_copy_only=False).reshape(shape)


def _refuse_compressed(body: bytes) -> None:
    """Refuse a stream with compressed buffers, of which a small one may fill the memory.

    Raises:
        RequestError: a message says that its buffers are compressed.
    """
    reader = pa.ipc.MessageReader.open_stream(pa.BufferReader(body))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if _is_compressed(message.metadata.to_pybytes()):
            raise unusable(
                "its buffers are compressed", remedy="Write the stream without compression (options of IpcWriteOptions)"
            )


def _is_compressed(metadata: bytes) -> bool:
    """Whether the FlatBuffer of a message names a compression of its buffers."""
    root = struct.unpack_from("<I", metadata, 0)[0]
    place = _entry(metadata, root, _HEADER_TYPE)
    kind = 0 if place is None else metadata[place]
    if kind not in (_DICTIONARY, _RECORDS):
        return False
    records = _table(metadata, root, _HEADER)
    if records is not None and kind == _DICTIONARY:
        records = _table(metadata, records, _OF_DICTIONARY)
    return records is not None and _entry(metadata, records, _COMPRESSION) is not None


def _entry(buffer: bytes, table: int, number: int) -> int | None:
    """The place of an entry of a table of a FlatBuffer; None if the table lacks it."""
    offsets = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, offsets)[0]
    at = 4 + 2 * number
    if at + 2 > size:
        return None
    offset = struct.unpack_from("<H", buffer, offsets + at)[0]
    return table + offset if offset else None


def _table(buffer: bytes, table: int, number: int) -> int | None:
    """The place of a table to which an entry of another one points."""
    place = _entry(buffer, table, number)
    return None if place is None else place + struct.unpack_from("<I", buffer, place)[0]


def write_arrow(answer: Answer, about: Mapping[str, Any], outputs: Mapping[str, Variable]) -> bytes:
    """The answer to a request as a stream: a column for each output, null where a row is refused, and the reason.

    Args:
        answer: the answer.
        about: metadata of the schema, such as the fingerprint.
        outputs: name of each output -> the variable, whose unit stands in the metadata of its field as `unit`.
    """
    refused = np.zeros(answer.rows, bool)
    refused[list(answer.refusals)] = True
    fields, arrays = [], []
    for name, values in answer.columns.items():
        array = _column(values, refused, outputs[name])
        units = outputs[name].units
        fields.append(pa.field(name, array.type, metadata=None if units in ("", "1") else {"unit": units}))
        arrays.append(array)
    whys = [answer.refusals.get(row) for row in range(answer.rows)]
    for name, texts in (
        (ERROR_KIND, [None if why is None else why.kind for why in whys]),
        (REASON, [None if why is None else str(why.plain(row)["problem"]) for row, why in enumerate(whys)]),
    ):
        fields.append(pa.field(name, pa.string()))
        arrays.append(pa.array(texts, pa.string()))
    schema = pa.schema(fields, {key: str(value) for key, value in about.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return sink.getvalue().to_pybytes()


def _column(values: Column, refused: np.ndarray, variable: Variable) -> pa.Array:
    """A column of Arrow of numbers, or of nested lists as deep as the output has dims."""
    dtype = np.dtype(variable.dtype)
    if not variable.dims:
        return pa.array(np.asarray(values, dtype), mask=refused)
    rows = [None if refused[i] or value is None else np.asarray(value, dtype) for i, value in enumerate(values)]
    shapes = [(0,) * len(variable.dims) if row is None else row.shape for row in rows]
    full = [row.ravel() for row in rows if row is not None]
    array = pa.array(np.concatenate(full) if full else np.zeros(0, dtype))
    for level in reversed(range(len(variable.dims))):
        lengths = [np.full(int(np.prod(shape[:level], dtype=int)), shape[level]) for shape in shapes]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        mask = None if level else pa.array([row is None for row in rows])
        array = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), array, mask=mask)
    return array
