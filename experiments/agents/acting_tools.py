"""Tools that start and stop runs, within the budget; what exceeds it is a question to the person."""

# The signatures of tools are read when they are registered, so that their annotations are objects here, and no texts.
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult, Resolve
from pydantic import BaseModel, Field

from data.errors import InputError
from data.spec import SimulationError
from experiments.agents.check import checked
from experiments.agents.composition import Composed, compose_stage
from experiments.agents.estimates import Estimate
from experiments.agents.jobs import StartedRun
from experiments.agents.predictions import surrogate_place
from experiments.agents.profiles import MOST_SECONDS, Profile, profile, roofline
from experiments.agents.reading_tools import Overrides, Run, State, state_of
from experiments.agents.row_counts import RowCounts
from experiments.agents.run_places import Place, place_of
from experiments.agents.toolbox import ToolAnswer, Toolbox, refused


class Permission(BaseModel):
    """What a person answers to the question whether a run may exceed the budget."""

    allow: bool = Field(description="whether this run may exceed the budget")


@dataclass(frozen=True)
class Started:
    """A run that is under way, or that there is already.

    Attributes:
        id: identity of the run, for status, stop, read and failures.
        directory: its directory, relative to the root.
        started: whether this call started a process; False where the same arguments are a run that is under way or
            finished.
        resumed: whether it continues a run that was stopped, failed or lost.
        state: how far it is.
        rows: what it processes.
        estimate: processor time that it would take, from earlier records.
        max_core_seconds: processor time at which it is stopped.
    """

    id: str
    directory: str
    started: bool
    resumed: bool
    state: State
    rows: RowCounts
    estimate: Estimate
    max_core_seconds: float | None


@dataclass(frozen=True)
class Stopped:
    """A run that was asked to stop, as by Ctrl-C.

    Attributes:
        id: identity of the run.
        asked: whether there was a process to ask; it may take some seconds to write what it has.
        state: how far it is.
    """

    id: str
    asked: bool
    state: State


