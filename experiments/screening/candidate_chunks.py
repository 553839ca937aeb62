"""Chunks of a file of candidates, and their parsing into graphs, SMILES and rejects.

This module runs in the parsing processes, so it imports RDKit (through `data.molecules.featurise`) and never JAX.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int, UInt8

from data.formats.text_files import TOO_LONG
from data.molecules.featurise import encode
from data.molecules.graph_tables import GraphTable
from data.processes import row_watch
from data.rejects import KEPT_TEXT

#: Largest number of lines of a quoted field; a quote that is open for longer is malformed.
LONGEST_RECORD = 64


@dataclass(frozen=True)
class Reject:
    """A row that is not a molecule: its line (from 1), its text, and the reason."""

    line: int
    text: str
    reason: str


class Candidates(Protocol):
    """Parsed rows of candidates: the inputs of a surrogate, and the columns that identify them in the results."""

    @property
    def table(self) -> Any:
        """Input of `predict_table` of the surrogate, one entry for each valid row in the order of the file."""
        ...

    @property
    def lines(self) -> Int[np.ndarray, " row"]:
        """Line numbers of the valid rows."""
        ...

    @property
    def rejects(self) -> list[Reject]:
        """The other rows, in the order of the file."""
        ...

    @property
    def rows(self) -> int:
        """Rows that were read, good and bad."""
        ...

    def columns(self) -> dict[str, Any]:
        """Arrow arrays that identify each valid row in the results."""
        ...


@dataclass(frozen=True)
class TextChunk:
    """Whole lines of a text file.

    Attributes:
        data: bytes of the lines.
        line: number of the first line in the file, from 1.
        delimiter: "," or a tab for tables; "" if the SMILES is the first word of a line.
        column: index of the column with the SMILES in a table.
        width: number of fields in the header of a table, and therefore in each row.
        standardise: steps of standardisation (`simulators.chemistry.standardise`).
        cut: lines that were too long and were truncated.
        lost: line -> reason, for rows that no process could parse.
    """

    data: bytes
    line: int
    delimiter: str = ""
    column: int = 0
    width: int = 1
    standardise: tuple[str, ...] = ()
    cut: frozenset[int] = frozenset()
    lost: Mapping[int, str] = field(default_factory=dict)

    def losing(self, line: int, reason: str) -> TextChunk:
        """A copy that rejects the row of a line."""
        return replace(self, lost={**self.lost, line: reason})

    def rows(self) -> tuple[list[str], list[int], list[Reject]]:
        """SMILES, their lines, and the rejected rows; blank lines are skipped."""
        # Bytes that are not UTF-8 become lone surrogates, which invalidate a SMILES but no other field.
        text = self.data.decode("utf-8", "surrogateescape")
        lines = text.split("\n")
        if '"' in text or self.delimiter == "" or not text.isascii() or self.cut or self.lost:
            return _collect(self._rows(lines))
        # Fast path for the common case, a table without quotes.
        if any(line.count(self.delimiter) != self.width - 1 for line in lines):
            return _collect(self._rows(lines))
        cells = [line.split(self.delimiter, self.column + 1) for line in lines]
        if not all(cell[self.column].strip() for cell in cells):
            return _collect(self._rows(lines))
        smiles = [cell[self.column].strip() for cell in cells]
        return smiles, list(range(self.line, self.line + len(smiles))), []

    def _rows(self, lines: Sequence[str]) -> Iterator[tuple[int, str] | Reject]:
        index = 0
        while index < len(lines):
            number, line = self.line + index, lines[index].rstrip("\r")
            index += 1
            if number in self.cut:
                yield Reject(number, line[:KEPT_TEXT], TOO_LONG)
                continue
            if not line.strip():
                continue
            if self.delimiter == "":
                yield self._unless_lost(number, line.split(None, 1)[0])
                continue
            fields, more = line.split(self.delimiter), 0
            if '"' in line:
                record = [text + "\n" for text in lines[index - 1 : index - 1 + LONGEST_RECORD]]
                reader = csv.reader(record, delimiter=self.delimiter, strict=True)
                try:
                    fields = next(reader)
                except csv.Error as error:
                    yield Reject(number, line[:KEPT_TEXT], f"malformed quotes: {error}")
                    continue
                more = reader.line_num - 1
            if len(fields) != self.width:
                # The quote was closed by one of a later row: only this line is malformed, and the next ones are rows.
                kind = "malformed quotes: " if more else ""
                yield Reject(number, line[:KEPT_TEXT], f"{kind}{len(fields)} fields, but the header has {self.width}")
                continue
            if "\n" in fields[self.column].strip():
                # A SMILES has no line break, so the quote was closed by one of a later row here too.
                yield Reject(number, line[:KEPT_TEXT], "malformed quotes: opened and not closed in this line")
                continue
            index += more
            if not fields[self.column].strip():
                yield Reject(number, line[:KEPT_TEXT], "no SMILES in this row")
            else:
                yield self._unless_lost(number, fields[self.column].strip())

    def _unless_lost(self, number: int, smiles: str) -> tuple[int, str] | Reject:
        return Reject(number, smiles[:KEPT_TEXT], self.lost[number]) if number in self.lost else (number, smiles)

    def halves(self) -> tuple[TextChunk, TextChunk] | None:
        """Two chunks with half of the lines each; None for a single line."""
        lines = self.data.split(b"\n")
        middle = len(lines) // 2
        if middle == 0:
            return None
        return (
            replace(self, data=b"\n".join(lines[:middle])),
            replace(self, data=b"\n".join(lines[middle:]), line=self.line + middle),
        )


@dataclass(frozen=True)
class ArrowChunk:
    """Rows of a Parquet column, as an Arrow IPC stream; `line` is the first row, from 1.

    The other attributes are those of `TextChunk`.
    """

    data: bytes
    line: int
    standardise: tuple[str, ...] = ()
    lost: Mapping[int, str] = field(default_factory=dict)

    def losing(self, line: int, reason: str) -> ArrowChunk:
        """A copy that rejects a row."""
        return replace(self, lost={**self.lost, line: reason})

    def rows(self) -> tuple[list[str], list[int], list[Reject]]:
        """SMILES, their rows, and the rejected rows."""
        import pyarrow as pa

        values = pa.ipc.open_stream(self.data).read_all().column(0).to_pylist()
        numbered = enumerate(values, self.line)
        return _collect(self._row(number, (value or "").strip()) for number, value in numbered)

    def _row(self, number: int, smiles: str) -> tuple[int, str] | Reject:
        reason = self.lost.get(number, None if smiles else "no SMILES in this row")
        return (number, smiles) if reason is None else Reject(number, smiles[:KEPT_TEXT], reason)

    def halves(self) -> tuple[ArrowChunk, ArrowChunk] | None:
        """Two chunks with half of the rows each; None for a single row."""
        import pyarrow as pa

        table = pa.ipc.open_stream(self.data).read_all()
        middle = table.num_rows // 2
        if middle == 0:
            return None
        return (
            replace(self, data=arrow_bytes(table.slice(0, middle))),
            replace(self, data=arrow_bytes(table.slice(middle)), line=self.line + middle),
        )


Chunk = TextChunk | ArrowChunk


def arrow_bytes(table: object) -> bytes:
    """A `pyarrow.Table` as the bytes of an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:  # type: ignore[attr-defined]
        writer.write_table(table)
    return bytes(sink.getvalue())


