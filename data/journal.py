"""A write-ahead journal: each record is on the disk, checked by a CRC, before it counts as finished.

A frame is a fixed head (magic, length, CRC-32 of the body) and a body: one JSON line that names the
arrays, then their little-endian bytes. A kill can only cut the last frame short, and that is cut off in silence;
anything else that is not what was written is an error, because good records may stand behind it.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.encodable import encodable
from data.errors import CorruptStoreError
from data.files import sync_directory

MAGIC = b"USJ1"
_COUNT_DIGITS = 20
HEAD = struct.Struct("<4sII")


def encode_record(record: Mapping[str, Any]) -> bytes:
    """A frame from a flat record of strings, numbers and arrays."""
    names: dict[str, Any] = {}
    parts: list[bytes] = []
    for name, value in record.items():
        if isinstance(value, str):
            names[name] = value
            continue
        array = np.asarray(value)
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).reshape(array.shape)
        parts.append(array.tobytes())
        names[name] = [array.dtype.str, list(array.shape), len(parts[-1])]
    body = json.dumps(names).encode() + b"\n" + b"".join(parts)
    return HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


def decode_record(body: bytes) -> dict[str, Any]:
    """The record of a frame's body.

    Raises:
        ValueError: it is none, whatever its checksum says.
    """
    try:
        return _record(body)
    except (TypeError, AttributeError, RecursionError, OverflowError, ZeroDivisionError, SyntaxError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _record(body: bytes) -> dict[str, Any]:
    line, _, rest = body.partition(b"\n")
    record: dict[str, Any] = {}
    at = 0
    for name, entry in json.loads(line).items():
        if isinstance(entry, str):
            # Journals of before this was done when they were written hold text that no array takes.
            record[name] = encodable(entry)
            continue
        dtype, shape, size = entry
        record[name] = np.frombuffer(rest, np.dtype(dtype), offset=at, count=size // np.dtype(dtype).itemsize).reshape(
            shape
        )
        at += size
    return record


def read_frames(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each whole record with the position behind it; ends at a last frame that was cut short.

    Raises:
        CorruptStoreError: behind the records before it, a frame that is whole and not what was written.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while True:
            start = file.tell()
            head = file.read(HEAD.size)
            if len(head) == HEAD.size and head.startswith(MAGIC):
                _, length, crc = HEAD.unpack(head)
                body = file.read(length)
                if len(body) == length and zlib.crc32(body) == crc:
                    yield file.tell(), decode_record(body)
                    continue
            file.seek(start)
            _expect_torn(path, start, file.read())
            return


def _expect_torn(path: Path, start: int, rest: bytes) -> None:
    """Raise unless `rest`, from the first bad frame on, is the beginning of a frame and nothing more."""
    head, body = rest[: HEAD.size], rest[HEAD.size :]
    torn = MAGIC.startswith(head[: len(MAGIC)])
    if torn and len(head) == HEAD.size:
        _, length, crc = HEAD.unpack(head)
        # A length that was changed can make a whole frame look short; its CRC, or a frame behind it, tells.
        torn = len(body) < length and zlib.crc32(body) != crc and not _holds_frame(body)
    if not torn:
        raise CorruptStoreError(
            f"the record at byte {start:,} is not what was written",
            where=str(path),
            remedy=f"Restore the file from a copy; or cut it off there (truncate -s {start}) and remove "
            f"{count_file(path).name} beside it, and the records from there on are computed again",
        )


def _holds_frame(data: bytes) -> bool:
    """Whether a whole frame stands anywhere in `data`."""
    at = data.find(MAGIC)
    while 0 <= at <= len(data) - HEAD.size:
        _, length, crc = HEAD.unpack_from(data, at)
        body = data[at + HEAD.size : at + HEAD.size + length]
        if len(body) == length and zlib.crc32(body) == crc:
            return True
        at = data.find(MAGIC, at + 1)
    return False


def count_file(journal: Path) -> Path:
    """Where `write_count` keeps the number that belongs to a journal."""
    return journal.with_suffix(".count")


def write_count(journal: Path, records: int) -> None:
    """Note how many records there are in all, once the last of them is in the journal.

    It is not waited for: after a power failure the number may be that of before, and never one too large.
    """
    handle = os.open(count_file(journal), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.pwrite(handle, _count_text(records), 0)
    finally:
        os.close(handle)


def read_count(journal: Path) -> int:
    """How many records there are at least; 0 where that was never noted.

    Raises:
        CorruptStoreError: the note is not what was written.
    """
    path = count_file(journal)
    for _ in range(3):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0
        digits = content[:_COUNT_DIGITS]
        if not content.strip(b"\0") or (digits.isdigit() and content == _count_text(int(digits))):
            return int(digits.strip(b"\0") or 0)
        # A writer may be in the middle of it.
    raise CorruptStoreError(
        "is not what was written", where=str(path), remedy=f"Remove it: it only counts what {journal.name} has to hold"
    )


def refuse_lost(journal: Path, present: int, counted: int) -> None:
    """Refuse a store that has fewer records than were noted.

    Raises:
        CorruptStoreError: the journal was removed, emptied or cut.
    """
    if present < counted:
        raise CorruptStoreError(
            f"{counted - present} finished records are not in it{'' if journal.exists() else ', it is missing'}",
            where=str(journal),
            remedy=f"Restore it from a copy; or remove {count_file(journal).name}, and they are computed again",
        )


def _count_text(records: int) -> bytes:
    digits = f"{records:0{_COUNT_DIGITS}d}".encode()
    return digits + f" {zlib.crc32(digits):08x}\n".encode()


class Journal:
    """The open journal of one writer.

    Args:
        path: made if absent; a last frame that was cut short is cut off.
        sync: whether each append waits until the disk has it.

    Raises:
        CorruptStoreError: it holds a record that is not what was written; the file is left as it is.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path, self.sync = path, sync
        self.records: list[dict[str, Any]] = []
        end = 0
        for position, record in read_frames(path):
            end = position
            self.records.append(record)
        absent = not path.exists()
        self._file = path.open("ab")
        if absent:
            sync_directory(path.parent)
        size = self._file.tell()
        #: Bytes of a torn last frame that were cut off.
        self.cut = size - end
        if self.cut:
            self._file.truncate(end)
            self._file.seek(end)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record, its texts as `encodable` gives them; when this returns it is in the file."""
        record = {name: encodable(value) if isinstance(value, str) else value for name, value in record.items()}
        self._file.write(encode_record(record))
        self._file.flush()
        if self.sync:
            os.fdatasync(self._file.fileno())
        self.records.append(record)

    def clear(self) -> None:
        """Forget every record, once they are kept elsewhere."""
        self._file.truncate(0)
        self._file.seek(0)
        os.fsync(self._file.fileno())
        self.records = []

    def close(self) -> None:
        """Close the file."""
        self._file.close()
