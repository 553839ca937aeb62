"""Lists and ends the processes that a process started; imports the standard library only, so that it loads fast."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from functools import cache

#: Variable by which a process is told the id of the one that started it, and with which it ends.
PARENT = "UNDERSTUDY_PARENT"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def children(pid: int) -> list[int]:
    """Living processes that a process started, or adopted as orphans."""
    if not _kernel_lists_children():
        return _by_parent()[pid]
    pids: list[int] = []
    # Asking the whole system for children is slow; Linux lists them in one place.
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                pids += map(int, file.read().split())
    return pids


def descendants(pid: int) -> list[int]:
    """The children of a process, and theirs; parents stand before their children."""
    table = None if _kernel_lists_children() else _by_parent()
    pids = [pid]
    for one in pids:
        pids += children(one) if table is None else table[one]
    return pids[1:]


@cache
def _kernel_lists_children() -> bool:
    """Whether the kernel lists the children of a process."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _by_parent() -> dict[int, list[int]]:
    """Children by parent from a list of all processes, where the kernel has no list of children."""
    lines = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    table: dict[int, list[int]] = defaultdict(list)
    for line in lines.splitlines():
        child, parent = map(int, line.split())
        table[parent].append(child)
    return table


def kill(pids: list[int]) -> None:
    """Send SIGKILL to each of these processes that exists and belongs to this user."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_descendants(pid: int) -> None:
    """Kill all descendants of a process; each is halted first, so that none starts another one meanwhile."""
    halted: set[int] = set()
    while fresh := [one for one in descendants(pid) if one not in halted]:
        for one in fresh:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGSTOP)
        halted.update(fresh)
    kill(list(halted))


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends, however that ends.

    Systems other than Linux do not offer that: there the signal never comes.

    Args:
        parent: the process that started this one; if that is gone already, this one ends at once.
        number: of the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def end_with_named_parent(number: int) -> None:
    """`end_with_parent` where the variable `PARENT` names a process; those that this one starts have it no longer.

    Args:
        number: of the signal.
    """
    parent = os.environ.pop(PARENT, "")
    if parent.isdecimal():
        end_with_parent(int(parent), number)


def adopt_orphans() -> None:
    """Become the parent of all processes below this one that lose theirs (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(limit_s: float) -> bool:
    """Kill all descendants of this process and wait for them; it has to adopt orphans (`adopt_orphans`).

    Args:
        limit_s: seconds after which it gives up on a process that no signal ends, such as one that waits for a disk.

    Returns:
        Whether none is left.
    """
    deadline = time.monotonic() + limit_s
    while True:
        kill_descendants(os.getpid())
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
