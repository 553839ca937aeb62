"""Directories for temporary files of simulators: removed when they are left, or else by whoever comes next.

Each holds a locked file as long as a process needs it. The kernel releases the lock when that process dies, so that
the next one that makes such a directory can tell which of the others were left behind, and removes those.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from data.descendants import kill
from simulators.guard import remove_tree

PREFIX = "understudy-scratch-"
LOCK = ".understudy-lock"
#: Environment variable by which the programs that belong to a directory are told from all others.
MARK = "UNDERSTUDY_SCRATCH"
#: Seconds after which an empty directory without a lock is one whose maker died at once.
STALE_S = 3600.0


@dataclass
class Scratch:
    """A directory that is held.

    Attributes:
        root: the directory with its lock.
        lock: descriptor of the locked file; a process that inherits it holds the directory too.
    """

    root: Path
    lock: int

    @classmethod
    def make(cls) -> Scratch:
        """A new one where temporary files go (`TMPDIR`), after those that were left behind there are removed."""
        parent = Path(tempfile.gettempdir())
        sweep(parent)
        while True:
            root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            # Another process that sweeps may have taken it for one that was left behind.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (root / LOCK).stat().st_ino == os.fstat(lock).st_ino:
                    (root / "files").mkdir()
                    return cls(root, lock)
            os.close(lock)

    @property
    def files(self) -> Path:
        """Where the files go."""
        return self.root / "files"

    def megabytes(self) -> float:
        """What the files take on the disk, in 10^6 bytes."""
        return _taken(self.files) / 1e6

    def close(self) -> None:
        """Remove it; again is once."""
        if self.lock >= 0:
            remove_tree(str(self.root))
            os.close(self.lock)
            self.lock = -1


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for temporary files while the block runs."""
    directory = Scratch.make()
    try:
        yield directory.files
    finally:
        directory.close()


def sweep(parent: Path) -> list[Path]:
    """Remove the directories that dead processes of this user left in `parent`, and kill what still works in them."""
    removed = []
    for entry in os.scandir(parent):
        if not entry.name.startswith(PREFIX):
            continue
        with suppress(OSError):
            facts = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
                continue
            root = Path(entry.path)
            if _left_behind(root, facts):
                removed.append(root)
    return removed


def _left_behind(root: Path, facts: os.stat_result) -> bool:
    """Remove a directory if nobody holds it; whether it was."""
    try:
        lock = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if time.time() - facts.st_mtime > STALE_S:
            root.rmdir()  # only if it is empty
            return True
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        kill(marked_processes(root))
        remove_tree(str(root))
        return True
    finally:
        os.close(lock)


def marked_processes(root: Path) -> list[int]:
    """Processes that were started for a scratch directory, wherever they stand in the tree of processes."""
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(root):
                pids.append(process.pid)
    return pids


def _taken(folder: Path) -> int:
    """Bytes on the disk below a folder; what vanishes meanwhile is passed over."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += _taken(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
