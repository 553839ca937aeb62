"""Reads Parquet files of unknown origin in batches that fit into memory, however strongly they are compressed.

A page of a column is unpacked as a whole, and a dictionary stands for as many copies of a text as there are rows: a
file of a few kilobytes may hold gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.errors import InputError
from data.formats.damage import parsing
from data.molecules.smiles import MAX_CHARACTERS
from data.rejects import KEPT_TEXT
from data.remote.path import RemotePath

#: Bytes of a batch of rows, by what the file says of its columns.
BATCH_BYTES = 1 << 25
#: A column of a row group may unpack to so many bytes, or else to so many times what it has in the file.
UNPACKED_BYTES = 1 << 28
UNPACKED_RATIO = 100
#: Bytes of an object at a URL that are asked for at once, at least; Arrow asks for whole chunks of columns.
AT_ONCE = 1 << 17
PROBLEM, REMEDY = "cannot be read as Parquet", "It may be cut short or damaged: write it again"


def parquet_file(path: Path) -> Any:
    """What Arrow opens: the path of a file of this machine, or the stream of an object at a URL.

    Arrow's own file systems take credentials from elsewhere and do not refuse an object that changes meanwhile.
    """
    return pa.PythonFile(path.stream(AT_ONCE), "r") if isinstance(path, RemotePath) else path


def parquet_schema(path: Path) -> pa.Schema:
    """Names and types of the columns.

    Raises:
        InputError: it is no Parquet file.
    """
    with parsing(path, PROBLEM, remedy=REMEDY):
        schema = pq.read_schema(parquet_file(path))
        _ = schema.names  # one that is no text fails here
    return schema


def parquet_rows(path: Path) -> int:
    """Number of rows.

    Raises:
        InputError: it is no Parquet file.
    """
    with parsing(path, PROBLEM, remedy=REMEDY):
        return int(pq.read_metadata(parquet_file(path)).num_rows)


def parquet_batches(
    path: Path, columns: Sequence[str], rows: int, position: int = 0
) -> Iterator[tuple[pa.RecordBatch, int, float]]:
    """Rows of some columns from `position` on, whole row groups before it unread.

    Returns:
        At most `rows` rows at a time, the number of the row after them, and the share of the file up to there.

    Raises:
        InputError: it is no Parquet file; or, after the rows before that, it cannot be read on; or it would fill the
            memory.
    """
    with parsing(path, PROBLEM, remedy=REMEDY):
        file = pq.ParquetFile(parquet_file(path))
    with file:
        with parsing(path, PROBLEM, remedy=REMEDY):
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            total = max(1, file.metadata.num_rows)
        rows = rows_at_once(file, path, columns, rows)
        first, before = 0, 0
        while first < len(sizes) and before + sizes[first] <= position:
            before += sizes[first]
            first += 1
        with parsing(path, PROBLEM, remedy=REMEDY):
            batches = file.iter_batches(rows, row_groups=list(range(first, len(sizes))), columns=list(columns))
        while True:
            with parsing(f"{path}, row {before + 1}", PROBLEM, remedy=REMEDY):
                batch = next(batches, None)
            if batch is None:
                return
            skip = min(max(0, position - before), batch.num_rows)
            before += batch.num_rows
            if skip < batch.num_rows:
                yield batch.slice(skip), before, before / total


def rows_at_once(file: pq.ParquetFile, path: Path, columns: Sequence[str], rows: int) -> int:
    """How many rows of these columns, at most `rows`, make a batch of about `BATCH_BYTES`.

    Raises:
        InputError: a column is compressed so strongly that it would fill the memory.
    """
    largest = 1.0
    with parsing(path, PROBLEM, remedy=REMEDY):
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    for number, group in enumerate(groups):
        width = 0.0
        for i in range(group.num_columns):
            column = group.column(i)
            if column.path_in_schema not in columns:
                continue
            packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
            if unpacked > UNPACKED_BYTES and unpacked > UNPACKED_RATIO * packed:
                raise InputError(
                    f"column {column.path_in_schema!r} of row group {number} unpacks from {packed:,} to {unpacked:,} "
                    "bytes",
                    where=str(path),
                    remedy="No table of molecules does; if yours is meant so, write it again in smaller row groups",
                )
            width += unpacked / max(1, group.num_rows)
        largest = max(largest, width)
    return max(1, min(rows, int(BATCH_BYTES / largest)))


def bounded_text(column: pa.Array) -> tuple[list[str | None], dict[int, int]]:
    """The texts of a column, and the lengths (bytes) of those that are too long for a SMILES, by row.

    Only the first `KEPT_TEXT` bytes of such a text are returned. Bytes that are not UTF-8 become lone surrogates.
    """
    if pa.types.is_dictionary(column.type):
        values, lengths = bounded_text(column.dictionary)
        places = column.indices.to_pylist()
        long = {row: lengths[i] for row, i in enumerate(places) if i in lengths} if lengths else {}
        return [None if i is None else values[i] for i in places], long
    raw = column.cast(pa.large_string()).cast(pa.large_binary())
    sizes = pc.binary_length(raw)
    if (pc.max(sizes).as_py() or 0) > MAX_CHARACTERS:
        long = {row: size for row, size in enumerate(sizes.to_pylist()) if size is not None and size > MAX_CHARACTERS}
        return [_head(value) for value in raw], long
    try:
        return raw.cast(pa.large_string()).to_pylist(), {}
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return [None if value is None else _decode(value) for value in raw.to_pylist()], {}


def too_long(size: int) -> str:
    """The reason for a text of so many bytes that is no SMILES."""
    return f"{size:,} bytes; a SMILES has at most {MAX_CHARACTERS:,} characters"


def _head(value: pa.Scalar) -> str | None:
    if not value.is_valid:
        return None
    raw = value.as_buffer()
    return _decode(raw.to_pybytes() if raw.size <= MAX_CHARACTERS else raw.slice(0, KEPT_TEXT).to_pybytes())


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
