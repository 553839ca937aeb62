"""Text files as people save them, read as UTF-8 lines that end with LF: compressed, UTF-16, or with CR alone.

Spreadsheets write UTF-16 ("Unicode text") and, on old systems, lines that end with a carriage return alone. Both say
what they are: the first by a byte order mark, the second by having no LF at all.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

#: Bytes at the head of a file that decide how it is read.
HEAD = 1 << 16
#: Bytes of the longest row of a table or a list of molecules; a longer one is refused without being held in memory.
LONGEST_ROW = 1 << 20
TOO_LONG = f"longer than {LONGEST_ROW:,} bytes, and so no row"
#: Bytes of such a row that are kept, to show it.
KEPT_BYTES = 4000
#: Suffix of a compressed text -> its compression.
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
#: Marks of encodings other than UTF-8; those of UTF-32 begin with those of UTF-16, and so come first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class TextFormat:
    """How the bytes of a text file are to be read.

    Attributes:
        compression: "gzip", "bz2" or "zstd"; "" if it is not compressed.
        encoding: "utf-8", "utf-16" or "utf-32".
        carriage_returns: lines end with CR alone.
    """

    compression: str = ""
    encoding: str = "utf-8"
    carriage_returns: bool = False

    @staticmethod
    def of(path: Path) -> TextFormat:
        """The format of a file, from its name and its head; what cannot be read is left for the reader to find."""
        compression = COMPRESSIONS.get(path.suffix.lower(), "")
        with path.open("rb") as raw:
            stream = _unpacked(raw, compression)
            head = b""
            try:
                while len(head) < HEAD and (piece := cast(Any, stream).read1(HEAD)):
                    head += piece
            except (EOFError, OSError, zlib.error):
                pass
        encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
        if encoding != "utf-8":
            whole = len(head) - len(head) % 4
            head = head[:whole].decode(encoding, "replace").encode()
        return TextFormat(compression, encoding, b"\r" in head and b"\n" not in head)

    @property
    def rewritten(self) -> bool:
        """Whether positions in what is read are not positions in the file."""
        return self.compression != "" or self.encoding != "utf-8"

    def __str__(self) -> str:
        parts = [self.encoding.upper()] if self.encoding != "utf-8" else []
        parts += ["lines that end with a carriage return"] if self.carriage_returns else []
        return ", ".join(parts)


@contextmanager
def open_lines(path: Path, form: TextFormat | None = None) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A text file as UTF-8 bytes with LF, and the file beneath, whose position tells how far the reading is.

    A mark of UTF-8 stays where it is. The bytes can be sought in unless `form.rewritten`.

    Args:
        path: of the file.
        form: how it is read; None looks at its head.

    Raises:
        OSError: reading meets damaged data.
    """
    form = TextFormat.of(path) if form is None else form
    with path.open("rb") as raw:
        stream = _unpacked(raw, form.compression)
        if form.encoding != "utf-8":
            stream = _buffer(_Utf8(stream, form.encoding))
        if form.carriage_returns:
            stream = _buffer(_LineFeeds(stream))
        yield stream, raw


def read_row(stream: BinaryIO) -> tuple[bytes, int]:
    """The next line with its end, and how many bytes it has in the stream; empty at the end.

    Of a line that has more than `LONGEST_ROW` bytes only `KEPT_BYTES` and an end are handed over, so that a line of
    gigabytes takes no memory.
    """
    text = stream.readline(LONGEST_ROW + 1)
    size = len(text)
    if size <= LONGEST_ROW or text.endswith(b"\n"):
        return text, size
    while more := stream.readline(LONGEST_ROW):
        size += len(more)
        if more.endswith(b"\n"):
            break
    return text[:KEPT_BYTES].replace(b"\n", b" ") + b"\n", size


def _unpacked(raw: BinaryIO, compression: str) -> BinaryIO:
    """The text of a file that may be compressed."""
    if compression == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if compression == "bz2":
        return cast(BinaryIO, bz2.BZ2File(raw))
    return _buffer(_Zstandard(raw)) if compression == "zstd" else raw


def _buffer(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(raw, 1 << 20)


class _Zstandard(io.RawIOBase):
    """The text of a file that is compressed by Zstandard."""

    def __init__(self, stream: BinaryIO) -> None:
        # Most texts are not compressed so, and processes that parse molecules do without Arrow.
        import pyarrow as pa

        self._stream = pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _LineFeeds(io.RawIOBase):
    """CR becomes LF, one for one, so that positions stay what they are."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        data = cast(Any, self._stream).read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


class _Utf8(io.RawIOBase):
    """Text of another encoding as UTF-8; its byte order mark is dropped."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            piece = cast(Any, self._stream).read1(max(HEAD, len(buffer) // 4))
            self._ended = not piece
            try:
                self._rest = self._decoder.decode(piece, final=self._ended).encode()
            except UnicodeError as error:
                raise OSError(f"not the text that its byte order mark says: {error}") from error
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
