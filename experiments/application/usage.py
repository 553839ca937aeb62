"""Processor time and memory of this process and all its descendants, for the tables of costs."""

from __future__ import annotations

import threading
from types import TracebackType

import psutil

from data.processes.processor import tree_seconds


def tree() -> list[psutil.Process]:
    """This process and its living descendants."""
    this_process = psutil.Process()
    return [this_process, *this_process.children(recursive=True)]


def cpu_seconds() -> float:
    """Processor time (user and system) of this process and its descendants so far, ended ones included, s."""
    return tree_seconds()


def memory_mb() -> float:
    """Memory of this process and its descendants, in 10^6 bytes.

    This is the proportional set size if the system reports it (Linux), so that shared pages count once, and the
    resident set size elsewhere.
    """
    total = 0
    for process in tree():
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
        except psutil.Error:
            continue
    return total / 1e6


class PeakMemory:
    """Samples `memory_mb` in a thread while it is entered; `peak_mb` is the largest value seen.

    Args:
        interval_s: seconds between samples.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        self._interval = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="memory")
        self.peak_mb = 0.0

    def __enter__(self) -> PeakMemory:
        self.sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.sample()

    def sample(self) -> float:
        """Measure once, and return the peak so far."""
        self.peak_mb = max(self.peak_mb, memory_mb())
        return self.peak_mb

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.sample()
