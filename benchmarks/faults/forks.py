"""Functions that are called in a fork of this process, which may be killed, crash or hang.

A fork of a process that has imported everything begins at once, where a new interpreter imports for seconds; the
process has to have started no thread.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

#: What a fork whose time was over ends with.
HANG = -1000


@dataclass(frozen=True)
class End:
    """How a fork ended.

    Attributes:
        status: its exit status; minus the number of the signal that ended it; `HANG` if its time was over.
        said: what the function returned, or its traceback.
        seconds: that it ran.
    """

    status: int
    said: str
    seconds: float


def forked(
    function: Callable[[], str], *, kill_after_s: float | None = None, limit_s: float = 600.0, group: bool = False
) -> End:
    """Call a function in a fork of this process.

    Args:
        function: what it returns is handed back, and what it raises as a traceback.
        kill_after_s: seconds after which it is killed as `kill -9` does it.
        limit_s: seconds after which it is taken for hung, and killed.
        group: make it the first of a process group, which is killed where it hangs.
    """
    receiving, sending = os.pipe()
    sys.stdout.flush()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        if group:
            os.setsid()
        _child(function, sending)
    os.close(sending)
    said, hung, handle = b"", False, os.pidfd_open(child)
    deadline = began + min(limit_s, limit_s if kill_after_s is None else kill_after_s)
    os.set_blocking(receiving, False)
    try:
        while True:
            # A process that it started may hold the pipe open behind its end.
            ready, _, _ = select.select([receiving, handle], [], [], max(0.0, deadline - time.monotonic()))
            said += _drained(receiving)
            if handle in ready:
                break
            if receiving in ready:
                # The end of the pipe is ready for ever.
                select.select([handle], [], [], 0.01)
            if time.monotonic() >= deadline:
                hung = kill_after_s is None or limit_s < kill_after_s
                break
    finally:
        if group and hung:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said += _drained(receiving)
        os.close(receiving)
        os.close(handle)
    return End(HANG if hung else status, said.decode("utf-8", "replace"), time.monotonic() - began)


def _child(function: Callable[[], str], sending: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        said, status = function(), 0
    except BaseException:
        said, status = traceback.format_exc(), 1
    sys.setprofile(None)
    view = memoryview(said.encode("utf-8", "backslashreplace"))
    while view:
        view = view[os.write(sending, view) :]
    os._exit(status)


def _drained(pipe: int) -> bytes:
    content = b""
    with suppress(BlockingIOError):
        while piece := os.read(pipe, 1 << 16):
            content += piece
    return content


def outlived(group: int, seconds: float = 20.0) -> bool:
    """Whether a process of a group is still there after so many seconds, in which they may end by themselves."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True
