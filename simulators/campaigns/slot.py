"""Slots of a campaign: a worker with the requests that it computes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from simulators.workers.worker import Worker

#: Interval between checks of memory, and smallest interval between checks of the scratch directory, s.
MEMORY_POLL_S, SCRATCH_POLL_S = 0.1, 1.0
#: Smallest interval between checks of a large directory, in multiples of the time that a check takes.
SCRATCH_REST = 20


@dataclass
class Job:
    """A request with its attempts and its cost so far."""

    key: str
    values: dict[str, Any]
    attempts: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0


@dataclass
class Slot:
    """A worker and its current requests.

    Attributes:
        worker: the process.
        memory_mb: limit of its resident memory, 10^6 bytes; None: no limit.
        scratch_mb: limit of the disk space of its temporary files, 10^6 bytes; None: no limit.
        jobs: requests that it was sent together and has not answered yet; none: idle.
        sent: number of requests that it was sent together.
        started: time at which the requests were sent or the process was started (`time.monotonic`), s.
        ready: whether it has loaded the simulator.
        deaths: number of consecutive deaths before it was ready.
        counted: its processor time up to its last message, s.
        answered: number of requests that this process has answered.
    """

    worker: Worker
    memory_mb: int | None = None
    scratch_mb: int | None = None
    jobs: list[Job] = field(default_factory=list)
    sent: int = 0
    started: float = 0.0
    ready: bool = False
    deaths: int = 0
    counted: float = 0.0
    answered: int = 0
    _memory_at: float = 0.0
    _scratch_at: float = 0.0

    def renew(self) -> None:
        """Replace the process by a new one."""
        self.worker.kill()
        self.worker.start()
        self.ready, self.started, self.counted, self.answered = False, time.monotonic(), 0.0, 0

    def over(self) -> tuple[str, str] | None:
        """Kind and message of an exceeded limit of memory or disk; None if there is none."""
        now = time.monotonic()
        if self.memory_mb is not None and now >= self._memory_at:
            self._memory_at = now + MEMORY_POLL_S
            used = self.worker.memory_mb()
            if used > self.memory_mb:
                return "out_of_memory", f"{used:,.0f} MB used, {self.memory_mb:,} MB allowed; killed"
        if self.scratch_mb is not None and now >= self._scratch_at:
            used = self.worker.scratch.megabytes()
            after = time.monotonic()
            self._scratch_at = after + max(SCRATCH_POLL_S, SCRATCH_REST * (after - now))
            if used > self.scratch_mb:
                return (
                    "crashed",
                    f"{used:,.0f} MB of temporary files, {self.scratch_mb:,} MB allowed (scratch_mb); killed",
                )
        return None
