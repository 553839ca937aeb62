"""`understudy STAGE --multirun`: one run for each combination of values, by a launcher of Hydra.

Hydra expands the combinations and launches them: one after the other (`hydra/launcher=basic`), as processes of this
machine (`submitit_local`) or as an array of SLURM (`submitit_slurm`). What it launches only starts the stage in a
process of its own and returns its exit status. submitit returns results by pickle; nothing depends on them, since what
a job did is in its directory.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.extras import MissingExtraError
from data.progress import RUNNING
from experiments.application.choices import CONF
from experiments.application.shard_arguments import quoted
from experiments.sweeps.job import OUT_IN_JOB, SweepJob, run_job
from experiments.sweeps.outcome import JobOutcome, outcomes, show_sweep, write_sweep

#: Stages whose `run.dir` is beside their `out`.
BESIDE_OUT = ("predict", "export", "forecast")
#: Keys that have no meaning in a sweep -> the remedy.
UNSWEPT = {
    "shard": "Sweep whole commands; launcher=submitit cuts one command into shards",
    "launcher": "Give hydra/launcher=submitit_local or hydra/launcher=submitit_slurm",
}
#: Seconds between two looks at jobs that outlive one that was lost.
POLL_S = 1.0


def sweep(stage: str, arguments: Sequence[str]) -> int:
    """Run a sweep, or what is left of one that was stopped, and print its table.

    Args:
        stage: name of the stage.
        arguments: arguments of the command, with `--multirun`.

    Returns:
        0 if all jobs are finished, 130 if the sweep was stopped, 1 otherwise.

    Raises:
        InputError: an argument does not go with a sweep, or the launcher is not installed.
    """
    refuse_unswept(arguments)
    directory = sweep_directory(stage, arguments)
    options = _options(arguments)

    def task(config: DictConfig) -> int:
        settings: Any = HydraConfig.get()
        overrides: Any = OmegaConf.to_container(settings.overrides.task)
        job = SweepJob(int(settings.job.num), tuple(map(str, overrides)), _short(settings.runtime.output_dir))
        return run_job(stage, job, directory, options)

    rest = [argument for argument in arguments if not argument.startswith("hydra.sweep.dir=")]
    # Hydra reads its arguments here.
    sys.argv = [f"understudy {stage}", *rest, f"hydra.sweep.dir={quoted(directory)}"]
    # submitit would say with each look at its jobs that SLURM has no accounting.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    stopped, lost = False, ""
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=stage)(task)()
    except KeyboardInterrupt:
        stopped = True
    except Exception as error:
        # A job of submitit whose process was killed; the other jobs run on.
        if type(error).__module__.partition(".")[0] != "submitit":
            raise
        lost = " ".join(str(error).split())[:200]
    while lost and any(job.state == RUNNING for job in outcomes(directory, stage)):
        time.sleep(POLL_S)
    jobs = outcomes(directory, stage)
    write_sweep(directory, stage, jobs)
    show_sweep(directory, stage, jobs, lost)
    return _status(jobs, stopped=stopped, lost=bool(lost))


def _status(jobs: Sequence[JobOutcome], *, stopped: bool, lost: bool) -> int:
    if stopped:
        return 130
    return 1 if lost or any(job.is_failed for job in jobs) else 0


def refuse_unswept(arguments: Sequence[str]) -> None:
    """Refuse arguments that do not go with a sweep, and a launcher that is not installed.

    Raises:
        InputError: an argument is refused; the message names it.
    """
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        if key.partition(".")[0] in UNSWEPT and value not in ("", "null"):
            raise InputError("does not go with --multirun", where=key, remedy=UNSWEPT[key.partition(".")[0]])
        if key in ("out", "run.dir") and _is_swept(argument):
            raise InputError(
                "the jobs of a sweep write into numbered directories of run.dir",
                where=key,
                remedy=f"Give one {key}, without commas",
            )
        if (
            key == "hydra/launcher"
            and value.startswith("submitit")
            and find_spec("hydra_plugins.hydra_submitit_launcher") is None
        ):
            raise MissingExtraError(f"{value} needs the package hydra-submitit-launcher", "cluster", where=key)


def sweep_directory(stage: str, arguments: Sequence[str]) -> Path:
    """The directory of a sweep: `hydra.sweep.dir`, else the `run.dir` that the stage would have.

    Without either it is a new one, whose name is the time.
    """
    values = {key.lstrip("+"): value.strip("'\"") for key, _, value in (a.partition("=") for a in arguments)}
    for key in ("hydra.sweep.dir", "run.dir"):
        if values.get(key):
            return Path(_short(values[key]))
    if values.get("out") and stage in (*OUT_IN_JOB, *BESIDE_OUT):
        return Path(_short(values["out"] + (".run" if stage in BESIDE_OUT else "")))
    return Path("runs") / stage / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


def _options(arguments: Sequence[str]) -> list[str]:
    """The options among the arguments that a job needs as well: those that name further configurations."""
    options: list[str] = []
    for i, argument in enumerate(arguments):
        name, equals, _ = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            options += [argument] if equals else [argument, *arguments[i + 1 : i + 2]]
    return options


def _is_swept(argument: str) -> bool:
    return bool(OverridesParser.create().parse_override(argument).is_sweep_override())


def _short(path: str) -> str:
    """A path as it is from the working directory, where it lies below that."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
