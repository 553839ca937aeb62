"""Sources of designs to screen: rows of parameters from a table of any size, or drawn from ranges."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
from jaxtyping import Float, Int

from data.errors import InputError
from data.formats.headers import DELIMITERS, column_index
from data.formats.kinds import PARQUET_SUFFIXES
from data.formats.rows import finite
from data.formats.text_files import TOO_LONG
from data.molecules.parquet_rows import parquet_batches, parquet_schema
from data.rejects import KEPT_TEXT
from experiments.screening.candidate_chunks import Reject, TextChunk, printable
from experiments.screening.candidate_sources import (
    TextSource,
    identity,
    kind_of,
    open_table,
)
from experiments.screening.carried import CarriedBatch, carried_in_parquet, columns_of
from experiments.screening.library_screen import ScreenInput
from experiments.screening.pieces import LibraryPiece
from simulators.requests import Range

if TYPE_CHECKING:
    from surrogates.parameters.surrogate import ParameterSurrogate

#: Columns of the results, whose names no parameter may have.
TAKEN = frozenset({"rank", "line", "prediction", "std", "interval", "low", "high", "in_domain", "score"})
#: Number of rows that are drawn from one stream of random numbers.
BLOCK = 4096


@dataclass(frozen=True)
class Designs:
    """Rows of parameters; a `screening_chunks.Candidates`.

    Attributes:
        names: names of the columns.
        table: parameters of the valid rows.
        lines: line numbers of the valid rows.
        rejects: rejected rows.
    """

    names: tuple[str, ...]
    table: Float[np.ndarray, "row column"]
    lines: Int[np.ndarray, " row"]
    rejects: list[Reject]

    @property
    def rows(self) -> int:
        """Number of rows that were read, valid and rejected."""
        return len(self.lines) + len(self.rejects)

    def columns(self) -> dict[str, Any]:
        """The parameters."""
        return {name: pa.array(np.ascontiguousarray(self.table[:, k])) for k, name in enumerate(self.names)}


@dataclass(frozen=True)
class TextDesigns:
    """Parameters from a .csv or .tsv file, compressed with gzip or not; they are parsed in the process that reads them.

    Attributes:
        text: source of whole lines.
        names: names of the required columns.
        places: indices of these columns in a line.
    """

    parses: ClassVar[bool] = False
    cuts_alike: ClassVar[bool] = True
    text: TextSource
    names: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def start(self) -> tuple[int, int]:
        """Position and line of the first row."""
        return self.text.start

    @property
    def description(self) -> str:
        """The format in which the file is read."""
        return self.text.description

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """See `screening_sources.Source`."""
        for piece in self.text.pieces(rows, position, line):
            assert isinstance(piece.chunk, TextChunk)
            yield replace(piece, chunk=parse_designs(piece.chunk, self.names, self.places))

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Position and line after each piece."""
        return self.text.bounds(rows)


