"""What a campaign will cost, said as soon as its first requests tell, and whether it is worth going on.

The requests that run count with the time that they have taken so far: those that end first are the quick ones, and
their mean alone would promise too much. Time spent over requests ended is the maximum-likelihood mean of an exponential
distribution whose sample is censored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from data.errors import InputError
from simulators.campaign_summary import Reasons

#: Requests that must have ended before the whole is extrapolated.
FIRST = 5
#: Seconds after which something is said though fewer have ended.
WAIT_S = 60.0
#: Seconds that are left below which nothing is said.
WORTH_SAYING_S = 60.0


def span(seconds: float) -> str:
    """A duration in the unit that reads best."""
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds:.0f} s"


@dataclass
class Outlook:
    """Says what the rest of a campaign will cost: after `WAIT_S`, and after the `FIRST` requests have ended.

    Attributes:
        processes: workers.
        timeout_s: wall seconds of one request at most.
        key: of the campaign's settings.
    """

    processes: int
    timeout_s: float | None
    key: str = "campaign"
    waited: bool = False
    over: bool = False

    def due(self, passed: float, ended: int) -> bool:
        """Whether there is something to say.

        Args:
            passed: wall seconds since the campaign began.
            ended: requests that ended.
        """
        return not self.over and (ended >= FIRST or (not self.waited and passed >= WAIT_S))

    def say(self, ended: Sequence[float], count: int, running: Sequence[tuple[float, float]], left: int | None) -> str:
        """The sentence, or nothing where too little is left.

        Args:
            ended: wall and processor seconds of the requests that ended, summed.
            count: how many these are.
            running: wall and processor seconds so far of each that runs.
            left: requests that have not ended; None where that is not known.
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
class Trial:
    """Ends a campaign when more than half of its first requests fail.

    Attributes:
        first: how many are looked at; None: none.
        total: requests of the campaign; one that is as short as the trial runs to its end.
        where: the store.
        key: of the campaign's settings.
    """

    first: int | None
    total: int | None
    where: str
    key: str = "campaign"
    seen: int = 0
    reasons: Reasons = field(default_factory=Reasons)

    def take(self, status: str, message: str) -> None:
        """Count a request that has a record now.

        Raises:
            InputError: too many of the first ones failed.
        """
        if self.first is None or self.seen >= self.first or (self.total is not None and self.total <= self.first):
            return
        self.seen += 1
        if status != "ok":
            self.reasons.add(status, message)
        failed = sum(self.reasons.counts().values())
        if failed > self.first / 2:
            raise InputError(
                f"{failed:,} of the first {self.seen:,} requests failed, so that the rest was not begun: "
                + "; ".join(self.reasons.lines()),
                where=self.where,
                remedy=f"Mend what they say and give {self.key}.retry_failed=true, "
                f"or go on in spite of it with {self.key}.give_up_after=null",
            )
