"""Detects changed bytes: `.understudy.sha256` in a directory holds the SHA-256 of its files, which is verified on read.

The table has the format of `sha256sum`, which can check it too: `sha256sum -c .understudy.sha256`. The line of a new
version is on the disk before the file is (`data.files.listed_path`), and the checksum of the version that it replaces
stays in a comment, because a kill between the two steps leaves either version. The first line holds the checksum of the
lines below it.

Files that grow, or that are read in pieces, contain their own checksums: `seal` adds one to a JSON object, the ledger
of a screen lists those of its parts, the manifest of a store those of its chunks, and each chunk of a Zarr array has
a CRC-32C.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.encodable import encodable_json
from data.errors import CorruptStoreError
from data.remote.objects import MissingObjectError
from data.remote.path import path_of

LOG = logging.getLogger(__name__)
TABLE = ".understudy.sha256"
#: Key of the checksum within a sealed object.
SEAL = "crc32"
_HEAD, _BEFORE = "# understudy ", "# before "
_DIGITS = frozenset("0123456789abcdef")
_BLOCK = 1 << 20
#: Directories and files whose lack of a checksum was reported.
_WARNED: set[Path] = set()


def sha256(content: bytes | memoryview) -> str:
    """SHA-256 (hex)."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def crc32_of(path: Path, size: int | None = None) -> int:
    """CRC-32 of a file, or of its first `size` bytes."""
    crc, left = 0, size
    with open(path, "rb") as file:
        while block := file.read(_BLOCK if left is None else min(left, _BLOCK)):
            crc = zlib.crc32(block, crc)
            left = None if left is None else left - len(block)
    return crc


# Files that are listed in the table of their directory


def read_bytes(path: Path, *, remedy: str = "Restore it from a copy", warn: bool = True) -> bytes:
    """The content of a file, after its checksum was verified.

    Args:
        path: of the file.
        remedy: what to do about one that is damaged.
        warn: whether to log a warning for a file without a checksum, such as one of an earlier version.

    Raises:
        CorruptStoreError: the file, or the table of checksums beside it, was changed.
        OSError: the file cannot be read.
    """
    path = path_of(path)
    content = path.read_bytes()
    # A writer may replace the file twice between our reading of it and of the table: then compare the new version.
    while not _agrees(path, sha256(content), warn):
        again = path.read_bytes()
        if again == content:
            raise _changed_error(path, remedy)
        content = again
    return content


def verify(path: Path, *, remedy: str = "Restore it from a copy", warn: bool = True) -> None:
    """Verify the checksum of a file that other code reads; see `read_bytes`.

    Raises:
        CorruptStoreError: the file, or the table of checksums beside it, was changed.
        OSError: the file cannot be read.
    """
    path = Path(path)
    digest = sha256_of(path)
    while not _agrees(path, digest, warn):
        again = sha256_of(path)
        if again == digest:
            raise _changed_error(path, remedy)
        digest = again


def _agrees(path: Path, digest: str, warn: bool) -> bool:
    sums = read_table(path.parent)
    if sums is not None and path.name in sums:
        return digest in sums[path.name]
    subject = path.parent if sums is None else path
    if warn and subject not in _WARNED:
        _WARNED.add(subject)
        LOG.warning("%s: made without checksums, so that changed bytes in it are not noticed", subject)
    return True


def _changed_error(path: Path, remedy: str) -> CorruptStoreError:
    return CorruptStoreError(
        "is not what was written there: its checksum differs",
        where=str(path),
        remedy=f"{remedy}; or, if you changed it yourself, remove its line from {TABLE} beside it",
    )


def read_table(directory: Path) -> dict[str, tuple[str, ...]] | None:
    """Name -> SHA-256 of the newest version and, where it replaced one, of the one before; None without a table.

    Raises:
        CorruptStoreError: the table is not what was written.
    """
    path = path_of(directory) / TABLE
    try:
        head, _, body = path.read_bytes().decode("utf-8", "surrogateescape").partition("\n")
    except (FileNotFoundError, NotADirectoryError, MissingObjectError):
        return None
    if head != _head(body):
        raise CorruptStoreError(
            "the table of checksums is not what was written",
            where=str(path),
            remedy="Restore it from a copy, or remove it: the files beside it are then taken as they are",
        )
    sums: dict[str, tuple[str, ...]] = {}
    for line in body.splitlines():
        digest, _, name = line.removeprefix(_BEFORE).partition("  ")
        sums[name] = (*sums.get(name, ()), digest)
    return sums


def table_text(sums: Mapping[str, tuple[str, ...]]) -> bytes:
    """The table that `read_table` reads.

    Raises:
        ValueError: a name has a line break in it.
    """
    if any(len(name.splitlines()) != 1 for name in sums):
        raise ValueError("a name has a line break in it")
    lines = [
        f"{_BEFORE if number else ''}{digest}  {name}\n"
        for name, digests in sorted(sums.items())
        for number, digest in enumerate(digests)
    ]
    body = "".join(lines)
    return f"{_head(body)}\n{body}".encode("utf-8", "surrogateescape")


def _head(body: str) -> str:
    return f"{_HEAD}{zlib.crc32(body.encode('utf-8', 'surrogateescape')):08x}"


# Objects of JSON that hold their checksum themselves


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the checksum of its content as an additional last key.

    Raises:
        ValueError: the object has this key already, or holds a value that JSON cannot express.
    """
    if SEAL in value:
        raise ValueError(f"{SEAL} is the key of the checksum")
    # The checksum is that of the object as it will be read back.
    plain: dict[str, Any] = json.loads(json.dumps(encodable_json(dict(value)), allow_nan=False))
    return {**plain, SEAL: _crc_of(plain)}


def unseal(value: Mapping[str, Any], *, where: str, remedy: str, warn: bool = True) -> dict[str, Any]:
    """The object that was sealed, verified; one of an earlier version, without a checksum, is accepted.

    Args:
        value: the object as it was read.
        where: file that it was read from, for errors.
        remedy: what to do about it if it is damaged.
        warn: whether to log a warning where there is no checksum.

    Raises:
        CorruptStoreError: it is not what was written.
    """
    plain = dict(value)
    crc = plain.pop(SEAL, None)
    damaged = crc is not None and crc != _crc_of(plain)
    if crc is None and plain:
        # The name of the key may have been changed: is the last value the checksum of the others?
        *others, last = plain.items()
        damaged = isinstance(last[1], str) and last[1] == _crc_of(dict(others))
        path = Path(where)
        if not damaged and warn and path not in _WARNED:
            _WARNED.add(path)
            LOG.warning("%s: made without a checksum, so that changed bytes in it are not noticed", where)
    if damaged:
        raise CorruptStoreError("is not what was written there: its checksum differs", where=where, remedy=remedy)
    return plain


def _crc_of(plain: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(plain).encode()):08x}"
