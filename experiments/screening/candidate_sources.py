"""Reads files of candidates of any size in chunks of rows, from any position, in the memory of one chunk."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

import pyarrow as pa

from data.errors import InputError
from data.formats.headers import DELIMITERS, SEPARATED_BY, choose_delimiter, column_index, header_names
from data.formats.kinds import PARQUET_SUFFIXES, SDF_SUFFIXES, SMILES_SUFFIXES
from data.formats.text_files import COMPRESSIONS, TOO_LONG, TextFormat, open_lines, read_row
from data.molecules.library import CARD, PreparedLibrary, read_part
from data.molecules.parquet_rows import bounded_text, parquet_batches, parquet_schema, too_long
from data.remote.path import RemotePath
from experiments.screening.candidate_chunks import (
    LONGEST_RECORD,
    ArrowChunk,
    Encoded,
    TextChunk,
    arrow_bytes,
    printable,
)
from experiments.screening.carried import (
    OF_A_LIST,
    CarriedBatch,
    CarriedText,
    carried_in_parquet,
    columns_of,
)
from experiments.screening.pieces import LibraryPiece

#: Bytes of text of a chunk; it ends with the row that reaches this size.
CHUNK_BYTES = 1 << 22
#: First words that mark the header of a SMILES file; none of them is a molecule.
HEADER_WORDS = frozenset({"smiles", "canonical_smiles", "smile", "structure"})


class Source(Protocol):
    """A file of candidates.

    Attributes:
        parses: whether its rows are parsed in processes.
        cuts_alike: whether pieces that are read from the end of another piece end where they do otherwise.
    """

    @property
    def parses(self) -> bool: ...

    @property
    def cuts_alike(self) -> bool: ...

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """Chunks of at most about `rows` rows from `position`, whose row is number `line`."""
        ...

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Position and line after each piece of at most about `rows` rows, read from the start."""
        ...

    @property
    def start(self) -> tuple[int, int]:
        """Position and line of the first row."""
        ...

    @property
    def description(self) -> str:
        """What the file is read as."""
        ...


@dataclass(frozen=True)
class TextSource:
    """A SMILES file or a delimited table, in any form that `data.formats.text_files` reads."""

    parses: ClassVar[bool] = True
    cuts_alike: ClassVar[bool] = True
    path: Path
    form: TextFormat
    delimiter: str
    column: int
    width: int
    start: tuple[int, int]
    names: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """Such as "table, fields separated by commas"."""
        kind = f"table, fields separated by {SEPARATED_BY[self.delimiter]}" if self.delimiter else "list of SMILES"
        return ", ".join(filter(None, [kind, str(self.form)]))

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """Chunks of whole records; a quoted field may hold line breaks."""
        places = {name: self.names.index(name) for name in self.carry}
        total = max(1, self.path.stat().st_size)
        with open_lines(self.path, self.form) as (stream, raw):
            _skip(stream, position, self.path, seekable=not self.form.rewritten)
            while (some := self._lines(stream, rows, line)).lines:
                quotes = some.quotes if self.delimiter else 0
                for _ in range(LONGEST_RECORD):
                    more = self._lines(stream, 1, line + len(some.lines)) if quotes % 2 else _Lines()
                    if not more.lines:
                        break
                    quotes += more.quotes
                    some.extend(more)
                data = b"".join(some.lines).removesuffix(b"\n")
                chunk = TextChunk(
                    data, line, self.delimiter, self.column, self.width, cut=frozenset(line + i for i in some.cut)
                )
                position, line = position + some.size, line + len(some.lines)
                done = raw.tell() / total if self.form.rewritten else position / total
                yield LibraryPiece(chunk, position, line, done, CarriedText(chunk, places) if places else None)

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Position and line after each piece."""
        return [(piece.end, piece.line) for piece in self.pieces(rows, *self.start)]

    def _lines(self, stream: BinaryIO, rows: int, line: int) -> _Lines:
        some = _Lines()
        try:
            while len(some.lines) < rows and some.size < CHUNK_BYTES:
                text, size = read_row(stream)
                if not text:
                    break
                some.add(text, size)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(
                f"cannot be read further: {error}",
                where=f"{self.path}, after line {line + len(some.lines) - 1}",
                file=self.path,
                row=line + len(some.lines) - 1,
                remedy="The file is damaged or incomplete; copy it again",
            ) from error
        return some


@dataclass
class _Lines:
    """Lines of a text.

    Attributes:
        lines: lines with their line breaks.
        cut: indices of lines that were too long and were truncated.
        size: number of bytes of all lines in the stream.
        quotes: number of quotation marks in complete lines.
    """

    lines: list[bytes] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    size: int = 0
    quotes: int = 0

    def add(self, text: bytes, size: int) -> None:
        if len(text) < size:
            self.cut.append(len(self.lines))
        else:
            self.quotes += text.count(b'"')
        self.lines.append(text)
        self.size += size

    def extend(self, more: _Lines) -> None:
        self.cut += [len(self.lines) + i for i in more.cut]
        self.lines += more.lines
        self.size += more.size
        self.quotes += more.quotes


@dataclass(frozen=True)
class ParquetSource:
    """A column of a Parquet file; positions are rows."""

    parses: ClassVar[bool] = True
    # Batches begin anew with the row group at which reading begins.
    cuts_alike: ClassVar[bool] = False
    path: Path
    column: str
    start: tuple[int, int] = (0, 1)
    carry: tuple[str, ...] = ()
    description: ClassVar[str] = "Parquet"

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """Chunks of rows, skipping whole row groups before `position`."""
        for batch, end, done in parquet_batches(self.path, [self.column, *self.carry], rows, position):
            first = end - batch.num_rows + 1
            texts, long = bounded_text(batch.column(self.column))
            column = pa.array([None if t is None else printable(t) for t in texts], pa.large_string())
            lost = {first + i: too_long(size) for i, size in long.items()}
            chunk = ArrowChunk(arrow_bytes(pa.table({self.column: column})), first, lost=lost)
            yield LibraryPiece(
                chunk, end, end + 1, done, CarriedBatch(batch, first, self.carry) if self.carry else None
            )

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Row after each piece, twice."""
        return [(end, end + 1) for _, end, _ in parquet_batches(self.path, [self.column, *self.carry], rows)]


