"""Directories for temporary files of simulators, which are removed even if their process dies.

Each directory has a file that its process keeps locked. The kernel releases the lock when the process dies. A process
that creates such a directory removes all abandoned ones, which it recognises by their released locks.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from data.processes.descendants import kill
from simulators.workers.guard import remove_tree

PREFIX = "understudy-scratch-"
LOCK = ".understudy-lock"
#: Environment variable that marks the programs that belong to a directory.
MARK = "UNDERSTUDY_SCRATCH"
#: Age at which an empty directory without a lock counts as abandoned, s.
STALE_S = 3600.0
#: Time within which the program of a process that is just being started is loaded, s.
LOADED_S = 0.05


@dataclass
class Scratch:
    """A locked directory for temporary files.

    Attributes:
        root: the directory, which contains the locked file.
        lock: descriptor of the locked file; a process that inherits it keeps the lock too.
    """

    root: Path
    lock: int

    @classmethod
    def make(cls) -> Scratch:
        """Create a directory below `TMPDIR`, after removing abandoned ones there."""
        parent = Path(tempfile.gettempdir())
        sweep(parent)
        while True:
            root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            # Another process may have removed it as abandoned before it was locked.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (root / LOCK).stat().st_ino == os.fstat(lock).st_ino:
                    (root / "files").mkdir()
                    return cls(root, lock)
            os.close(lock)

    @property
    def files(self) -> Path:
        """Folder for the files."""
        return self.root / "files"

    def megabytes(self) -> float:
        """Disk space of the files, 10^6 bytes."""
        return _taken(self.files) / 1e6

    def close(self) -> None:
        """Remove the directory; repeated calls have no effect."""
        if self.lock >= 0:
            remove_tree(str(self.root))
            os.close(self.lock)
            self.lock = -1


@contextmanager
def scratch() -> Iterator[Path]:
    """Context that provides a directory for temporary files and removes it."""
    directory = Scratch.make()
    try:
        yield directory.files
    finally:
        directory.close()


def sweep(parent: Path) -> list[Path]:
    """Remove directories that dead processes of this user left in `parent`, and kill programs that still use them."""
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
    """Remove a directory if no process has locked it; returns whether it was abandoned."""
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
    """Ids of the processes that were started for a scratch directory, anywhere in the process tree."""
    blank: list[psutil.Process] = []
    pids = _marked(root, psutil.process_iter(), blank)
    if blank:
        # A process that is being started shows no environment until its program is loaded; kernel threads never do.
        time.sleep(LOADED_S)
        pids += _marked(root, blank, [])
    return pids


def _marked(root: Path, processes: Iterable[psutil.Process], blank: list[psutil.Process]) -> list[int]:
    """Ids of those that carry the mark of a directory; those without an environment are added to `blank`."""
    pids = []
    for process in processes:
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if not environment:
                blank.append(process)
            elif process.pid != os.getpid() and environment.get(MARK) == str(root):
                pids.append(process.pid)
    return pids


def _taken(folder: Path) -> int:
    """Disk space of a folder, bytes; files that disappear meanwhile are ignored."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += _taken(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
