"""Columns of a file that its results repeat beside the answers, such as identifiers, vendors and measured values.

They are taken from the rows as they are in the file, in the process that writes the results: parsing processes never
see them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
from jaxtyping import Int

from data.errors import InputError
from data.formats.cells import plain
from data.formats.headers import column_index
from data.settings import names
from experiments.screening.candidate_chunks import LONGEST_RECORD, TextChunk, printable

#: Value of `columns` for every column.
ALL = "all"
#: Columns of a list of SMILES: the first word of a line, and the rest of it.
OF_A_LIST = ("smiles", "name")


def chosen_columns(value: Any) -> tuple[str, ...] | None:
    """The names that `columns` lists; None for all.

    Raises:
        InputError: it is neither a list of names nor "all".
    """
    if value == ALL:
        return None
    listed = names(value, "columns")
    if not all(listed) or len(set(listed)) < len(listed):
        raise InputError(
            f"must be a list of different names, or all, got {value!r}",
            where="columns",
            remedy="Write columns=[id,vendor], columns=all or columns=[]",
        )
    return tuple(listed)


def columns_of(path: Path, names: Sequence[str], chosen: Sequence[str] | None, without: Collection[str]) -> list[str]:
    """The columns of a file that its results repeat.

    Args:
        path: the file, for errors.
        names: columns of the file.
        chosen: names that are asked for; None for all.
        without: columns that the results have in any case.

    Raises:
        InputError: a name that is asked for is missing, or several columns have it.
    """
    if chosen is None:
        chosen = [name for name in names if name and names.count(name) == 1]
    for name in chosen:
        column_index(path, names, name)
    return [name for name in chosen if name not in without]


def in_results(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """Name of a column in the file -> its name in the results, where a column of the answers may have the same name."""
    renamed: dict[str, str] = {}
    for name in names:
        other = name
        while other in taken or other in renamed.values():
            other += "_input"
        renamed[name] = other
    return renamed


class CarriedRows(Protocol):
    """The carried columns of a chunk of rows."""

    def at(self, lines: Int[np.ndarray, " row"]) -> dict[str, pa.Array]:
        """The cells of the rows that begin at these lines, by name of the column; null where a row has none."""
        ...


@dataclass(frozen=True)
class CarriedText:
    """Columns of whole lines of a text file, whose cells stay texts, such as "007".

    Attributes:
        chunk: the lines.
        places: name of a column -> its index in a line.
    """

    chunk: TextChunk
    places: Mapping[str, int]

    def at(self, lines: Int[np.ndarray, " row"]) -> dict[str, pa.Array]:
        """See `CarriedRows`; cells of malformed rows are null."""
        if self.chunk.delimiter and (table := self._at_once()) is not None:
            rows = pa.array(lines - self.chunk.line)
            return {name: _unmarked(table.column(f"f{place}").take(rows)) for name, place in self.places.items()}
        texts = self.chunk.data.decode("utf-8", "surrogateescape").split("\n")
        records = [_fields(texts, int(line) - self.chunk.line, self.chunk) for line in lines]
        columns: dict[str, pa.Array] = {}
        for name, place in self.places.items():
            cells = [None if record is None else plain(printable(record[place])) for record in records]
            columns[name] = pa.array(cells, pa.string())
        return columns

    def _at_once(self) -> pa.Table | None:
        """The columns of all lines, if every line is a row without quotes."""
        data = self.chunk.data
        if not data or b'"' in data or self.chunk.cut:
            return None
        columns = sorted({f"f{place}" for place in self.places.values()})
        try:
            table = pa.csv.read_csv(
                io.BytesIO(data),
                pa.csv.ReadOptions(
                    column_names=[f"f{i}" for i in range(self.chunk.width)],
                    use_threads=False,
                    block_size=len(data) + 2,
                ),
                pa.csv.ParseOptions(delimiter=self.chunk.delimiter, quote_char=False, ignore_empty_lines=False),
                pa.csv.ConvertOptions(
                    include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:
            return None
        return table.combine_chunks() if table.num_rows == data.count(b"\n") + 1 else None


def _unmarked(column: pa.ChunkedArray) -> pa.Array:
    """The cells of a column without the apostrophes that `data.formats.cells.safe` puts before formulas."""
    cells = column.combine_chunks()
    if isinstance(cells, pa.ChunkedArray):
        cells = pa.concat_arrays(cells.chunks) if cells.num_chunks else pa.array([], pa.string())
    marked = pa.compute.starts_with(cells, "'")
    if not pa.compute.any(marked).as_py():
        return cells
    return pa.array([None if text is None else plain(text) for text in cells.to_pylist()], pa.string())


def _fields(texts: Sequence[str], index: int, chunk: TextChunk) -> list[str] | None:
    """The cells of the record that begins at a line; None if it is malformed."""
    line = texts[index].rstrip("\r")
    if chunk.line + index in chunk.cut:
        return None
    if not chunk.delimiter:
        words = line.split(None, 1)
        return [*words, *[""] * (2 - len(words))] if words else None
    fields = line.split(chunk.delimiter)
    if '"' in line:
        record = (text + "\n" for text in chain(texts[index : index + LONGEST_RECORD]))
        try:
            fields = next(csv.reader(record, delimiter=chunk.delimiter, strict=True))
        except csv.Error:
            return None
    return fields if len(fields) == chunk.width else None


@dataclass(frozen=True)
class CarriedBatch:
    """Columns of consecutive rows of a Parquet file, which keep their types.

    Attributes:
        batch: the rows.
        first: number of the first row.
        names: names of the carried columns.
    """

    batch: pa.RecordBatch
    first: int
    names: tuple[str, ...]

    def at(self, lines: Int[np.ndarray, " row"]) -> dict[str, pa.Array]:
        """See `CarriedRows`."""
        rows = pa.array(lines - self.first)
        return {name: _writable(self.batch.column(name)).take(rows) for name in self.names}


@dataclass(frozen=True)
class CarriedLists:
    """Columns whose cells are in memory, one for each row, in the order of their lines."""

    lines: Int[np.ndarray, " row"]
    columns: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def at(self, lines: Int[np.ndarray, " row"]) -> dict[str, pa.Array]:
        """See `CarriedRows`."""
        rows = pa.array(np.searchsorted(self.lines, lines))
        return {name: pa.array(cells, pa.string()).take(rows) for name, cells in self.columns.items()}


def writable(kind: pa.DataType) -> bool:
    """Whether a cell of this type of Arrow is one value, which a table of text can hold."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return not (pa.types.is_nested(inner) or pa.types.is_binary(inner) or pa.types.is_large_binary(inner))


def carried_in_parquet(
    path: Path, schema: pa.Schema, columns: Sequence[str] | None, without: Collection[str]
) -> tuple[str, ...]:
    """The columns of a Parquet file that its results repeat; of all, those with one value in a cell.

    Raises:
        InputError: a column that is asked for is missing, or its cells are lists or other than one value.
    """
    fits = [name for name in schema.names if schema.names.count(name) == 1 and writable(schema.field(name).type)]
    carry = columns_of(path, fits if columns is None else schema.names, columns, without)
    if unfit := [name for name in carry if name not in fits]:
        raise InputError(
            f"column {unfit[0]!r} holds {schema.field(unfit[0]).type}, which no cell of a table can hold",
            where=str(path),
            remedy="Leave it out of columns=[...]",
        )
    return tuple(carry)


def _writable(column: pa.Array) -> pa.Array:
    """A column as a plain array, with texts of 32-bit offsets and without bytes that are not UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return column
    try:
        column.validate(full=True)
        return column.cast(pa.string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        raw = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return pa.array([None if cell is None else cell.decode("utf-8", "replace") for cell in raw], pa.string())
