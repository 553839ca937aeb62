"""Writes files and directories whole or not at all: a reader sees the old or the new one, also after a crash.

What is written lies under a hidden name beside its place until it is complete and on the disk. A process that is killed
leaves such a name behind; `sweep` removes those whose writer is dead. A living writer holds an advisory lock, which the
kernel releases when the process ends.

A file that is read again is listed: its checksum is in a table beside it, which `data.checksums` verifies.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data.checksums import TABLE, read_table, sha256_of, table_text
from data.encodable import encodable, encodable_json

#: Names of what is being written: a dot, the name that it will have, eight random characters.
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part")
_SUFFIX = ".part"
_OF_ZARR = re.compile(r"[^.]+\.[0-9a-f]{32}\.partial")
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
#: Guards the tables of checksums: one process at a time claims a directory, but its threads may write in parallel.
_TABLES = threading.Lock()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to in the same directory, which then becomes `path`; removed after an error.

    The file gets the permissions that the umask leaves, and is on the disk when this returns. A symbolic link at
    `path` is replaced, not followed.
    """
    path = Path(path)
    with errors_name(path):
        make_directory(path.parent)
        handle, temporary = _begin(path, directory=False)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            _sync(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        sync_directory(path.parent)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A directory to fill beside `path`, which then becomes `path`; removed after an error.

    All that is in it is on the disk before it gets its name, and before a directory that had this name is removed.
    """
    path = Path(path)
    with errors_name(path):
        make_directory(path.parent)
        handle, temporary = _begin(path, directory=True)
        try:
            yield temporary
            os.chmod(temporary, 0o777 & ~_umask())
            sync_tree(temporary)
            old = _take_place(temporary, path)
            sync_directory(path.parent)
            if old is not None:
                shutil.rmtree(old)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        finally:
            os.close(handle)


def reserve(directory: Path, size: int) -> None:
    """Make sure, as far as possible in advance, that a directory has room for `size` bytes.

    Raises:
        OSError: there is no room: the disk is full, or a limit on its use or on the size of a file is lower.
    """
    probe = Path(directory) / ".room"
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with errors_name(Path(directory)):
            os.posix_fallocate(handle, 0, size)
    except OSError as error:
        # Some file systems cannot reserve room; then the write itself has to tell.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            raise
    finally:
        os.close(handle)
        probe.unlink()


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Errors of the system while a file is written name that file: a full disk names none, others a temporary one."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        if unnamed or (isinstance(error.filename, str) and error.filename.endswith(_SUFFIX)):
            error.filename = str(path)
        raise


@contextmanager
def listed_path(path: Path) -> Iterator[Path]:
    """As `atomic_path`, for a file that is read again: its checksum is in the table of its directory first.

    Raises:
        CorruptStoreError: the table is damaged; nothing is replaced.
    """
    path = Path(path)
    with atomic_path(path) as temporary:
        yield temporary
        _list(path, sha256_of(temporary))


def list_as_is(path: Path) -> None:
    """Put the checksum of a file that grew in place, and is complete now, into the table of its directory."""
    _list(Path(path), sha256_of(path))


def remove_listed(path: Path) -> None:
    """Remove a file, and its checksum from the table of its directory."""
    path = Path(path)
    path.unlink(missing_ok=True)
    with _table(path.parent) as sums:
        sums.pop(path.name, None)


def _list(path: Path, digest: str) -> None:
    with _table(path.parent) as sums:
        digests = sums.get(path.name, ())
        before: str | None = digests[0] if digests else None
        if path.is_file() and not path.is_symlink():
            # After a kill the file may be older than the newest line, or may never have been listed.
            present = sha256_of(path)
            before = present if not digests or present in digests else before
        sums[path.name] = (digest,) if before in (None, digest) else (digest, str(before))


@contextmanager
def _table(directory: Path) -> Iterator[dict[str, tuple[str, ...]]]:
    """The table of checksums of a directory, locked while it is changed, and then written."""
    with _TABLES:
        stored_sums = read_table(directory)
        sums = dict(stored_sums or {})
        yield sums
        if sums != (stored_sums or {}):
            write_bytes(directory / TABLE, table_text(sums))


def write_bytes(path: Path, content: bytes | memoryview, *, listed: bool = False) -> None:
    """Write a file atomically; see `atomic_path`, and `listed_path` for one that is listed."""
    with (listed_path if listed else atomic_path)(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, listed: bool = False) -> None:
    """Write UTF-8 text atomically; see `write_bytes` and `encodable`."""
    write_bytes(path, encodable(text).encode("utf-8"), listed=listed)


def write_json(path: Path, value: Any, *, indent: int | None = 1, listed: bool = True) -> None:
    """Write JSON atomically, listed unless it is sealed; a NaN is an error: no number is better than a wrong one."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    # JSON escapes everything beyond ASCII: only where such an escape stands can a text be one that no reader encodes.
    if "\\ud" in text or "\\u0000" in text:
        text = json.dumps(encodable_json(value), indent=indent, allow_nan=False)
    write_text(path, text + "\n", listed=listed)


def make_directory(directory: Path) -> None:
    """Make a directory and those above it, and wait until their names are on the disk."""
    directory = Path(directory)
    absent = []
    above = directory
    while not above.exists():
        absent.append(above)
        above = above.parent
    directory.mkdir(parents=True, exist_ok=True)
    for folder in reversed(absent):
        sync_directory(folder.parent)


def remove_directory(directory: Path) -> None:
    """Remove a directory with all that is in it; a kill leaves it whole, or under a name that `sweep` removes."""
    directory = Path(directory)
    handle, aside = _begin(directory, directory=True)
    try:
        os.replace(directory, aside)
        sync_directory(directory.parent)
        shutil.rmtree(aside)
    finally:
        os.close(handle)


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    _sync(directory, os.O_DIRECTORY)


def sync_tree(directory: Path) -> None:
    """Wait until a directory and everything below it are on the disk."""
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                _sync(path)
        sync_directory(Path(folder))


def is_temporary(name: str, of: str | None = None) -> bool:
    """Whether a name is one under which this module writes.

    Args:
        name: of a file or directory, without its path.
        of: the name that it was to get; None for any.
    """
    match = _TEMPORARY.fullmatch(name)
    return match is not None and (of is None or match[1] == of[:100])


def sweep(directory: Path, *, zarr: bool = False) -> list[Path]:
    """Remove what killed processes were writing within a directory, at any depth; returns the removed paths.

    It removes only names that this module gives, only those whose writer is dead, and follows no link.

    Args:
        directory: a directory that this process alone writes to.
        zarr: whether to look into Zarr stores, too, which may hold millions of files; whoever writes to one asks for
            it. The names that zarr-python gives to what it writes are removed there as well.
    """
    removed: list[Path] = []
    pending = [Path(directory)]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        if not zarr and any(entry.name == "zarr.json" for entry in entries):
            continue
        for entry in entries:
            is_directory = entry.is_dir(follow_symlinks=False)
            if is_temporary(entry.name) or (zarr and _OF_ZARR.fullmatch(entry.name)):
                if (is_directory or entry.is_file(follow_symlinks=False)) and _remove_dead(Path(entry.path)):
                    removed.append(Path(entry.path))
            elif is_directory:
                pending.append(Path(entry.path))
    return removed


def sweep_beside(path: Path) -> None:
    """Remove what killed processes left of one file or directory, in a directory that may not be ours."""
    for entry in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        if is_temporary(entry.name, path.name) and not entry.is_symlink() and (entry.is_file() or entry.is_dir()):
            _remove_dead(entry)


def _begin(path: Path, *, directory: bool) -> tuple[int, Path]:
    """A new name beside `path`, and a descriptor that holds the lock by which others know that this process lives."""
    prefix = f".{path.name[:100]}."
    while True:
        if directory:
            temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix, suffix=_SUFFIX))
            handle = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=_SUFFIX)
            temporary = Path(name)
        # On a file system without locks nothing is swept either.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        # Between the making and the lock another process may have taken it for debris.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.lstat(temporary)):
                return handle, temporary
        os.close(handle)


def _remove_dead(path: Path) -> bool:
    """Remove a file or directory that no process locks; returns whether it was removed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _take_place(temporary: Path, path: Path) -> Path | None:
    """Give a directory its final name; returns the new place of a directory that had it before."""
    if path.is_symlink():
        path.unlink()
    try:
        # This replaces an empty directory, too.
        os.rename(temporary, path)
    except OSError:
        if not path.is_dir():
            raise
    else:
        return None
    if _exchange(temporary, path):
        return temporary
    # Where the file system cannot exchange two names, `path` does not exist for a moment.
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=_SUFFIX))
    os.replace(path, aside)
    os.replace(temporary, path)
    return aside


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _sync(path: Path, flags: int = 0) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    # The only way to read it is to set it; Linux shows it without that, which is safe beside other threads.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
