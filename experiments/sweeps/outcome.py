"""What became of the jobs of a sweep: the table that ends it, and `sweep.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.errors import InputError
from data.files import write_json
from data.progress import FAILED, FINISHED, RUNNING, STOPPED
from data.terminal import columns_table, print_table, show_pairs
from experiments.runs.listing import headline, metrics_of
from experiments.runs.status import LOST, run_status
from experiments.sweeps.job import STOPPED_STATUS, SweepJob, read_jobs

FILE = "sweep.json"
FORMAT = 1
#: A number of the sweep stood for another combination before.
REFUSED = "refused"


@dataclass(frozen=True)
class JobOutcome:
    """A job of a sweep and what became of it.

    Attributes:
        job: its number.
        overrides: its arguments.
        state: finished, failed, stopped, running, lost (its process was killed, or its machine stopped) or refused.
        exit_status: of its last process; minus the number of the signal that ended it.
        problem: why it failed.
        headline: metrics that matter most of its stage.
        core_seconds: processor time of all its sessions, s.
        directory: directory of its run.
    """

    job: int
    overrides: tuple[str, ...]
    state: str
    exit_status: int | None
    directory: str
    problem: str = ""
    headline: Mapping[str, float] = field(default_factory=dict)
    core_seconds: float | None = None

    @property
    def is_failed(self) -> bool:
        """Whether it has no results although it ran."""
        return self.state != FINISHED


def outcomes(sweep: Path, stage: str) -> list[JobOutcome]:
    """What became of the jobs that have begun.

    Raises:
        InputError: a file of a job cannot be read.
    """
    return [_outcome(job, stage) for job in read_jobs(sweep)]


def write_sweep(sweep: Path, stage: str, jobs: Sequence[JobOutcome]) -> None:
    """Write `sweep.json`."""
    rows = [{**asdict(job), "overrides": list(job.overrides), "headline": dict(job.headline)} for job in jobs]
    write_json(sweep / FILE, {"format": FORMAT, "stage": stage, "jobs": rows}, listed=False)


def show_sweep(sweep: Path, stage: str, jobs: Sequence[JobOutcome], lost: str = "") -> None:
    """Print a row for each job, and name those that failed with their exit status.

    Args:
        sweep: directory of the sweep.
        stage: name of the stage.
        jobs: its jobs.
        lost: what the launcher said of a job whose process it lost.
    """
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    rows = [
        [
            str(job.job),
            " ".join(o for o in job.overrides if o not in shared),
            job.state,
            "  ".join(f"{name}={value:.4g}" for name, value in job.headline.items()),
            job.directory,
            "" if job.core_seconds is None else f"{job.core_seconds:,.1f}",
        ]
        for job in jobs
    ]
    heads = ("job", "arguments", "state", "metrics", "directory", "core-s")
    print_table(
        columns_table(f"Sweep of understudy {stage} in {sweep}", heads, rows, texts=5), files={"sweep": sweep / FILE}
    )
    problems = [
        (f"job {job.job}", f"{job.state}, {_ended(job.exit_status)}{f': {job.problem}' if job.problem else ''}")
        for job in jobs
        if job.is_failed
    ]
    if lost:
        problems.append(("launcher", lost))
    if problems:
        show_pairs("Not finished", [*problems, ("then", "the same command does what is left")])


def _ended(status: int | None) -> str:
    if status is None:
        return "no exit status"
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status}"


def _outcome(job: SweepJob, stage: str) -> JobOutcome:
    try:
        run = run_status(job.directory)
        state, problem, cost = run.state, run.problem, run.core_seconds
    except InputError:
        state, problem, cost = LOST, "", None
    if job.problem:
        state, problem = REFUSED, job.problem
    elif job.exit_status == STOPPED_STATUS:
        state = STOPPED
    elif job.exit_status is not None and state != RUNNING:
        state = FINISHED if job.exit_status == 0 else FAILED
    elif state != RUNNING:
        state = LOST
    values = headline(stage, _metrics(Path(job.directory))) if state == FINISHED else {}
    return JobOutcome(
        job.number, job.overrides, state, job.exit_status, job.directory, problem if state != FINISHED else "", values,
        cost,
    )  # fmt: skip


def _metrics(directory: Path) -> dict[str, float]:
    """The metrics of a job; some stages write them into their output, which lies in the directory of the job."""
    folders = [directory, *sorted(path.parent for path in directory.glob("*/metrics.json"))]
    return next(filter(None, map(metrics_of, folders)), {})
