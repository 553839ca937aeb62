"""What the readers of molecule files share: a row, a bad row, numbered lines of text, and atomic output."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO, TypeVar, cast

import numpy as np
from jaxtyping import Float, Int

from data.errors import InputError
from data.files import atomic_path
from data.formats.text_files import open_lines
from data.processes.parsing import MESSAGE_BYTES, MESSAGE_ROWS

T = TypeVar("T")
R = TypeVar("R")

#: Most heavy atoms of a molecule that is written as SMILES or a graph: local indices are bytes, and 255 marks padding.
MAX_ATOMS = 254
#: Bytes of text that are split into lines at a time.
BLOCK = 1 << 20
#: Longest line in bytes; of a longer one only one byte more is read, and the readers of rows refuse it.
LONGEST_LINE = 1 << 24
#: Bytes of the longest record of several lines: a molecule of an SDF file, a frame.
LONGEST_RECORD_BYTES = 1 << 25
_MARK = b"\xef\xbb\xbf"
#: What programs write into a cell that has no value, in lower case: those that pandas and R know, and what people type.
NO_VALUE = frozenset(
    {"", "na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "-nan", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind"}
    | {"null", "none", "-", "--", "?", ".", "nd", "n.d.", "n.a.", "missing"}
)


@dataclass(frozen=True)
class FrameNotes:
    """Notes on how one frame was interpreted.

    Attributes:
        taken: quantity -> unit and source, such as "energy" -> "eV, from REF_energy".
        unused: name of what looks like data -> what it looks like, such as "REF_energy" -> "energy".
        lacking: label that the frame lacks -> what looks like it.
        spin_problem: why its number of unpaired electrons is not certain; None where it is, or is not named.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spin_problem: str | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """A molecule of a file.

    Attributes:
        line: line of the file, from 1, where the row begins; the row of a Parquet file; the id in an ASE db.
        smiles: None where the file has none.
        numbers: atomic numbers, int32; None without a complete geometry.
        positions: Angstrom, float64, finite; None without a complete geometry.
        properties: requested columns (float), `energy` (eV), `forces` (eV/Angstrom), `charge`, `spin` (unpaired
            electrons), `stress` (eV/Angstrom^3, 3 x 3), `pbc`, `cell`, `fixed` (coordinates that constraints hold),
            `constraints` (names of those that do something else), `name` and other fields, where the file has them.
        notes: of a geometry, how what stands beside it was understood.
        problems: why cells of requested columns are no numbers; they are NaN in `properties`.
    """

    line: int
    smiles: str | None
    numbers: Int[np.ndarray, " atom"] | None = None
    positions: Float[np.ndarray, "atom 3"] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: FrameNotes = field(default_factory=FrameNotes)


@dataclass(frozen=True)
class Bad:
    """A row that cannot be used: where it begins, its text, and why."""

    line: int
    text: str
    reason: str


class Lines:
    """Numbered lines of a text file, compressed or not, without their ends; lines can be looked at ahead.

    Attributes:
        buffer: lines read and not yet taken, with their numbers.
    """

    def __init__(self, path: Path) -> None:
        self.buffer: deque[tuple[int, bytes]] = deque()
        self._blocks = blocks(path)
        self._failure: InputError | None = None

    def refill(self) -> bool:
        """Read more lines; False at the end of the file."""
        block = self._next_block()
        if block is None:
            return False
        self.put(*block)
        return True

    def put(self, line: int, data: bytes) -> None:
        """Add the lines of a block, the first of which is number `line`."""
        self.buffer.extend(enumerate(split_lines(data), line))

    def take_block(self) -> tuple[int, bytes] | None:
        """Many lines at once, with the number of the first; None at the end."""
        if not self.buffer:
            return self._next_block()
        line, data = self.buffer[0][0], b"\n".join([raw for _, raw in self.buffer])
        self.buffer.clear()
        return line, data

    def _next_block(self) -> tuple[int, bytes] | None:
        if self._failure is not None:
            raise self._failure
        return next(self._blocks, None)

    def peek(self, index: int) -> tuple[int, bytes] | None:
        """The line `index` lines ahead; None behind the end, or where the file cannot be read on."""
        while len(self.buffer) <= index:
            try:
                if not self.refill():
                    return None
            except InputError as error:
                # The lines before the damage come first; `take` raises behind them.
                self._failure = error
                return None
        return self.buffer[index]

    def take(self) -> tuple[int, bytes] | None:
        """The next line; None at the end."""
        return self.buffer.popleft() if self.buffer or self.refill() else None

    def drop(self, count: int) -> None:
        """Skip lines that `peek` has shown."""
        for _ in range(count):
            self.buffer.popleft()


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Pieces of about `BLOCK` bytes that end with a line, and the number of their first line.

    A line of more than `LONGEST_LINE` bytes has one byte more than that here, whatever its length is in the file.

    Raises:
        InputError: the file is damaged; it is raised after the complete lines before the damage.
    """
    line, rest, first = 1, b"", True
    with open_lines(path) as (stream, _):
        while True:
            data, failure = _read_block(stream)
            ended = not data
            if len(rest) > LONGEST_LINE and not ended and failure is None:
                # The rest of a line that is too long is passed over.
                end = data.find(b"\n")
                if end < 0:
                    continue
                data = data[end:]
            whole = rest + data
            if first:
                whole, first = whole.removeprefix(_MARK), not data
            end = whole.rfind(b"\n") + 1
            if end:
                yield line, whole[:end]
                line += whole.count(b"\n", 0, end)
            rest = whole[end:]
            if failure is not None:
                raise InputError(
                    f"cannot be read further: {failure}",
                    where=f"{path}, line {line}",
                    file=path,
                    row=line,
                    remedy="The file is damaged or incomplete; copy it again",
                ) from failure
            rest = rest[: LONGEST_LINE + 1]
            if ended:
                break
        if rest:
            yield line, rest


def _read_block(stream: BinaryIO) -> tuple[bytes, Exception | None]:
    """About `BLOCK` bytes, and what stopped the reading early; empty at the end."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size < BLOCK:
            # Only read1 hands over what was decompressed before a truncated end.
            piece = cast(io.BufferedReader, stream).read1(BLOCK)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
    except (EOFError, OSError, zlib.error) as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def split_lines(data: bytes) -> list[bytes]:
    """Lines without LF or CRLF."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines] if b"\r" in data else lines


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_CONTROL_BYTES = re.compile(_CONTROL.pattern.encode())


def has_control(data: bytes) -> bool:
    """Whether there are control characters other than tabs and ends of lines, which no text has."""
    return _CONTROL_BYTES.search(data) is not None


def decode_text(raw: bytes) -> str:
    """Bytes as text, also where they are not UTF-8 (`text_problem` recognises that)."""
    return raw.decode("utf-8", "surrogateescape")


def text_problem(text: str) -> str | None:
    """Why a row that `decode_text` gave is no text; None for text."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return "not UTF-8 text"
    control = _CONTROL.search(text)
    if control is None:
        return None
    return "has a NUL byte" if control[0] == "\0" else f"has a control character ({control[0]!r})"


