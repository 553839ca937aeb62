"""A job of a sweep: one run of a stage in a process and a directory of its own.

The process is not the one that sweeps, so that a job that fails, crashes or is killed leaves the others alone. What a
job was asked for and how it ended lies beside its directory, in `jobs/<number>.json` of the sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data.errors import InputError
from data.files import write_json
from data.formats.damage import first_line
from data.json_files import parse_json
from data.plain import from_plain
from data.progress import FINISHED
from experiments.application.shard_arguments import quoted
from experiments.launching.job_process import run_understudy
from experiments.runs.status import run_status

#: Folder of a sweep with one file for each job.
FOLDER = "jobs"
#: Stage -> what its `out` is called below the directory of a job; "" is that directory itself. Stages that are not
#: listed keep the last part of the `out` that was asked for.
OUT_IN_JOB = {"screen": "", "calibrate": "", "grow": "", "prune": "", "distil": ""}
#: Exit status of a command that was stopped and resumes.
STOPPED_STATUS = 130


@dataclass(frozen=True)
class SweepJob:
    """One combination of a sweep.

    Attributes:
        number: its place among the combinations, from 0.
        overrides: arguments of the stage, as Hydra expanded them.
        directory: directory of its run.
        exit_status: of its last process; minus the number of the signal that ended it; None while it runs, and after
            the sweep itself was killed.
        problem: why another combination that has the same number now was not run.
    """

    number: int
    overrides: tuple[str, ...]
    directory: str
    exit_status: int | None = None
    problem: str = ""

    def save(self, sweep: Path) -> None:
        """Write its file in the directory of the sweep."""
        write_json(_path(sweep, self.number), asdict(self), listed=False)


def read_jobs(sweep: Path) -> list[SweepJob]:
    """The jobs of a sweep that have begun, by number.

    Raises:
        InputError: a file of a job cannot be read.
    """
    paths = (sweep / FOLDER).glob("*.json")
    return sorted(map(_read, paths), key=lambda job: job.number)


def run_job(stage: str, job: SweepJob, sweep: Path, options: Sequence[str] = ()) -> int:
    """Run a job, unless an earlier sweep in the same directory has finished it, and return its exit status.

    Args:
        stage: name of the stage.
        job: the job, before it runs.
        sweep: directory of the sweep.
        options: options of the command beside the arguments, such as `--config-dir`.

    Raises:
        KeyboardInterrupt: the job was stopped, and so is the sweep.
    """
    before = _before(sweep, job.number)
    if before is not None and (before.overrides, before.directory) != (job.overrides, job.directory):
        problem = f"this directory has a job {job.number} with {' '.join(before.overrides)}; name another run.dir"
        replace(before, problem=problem).save(sweep)
        return 2
    if before is not None and before.exit_status == 0 and _is_finished(Path(job.directory)):
        replace(before, problem="").save(sweep)
        return 0
    job.save(sweep)
    arguments = [stage, *options, *job_arguments(stage, job.overrides, Path(job.directory))]
    # It gets one signal, from here, when Ctrl-C ends the sweep.
    status = run_understudy(arguments, alone=True)
    replace(job, exit_status=status).save(sweep)
    if status == STOPPED_STATUS:
        raise KeyboardInterrupt
    return status


def job_arguments(stage: str, overrides: Sequence[str], directory: Path) -> list[str]:
    """The arguments of a job, whose `run.dir` and `out` lie in its directory."""
    arguments = []
    for argument in overrides:
        key, _, value = argument.partition("=")
        if key.lstrip("+") == "run.dir":
            continue
        if key.lstrip("+") == "out":
            name = OUT_IN_JOB.get(stage, Path(value.strip("'\"")).name)
            argument = f"out={quoted(directory / name)}"
        arguments.append(argument)
    if stage in OUT_IN_JOB and not any(argument.startswith("out=") for argument in arguments):
        arguments.append(f"out={quoted(directory)}")
    return [*arguments, f"run.dir={quoted(directory)}"]


def _path(sweep: Path, number: int) -> Path:
    return sweep / FOLDER / f"{number}.json"


def _before(sweep: Path, number: int) -> SweepJob | None:
    path = _path(sweep, number)
    return _read(path) if path.is_file() else None


def _read(path: Path) -> SweepJob:
    """A file of a job; several processes write to its folder, which therefore has no table of checksums."""
    try:
        return from_plain(SweepJob, parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot be read: {first_line(error)}", where=str(path), remedy="Remove it") from error


def _is_finished(directory: Path) -> bool:
    try:
        return run_status(directory).state == FINISHED
    except InputError:
        return False
