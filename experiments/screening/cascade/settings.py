"""Settings of a cascade, and what a hit is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data.errors import InputError
from experiments.screening.objective import Objective
from surrogates.cascade.scoring import HitRule

#: Remedies for a promise that the labels cannot keep.
LESS = (
    "Promise less with recall or confidence, or with fdr=0.1, say, how many of a shortlist are hits, in another out=DIR"
)
MORE_OR_LESS = f"Allow more labels with calibration.labels; or p{LESS[1:]}"


@dataclass(frozen=True)
class CalibrationSettings:
    """How the labels are drawn that set the thresholds; the keys of `calibration`.

    Attributes:
        labels: number of draws of candidates that every rung answers; at most half as many draws as there are
            candidates are made.
        sampling: score to draw candidates that look like hits more often, with known probabilities; uniform for exact
            tests; audit to label the best candidates and to draw from the others without replacement, for exact tests
            that need the fewest labels, in cascades of two rungs.
        certain: number of the best candidates that are labelled with certainty; None to choose it. They count, so that
            fewer draws are needed; only in cascades of two rungs, whose last rung receives them in any case.
        stack: share of the draws with which answers of earlier rungs are combined (`surrogates.cascade.scoring.Stack`)
            and no threshold is set, where a rung before the last one is not the first; 0 for none.
        seed: seed of the draws.

    Raises:
        ValueError: a number is out of its range, or `sampling` is unknown.
    """

    labels: int = 2000
    sampling: str = "score"
    certain: int | None = None
    stack: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampling not in ("score", "uniform", "audit"):
            raise ValueError(f"sampling must be score, uniform or audit, got {self.sampling!r}")
        if self.labels < 1 or (self.certain or 0) < 0 or not 0 <= self.stack < 1:
            raise ValueError(f"labels must be 1 or more, certain 0 or more, and stack in [0, 1); got {self}")
        if self.certain and self.sampling == "uniform":
            raise ValueError("labels with certainty need sampling=score or audit")

    def refuse_stages(self, stages: int) -> None:
        """Refuse an audit of a cascade of more than two rungs.

        Args:
            stages: number of rungs before the last one.

        Raises:
            InputError: a rung between the first and the last one could reject what is labelled with certainty.
        """
        if self.sampling == "audit" and stages != 1:
            raise InputError(
                f"an audit needs a cascade of two rungs, got {stages + 1}",
                where="calibration.sampling",
                remedy="Use score or uniform, or leave out the rungs between the first and the last one",
            )


def hit_rule(objective: Objective, targets: Sequence[str]) -> HitRule:
    """The intervals in which the last rung's answers must lie.

    Args:
        objective: objective of the screen.
        targets: properties of the first rung.

    Raises:
        InputError: the objective tells no hit from others, or a value and a window exclude each other.
    """
    if objective.hit is None and not objective.windows:
        raise InputError(
            "a share of the hits is promised, and nothing says what a hit is",
            where="objective.hit",
            remedy="Give objective.hit=VALUE, the value that a hit reaches, or windows",
        )
    intervals = {name: (float(low), float(high)) for name, (low, high) in objective.windows.items()}
    if objective.hit is not None:
        name = objective.target(targets)
        low, high = intervals.get(name, (-float("inf"), float("inf")))
        bound = float(objective.hit)
        intervals[name] = (max(low, bound), high) if objective.sign > 0 else (low, min(high, bound))
        if not intervals[name][0] < intervals[name][1]:
            raise InputError(f"no value of {name} is a hit and in its window", where="objective.hit")
    return HitRule(intervals)
