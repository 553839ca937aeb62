"""The test of a recall from labels that were drawn with known, unequal probabilities, by betting.

Where hits are rare, candidates that look like hits are labelled more often. Let candidate i of the sampled ones be
drawn with probability q_i, independently and with replacement, and let h_i be 1 for a hit. Some candidates may be
labelled with certainty beforehand, and the hits among them are known. With k_i = 1 if threshold t keeps i,

    X = C(t) + h_i (k_i - r) / q_i,    C(t) = sum of (k_j - r) over the hits j labelled with certainty,

has the mean (hits kept) - r (all hits) over all candidates, which is negative exactly if the recall of t is below r.
The capital of a gambler, the product of 1 + b X over the draws with a fixed bet b >= 0 that keeps every factor
positive, then is a nonnegative supermartingale, and exceeds 1/delta at any time with probability delta at most
(Ville's inequality; Waudby-Smith and Ramdas, JRSS B 2024, 86, 1). The mean capital of several bets has the same
property, so that no bet needs to be chosen. Draws may stop at any time, for any reason.

X falls with t, so that the capital of a stricter threshold is never larger than that of a looser one: every threshold
whose capital has exceeded 1/delta keeps the promise, all of them together with probability 1 - delta.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

#: Bets as fractions of the largest one that keeps every factor positive: small ones win if there are hits to lose,
#: large ones if there are none.
BETS = (0.25, 0.6, 0.97)
#: Thresholds whose capitals are computed at a time.
BLOCK = 256


@dataclass(frozen=True)
class WeightedLabels:
    """Labels of drawn candidates, in the order of the draws, and of those that were labelled with certainty.

    Attributes:
        scores: score of each draw; -inf for a hit that is lost at every threshold, +inf for one that always passes.
        hits: whether each draw is a hit.
        weights: 1/q of each draw.
        largest_weight: largest 1/q of all candidates that could be drawn.
        certain: scores of the hits among the candidates that were labelled with certainty.
        bets: fractions of the largest bet, all above 0 and below 1, chosen before a label was seen.
    """

    scores: Float[np.ndarray, " draw"]
    hits: Bool[np.ndarray, " draw"]
    weights: Float[np.ndarray, " draw"]
    largest_weight: float
    certain: Float[np.ndarray, " certain"]
    bets: tuple[float, ...] = BETS

    def __post_init__(self) -> None:
        if not self.bets or not all(0 < bet < 1 for bet in self.bets):
            raise ValueError(f"bets must lie between 0 and 1, got {self.bets}")
        if not len(self.scores) == len(self.hits) == len(self.weights):
            raise ValueError("scores, hits and weights must have one entry for each draw")
        if len(self.weights) and not (
            np.isfinite(self.weights).all() and self.weights.min() > 0 and self.weights.max() <= self.largest_weight
        ):
            raise ValueError("weights must be positive, and none above the largest one")
        if np.isnan(self.scores).any() or np.isnan(self.certain).any():
            raise ValueError("a score is NaN")

    def hit_scores(self) -> Float[np.ndarray, " hit"]:
        """Scores of all labelled hits, drawn and certain."""
        return np.concatenate([self.scores[self.hits], self.certain])


def planned_bet(
    q: Float[np.ndarray, " row"],
    chance: Float[np.ndarray, " row"],
    kept: Bool[np.ndarray, " row"],
    certain: int,
    recall: float,
) -> float:
    """The fraction of the largest bet with which the capital is expected to grow fastest, from predictions alone.

    It concerns the power of the test and not its validity, which no prediction can harm.

    Args:
        q: probability with which each row is drawn.
        chance: predicted probability that each row is a hit.
        kept: whether each row lies above the threshold that is aimed at.
        certain: number of hits that are labelled already, and kept.
        recall: promised share of the hits.
    """
    constant = (1 - recall) * certain
    worst = recall * (float(1 / q.min()) + certain)
    x = constant + (kept - recall) / q
    grid = np.linspace(0.05, 0.99, 48)
    quiet = np.log1p(grid / worst * constant)
    growth = [
        float(np.sum(q * ((1 - chance) * silent + chance * np.log1p(bet / worst * x))))
        for bet, silent in zip(grid, quiet, strict=True)
    ]
    return float(grid[int(np.argmax(growth))])


def log_capital(
    labels: WeightedLabels, thresholds: Float[np.ndarray, " threshold"], recall: float
) -> Float[np.ndarray, " threshold"]:
    """Logarithm of the largest capital at any time against "the recall of the threshold is below `recall`".

    Args:
        labels: labels of the candidates.
        thresholds: thresholds on the score.
        recall: promised share of the hits.
    """
    thresholds = np.asarray(thresholds, np.float64)
    largest = np.zeros(len(thresholds))
    # The most negative X of any threshold; a common bound makes the bets, and so the order of capitals, common.
    worst = recall * (labels.largest_weight + len(labels.certain))
    bets = np.array(labels.bets) / worst
    times = np.flatnonzero(labels.hits)
    # Draws between two hits all add the same factor, and the capital is monotone there: its maxima are at their ends.
    gaps = np.diff(np.concatenate([[0], times, [len(labels.hits)]])).astype(np.float64)
    gaps[1:] -= 1
    for first in range(0, len(thresholds), BLOCK):
        some = thresholds[first : first + BLOCK]
        kept_certain = (labels.certain[:, None] >= some).sum(axis=0)
        constant = kept_certain - recall * len(labels.certain)
        kept = (labels.scores[times, None] >= some) - recall
        x = constant + labels.weights[times, None] * kept
        quiet = np.log1p(bets[:, None] * constant)
        logs = np.log1p(bets[:, None, None] * x)
        # Time, with a step for the quiet draws before each hit, after which the capital may be largest, and one for it.
        steps = np.zeros((len(bets), 2 * len(times) + 1, len(some)))
        steps[:, 0::2] = gaps[:, None] * quiet[:, None, :]
        steps[:, 1::2] = logs
        path = np.cumsum(steps, axis=1)
        mean = np.logaddexp.reduce(path, axis=0) - np.log(len(bets))
        largest[first : first + BLOCK] = np.maximum(mean.max(axis=0), 0.0)
    return largest


def strictest_weighted_threshold(labels: WeightedLabels, recall: float, delta: float) -> float | None:
    """The largest threshold on the score with a promised recall; None if no threshold has it.

    It is +inf if the hits that always pass are enough.

    Args:
        labels: labels of the candidates.
        recall: promised share of the hits.
        delta: largest probability that the recall is lower.
    """
    scores = labels.hit_scores()
    grid = np.unique(scores[scores > -np.inf])
    # The capital falls along the grid, so that the last rejection is found by halving.
    low, high = -1, len(grid)
    while high - low > 1:
        middle = (low + high) // 2
        if log_capital(labels, grid[middle : middle + 1], recall)[0] >= np.log(1 / delta):
            low = middle
        else:
            high = middle
    return float(grid[low]) if low >= 0 else None