@dataclass(frozen=True)
class Encoded:
    """A chunk, parsed and featurised.

    Attributes:
        table: graphs of the valid rows, in the order of the file.
        text, offsets: concatenated SMILES of the valid rows, UTF-8; row i is `text[offsets[i]:offsets[i + 1]]`.
        lines: line numbers of the valid rows.
        rejects: rejected rows, in the order of the file.
        standard: SMILES of the standard form of each row, "" if the form does not differ; None if no standard form was
            requested.
    """

    table: GraphTable
    text: UInt8[np.ndarray, " byte"]
    offsets: Int[np.ndarray, " row_plus_one"]
    lines: Int[np.ndarray, " row"]
    rejects: list[Reject]
    standard: list[str] | None = None

    @property
    def rows(self) -> int:
        """Rows that were read, good and bad."""
        return len(self.lines) + len(self.rejects)

    def columns(self) -> dict[str, Any]:
        """The SMILES, without a copy, and those of the standard forms if they were requested."""
        import pyarrow as pa

        text, offsets = pa.py_buffer(self.text), pa.py_buffer(self.offsets)
        columns = {"smiles": pa.StringArray.from_buffers(len(self.lines), offsets, text)}
        if self.standard is not None:
            columns["standard_smiles"] = pa.array([s or None for s in self.standard], pa.string())
        return columns


