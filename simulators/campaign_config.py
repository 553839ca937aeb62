"""How a campaign is run: processes, limits and tries."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

#: Kinds of failure that may pass on a second try.
RETRIED = ("crashed", "out_of_memory")


@dataclass(frozen=True)
class CampaignConfig:
    """How to run a campaign.

    Attributes:
        workers: processes; None: as many as the cores that this process may use, over `threads`.
        threads: of each process.
        timeout_s: wall seconds of one simulation, after which its process is killed; None: no limit.
        memory_mb: resident memory (10^6 bytes) of a process, above which it is killed; None: no limit.
        scratch_mb: disk (10^6 bytes) that the temporary files of a process may take, above which it is killed, and the
            size of the largest file that it may write anywhere; None: no limit.
        retries: more tries for what may pass on a second one (`RETRIED`).
        retry_failed: try again what the store holds as failed; the new record stands behind the old one.
        give_up_after: the campaign ends when of so many first requests more than half failed; None: it goes on.

    Raises:
        ValueError: a number is out of range.
    """

    workers: int | None = None
    threads: int = 1
    timeout_s: float | None = 3600.0
    memory_mb: int | None = 4000
    scratch_mb: int | None = 20_000
    retries: int = 1
    retry_failed: bool = False
    give_up_after: int | None = 10

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "timeout_s", "memory_mb", "scratch_mb", "give_up_after"):
            value = getattr(self, name)
            # Not a number is no limit to anything.
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        if not 0 <= self.retries < math.inf:
            raise ValueError(f"retries must be 0 or more, got {self.retries}")

    @property
    def processes(self) -> int:
        """Worker processes."""
        return self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)
