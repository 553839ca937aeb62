"""Claims the directory that a command writes to: marks it with its kind of content, and locks it meanwhile.

A command that resumes has to remove what a killed run left behind, so it must be certain that the directory is its own.
A directory is written to if it is absent or empty, or carries the mark of the same kind of content. One process at a
time writes, which an advisory lock of the file system holds and the kernel releases when the process ends. The process
that takes the lock removes what a killed process left half written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data.checksums import TABLE, seal, unseal
from data.errors import CorruptStoreError, InputError
from data.files import is_temporary, make_directory, sweep, write_json
from data.json_files import parse_json

MARK = ".understudy.json"
LOCK = ".lock"
#: Names that this module, a file manager or a network file system leaves in a directory that counts as empty.
IGNORED = frozenset({LOCK, TABLE, ".DS_Store", "lost+found"})
#: Names that a refused command leaves behind; another kind of command may still use the directory.
LEFT_BY_A_REFUSED_COMMAND = frozenset({MARK, "log.txt", "rejects.csv", "progress.json"})
#: Directories that this process holds: path -> kind and depth. A stage and its parts may claim the same one.
_HELD: dict[Path, tuple[str, int]] = {}


@contextmanager
def claim(path: Path, kind: str, *, adopt: Callable[[Path], bool] = lambda path: False) -> Iterator[Path]:
    """Claim a directory for writing until the block ends.

    Args:
        path: the directory; it is made if absent.
        kind: kind of content, such as "screen"; the file `MARK` holds it.
        adopt: tells whether a directory without a mark is one of this kind that an earlier version wrote.

    Yields:
        `path`, with its symbolic links resolved.

    Raises:
        InputError: it holds something else, it has a symbolic link in it, or another process writes to it.
    """
    directory = Path(path).expanduser().resolve()
    if directory in _HELD:
        present, depth = _HELD[directory]
        if present != kind:
            raise InputError(
                f"this command already writes a {present} there, not a {kind}",
                where=str(path),
                remedy="Name two directories",
            )
        _HELD[directory] = (kind, depth + 1)
        try:
            yield directory
        finally:
            _HELD[directory] = (kind, depth)
        return
    refuse_other(path, kind, adopt=adopt)
    make_directory(directory)
    lock = take_lock(directory / LOCK, where=str(path))
    try:
        # Another command may have claimed it between the check and the lock.
        refuse_other(path, kind, adopt=adopt)
        sweep(directory)
        if marked_kind(directory) != kind:
            write_json(directory / MARK, seal({"kind": kind, "format": 1}), indent=None, listed=False)
        _HELD[directory] = (kind, 1)
        try:
            yield directory
        finally:
            del _HELD[directory]
    finally:
        lock.close()


def refuse_other(path: Path, kind: str, *, adopt: Callable[[Path], bool] = lambda path: False) -> None:
    """Refuse a path that is not absent, empty or a directory of this kind; nothing is written.

    Raises:
        InputError: the directory holds something else; the message says what.
        CorruptStoreError: the mark cannot be read.
    """
    directory = Path(path).expanduser()
    if not directory.exists():
        if directory.is_symlink():
            raise InputError("a symbolic link that leads nowhere", where=str(path), remedy="Name another directory")
        return
    if not directory.is_dir():
        raise InputError("is a file, not a directory", where=str(path), remedy="Name another directory")
    marked = marked_kind(directory)
    # Without a mark only a half-written mark counts as left by a killed process; with one, every half-written file.
    begun = MARK if marked is None else None
    content = sorted(
        entry.name for entry in directory.iterdir() if entry.name not in IGNORED and not is_temporary(entry.name, begun)
    )
    if marked is None:
        if content and not adopt(directory):
            raise InputError(
                f"holds {_several(content)}, which no {kind} of this project wrote",
                where=str(path),
                remedy="Name a directory that is absent or empty",
            )
    elif marked != kind and set(content) - LEFT_BY_A_REFUSED_COMMAND:
        raise InputError(f"holds a {marked}, not a {kind}", where=str(path), remedy="Name another directory")
    for entry in directory.iterdir():
        if entry.is_symlink():
            raise InputError(
                "a symbolic link within a directory of results, which would be followed",
                where=str(directory / entry.name),
                remedy="Remove the link, or name another directory",
            )


def marked_kind(directory: Path) -> str | None:
    """The kind of content that a directory is marked with; None where there is no mark.

    Raises:
        CorruptStoreError: the mark cannot be read.
    """
    mark = Path(directory) / MARK
    if mark.is_symlink():
        raise InputError("is a symbolic link", where=str(mark), remedy="Name another directory")
    try:
        value: Any = parse_json(mark.read_bytes())
        return str(unseal(value, where=str(mark), remedy="Name another directory", warn=False)["kind"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(
            f"the mark of this directory cannot be read: {error}", where=str(mark), remedy="Name another directory"
        ) from error


def take_lock(file: Path, *, where: str) -> IO[str]:
    """Take an advisory lock, which lasts until the returned file is closed or the process ends.

    Args:
        file: path of the lock; it is made if absent, and holds the process id of the writer.
        where: path that the error names.

    Raises:
        InputError: another process holds it.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    opened = os.fdopen(handle, "r+", encoding="utf-8", errors="replace")
    # The kernel may keep the lock of a writer that was just killed for a moment.
    for attempt in range(20):
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == 19:
                opened.seek(0)
                owner = opened.read(20).strip()
                opened.close()
                raise InputError(
                    f"process {owner or 'unknown'} is writing there",
                    where=where,
                    remedy="Wait for it, stop it, or name another directory",
                ) from None
            time.sleep(0.05)
        except OSError as error:
            # A mount without locks: stores have owner files beside (`data.store.owner`).
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                opened.close()
                raise
            break
    opened.seek(0)
    opened.truncate(0)
    opened.write(str(os.getpid()))
    opened.flush()
    return opened


def lock_is_held(directory: Path) -> bool | None:
    """Whether a process of this machine writes to a claimed directory; None on a file system without locks.

    Nothing is changed.
    """
    try:
        handle = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def _several(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
