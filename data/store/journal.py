"""A write-ahead journal: each record is on the disk, checked by a CRC, before it counts as finished.

A frame is a fixed head (magic, length, CRC-32 of the body) and a body: one JSON line that names the
arrays, then their little-endian bytes. A kill can only truncate the last frame, which is then discarded silently. Any
other damage is an error, because good records may follow it.
"""

from __future__ import annotations

import json
import os
import struct
import sys
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
#: Orders of bytes that need no change: little, none, and that of this machine where it is little.
_LITTLE = "<|=" if sys.byteorder == "little" else "<|"


def encode_record(record: Mapping[str, Any]) -> bytes:
    """A frame from a flat record of strings, numbers and arrays."""
    names: dict[str, Any] = {}
    parts: list[bytes] = []
    for name, value in record.items():
        if isinstance(value, str):
            names[name] = value
            continue
        array = np.asarray(value)
        if array.dtype.byteorder not in _LITTLE:
            array = array.astype(array.dtype.newbyteorder("<"))
        # The bytes are in C order whatever the order in memory.
        parts.append(array.tobytes())
        names[name] = [array.dtype.str, list(array.shape), len(parts[-1])]
    body = json.dumps(names).encode() + b"\n" + b"".join(parts)
    return HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


def decode_record(body: bytes) -> dict[str, Any]:
    """The record of a frame's body.

    Raises:
        ValueError: the body is not a record, although its checksum fits.
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
            # Journals of earlier versions may hold text that no array takes.
            record[name] = encodable(entry)
            continue
        dtype, shape, size = entry
        record[name] = np.frombuffer(rest, np.dtype(dtype), offset=at, count=size // np.dtype(dtype).itemsize).reshape(
            shape
        )
        at += size
    return record


def read_frames(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each complete record with the position behind it; ends at a truncated last frame.

    Raises:
        CorruptStoreError: a complete frame is damaged; it is raised after the records before it.
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
        # A changed length can make a complete frame look truncated; its CRC, or a frame behind it, reveals that.
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
    """Write the total number of records, once the last of them is in the journal.

    The write does not wait for the disk: after a power failure the number may be an older one, but never too large.
    """
    handle = os.open(count_file(journal), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.pwrite(handle, _count_text(records), 0)
    finally:
        os.close(handle)


def read_count(journal: Path) -> int:
    """How many records there are at least; 0 where that was never written.

    Raises:
        CorruptStoreError: the file of the number is damaged.
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
    """Refuse a store that has fewer records than were counted when they were written.

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
        path: file of the journal; it is made if absent, and a truncated last frame is removed.
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
        #: Size of the file, bytes.
        self.size = 0
        self._file = path.open("ab")
        if absent:
            sync_directory(path.parent)
        size = self._file.tell()
        #: Bytes of a torn last frame that were cut off.
        self.cut = size - end
        if self.cut:
            self._file.truncate(end)
            self._file.seek(end)
        self.size = end

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record, its texts as `encodable` gives them; when this returns it is in the file."""
        record = {name: encodable(value) if isinstance(value, str) else value for name, value in record.items()}
        frame = encode_record(record)
        self._file.write(frame)
        self._file.flush()
        if self.sync:
            self.wait_for_disk()
        self.size += len(frame)
        self.records.append(record)

    def wait_for_disk(self) -> None:
        """Wait until the disk has every record."""
        os.fdatasync(self._file.fileno())

    def clear(self) -> None:
        """Forget every record, once they are kept elsewhere."""
        self._file.truncate(0)
        self._file.seek(0)
        os.fsync(self._file.fileno())
        self.records = []
        self.size = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