@dataclass(frozen=True)
class LibrarySource:
    """A library written by `understudy prepare`; positions are molecules, and lines are those of its source."""

    parses: ClassVar[bool] = False
    cuts_alike: ClassVar[bool] = True
    library: PreparedLibrary
    start: tuple[int, int] = (0, 1)
    description: ClassVar[str] = "library of `understudy prepare`"

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """Chunks of featurised molecules; a part is verified before its first molecule is used."""
        before, total = 0, max(1, len(self.library))
        for part in self.library.parts:
            if before + part.rows > position:
                prepared = read_part(self.library.path, part)
                for first in range(max(0, position - before), part.rows, rows):
                    last = min(part.rows, first + rows)
                    some = prepared.rows(first, last)
                    chunk = Encoded(some.table, some.text, some.offsets, some.lines, [], some.standard)
                    end = before + last
                    yield LibraryPiece(chunk, end, int(some.lines[-1]) + 1, end / total)
            before += part.rows

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Molecules up to the end of each piece, without reading any; no position depends on the lines, which are 1."""
        before, ends = 0, []
        for part in self.library.parts:
            ends += [before + min(end, part.rows) for end in range(rows, part.rows + rows, rows)]
            before += part.rows
        return [(end, 1) for end in ends]


def open_source(path: Path, smiles: str, columns: Sequence[str] | None = (), without: Collection[str] = ()) -> Source:
    """The file of candidates at `path`.

    Args:
        path: .smi, .smiles, .ism, .txt, .csv, .tsv, .sdf, .sd (each also .gz, .bz2 or .zst) or .parquet, or a prepared
            library.
        smiles: name of the column that holds SMILES, in tables.
        columns: columns that results repeat; None for all that a table of text can hold.
        without: those of them that results have in any case.

    Raises:
        InputError: there is no such file, its kind is unknown, it is empty, or the column is missing.
    """
    if path.is_dir():
        if columns:
            raise InputError(
                "a prepared library has no columns but its SMILES", where="columns", remedy="Name the file itself"
            )
        return LibrarySource(PreparedLibrary.open(path))
    kind, compressed = kind_of(path)
    if kind in PARQUET_SUFFIXES and not compressed:
        return _parquet(path, smiles, columns, without)
    if kind in SDF_SUFFIXES:
        # Candidates of other kinds are read without the reader of structures.
        from experiments.screening.sdf_candidates import open_sdf

        return open_sdf(path, columns, without)
    if kind not in (*SMILES_SUFFIXES, *DELIMITERS):
        raise InputError(
            f"cannot tell the kind of file from its name {path.name!r}",
            where="candidates",
            remedy="Use .smi, .csv, .tsv or .sdf (also with .gz, .bz2 or .zst), .parquet, or a library made by "
            "`understudy prepare`",
        )
    if kind in DELIMITERS:
        table, names = open_table(path, [smiles])
        carry = columns_of(path, names, columns, without)
        return replace(table, column=column_index(path, names, smiles), carry=tuple(carry))
    form = TextFormat.of(path)
    head = _head(path, form)
    mark = len(codecs_mark(head))
    is_header = head[mark:].split()[0].lower().decode("utf-8", "replace") in HEADER_WORDS
    carry = columns_of(path, OF_A_LIST, columns, without)
    start = (len(head), 2) if is_header else (mark, 1)
    return TextSource(path, form, "", 0, 1, start, OF_A_LIST, tuple(carry))


def open_table(path: Path, columns: Sequence[str]) -> tuple[TextSource, list[str]]:
    """Whole lines of a .csv or .tsv file, and the names in its header.

    Args:
        path: path of the file.
        columns: names of the required columns, by which the delimiter is chosen.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    form = TextFormat.of(path)
    head = _head(path, form)
    text = head[len(codecs_mark(head)) :].decode("utf-8", "replace")
    delimiter = choose_delimiter(text, DELIMITERS[kind_of(path)[0]], columns)
    names = header_names(text, delimiter)
    return TextSource(path, form, delimiter, 0, len(names), (len(head), 2), tuple(names)), names


