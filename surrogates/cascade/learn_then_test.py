"""Thresholds on a score that keep a promised share of the hits with a promised confidence: Learn then Test.

A threshold t keeps the candidates with a score of t or more, and its recall is the share of the hits among them. The
hypothesis "the recall of t is below r" is tested for one threshold after the other, from the lowest on, each at the
whole level delta, until one is not rejected (fixed sequence testing; Angelopoulos, Bates, Candes, Jordan and Lei,
Annals of Applied Statistics 2025, 19, 1641). The strictest rejected threshold has a recall of r or more with
probability 1 - delta. Because a stricter threshold keeps a part of what a looser one keeps, its test never rejects
more, so that the statement holds for every rejected threshold together, also for thresholds that are chosen after the
scores were seen.

Hits that were drawn uniformly and independently are kept a binomial number of times, and the tests are exact (Clopper
and Pearson, Biometrika 1934, 26, 404).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import beta, binom


def fewest_hits(recall: float, delta: float) -> int:
    """Fewest labelled hits with which a recall can be promised, none of them lost: the least n with recall^n <= delta.

    Args:
        recall: promised share of the hits, in (0, 1).
        delta: largest probability that the promise is broken, in (0, 1).
    """
    if not (0 < recall < 1 and 0 < delta < 1):
        raise ValueError(f"recall and delta must lie between 0 and 1, got {recall} and {delta}")
    fewest = math.ceil(math.log(delta) / math.log(recall))
    # Rounding may miss an exact power by one, in either direction.
    while fewest > 1 and recall ** (fewest - 1) <= delta:
        fewest -= 1
    return fewest if recall**fewest <= delta else fewest + 1


def p_values(kept: Int[np.ndarray, " threshold"], hits: int, recall: float) -> Float[np.ndarray, " threshold"]:
    """P-value of "the recall is below `recall`" for each threshold: P(Binomial(hits, recall) >= kept).

    Args:
        kept: number of labelled hits that each threshold keeps.
        hits: number of labelled hits.
        recall: promised share of the hits.
    """
    return np.asarray(binom.sf(np.asarray(kept) - 1, hits, recall), np.float64)


def fixed_sequence(p: Float[np.ndarray, " threshold"], delta: float) -> int:
    """Number of hypotheses at the head of `p` that are rejected before the first one that is not."""
    accepted = np.flatnonzero(~(np.asarray(p) <= delta))
    return int(accepted[0]) if len(accepted) else len(p)


def strictest_threshold(scores: Float[np.ndarray, " hit"], recall: float, delta: float) -> float | None:
    """The largest threshold on the score with a promised recall; None if no threshold has it.

    Args:
        scores: scores of hits that were drawn uniformly and independently from all hits; -inf for a hit that is lost
            at every threshold, +inf for one that always passes.
        recall: promised share of the hits.
        delta: largest probability that the recall is lower.
    """
    ordered = np.sort(np.asarray(scores, np.float64))
    # Between two scores of hits nothing changes, so that the scores themselves are the sequence.
    grid = np.unique(ordered[np.isfinite(ordered)])
    kept = len(ordered) - np.searchsorted(ordered, grid, side="left")
    rejected = fixed_sequence(p_values(kept, len(ordered), recall), delta)
    return float(grid[rejected - 1]) if rejected else None


def share_lost_bound(lost: int, hits: int, delta: float) -> float:
    """Upper bound of the share of hits that are lost, with confidence 1 - delta (Clopper and Pearson, one-sided).

    Args:
        lost: number of labelled hits that are lost.
        hits: number of labelled hits, drawn uniformly and independently.
        delta: largest probability that the share is larger.
    """
    return 1.0 if lost >= hits else float(beta.ppf(1 - delta, lost + 1, hits - lost))