def numbers_of(cells: Mapping[str, Any], columns: Sequence[str]) -> tuple[dict[str, float], tuple[str, ...]] | str:
    """The requested columns of a row as floats, and why cells are none; or why the whole row has no value.

    A cell that is empty or holds one of `NO_VALUE` is NaN, and so is one that is no number: a missing label costs
    nothing but itself, as long as another of the columns has one.
    """
    values: dict[str, float] = {}
    problems: list[str] = []
    for name in columns:
        cell = cells.get(name)
        values[name] = math.nan
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in NO_VALUE):
            continue
        number = finite(cell)
        if number is not None:
            values[name] = number
        elif not (isinstance(cell, (float, np.floating)) and math.isnan(cell)):
            problems.append(f"column {name}: {str(cell)[:40]!r} is not a number{_likely(cell)}")
    if columns and all(math.isnan(v) for v in values.values()):
        return problems[0] if problems else "no value" if len(columns) > 1 else f"column {columns[0]}: no value"
    return values, tuple(problems)


def _likely(cell: Any) -> str:
    """A hint at what a cell may mean, for the message about it."""
    text = str(cell).strip()
    if text.lower() in ("true", "false"):
        return ": write 1 for true and 0 for false"
    if text[:1] in ("<", ">", "~", "=", "≤", "≥") and finite(text[1:].lstrip("=").strip()) is not None:
        return " but a bound"
    if text.count(",") == 1 and finite(text.replace(",", ".")) is not None:
        return ": write a decimal point in place of the comma"
    return ""


def finite(value: Any) -> float | None:
    """A scalar or its text as a finite float; None if it is neither."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def in_batches(rows: Iterator[T], answer: Callable[[list[T]], Iterable[R]], size: Callable[[T], int]) -> Iterator[R]:
    """What `answer` makes of rows, a batch at a time: as many as go to a parsing process at once.

    Args:
        rows: an `InputError` that ends them is raised after the answers to the rows before it.
        answer: gives one answer for each row.
        size: bytes of a row, roughly.
    """
    waiting: list[T] = []
    total = 0
    failure: InputError | None = None
    while True:
        try:
            row = next(rows, None)
        except InputError as error:
            row, failure = None, error
        if row is not None:
            waiting.append(row)
            total += size(row)
        if row is None or len(waiting) == MESSAGE_ROWS or total > MESSAGE_BYTES:
            yield from answer(waiting)
            waiting, total = [], 0
        if failure is not None:
            raise failure
        if row is None:
            return


def empty(path: Path) -> InputError:
    """The error for a file without content."""
    return InputError("the file is empty", where=str(path), remedy="Give at least one molecule")


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file that appears whole or not at all; compressed where the name ends in .gz, .bz2 or .zst.

    Characters that UTF-8 cannot encode are escaped.
    """
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as raw,
        _packed(raw, path.suffix.lower()) as stream,
        io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="\n") as text,
    ):
        yield text


@contextmanager
def _packed(raw: BinaryIO, suffix: str) -> Iterator[BinaryIO]:
    """A stream that compresses into a file as its suffix says."""
    if suffix == ".gz":
        # No name and no time in the head: the same rows give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as packed:
            yield cast(BinaryIO, packed)
    elif suffix == ".bz2":
        with bz2.BZ2File(raw, "wb") as squeezed:
            yield cast(BinaryIO, squeezed)
    elif suffix == ".zst":
        # Processes that parse molecules do without Arrow.
        import pyarrow as pa

        with pa.CompressedOutputStream(pa.PythonFile(raw, "w"), "zstd") as arrow:
            yield io.BufferedWriter(_Writable(arrow))
    else:
        yield raw


class _Writable(io.RawIOBase):
    """A stream of Arrow as the raw stream of a buffer."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data))
        return len(data)