@dataclass(frozen=True)
class ParquetDesigns:
    """Columns of a Parquet file; positions are rows."""

    parses: ClassVar[bool] = False
    cuts_alike: ClassVar[bool] = False
    path: Path
    names: tuple[str, ...]
    start: tuple[int, int] = (0, 1)
    carry: tuple[str, ...] = ()
    description: ClassVar[str] = "Parquet"

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """See `screening_sources.Source`."""
        read = list(dict.fromkeys((*self.names, *self.carry)))
        for batch, end, done in parquet_batches(self.path, read, rows, position):
            columns = [
                batch.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) for name in self.names
            ]
            table = np.stack(columns, axis=1)
            lines = np.arange(end - len(table) + 1, end + 1)
            texts = [",".join(str(batch.column(n)[int(i)].as_py()) for n in self.names) for i in _bad(table)]
            carried = CarriedBatch(batch, int(lines[0]), self.carry) if self.carry else None
            yield LibraryPiece(_sifted(self.names, table, lines, texts), end, end + 1, done, carried)

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Row after each piece, twice."""
        read = list(dict.fromkeys((*self.names, *self.carry)))
        return [(end, end + 1) for _, end, _ in parquet_batches(self.path, read, rows)]


@dataclass(frozen=True)
class DrawnDesigns:
    """Parameters drawn from ranges; each row depends only on the seed and its number, and positions are rows.

    Attributes:
        names: names of the columns.
        ranges: range of each column.
        count: number of rows.
        seed: seed of all draws.
    """

    parses: ClassVar[bool] = False
    cuts_alike: ClassVar[bool] = True
    names: tuple[str, ...]
    ranges: tuple[Range, ...]
    count: int
    seed: int = 0
    start: tuple[int, int] = (0, 1)
    description: ClassVar[str] = "designs that are drawn"

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise InputError(
                f"count must be 1 or more and seed 0 or more, got {self.count} and {self.seed}", where="sampling"
            )

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """See `screening_sources.Source`."""
        while position < self.count:
            end = min(position + rows, self.count)
            yield LibraryPiece(
                Designs(self.names, self.rows(position, end), np.arange(position + 1, end + 1), []),
                end,
                end + 1,
                end / self.count,
            )
            position = end

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Row after each piece, twice."""
        ends = [min(end, self.count) for end in range(rows, self.count + rows, rows)]
        return [(end, end + 1) for end in ends]

    def rows(self, first: int, last: int) -> Float[np.ndarray, "row column"]:
        """Rows `first` to `last` - 1."""
        blocks = range(first // BLOCK, -(-last // BLOCK))
        unit = np.concatenate([self._unit(block) for block in blocks])[first - blocks.start * BLOCK :][: last - first]
        columns = []
        for k, span in enumerate(self.ranges):
            if span.is_discrete:
                columns.append(np.array([span.at(share) for share in unit[:, k].tolist()]))
            elif span.log:
                columns.append(np.exp(math.log(span.low) + unit[:, k] * math.log(span.high / span.low)))
            else:
                columns.append(span.low + unit[:, k] * (span.high - span.low))
        return np.stack(columns, axis=1)

    def _unit(self, block: int) -> Float[np.ndarray, "row column"]:
        return np.random.default_rng([self.seed, block, 2]).random((BLOCK, len(self.names)))


def designs_in(
    path: Path,
    names: Sequence[str],
    units: Sequence[str] = (),
    columns: Sequence[str] | None = (),
    without: Collection[str] | None = None,
) -> ScreenInput:
    """The table of designs at `path`.

    Args:
        path: .csv or .tsv file (also .gz, .bz2 or .zst) or .parquet file with a column for each parameter.
        names: names of the parameters.
        units: unit of each parameter, for error messages.
        columns: columns that results repeat; None for all. Others are ignored.
        without: those of them that results have in any case; None for the parameters.

    Raises:
        InputError: there is no such file, its kind is unknown, it is empty, or a column is missing or not numeric.
    """
    _refuse_taken(names)
    described = ", ".join(f"{n} ({u})" for n, u in zip(names, units, strict=True)) if units else ", ".join(names)
    remedy = f"Give a column for each parameter: {described}"
    without = frozenset(names) if without is None else without
    kind, compressed = kind_of(path)
    source: TextDesigns | ParquetDesigns
    if kind in PARQUET_SUFFIXES and not compressed:
        source = _parquet(path, names, remedy)
        source = replace(source, carry=carried_in_parquet(path, parquet_schema(path), columns, without))
    elif kind in DELIMITERS:
        text, header = open_table(path, names)
        text = replace(text, carry=tuple(columns_of(path, header, columns, without)))
        source = TextDesigns(text, tuple(names), _places(path, header, names, remedy))
    else:
        raise InputError(
            f"cannot tell the kind of file from its name {path.name!r}",
            where="candidates",
            remedy="Use .csv or .tsv (also with .gz, .bz2 or .zst), or .parquet",
        )
    settings = {"columns": list(names), **({} if columns == () else {"carried": list(columns_carried(source))})}
    return ScreenInput(source, identity(path), path.name, str(path), settings, "design", tuple(names), remedy)


def columns_carried(source: TextDesigns | ParquetDesigns) -> tuple[str, ...]:
    """The columns that results repeat."""
    return source.text.carry if isinstance(source, TextDesigns) else source.carry


def designs_drawn(names: Sequence[str], ranges: Mapping[str, Range], count: int, seed: int) -> ScreenInput:
    """Designs drawn from ranges.

    Raises:
        InputError: a parameter has no range, a range no parameter, or the count is below 1.
    """
    _refuse_taken(names)
    if set(ranges) != set(names):
        raise InputError(
            f"ranges are of {', '.join(sorted(ranges))}", where="sampling.ranges", remedy=f"Give {', '.join(names)}"
        )
    source = DrawnDesigns(tuple(names), tuple(ranges[n] for n in names), count, seed)
    # Screens of earlier versions know ends alone, and must still resume.
    spans = {n: {k: v for k, v in asdict(ranges[n]).items() if k in ("low", "high", "log") or v} for n in names}
    facts = {"ranges": spans, "count": count, "seed": seed}
    return ScreenInput(source, facts, "sampled", "sampling", {"columns": list(names)}, "design", tuple(names))


def parse_designs(chunk: TextChunk, names: tuple[str, ...], places: tuple[int, ...]) -> Designs:
    """The rows of a chunk of text; rows without finite numbers are rejected, and blank lines are skipped."""
    if chunk.data and b'"' not in chunk.data and not chunk.cut:
        fields = [f"f{i}" for i in range(chunk.width)]
        columns = [fields[i] for i in places]
        kinds = dict.fromkeys(columns, pa.float64())
        try:
            # Fast path for the common case, a table of only numbers.
            read = pa.csv.read_csv(
                io.BytesIO(chunk.data),
                pa.csv.ReadOptions(column_names=fields, use_threads=False),
                pa.csv.ParseOptions(delimiter=chunk.delimiter),
                pa.csv.ConvertOptions(include_columns=columns, column_types=kinds, null_values=[""]),
            )
        except pa.ArrowInvalid:
            read = None
        if read is not None and read.num_rows == chunk.data.count(b"\n") + 1:
            table = np.stack([read.column(name).to_numpy() for name in columns], axis=1)
            if np.isfinite(table).all():
                return Designs(names, table, np.arange(chunk.line, chunk.line + len(table)), [])
    return _by_line(chunk, names, places)


def _by_line(chunk: TextChunk, names: tuple[str, ...], places: tuple[int, ...]) -> Designs:
    rows: list[list[float]] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(chunk.data.decode("utf-8", "surrogateescape").split("\n"), chunk.line):
        if number in chunk.cut:
            rejects.append(Reject(number, printable(line)[:KEPT_TEXT], TOO_LONG))
            continue
        if not line.strip():
            continue
        try:
            rows.append(_numbers(line.rstrip("\r"), chunk, names, places))
            lines.append(number)
        except ValueError as error:
            rejects.append(Reject(number, printable(line)[:KEPT_TEXT], printable(str(error))))
    table = np.array(rows, np.float64).reshape(len(rows), len(names))
    return Designs(names, table, np.array(lines, np.int64), rejects)


def _numbers(line: str, chunk: TextChunk, names: tuple[str, ...], places: tuple[int, ...]) -> list[float]:
    """The parameters of a line.

    Raises:
        ValueError: the line is malformed, or a parameter is not a finite number.
    """
    try:
        fields = next(csv.reader([line], delimiter=chunk.delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"malformed quotes: {error}") from None
    if len(fields) != chunk.width:
        raise ValueError(f"{len(fields)} fields, but the header has {chunk.width}")
    numbers = []
    for name, place in zip(names, places, strict=True):
        value = finite(fields[place])
        if value is None:
            raise ValueError(f"{name} is no finite number: {fields[place].strip()!r}")
        numbers.append(value)
    return numbers


def _bad(table: Float[np.ndarray, "row column"]) -> Int[np.ndarray, " bad"]:
    return np.flatnonzero(~np.isfinite(table).all(axis=1))


def _sifted(names: tuple[str, ...], table: np.ndarray, lines: np.ndarray, texts: Sequence[str]) -> Designs:
    """The rows of a table with finite numbers, and the other rows, with their texts, as rejects."""
    bad = _bad(table)
    rejects = []
    for i, text in zip(bad, texts, strict=True):
        worst = names[int(np.flatnonzero(~np.isfinite(table[i]))[0])]
        rejects.append(Reject(int(lines[i]), text[:KEPT_TEXT], f"{worst} is no finite number"))
    good = np.delete(np.arange(len(table)), bad)
    return Designs(names, table[good], lines[good], rejects)


def _places(path: Path, header: Sequence[str], names: Sequence[str], remedy: str) -> tuple[int, ...]:
    """Indices of the parameters in a line, from the header."""
    if lacking := [n for n in names if n not in header]:
        raise InputError(
            f"no column {' and no '.join(lacking)}; there are {', '.join(header[:20])}", where=str(path), remedy=remedy
        )
    return tuple(column_index(path, header, n) for n in names)


def _parquet(path: Path, names: Sequence[str], remedy: str) -> ParquetDesigns:
    schema = parquet_schema(path)
    if lacking := [n for n in names if n not in schema.names]:
        raise InputError(
            f"no column {' and no '.join(lacking)}; there are {', '.join(schema.names[:20])}",
            where=str(path),
            remedy=remedy,
        )
    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise InputError(f"column {name} holds {kind}, not numbers", where=str(path), remedy=remedy)
    return ParquetDesigns(path, tuple(names))


def _refuse_taken(names: Sequence[str]) -> None:
    if taken := TAKEN & set(names):
        raise InputError(
            f"a parameter is called {min(taken)}, like a column of the results",
            where="surrogate",
            remedy="Rename it in the simulator",
        )


def domain_ranges(surrogate: ParameterSurrogate) -> dict[str, Range]:
    """The training domain as ranges, which are logarithmic for inputs of which the surrogate takes the logarithm."""
    facts = surrogate.facts
    box = facts.domain
    ends = zip(box.columns, box.low, box.high, facts.inputs.logarithmic, strict=True)
    return {name: Range(low, high, log) for name, low, high, log in ends}
