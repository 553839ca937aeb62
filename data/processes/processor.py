"""Processor time of a process and of everything that it started, whether that lives or has ended.

Wall time grows with whatever else the machine does; processor time hardly does, and so costs are counted in it.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from contextlib import suppress

import psutil

from data.processes.descendants import descendants


def usage_seconds(usage: resource.struct_rusage) -> float:
    """User and system time of a `getrusage` or `wait4` (s)."""
    return usage.ru_utime + usage.ru_stime


def living_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes and of what they have waited for, in the system's ticks of about 0.01 s (s)."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_seconds() -> float:
    """Processor time so far of this process, of programs that it started and has waited for, and of those that live.

    The first two are counted to the microsecond, the last in ticks.
    """
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(map(usage_seconds, usages)) + living_seconds(descendants(os.getpid()))
