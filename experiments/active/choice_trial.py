"""Whether chosen frames teach more than random ones: a comparison that a run makes with labels that it has anyway.

Each round of the trial labels frames that the rule chose, and audit frames, which are drawn at random. Two surrogates
learn from the first labels and, each round, from equally many frames: one from chosen frames, the other from audit
frames. The audit frames of the next round are new to both, so their errors on them compare the two kinds of choice
without bias where the surrogate is used. No label is spent for it, only training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

#: Entries of `round.json`: number of frames, and mean and standard deviation over them of `relative_differences`.
FRAMES, MEAN, SPREAD = "trial_frames", "trial_difference", "trial_difference_std"


@dataclass(frozen=True)
class TrialConfig:
    """How long chosen frames are compared with random ones.

    Attributes:
        rounds: rounds of the comparison; 0 for none, so that the rule is never given up.
        on: frames whose errors are compared: "audit", those that the dynamics visits, as often as it visits them, or
            "test", the test frames, where they weigh rare regions as these count.
        standard_errors: the rule is given up before the end of the trial, from the second round on, where the mean
            difference of errors exceeds 0 by as many standard errors.
    """

    rounds: int = 4
    on: str = "audit"
    standard_errors: float = 1.0

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.standard_errors < 0:
            raise ValueError(f"rounds and standard_errors must be 0 or more; got {self}")
        if self.on not in ("audit", "test"):
            raise ValueError(f"on must be audit or test, got {self.on!r}")


@dataclass(frozen=True)
class Verdict:
    """What the rounds of a trial say so far.

    Attributes:
        difference: mean over frames of the error with chosen frames minus that with random frames, over the mean of
            both in each round; -0.1 says that chosen frames leave an error that is smaller by a tenth.
        standard_error: its standard error, where the frames of all rounds count as independent.
        frames: number of frames on which both were compared.
        rounds: number of rounds that the trial has compared.
        decided: whether the trial is over.
        falls_back: whether frames are chosen at random from now on.
    """

    difference: float
    standard_error: float
    frames: int
    rounds: int
    decided: bool
    falls_back: bool


def relative_differences(chosen: Float[np.ndarray, " a"], random: Float[np.ndarray, " a"]) -> Float[np.ndarray, " a"]:
    """Error of each frame with chosen labels minus that with random ones, over the mean of all these errors.

    The mean error is what learning is to lower, so that frames count by their errors: the mean of the logarithm of
    ratios would count a frame without any error to speak of like the worst one.
    """
    scale = 0.5 * (chosen.mean() + random.mean()) if len(chosen) else 0.0
    return (chosen - random) / scale if scale > 0 else np.zeros(len(chosen))


def trial_entries(differences: Float[np.ndarray, " a"]) -> dict[str, Any]:
    """The entries of `round.json` for the relative differences of one round; none without a frame."""
    if not len(differences):
        return {}
    return {FRAMES: len(differences), MEAN: float(differences.mean()), SPREAD: float(differences.std())}


def verdict(rounds: Sequence[Mapping[str, Any]], config: TrialConfig) -> Verdict | None:
    """The verdict from the entries of the rounds so far; None before the first comparison.

    The rule has to earn its place: at the end of the trial it stays only if the mean difference is below 0. Before, it
    is given up where it exceeds 0 clearly (`TrialConfig.standard_errors`).
    """
    compared = [row for row in rounds if row.get(FRAMES)][: config.rounds]
    if not compared:
        return None
    count, mean, spread = (np.array([row[name] for row in compared], float) for name in (FRAMES, MEAN, SPREAD))
    total = count.sum()
    centre = float((count * mean).sum() / total)
    variance = float((count * (spread**2 + (mean - centre) ** 2)).sum() / total)
    error = float(np.sqrt(variance / max(total - 1, 1)))
    over = len(compared) >= config.rounds
    worse = len(compared) >= 2 and centre > config.standard_errors * error
    return Verdict(centre, error, int(total), len(compared), over or worse, worse or (over and centre >= 0))
