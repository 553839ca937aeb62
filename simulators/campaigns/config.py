"""Settings of a campaign: processes, limits and retries."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

#: Kinds of failure that may succeed on a second attempt.
RETRIED = ("crashed", "out_of_memory")
#: local: processes of this machine; dask: workers of a Dask cluster.
ENGINES = ("local", "dask")


@dataclass(frozen=True)
class CampaignConfig:
    """Settings of a campaign.

    Attributes:
        workers: number of worker processes; None: the number of available cores divided by `threads`.
        threads: threads of each process.
        timeout_s: wall time of one simulation after which its process is killed, s; None: no limit.
        memory_mb: resident memory of a process above which it is killed, 10^6 bytes; None: no limit.
        scratch_mb: disk space of the temporary files of a process above which it is killed, and largest size of any
            file that it writes, 10^6 bytes; None: no limit.
        retries: number of further attempts after a failure that may be temporary (`RETRIED`).
        retry_failed: whether to repeat requests that the store records as failed; the new record is added, and the old
            one is kept.
        give_up_after: number of first requests; the campaign ends if more than half of them fail. None: it continues.
        engine: where the workers run: one of `ENGINES`.
        address, scheduler_file: of the scheduler of a Dask cluster; None for both: local processes.

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
    engine: str = "local"
    address: str | None = None
    scheduler_file: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "timeout_s", "memory_mb", "scratch_mb", "give_up_after"):
            value = getattr(self, name)
            # The comparison also refuses NaN, with which no limit would apply.
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.engine == "local" and (self.address is not None or self.scheduler_file is not None):
            raise ValueError("address and scheduler_file are those of engine=dask")
        if self.address is not None and self.scheduler_file is not None:
            raise ValueError("give address or scheduler_file, not both")
        if not 0 <= self.retries < math.inf:
            raise ValueError(f"retries must be 0 or more, got {self.retries}")

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)
