"""Waiting for the jobs of a batch system, also for jobs that end without a word."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from data.terminal import progress_bar

#: Seconds between two looks at the jobs, and between two questions to SLURM.
POLL_S, QUEUE_S = 1.0, 15.0


def wait_for(jobs: Sequence[Any], label: str, *, queue: bool) -> bool:
    """Wait for the end of jobs of submitit; returns False if this process was stopped before, which leaves them alone.

    submitit sees the end of a job by its result, or asks the accounting of SLURM, which many clusters do not have. A
    job that is killed leaves no result; it is over once the queue does not list it.

    Args:
        jobs: what submitit returned for them.
        label: of the progress bar.
        queue: whether they are jobs of SLURM, not processes of this machine.
    """
    # It would say again and again that there is no accounting.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    left, asked = {job.job_id: job for job in jobs}, time.monotonic()
    try:
        with progress_bar(label, len(jobs)) as bar:
            while left := {name: job for name, job in left.items() if not job.done()}:
                bar.update(len(jobs) - len(left))
                time.sleep(POLL_S)
                if queue and time.monotonic() - asked > QUEUE_S:
                    asked = time.monotonic()
                    left = {name: job for name, job in left.items() if is_queued(name)}
    except KeyboardInterrupt:
        numbers = ", ".join(str(job.job_id) for job in jobs)
        remedy = "Wait for their end before you give the same command again."
        print(f"\nStopped waiting. The jobs go on: {numbers}. {remedy}", file=sys.stderr)
        return False
    return True


def is_queued(name: str) -> bool:
    """Whether a job of SLURM waits or runs; True where that cannot be asked.

    Args:
        name: its number, with that of the task for one of an array, such as "12_3".
    """
    with suppress(OSError, subprocess.TimeoutExpired):
        asked = subprocess.run(
            ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={name}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        unknown = "Invalid job id" in asked.stderr
        return not unknown and (asked.returncode != 0 or name in asked.stdout.split())
    return True