def encode_chunk(chunk: Chunk) -> Encoded:
    """Parse and featurise the rows of a chunk."""
    smiles, lines, rejects = chunk.rows()
    standard: list[str] | None = None
    if chunk.standardise:
        from simulators.chemistry.standardise import standard_form

        standard = []
        for line, written in zip(lines, smiles, strict=True):
            row_watch.begin(line)
            standard.append(standard_form(written, chunk.standardise))
    forms = smiles if standard is None else [s or t for s, t in zip(standard, smiles, strict=True)]
    table, bad = encode(forms, lines)
    if bad:
        rejects = sorted(
            rejects + [Reject(lines[i], smiles[i][:KEPT_TEXT], reason) for i, reason in bad], key=lambda r: r.line
        )
        good = np.ones(len(smiles), bool)
        good[[i for i, _ in bad]] = False
        kept = np.flatnonzero(good).tolist()
        smiles, lines = [smiles[i] for i in kept], [lines[i] for i in kept]
        standard = None if standard is None else [standard[i] for i in kept]
    text, offsets = pack_text(smiles)
    return Encoded(table, text, offsets, np.array(lines, np.int64), rejects, standard)


def reject_chunk(chunk: Chunk, reason: str) -> Encoded:
    """The result for a chunk of one row that no process could parse: it is rejected."""
    smiles, lines, rejects = chunk.rows()
    lost = [Reject(line, text[:KEPT_TEXT], reason) for line, text in zip(lines, smiles, strict=True)]
    table, _ = encode([])
    text, offsets = pack_text([])
    return Encoded(table, text, offsets, np.zeros(0, np.int64), rejects + lost, [] if chunk.standardise else None)


def pack_text(smiles: Sequence[str]) -> tuple[UInt8[np.ndarray, " byte"], Int[np.ndarray, " row_plus_one"]]:
    """Strings as one UTF-8 buffer and int32 offsets: the layout of an Arrow string array."""
    joined = "".join(smiles)
    parts: Sequence[str | bytes] = smiles if joined.isascii() else [s.encode() for s in smiles]
    offsets = np.zeros(len(smiles) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, parts), np.int32, len(parts)), out=offsets[1:])
    return np.frombuffer(joined.encode(), np.uint8), offsets


def printable(text: str) -> str:
    """The text with a question mark for each byte that was not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _collect(parsed: Iterator[tuple[int, str] | Reject]) -> tuple[list[str], list[int], list[Reject]]:
    smiles: list[str] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    for row in parsed:
        if isinstance(row, Reject):
            rejects.append(replace(row, text=printable(row.text)))
        elif not row[1].isascii() and printable(row[1]) != row[1]:
            rejects.append(Reject(row[0], printable(row[1])[:KEPT_TEXT], "not UTF-8 text"))
        else:
            lines.append(row[0])
            smiles.append(row[1])
    return smiles, lines, rejects