def kind_of(path: Path) -> tuple[str, bool]:
    """The suffix that tells the kind of a file, and whether it is compressed.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}", where="candidates", remedy="Check the path")
    suffixes = [s.lower() for s in path.suffixes]
    compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    return suffixes[-2] if compressed and len(suffixes) > 1 else suffixes[-1] if suffixes else "", compressed


def _head(path: Path, form: TextFormat) -> bytes:
    """The first line of a text.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        with open_lines(path, form) as (stream, _):
            head, size = read_row(stream)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), remedy="Copy the file again") from error
    if len(head) < size:
        raise InputError(
            f"its first line is {TOO_LONG}", where=str(path), remedy="Give one candidate a line, as UTF-8 text"
        )
    if not head.strip():
        raise InputError("the file is empty", where=str(path), remedy="Give one candidate a line")
    return head


def unused_of_candidates(path: Path) -> dict[str, str]:
    """Keys that this kind of file of candidates does not use, with the reason; see `experiments.application.strict`."""
    if path.is_dir():
        return dict.fromkeys(("smiles", "columns"), "a prepared library has no columns")
    if path.is_file() and kind_of(path)[0] in SMILES_SUFFIXES:
        return {"smiles": "a list of SMILES has no columns"}
    if path.is_file() and kind_of(path)[0] in SDF_SUFFIXES:
        return {"smiles": "an SDF holds structures"}
    return {}


def codecs_mark(head: bytes) -> bytes:
    """The byte order mark that some programs put before UTF-8 text, or nothing."""
    mark = b"\xef\xbb\xbf"
    return mark if head.startswith(mark) else b""


def identity(path: Path) -> dict[str, int | str]:
    """Size of a file and a digest of samples, which identify it without reading all of it.

    The digest covers 64 samples of 64 KiB at even distances, the first and the last included. For a prepared library it
    is that of its card, which contains the checksums of all other files.
    """
    if path.is_dir():
        path = path / CARD
    size, sample, count = path.stat().st_size, 1 << 16, 64
    digest = hashlib.sha256()
    with path.stream(sample) if isinstance(path, RemotePath) else path.open("rb") as file:
        if size <= sample * count:
            digest.update(file.read())
        else:
            for i in range(count):
                file.seek((size - sample) * i // (count - 1))
                digest.update(file.read(sample))
    return {"bytes": size, "sha256_of_samples": digest.hexdigest()}


def _skip(stream: BinaryIO, count: int, path: Path, *, seekable: bool) -> None:
    if seekable:
        stream.seek(count)
        return
    while count:
        length = len(stream.read(min(count, 1 << 20)))
        if not length:
            raise InputError("the file is shorter than when the run began", where=str(path), remedy="Start anew")
        count -= length


def _parquet(path: Path, smiles: str, columns: Sequence[str] | None, without: Collection[str]) -> ParquetSource:
    schema = parquet_schema(path)
    column_index(path, schema.names, smiles)
    kind = schema.field(smiles).type
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)):
        raise InputError(f"column {smiles!r} holds {kind}, not text", where=str(path), remedy="Name another column")
    # The column with SMILES is read once, whether or not it is carried.
    carry = carried_in_parquet(path, schema, columns, without)
    return ParquetSource(path, smiles, carry=carry)
