"""`launcher=submitit`: the shards of a command as an array of jobs.

Each shard is the same command with `shard=i/n`, in a process of its own, so that a job that ends at its wall time or
with its machine loses nothing: the shard resumes where it was. submitit returns results by pickle; none is read here,
since what a shard did is in its directory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from data.errors import InputError
from data.extras import MissingExtraError
from data.files import make_directory
from data.plain import to_plain
from data.ranges import refuse_out_of_range
from data.settings import build
from data.shards import Shard, shards_directory
from data.terminal import show_pairs
from experiments.application.choices import CONF
from experiments.application.shard_arguments import SHARDED, with_shard_places
from experiments.launching.job_process import STOPPED_STATUS
from experiments.launching.shard_job import ShardJob
from experiments.launching.waiting import wait_for
from experiments.runs.status import run_status

#: Folder beside the shards for what submitit writes.
JOBS = "jobs"
#: Seconds before the wall time of a job at which it stops, unless that is more than a quarter of it.
STOP_S = 90
#: Seconds before its time by which SLURM may announce the end of a job, and seconds in which a job has started.
EARLY_S, START_S = 60, 60
#: How often submitit starts a job of this machine again.
MOST_LOCAL = 5


@dataclass(frozen=True)
class LauncherSettings:
    """The keys of `launcher`; see `experiments/conf/launcher/submitit.yaml`.

    Raises:
        ValueError: a number is too small, or there are more jobs than shards.
    """

    shards: int = 2
    jobs: int | None = None
    cluster: str = "slurm"
    minutes: int = 60
    resubmitted: int = 3
    stop_s: int | None = None
    cpus: int = 1
    memory_gb: float | None = None
    gpus: int = 0
    nodes: int = 1
    tasks: int | None = None
    slurm: dict[str, Any] = field(default_factory=dict)
    wait: bool = True

    def __post_init__(self) -> None:
        for name in ("shards", "minutes", "cpus", "nodes", "tasks"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name} must be 1 or more, got {number}")
        if self.cluster not in ("slurm", "local"):
            raise ValueError(f"cluster must be slurm or local, got {self.cluster!r}")
        if self.resubmitted < 0 or (self.cluster == "local" and self.resubmitted > MOST_LOCAL):
            most = f" to {MOST_LOCAL} with cluster=local" if self.cluster == "local" else ""
            raise ValueError(f"resubmitted must be from 0{most}, got {self.resubmitted}")
        least = self.stops_before_s + (EARLY_S + START_S if self.cluster == "slurm" else 1)
        if self.stops_before_s < 1 or 60 * self.minutes < least:
            raise ValueError(
                f"a job that stops {self.stops_before_s} s before its end has to last {least} s, not the "
                f"{60 * self.minutes} s of minutes={self.minutes}"
            )
        if self.jobs is not None and not 1 <= self.jobs <= self.shards:
            raise ValueError(f"jobs must be from 1 to the number of shards, got {self.jobs}")

    @property
    def stops_before_s(self) -> int:
        """Seconds before the wall time of a job at which it stops."""
        return min(STOP_S, 15 * self.minutes) if self.stop_s is None else self.stop_s

    def groups(self) -> list[list[Shard]]:
        """The shards of each job."""
        shards = [Shard(number, self.shards) for number in range(1, self.shards + 1)]
        jobs = self.jobs or self.shards
        return [shards[slice(*Shard(number, jobs).span(self.shards))] for number in range(1, jobs + 1)]


def devices_of_job(job: int, settings: LauncherSettings, visible: str | None) -> str | None:
    """The GPUs of one local job, so that no two jobs share one; None on a cluster, which shares them out itself.

    submitit gives the first GPUs of the machine to each of its local jobs.

    Args:
        job: its number, from 0.
        settings: of the jobs.
        visible: CUDA_VISIBLE_DEVICES of the command, or None where it is not set.

    Raises:
        InputError: fewer GPUs are visible than the jobs ask for.
    """
    if settings.cluster != "local" or settings.gpus == 0:
        return None
    jobs = len(settings.groups())
    needed = jobs * settings.gpus
    names = [str(number) for number in range(needed)] if visible is None else [n for n in visible.split(",") if n]
    if len(names) < needed:
        raise InputError(
            f"{jobs} jobs ask for {needed} GPUs, CUDA_VISIBLE_DEVICES names {len(names)}",
            where="launcher.gpus",
            remedy="Give launcher.jobs=N, so that each job runs several shards one after the other",
        )
    return ",".join(names[job * settings.gpus : (job + 1) * settings.gpus])


def asks_launcher(stage: str, arguments: Sequence[str]) -> bool:
    """Whether the arguments of a stage ask for its shards, or the processes of a training, to be launched."""
    return (stage in SHARDED or stage == "train") and "launcher=submitit" in arguments


def launch(stage: str, arguments: Sequence[str]) -> int:
    """Submit the shards of a command as an array, wait for them, and say what is left to do.

    Returns:
        The exit status: 0 if all shards are complete, or if the command does not wait; 130 if it was stopped while it
        waited; 1 otherwise.

    Raises:
        InputError: submitit is not installed, a setting of the launcher is wrong, or `out` is missing.
    """
    settings, rest = launcher_settings(arguments)
    if settings.nodes > 1 or (settings.tasks or 1) > 1:
        raise InputError(
            "a shard is one process of one node", where="launcher.nodes", remedy="Give launcher.jobs=N, the jobs"
        )
    if any(argument.startswith("shard=") for argument in rest):
        raise InputError("the launcher numbers the shards", where="shard", remedy="Give launcher.shards=N instead")
    # This refuses what is missing before anything is submitted.
    with_shard_places(stage, [*rest, "shard=1/1"])
    out = Path(next(a for a in rest if a.startswith("out=")).partition("=")[2].strip("'\""))
    folder = shards_directory(out) / JOBS
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    jobs = [
        ShardJob(stage, rest, tuple(map(str, group)), os.getcwd(), devices_of_job(number, settings, visible))
        for number, group in enumerate(settings.groups())
    ]
    executor = submitit_executor(folder, settings)
    submitted = executor.submit_array(jobs)
    numbers = f"{submitted[0].job_id}" + (f" to {submitted[-1].job_id}" if len(submitted) > 1 else "")
    summary: dict[str, object] = {"jobs": f"{len(submitted)} for {settings.shards} shards: {numbers}", "logs": folder}
    if not settings.wait:
        follow = {"follow": f"understudy runs {shards_directory(out)}", "then": f"understudy merge {out}"}
        show_pairs("Submitted", summary | follow)
        return 0
    if not wait_for(submitted, "jobs", queue=settings.cluster == "slurm"):
        return STOPPED_STATUS
    unfinished = [str(s) for group in settings.groups() for s in group if _state(s.directory(out)) != "finished"]
    then = "see the logs, and run the same command again: shards resume" if unfinished else f"understudy merge {out}"
    show_pairs("Shards", summary | {"not finished": ", ".join(unfinished) or "none", "then": then})
    return 1 if unfinished else 0


def launcher_settings(arguments: Sequence[str]) -> tuple[LauncherSettings, tuple[str, ...]]:
    """The settings of the launcher among the arguments of a stage, and the other arguments.

    Raises:
        InputError: a key is unknown, or a value has a wrong type or is out of range.
    """
    rest = tuple(a for a in arguments if not a.lstrip("+").startswith(("launcher=", "launcher.")))
    assignments = [a.lstrip("+").removeprefix("launcher.") for a in arguments if a.lstrip("+").startswith("launcher.")]
    config = OmegaConf.merge(OmegaConf.load(CONF / "launcher" / "submitit.yaml"), OmegaConf.from_dotlist(assignments))
    plain: Any = OmegaConf.to_container(config)
    refuse_out_of_range(plain, "launcher")
    return build(LauncherSettings, plain, where="launcher"), rest


def submitit_executor(folder: Path, settings: LauncherSettings) -> Any:
    """What submits jobs to the cluster, with `submit_array(jobs)`.

    Args:
        folder: receives what submitit writes, and the logs of the jobs.
        settings: of the jobs.

    Raises:
        InputError: submitit is not installed, or there is no such cluster.
    """
    try:
        import submitit
    except ImportError as error:
        raise MissingExtraError("launcher=submitit needs the package submitit", "cluster", where="launcher") from error
    make_directory(folder)
    parameters: dict[str, Any] = {"timeout_min": settings.minutes, "gpus_per_node": settings.gpus}
    nodes, tasks = settings.nodes, settings.tasks or 1
    if settings.cluster == "local":
        # The front for all clusters does not hand these on; all processes of a local job are on this machine.
        executor: Any = submitit.LocalExecutor(folder, max_num_timeout=settings.resubmitted)
        executor.update_parameters(**parameters, tasks_per_node=nodes * tasks, signal_delay_s=settings.stops_before_s)
        return _Array(executor)
    try:
        executor = submitit.AutoExecutor(
            folder=folder, cluster=settings.cluster, slurm_max_num_timeout=settings.resubmitted
        )
    except RuntimeError as error:
        raise InputError(
            str(error), where="launcher.cluster", remedy="Run it where sbatch is, or cluster=local"
        ) from error
    parameters |= {"name": "understudy", "cpus_per_task": settings.cpus}
    parameters["slurm_signal_delay_s"] = settings.stops_before_s
    if nodes * tasks > 1:
        parameters |= {"nodes": nodes, "tasks_per_node": tasks}
    if settings.memory_gb is not None:
        parameters["mem_gb"] = settings.memory_gb
    if settings.slurm:
        parameters["slurm_additional_parameters"] = to_plain(settings.slurm)
    executor.update_parameters(**parameters)
    return _Array(executor)


class _Array:
    """Submits calls without arguments as one array."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def submit_array(self, calls: Sequence[ShardJob]) -> list[Any]:
        with self._executor.batch():
            return [self._executor.submit(call) for call in calls]


def _state(directory: Path) -> str:
    try:
        return run_status(directory).state
    except InputError:
        return "missing"
