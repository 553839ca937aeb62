"""Tools that look: what there is, what a run would cost, how runs are, and what they left."""

# The signatures of tools are read when they are registered, so that their annotations are objects here, and no texts.
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from data.errors import InputError
from data.store.records import RecordStore
from experiments.agents import check as checks
from experiments.agents import description, queries, reading
from experiments.agents.estimates import read_metrics
from experiments.agents.failures import Failures, failures
from experiments.agents.jobs import ENDED, JobState
from experiments.agents.loss_trend import LossTrend, loss_trend
from experiments.agents.run_places import Place, place_of
from experiments.agents.toolbox import ToolAnswer, Toolbox
from experiments.runs.listing import headline, runs_below
from experiments.runs.status import RunStatus, run_status

Kind = Literal[
    "overview", "stage", "simulator", "model", "objective", "sampling", "task", "train", "data", "campaign", "source"
]
What = Literal[
    "metrics", "top", "recheck", "rejects", "failures", "ledger", "configuration", "log", "reading", "progress", "fit",
    "curve", "card", "work", "output",
]  # fmt: skip
Run = Annotated[str, Field(description="id that start returned, or directory of a run relative to the root")]
Overrides = Annotated[
    list[str],
    Field(description="settings as key=value, such as 'simulator=robertson' or 'train.epochs=10'", max_length=200),
]
#: Runs of an answer.
MOST_RUNS = 200


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        id: identity of a run that was started through this interface; "" for others.
        status: state (starting, running, finished, stopped, failed, lost), share done, rate, time left, failures by
            kind, and cost of all sessions in core-seconds.
        ended: whether it will not change unless it is started again.
        records: records in its stores, each of which is safe; None where it has no store.
        stopped_by: what stopped it: a call, or its limit of processor time.
        max_core_seconds: processor time at which this session is stopped.
        metrics: the metrics that matter most.
        loss: trend of the loss of a training.
    """

    id: str
    status: RunStatus
    ended: bool
    records: int | None
    stopped_by: str
    max_core_seconds: float | None
    metrics: dict[str, float]
    loss: LossTrend | None


@dataclass(frozen=True)
class RunEntry:
    """A run in a list: where, which stage and state, what it cost, and its metrics that matter most."""

    directory: str
    id: str
    stage: str
    state: str
    share: float | None
    core_seconds: float | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunList:
    """Runs below a folder.

    Attributes:
        total: number of runs.
        runs: some of them, sorted by directory.
        next_offset: where the next page begins; None after the last one.
        spending: what was spent below the root, and what is left of the budget.
    """

    total: int
    runs: tuple[RunEntry, ...]
    next_offset: int | None
    spending: dict[str, float]


def state_of(box: Toolbox, place: Place, job_state: JobState | None) -> State:
    """How far a run is."""
    directory = place.directory
    if job_state is not None:
        status, job = job_state.status, job_state.job
        identity, stopped, limit = job.id, job_state.stopped_by, job.max_core_seconds
    else:
        status, identity, stopped, limit = run_status(directory), "", "", None
        status = RunStatus(**{**vars(status), "directory": box.root.relative(directory)})
    metrics = headline(status.stage, read_metrics(directory))
    stores = place.stores(box.root)
    records = sum(len(RecordStore.open(store)) for store in stores) if stores else None
    return State(identity, status, status.state in ENDED, records, stopped, limit, metrics, loss_trend(directory))


def looking_tools(box: Toolbox) -> list[Callable[..., Any]]:
    """The tools, which change nothing."""

    def describe(
        kind: Kind = "overview",
        name: Annotated[str, Field(description="one of the names of this kind; empty: list them")] = "",
    ) -> ToolAnswer[description.Description]:
        """What there is: stages, simulators, models, objectives and samplings, with keys, units, ranges and defaults.

        Start with kind=overview. A simulator is described with its inputs and outputs and their units, a stage with its
        settings and choices.
        """
        return box.answer(lambda: description.describe(box.stages, kind, name, box.permissions))

    def check(stage: str, overrides: Overrides) -> ToolAnswer[checks.Check]:
        """What a run would do and cost: composes and resolves its settings, counts its rows, and estimates
        core-seconds, memory and bytes from records of earlier runs. Nothing is run. Where no record tells a cost, it
        says so.
        """
        return box.answer(lambda: checks.check(box.stages, stage, overrides, box.root, box.permissions))

    def status(
        run: Run,
        wait_s: Annotated[float, Field(ge=0, le=50, description="seconds to wait for its end at most")] = 0,
    ) -> ToolAnswer[State]:
        """How far a run is: state, share done, rate, time left, failures by kind, cost, last lines of its log, and the
        trend of the loss. With wait_s it answers once the run has ended, or after that time.
        """

        def work() -> State:
            place = place_of(run, box.root, box.jobs)
            return state_of(box, place, None if place.job is None else box.jobs.wait(place.job, wait_s))

        return box.answer(work)

    def runs(
        folder: Annotated[str, Field(description="folder below the root")] = ".",
        offset: Annotated[int, Field(ge=0)] = 0,
        limit: Annotated[int, Field(ge=1, le=MOST_RUNS)] = 50,
    ) -> ToolAnswer[RunList]:
        """Runs below a folder: stage, state, cost and the metrics that matter most; and what is left of the budget."""

        def work() -> RunList:
            top = box.root.inside(folder, "folder", searched=False)
            lines = runs_below(top)
            ids = {job.directory: job.id for job in box.jobs.all()}
            entries = []
            for line in lines[offset : offset + limit]:
                where = box.root.relative(top / line.status.directory)
                one = line.status
                cost, metrics = one.core_seconds, dict(line.headline)
                entries.append(RunEntry(where, ids.get(where, ""), one.stage, one.state, one.share, cost, metrics))
            following = offset + len(entries)
            spending = {name: float(value) for name, value in asdict(box.spending()).items()}
            return RunList(len(lines), tuple(entries), following if following < len(lines) else None, spending)

        return box.answer(work)

    def read(
        run: Run,
        what: What,
        offset: Annotated[int, Field(description="first byte; negative: from the end")] = 0,
    ) -> ToolAnswer[reading.Page]:
        """A file of a run, at most 20 kB at a time: metrics, best candidates, re-checks, rejected rows, ledger of
        costs, configuration, log, what was read, curve of a training, card of a surrogate, or what the run printed.
        """
        return box.answer(lambda: reading.read(place_of(run, box.root, box.jobs), what, offset, box.root, box.jobs))

    def query(
        source: Annotated[str, Field(description="store, directory of a screen, or .parquet or .csv file")],
        where: Annotated[list[queries.Condition], Field(description="conditions, all of which have to hold")] = [],  # noqa: B006
        columns: Annotated[list[str], Field(description="columns of the answer; none: all")] = [],  # noqa: B006
        order_by: Annotated[str | None, Field(description="column by which rows are ordered")] = None,
        descending: bool = False,
        offset: Annotated[int, Field(ge=0)] = 0,
        limit: Annotated[int, Field(ge=1, le=queries.MOST_ROWS)] = 50,
    ) -> ToolAnswer[queries.MatchingRows]:
        """Rows of results or of a campaign that fulfil conditions, such as {column: "fraction_40_B", operator: ">",
        value: 1e-5}. A store has a column for each number of a request and its answer, and status, message and cost.
        """

        def work() -> queries.MatchingRows:
            path = box.root.inside(source, "source")
            if not path.exists():
                raise InputError("no such file or folder", where="source", remedy="Name what runs or read show")
            return queries.query(path, box.root, where, columns, order_by, descending, offset, limit)

        return box.answer(work)

    def failures_of(run: Run) -> ToolAnswer[Failures]:
        """Why requests or rows of a run have no answer: messages grouped by kind, one example request each, and what to
        try. Also why the command itself was refused.
        """

        def work() -> Failures:
            place = place_of(run, box.root, box.jobs)
            problem = ""
            if place.job is not None:
                state = box.jobs.state(place.job)
                problem = state.status.problem if state.status.state == "failed" else ""
            else:
                one = run_status(place.directory)
                problem = one.problem if one.state == "failed" else ""
            return failures(place, box.root, problem)

        return box.answer(work)

    failures_of.__name__ = "failures"
    return [describe, check, status, runs, read, query, failures_of]
