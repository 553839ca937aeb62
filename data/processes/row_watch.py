"""Shows the parent of a parsing process which row the process parses, and limits the time of each row.

Code that goes over rows calls `begin` for each. Outside of a parsing process that does nothing.
"""

from __future__ import annotations

import mmap
import signal
import struct

#: Bytes that the two processes share: how many rows were begun, the number of the last, and a name for it.
PAGE = struct.Struct("<qq96s")
#: Stands for work that belongs to no single row, which may take `FACTOR` times as long.
NO_ROW = -1
FACTOR = 6.0

_page: mmap.mmap | None = None
_seconds = 0.0
_begun = 0


def watch(page: mmap.mmap, seconds: float) -> None:
    """Report the rows of this process on `page`; SIGPROF ends it if a row takes more processor time than `seconds`."""
    global _page, _seconds
    _page, _seconds = page, seconds


def begin(row: int = NO_ROW, name: str = "") -> None:
    """Report that a row is begun, by the number under which the parent knows it, and by a name for messages."""
    global _begun
    if _page is None:
        return
    _begun += 1
    PAGE.pack_into(_page, 0, _begun, row, name.encode("utf-8", "replace"))
    # Nothing in Python could interrupt a loop of C++, but the kernel can; and processor time, unlike wall time, does
    # not pass while other programs use the cores.
    signal.setitimer(signal.ITIMER_PROF, _seconds if row != NO_ROW else FACTOR * _seconds)


def end() -> None:
    """Report that no row is being parsed, and stop the timer."""
    begin(NO_ROW)
    if _page is not None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


def last() -> tuple[int, str]:
    """Number and name of the row that was begun last; `NO_ROW` and "" outside of a parsing process."""
    return (NO_ROW, "") if _page is None else read(_page)


def read(page: mmap.mmap) -> tuple[int, str]:
    """Number and name of the row that a page shows."""
    _, row, name = PAGE.unpack_from(page)
    return int(row), name.rstrip(b"\0").decode("utf-8", "replace")
