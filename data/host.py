"""Which machine, which start of it and which process this is, for files by which other machines know a writer."""

from __future__ import annotations

import socket
from functools import cache
from pathlib import Path


@cache
def host_name() -> str:
    """Name of this machine in its network."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """A text that changes when this machine starts anew; "" where the system has none.

    Process ids are given again after a start, so that an id alone does not name a process.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
