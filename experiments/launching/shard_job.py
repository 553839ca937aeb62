"""A job of an array: shards of a command. Each job loads this module, which therefore imports little."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.launching.job_process import STOPPED_STATUS, run_understudy, stop_understudy


@dataclass(frozen=True)
class ShardJob:
    """What a job runs: shards of a command, one after the other.

    Attributes:
        stage: name of the stage.
        arguments: its arguments, without those of the launcher.
        shards: shards of this job.
        folder: working directory of the command.
        devices: what CUDA_VISIBLE_DEVICES is for them; None leaves it as the cluster sets it.
    """

    stage: str
    arguments: tuple[str, ...]
    shards: tuple[str, ...]
    folder: str
    devices: str | None = None

    def __call__(self) -> list[int]:
        """Run the shards; returns their exit statuses.

        A shard that fails leaves the others alone. One that was stopped ends the job, since all of it was asked to.
        """
        statuses: list[int] = []
        for shard in self.shards:
            statuses.append(run_shard(self.stage, self.arguments, shard, self.folder, self.devices))
            if statuses[-1] == STOPPED_STATUS:
                break
        return statuses

    def checkpoint(self) -> Any:
        """The same job again, at the end of its wall time; shards that are complete end at once.

        submitit calls this in the handler of the signal that announces the end.
        """
        from submitit.helpers import DelayedSubmission

        stop_understudy()
        return DelayedSubmission(self)


def run_shard(stage: str, arguments: Sequence[str], shard: str, folder: str, devices: str | None = None) -> int:
    """Run one shard in a process of its own, which sees these GPUs alone, and return its exit status."""
    env = None if devices is None else {**os.environ, "CUDA_VISIBLE_DEVICES": devices}
    return run_understudy([stage, *arguments, f"shard={shard}"], folder=folder, environment=env)
