"""A place in a campaign: one worker, and the request that it works on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from simulators.worker import Worker

#: Seconds between looks at memory, and at least between looks at the size of a directory.
MEMORY_POLL_S, SCRATCH_POLL_S = 0.1, 1.0
#: A look at a large directory takes time; so many times that long passes before the next.
SCRATCH_REST = 20


@dataclass
class Job:
    """A request on its way."""

    key: str
    values: dict[str, Any]
    attempts: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0


@dataclass
class Slot:
    """A worker and what it is doing.

    Attributes:
        worker: the process.
        memory_mb: resident memory that it may hold (10^6 bytes); None: no limit.
        scratch_mb: disk that its temporary files may take (10^6 bytes); None: no limit.
        job: what it works on.
        started: when it began that, or was started itself (s, `time.monotonic`).
        ready: whether it has greeted.
        deaths: in a row before a greeting.
        counted: its processor time up to its last message (s).
    """

    worker: Worker
    memory_mb: int | None = None
    scratch_mb: int | None = None
    job: Job | None = None
    started: float = 0.0
    ready: bool = False
    deaths: int = 0
    counted: float = 0.0
    _memory_at: float = 0.0
    _scratch_at: float = 0.0

    def renew(self) -> None:
        """Put a fresh process in place of this one."""
        self.worker.kill()
        self.worker.start()
        self.ready, self.started, self.counted = False, time.monotonic(), 0.0

    def over(self) -> tuple[str, str] | None:
        """Kind and message of what a worker has too much of; None while all is well."""
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
