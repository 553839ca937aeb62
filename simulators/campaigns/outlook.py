"""Early estimate of a campaign's cost from its first requests, and an early end if most of them fail.

Running requests count with the time that they have taken so far: the quick requests end first, so that their mean alone
would underestimate the cost. Total time divided by the number of ended requests is the maximum-likelihood mean of an
exponential distribution with censored samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.errors import InputError
from simulators.campaigns.summary import Reasons

#: Number of requests that must have ended before the total cost is extrapolated.
FIRST = 5
#: Time after which an estimate is printed even if fewer requests have ended, s.
WAIT_S = 60.0
#: Shortest remaining time for which an estimate is printed, s.
WORTH_SAYING_S = 60.0


def span(seconds: float) -> str:
    """Format a duration in a suitable unit."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds:.0f} s"


@dataclass
class Outlook:
    """Estimates the remaining cost of a campaign, after `WAIT_S` and after the `FIRST` requests have ended.

    Attributes:
        processes: number of workers.
        timeout_s: wall time limit of one request, s.
        key: configuration key of the campaign, for messages.
    """

    processes: int
    timeout_s: float | None
    key: str = "campaign"
    waited: bool = False
    over: bool = False

    def due(self, passed: float, ended: int) -> bool:
        """Whether an estimate is due.

        Args:
            passed: wall time since the campaign began, s.
            ended: number of requests that have ended.
        """
        return not self.over and (ended >= FIRST or (not self.waited and passed >= WAIT_S))

    def say(self, ended: Sequence[float], count: int, running: Sequence[tuple[float, float]], left: int | None) -> str:
        """The estimate as a sentence; "" if too little time is left.

        Args:
            ended: sums of the wall and processor time of the requests that have ended, s.
            count: number of these requests.
            running: wall and processor time so far of each running request, s.
            left: number of requests that have not ended; None if unknown.
        """
        self.waited, self.over = True, count >= FIRST
        wall, core = (ended[k] + sum(one[k] for one in running) for k in (0, 1))
        if count:
            least, each_wall, each_core = "about", wall / count, core / count
            head = f"The first {count:,} simulations took {span(each_wall)} each, {span(each_core)} of processor time"
        elif running:
            head = f"None of the first {len(running):,} simulations has ended after {span(max(w for w, _ in running))}"
            least, each_wall, each_core = "at least", wall / len(running), core / len(running)
        else:
            return ""
        if left is None:
            return f"{head}; how many are left is not known."
        workers = min(self.processes, max(1, left))
        rest = each_wall * left / workers
        if rest < WORTH_SAYING_S:
            return ""
        worst = ""
        if not count and self.timeout_s is not None:
            limit = f"{self.key}.timeout_s={self.timeout_s:g}"
            worst = f", and {span(self.timeout_s * left / workers)} where all run into {limit}"
        return (
            f"{head}. At that rate the {left:,} that are left take {least} {span(rest)} with "
            f"{workers} worker{'s' if workers > 1 else ''}, {span(each_core * left)} of processor time{worst}."
        )


@dataclass
class FirstRequests:
    """Ends a campaign when more than half of its first requests fail.

    Attributes:
        first: number of first requests that are examined; None: none.
        total: number of requests of the campaign; a campaign that is not longer than the trial always runs to its end.
        where: path of the store, for errors.
        key: configuration key of the campaign, for messages.
    """

    first: int | None
    total: int | None
    where: str
    key: str = "campaign"
    seen: int = 0
    reasons: Reasons = field(default_factory=Reasons)

    def take(self, status: str, message: str) -> None:
        """Count a request that has been recorded.

        Raises:
            InputError: too many of the first requests failed.
        """
        if self.first is None or self.seen >= self.first or (self.total is not None and self.total <= self.first):
            return
        self.seen += 1
        if status != "ok":
            self.reasons.add(status, message)
        failed = sum(self.reasons.counts().values())
        if failed > self.first / 2:
            raise InputError(
                f"{failed:,} of the first {self.seen:,} requests failed, so the campaign was stopped: "
                + "; ".join(self.reasons.lines()),
                where=self.where,
                remedy=f"Fix the causes and set {self.key}.retry_failed=true, "
                f"or continue regardless with {self.key}.give_up_after=null",
            )
