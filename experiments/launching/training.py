"""`launcher=submitit` of a training: one job of several nodes, each of whose tasks is a process of the training.

All tasks run the same command (`surrogates.learning.processes`). At its wall time the job stops as by Ctrl-C, with a
checkpoint, and is submitted again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.terminal import show_pairs
from experiments.launching.array import JOBS, launcher_settings, submitit_executor
from experiments.launching.job_process import STOPPED_STATUS, run_understudy, stop_understudy
from experiments.launching.waiting import wait_for
from experiments.runs.status import run_status


@dataclass(frozen=True)
class TrainingTask:
    """What each task of a job runs: a process of a training.

    Attributes:
        arguments: those of `understudy train`, without those of the launcher.
        folder: working directory of the command.
        port: where process 0 of a local job waits for the others; None under SLURM, whose variables JAX reads.
        devices: whether each process of a local job uses the GPU with its local rank alone.
    """

    arguments: tuple[str, ...]
    folder: str
    port: int | None = None
    devices: bool = False

    def __call__(self) -> int:
        """Run this process to its end; returns its exit status."""
        from submitit import JobEnvironment

        task = JobEnvironment()
        arguments = self.command(task.global_rank, task.num_tasks, task.local_rank)
        return run_understudy(arguments, folder=self.folder)

    def command(self, rank: int, processes: int, local_rank: int) -> list[str]:
        """The arguments of the command of one process.

        Args:
            rank: its number among all.
            processes: number of all.
            local_rank: its number among those of its node.
        """
        more = ["devices.distributed=true"] if processes > 1 else []
        if processes > 1 and self.port is not None:
            more += [f"devices.coordinator=127.0.0.1:{self.port}", f"devices.processes={processes}"]
            more += [f"devices.process={rank}"]
        if self.devices and processes > 1:
            more += [f"devices.local_device_ids=[{local_rank}]"]
        return ["train", *self.arguments, *more]

    def checkpoint(self) -> Any:
        """The same task again, at the end of its wall time, once its process has stopped with a checkpoint."""
        from submitit.helpers import DelayedSubmission

        # All other processes stop after the same step.
        stop_understudy()
        return DelayedSubmission(self)


def launch(arguments: Sequence[str]) -> int:
    """Submit a training as one job, wait for it, and say what became of it.

    Returns:
        The exit status: 0 if the training is finished, or if the command does not wait; 130 if it was stopped while it
        waited; 1 otherwise.

    Raises:
        InputError: submitit is not installed, a setting of the launcher is wrong, or `run.dir` is missing.
    """
    settings, rest = launcher_settings(arguments)
    if settings.tasks is None:
        settings = replace(settings, tasks=max(1, settings.gpus))
    places = [a.partition("=")[2].strip("'\"") for a in rest if a.startswith("run.dir=")]
    if not places:
        raise InputError(
            "all processes of a training write to one directory", where="run.dir", remedy="Give run.dir=DIR"
        )
    for key in ("devices.distributed", "devices.coordinator", "devices.processes", "devices.process"):
        if any(argument.startswith(f"{key}=") for argument in rest):
            raise InputError("the launcher numbers the processes", where=key, remedy="Give launcher.nodes=N instead")
    run_dir = Path(places[-1])
    folder = run_dir.with_name(f"{run_dir.name}.{JOBS}")
    local = settings.cluster == "local"
    task = TrainingTask(rest, os.getcwd(), _free_port() if local else None, local and settings.gpus > 0)
    (job,) = submitit_executor(folder, settings).submit_array([task])
    processes = settings.nodes * (settings.tasks or 1)
    rows: dict[str, object] = {"job": f"{job.job_id}, {processes} processes on {settings.nodes} nodes", "logs": folder}
    if not settings.wait:
        show_pairs("Submitted", rows | {"follow": f"understudy status {run_dir}"})
        return 0
    if not wait_for([job], "job", queue=not local):
        return STOPPED_STATUS
    try:
        status = run_status(run_dir)
        state, problem = status.state, status.problem
    except InputError:
        state, problem = "missing", ""
    done = state == "finished"
    rows |= {"state": state, **({"problem": problem} if problem else {})}
    then = run_dir if done else "see the logs, and run the same command again: it resumes"
    show_pairs("Training", rows | {"then": then})
    return 0 if done else 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
