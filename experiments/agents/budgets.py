"""What programs may spend below a root: processor time, rows and runs at a time.

Everything that was started or computed for a program below the root counts, also by earlier servers. What a budget does
not cover is a question to the person, if the client can ask one; otherwise it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from data.errors import InputError
from data.progress import RUNNING
from experiments.agents.audit import AuditLog
from experiments.agents.estimates import Estimate
from experiments.agents.jobs import STARTING, Jobs

#: Factor on the upper end of an estimate at which a run is stopped.
MARGIN = 3.0
#: Share of what is left that a run may spend whose cost no record tells.
UNKNOWN_SHARE = 0.5


@dataclass(frozen=True)
class Budget:
    """Limits that the person who starts the server sets.

    Attributes:
        core_seconds: processor time of all runs and calls below the root, core-seconds.
        rows: rows of all runs that are started.
        jobs: runs at a time.

    Raises:
        ValueError: a limit is not positive.
    """

    core_seconds: float = 3600.0
    rows: int = 1_000_000
    jobs: int = 2

    def __post_init__(self) -> None:
        if not (0 < self.core_seconds < float("inf") and self.rows > 0 and self.jobs > 0):
            raise ValueError("limits must be above 0 and finite")


@dataclass(frozen=True)
class Spending:
    """What was spent, and what is left of the budget.

    Attributes:
        core_seconds, core_seconds_left: processor time; runs that are under way count with their limits.
        rows, rows_left: rows of runs that were started.
        jobs, jobs_left: runs under way.
    """

    core_seconds: float
    core_seconds_left: float
    rows: int
    rows_left: int
    jobs: int
    jobs_left: int


@dataclass
class Account:
    """What is spent below a root, against a budget.

    Args:
        budget: the limits.
        jobs: runs that were started.
        audit: calls that were made.
    """

    budget: Budget
    jobs: Jobs
    audit: AuditLog
    granted_core_seconds: float = 0.0
    granted_rows: int = 0

    def __post_init__(self) -> None:
        self._calls = self.audit.core_seconds()

    def add_call(self, core_seconds: float) -> None:
        """Count the cost of a call."""
        self._calls += core_seconds

    def grant(self, core_seconds: float, rows: int) -> None:
        """Raise the limits by what a person has allowed."""
        self.granted_core_seconds += core_seconds
        self.granted_rows += rows

    def spending(self) -> Spending:
        """What was spent, and what is left."""
        spent, rows, under_way = self._calls, 0, 0
        for job in self.jobs.all():
            state = self.jobs.state(job)
            rows += job.rows
            spent += state.core_seconds
            if state.status.state in (RUNNING, STARTING):
                under_way += 1
                ended = sum(float(one["core_seconds"]) for one in self.jobs.sessions(job))
                spent += max(0.0, (job.max_core_seconds or 0.0) - (state.core_seconds - ended))
        limit, most = self.budget.core_seconds + self.granted_core_seconds, self.budget.rows + self.granted_rows
        return Spending(
            spent, max(0.0, limit - spent), rows, max(0, most - rows), under_way, max(0, self.budget.jobs - under_way)
        )

    def limit_of(self, estimate: Estimate, asked: float | None) -> float:
        """Processor time at which a run is stopped, core-seconds.

        Args:
            estimate: what it would cost.
            asked: a limit that the caller sets.
        """
        left = self.spending().core_seconds_left
        high = estimate.high if estimate.high is not None else estimate.value
        usual = UNKNOWN_SHARE * left if high is None else MARGIN * high
        return min(left, usual if asked is None else asked)

    def refuse_call(self) -> None:
        """Refuse a call that computes, once nothing is left.

        Raises:
            InputError: the budget is spent.
        """
        if self.spending().core_seconds_left <= 0:
            raise InputError(
                f"the budget of {self.budget.core_seconds:g} core-seconds is spent",
                where="core_seconds",
                remedy="The person who starts the server may raise it: --core-seconds N",
            )

    def excess(self, estimate: Estimate, rows: int, asked: float | None) -> tuple[str, float, int]:
        """What a run would need beyond the budget.

        Args:
            estimate: processor time that it would take.
            rows: rows that it would process.
            asked: a limit that the caller sets; a run that would exceed it is stopped there.

        Returns:
            A sentence, "" if nothing; and the core-seconds and rows that are lacking.
        """
        left = self.spending()
        needed = estimate.value if asked is None or estimate.value is None else min(asked, estimate.value)
        parts, core, more = [], 0.0, 0
        if needed is not None and needed > left.core_seconds_left:
            core = needed - left.core_seconds_left
            parts.append(f"about {needed:,.3g} core-seconds, of which {left.core_seconds_left:,.3g} are left")
        elif needed is None and left.core_seconds_left <= 0:
            core = asked or self.budget.core_seconds * 0.1
            parts.append(
                f"core-seconds that no record tells, of which none are left; {core:,.3g} more would be allowed"
            )
        if rows > left.rows_left:
            more = rows - left.rows_left
            parts.append(f"{rows:,} rows, of which {left.rows_left:,} are left")
        return " and ".join(parts), core, more

    def refuse_another(self) -> None:
        """Refuse another run while as many as allowed are under way.

        Raises:
            InputError: there are.
        """
        left = self.spending()
        if not left.jobs_left:
            runs = "1 run is" if left.jobs == 1 else f"{left.jobs} runs are"
            raise InputError(
                f"{runs} under way, which is the limit",
                where="jobs",
                remedy="Wait for one with status, or stop one",
            )