def acting_tools(box: Toolbox) -> list[Callable[..., Any]]:
    """The tools, none of which a server offers that only reads."""

    def prepared(stage: str, overrides: list[str]) -> Composed:
        composed = compose_stage(box.stages, stage, overrides, box.root, box.permissions)
        if composed.missing or composed.run_dir is None:
            key = composed.missing[0] if composed.missing else "run.dir"
            raise InputError("a value is needed", where=key, remedy=f"Give {key}=...")
        return composed

    def permission(
        stage: str, overrides: list[str], max_core_seconds: float | None, ctx: Context
    ) -> Permission | Elicit[Permission]:
        """The question whether a run may exceed the budget; no question where it does not, or no one can be asked."""
        try:
            composed = prepared(stage, overrides)
            earlier = box.jobs.find(composed.id)
            if earlier is not None and box.jobs.state(earlier).status.state not in ("stopped", "failed", "lost"):
                return Permission(allow=False)
            look = checked(composed, box.root)
        except (InputError, SimulationError):
            # The tool itself reports it.
            return Permission(allow=False)
        rows = 0 if earlier is not None else look.rows.left or 0
        said, _, _ = box.account.excess(look.estimates.core_seconds, rows, max_core_seconds)
        if not said or not _can_ask(ctx):
            return Permission(allow=False)
        return Elicit(f"May understudy {stage} exceed the budget of this server? It needs {said}.", Permission)

    def start(
        stage: str,
        overrides: Overrides,
        permitted: Annotated[ElicitationResult[Permission], Resolve(permission)],
        max_core_seconds: Annotated[
            float | None, Field(gt=0, description="processor time at which the run is stopped, core-seconds")
        ] = None,
    ) -> ToolAnswer[Started]:
        """Start a run in the background, and return its id and directory at once. The same arguments are the same run:
        one that is under way or finished is returned as it is, and one that was stopped resumes. A run that exceeds
        the budget is refused, unless the person allows it. Follow it with status.
        """

        def work() -> Started:
            composed = prepared(stage, overrides)
            look = checked(composed, box.root)
            cost, rows = look.estimates.core_seconds, look.rows
            with box.starting:
                earlier = box.jobs.find(composed.id)
                before = None if earlier is None else box.jobs.state(earlier)
                if before is not None and before.status.state not in ("stopped", "failed", "lost"):
                    return _started(box, composed, before.job, rows, cost, started=False, resumed=False)
                allowed = isinstance(permitted, AcceptedElicitation) and permitted.data.allow
                counted = 0 if earlier is not None else rows.left or 0
                said, core, more = box.account.excess(cost, counted, max_core_seconds)
                if said and not allowed:
                    raise refused(
                        InputError(
                            f"the run exceeds the budget: it needs {said}", where="budget",
                            remedy="Ask for less; the person who starts the server may raise --core-seconds or --rows",
                        ),
                        kind="over_budget", estimate=cost.value, rows=rows.left,
                    )  # fmt: skip
                box.account.refuse_another()
                if said:
                    box.account.grant(core, more)
                limit = box.account.limit_of(cost, max_core_seconds)
                job = StartedRun(
                    composed.id, stage, composed.arguments, str(box.root.path), str(look.directory),
                    max_core_seconds=limit, rows=counted if earlier is None else earlier.rows,
                )  # fmt: skip
                state, fresh = box.jobs.start(job, composed.plain)
            return _started(box, composed, state.job, rows, cost, started=fresh, resumed=before is not None)

        return box.answer(work)

    def stop(
        run: Run,
        wait_s: Annotated[float, Field(ge=0, le=50, description="seconds to wait for its end at most")] = 20,
    ) -> ToolAnswer[Stopped]:
        """Stop a run as Ctrl-C does: what is finished is kept, and start with the same arguments resumes it."""

        def work() -> Stopped:
            place = place_of(run, box.root, box.jobs)
            if place.job is None:
                raise InputError(
                    "no call started this run", where="run", remedy="Only runs that start returned can be stopped"
                )
            asked = box.jobs.stop(place.job)
            state = box.jobs.wait(place.job, wait_s if asked else 0)
            return Stopped(place.job.id, asked, state_of(box, place, state))

        return box.answer(work)

    def profile_run(
        stage: str,
        overrides: Overrides,
        seconds: Annotated[float, Field(ge=1, le=MOST_SECONDS, description="seconds of the short run")] = 20,
    ) -> ToolAnswer[Profile]:
        """Run a stage for some seconds in a folder that is removed, and say where its time goes: steps with their
        rates, share of waiting, peak memory, and what bounds the predictions of the surrogate that it asks.
        """

        def work() -> Profile:
            composed = prepared(stage, overrides)
            done = profile(composed, overrides, box.root, box.permissions.refused, seconds)
            name = composed.plain.get("surrogate")
            if done.problem or not isinstance(name, str):
                return done
            return replace(done, roofline=roofline(box.loaded.surrogate(surrogate_place(name, box.root))))

        return box.answer(work, spent=lambda done: done.core_seconds, computes=True)

    profile_run.__name__ = "profile"
    return [start, stop, profile_run]


def _started(
    box: Toolbox, composed: Composed, job: StartedRun, rows: RowCounts, cost: Estimate, *, started: bool, resumed: bool
) -> Started:
    assert composed.run_dir is not None
    state = state_of(box, Place(composed.run_dir, job), box.jobs.state(job))
    return Started(job.id, job.directory, started, resumed and started, state, rows, cost, job.max_core_seconds)


def _can_ask(ctx: Context) -> bool:
    """Whether the client can ask its person a question in a form."""
    capabilities = ctx.client_capabilities
    asking = None if capabilities is None else capabilities.elicitation
    return asking is not None and (asking.form is not None or asking.url is None)
