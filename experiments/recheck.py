"""The last word: the best candidates and as many at random, simulated, and what that says of the screen.

Rates of few trials come with exact intervals (Clopper and Pearson, Biometrika 1934, 26, 404).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta


@dataclass(frozen=True)
class Rate:
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


def enrichment(top: Rate, random: Rate) -> float | None:
    """Hit rate among the best over the hit rate at random; None where no random molecule was a hit."""
    if not top.trials or not random.hits:
        return None
    return (top.hits / top.trials) / (random.hits / random.trials)


def enrichment_at_least(top: Rate, random: Rate) -> float:
    """A conservative enrichment: the lower bound of the one rate over the upper bound of the other."""
    return top.interval[0] / random.interval[1]


def break_even(fixed_core_seconds: float, dear: float, surrogate: float) -> float | None:
    """Candidates from which the surrogate is cheaper than the simulator on all of them.

    N* = fixed / (dear - surrogate), with the cost of labels and training as `fixed` and the costs per
    candidate in core-seconds; None where the surrogate is no cheaper than the simulator.
    """
    return float(np.ceil(fixed_core_seconds / (dear - surrogate))) if dear > surrogate else None
