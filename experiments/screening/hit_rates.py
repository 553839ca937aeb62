"""Statistics of a re-check, which simulates the best candidates and a random control.

Rates of few trials have exact intervals (Clopper and Pearson, Biometrika 1934, 26, 404).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta


@dataclass(frozen=True)
class HitRate:
    """Successes out of trials, with the exact two-sided 95% interval."""

    hits: int
    trials: int

    @property
    def value(self) -> float | None:
        """The observed rate; None without trials."""
        return self.hits / self.trials if self.trials else None

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson bounds at 95%; (0, 1) without trials."""
        if not self.trials:
            return 0.0, 1.0
        k, n = self.hits, self.trials
        low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
        return low, high


def enrichment(top: HitRate, random: HitRate) -> float | None:
    """Hit rate among the best over the hit rate at random; None where no random molecule was a hit."""
    if not top.trials or not random.hits:
        return None
    return (top.hits / top.trials) / (random.hits / random.trials)


def enrichment_at_least(top: HitRate, random: HitRate) -> float:
    """A conservative enrichment: the lower bound of the rate among the best over the upper bound at random."""
    return top.interval[0] / random.interval[1]


def break_even(fixed_core_seconds: float, expensive: float, surrogate: float) -> float | None:
    """Number of candidates above which using the surrogate is cheaper than simulating all of them.

    N* = fixed / (expensive - surrogate), where `fixed` is the cost of labels and training, and `expensive` and
    `surrogate` are the costs per candidate of the expensive simulator and the surrogate, in core-seconds; None if the
    surrogate is not cheaper per candidate.
    """
    return float(np.ceil(fixed_core_seconds / (expensive - surrogate))) if expensive > surrogate else None
