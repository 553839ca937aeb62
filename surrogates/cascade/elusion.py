"""The exact test of a recall from audits of what was left out: uniform draws without replacement from two strata.

The best candidates are labelled, and so is all that the model was trained on; K hits are among them. The others are
divided by their scores, before one of them is drawn, into those near the cut and those far from it. Let a stratum of n
candidates hold a hits, and let m of its candidates be drawn without replacement; the number of hits among the draws is
hypergeometric. The hypothesis "the strata hold M hits or more" does not say how the hits are shared out, so that its
p-value is the largest one of all ways to share them out:

    p(M) = max over a + b = M of P(draws as good as the observed ones | a near, b far).

Draws are as good if they hold fewer hits far from the cut, or as many there and no more near it: a hit far from the cut
says that the score is misleading. Any order that is fixed before the draws is valid; this one has the largest power
where the score is good. Nothing is assumed about the score.

With x hits drawn, the recall is below r exactly if the hits that stay unlabelled are more than (1 - r)/r times the hits
that are labelled, so that the promise holds with the probability 1 - delta if p(M) <= delta for

    M = x + floor((K + x) (1 - r)/r) + 1.

With one stratum this is the test of elusion of electronic discovery with a finite population (Roitblat, The Sedona
Conference Journal 2007, 8; Lewis, Li and Oard, Certifying one-phase technology-assisted reviews, CIKM 2021), and the
bound of a hypergeometric variable (Buonaccorsi, The American Statistician 1987, 41, 215).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import hypergeom

#: The candidates near the cut are so many times the labelled ones above it.
NEAR = 2
#: The share of the far stratum that is drawn, in units of the share that proves the recall if no draw is a hit.
SLACK = 1.25


@dataclass(frozen=True)
class Stratum:
    """Candidates of which some were drawn uniformly and without replacement.

    Attributes:
        size: number of candidates.
        drawn: number of them that were drawn and labelled.
        hits: number of hits among those.

    Raises:
        ValueError: more are drawn than there are, or more are hits than are drawn.
    """

    size: int
    drawn: int
    hits: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.drawn <= self.size:
            raise ValueError(f"hits must not outnumber draws, nor draws candidates; got {self}")


def hits_p_value(near: Stratum, far: Stratum, hits: int) -> float:
    """The p-value of "the two strata held this many hits or more before the draws".

    Args:
        near: candidates whose scores are near the cut.
        far: the others, among which hits are a surprise.
        hits: number of hits in both strata together, drawn ones counted.
    """
    least, most = max(near.hits, hits - far.size), min(near.size, hits - far.hits)
    if least > most:
        # What was drawn contradicts it, or there are not as many candidates.
        return 0.0 if hits > near.hits + far.hits else 1.0
    in_near = np.arange(least, most + 1)
    in_far = hits - in_near
    fewer_far = _at_most(far, far.hits - 1, in_far)
    p = fewer_far + (_at_most(far, far.hits, in_far) - fewer_far) * _at_most(near, near.hits, in_near)
    return float(min(1.0, p.max()))


def _at_most(stratum: Stratum, drawn_hits: int, hits: Int[np.ndarray, " case"]) -> Float[np.ndarray, " case"]:
    """Probability that the draws from a stratum hold a number of hits at most, for each number of hits in it."""
    if not stratum.drawn:
        # The library has no distribution of draws from nothing.
        return np.full(len(hits), float(drawn_hits >= 0))
    return np.asarray(hypergeom.cdf(drawn_hits, stratum.size, hits, stratum.drawn), np.float64)


def most_hits(near: Stratum, far: Stratum, delta: float) -> int:
    """Upper bound of the number of hits in both strata before the draws, with confidence 1 - delta.

    Args:
        near, far: see `hits_p_value`.
        delta: largest probability that there were more hits.
    """
    low, high = near.hits + far.hits, near.size + far.size - (near.drawn - near.hits) - (far.drawn - far.hits)
    # The p-value falls with the number of hits: the last one that is not rejected is found by halving.
    while low < high:
        middle = (low + high + 1) // 2
        if hits_p_value(near, far, middle) > delta:
            low = middle
        else:
            high = middle - 1
    return low


def fewest_refuted(labelled_hits: int, drawn_hits: int, recall: float, failed: int = 0) -> int:
    """The least number of hits in the strata, before the draws, with which the recall is below the promised one.

    Args:
        labelled_hits: number of all labelled hits, drawn ones counted.
        drawn_hits: number of hits among the draws, with those of which no label could be had.
        recall: promised share of the hits.
        failed: number of candidates of which no label could be had; they count as hits that are lost.
    """
    # In fractions, because a share such as 0.9 is not a floating-point number: 9 hits may leave exactly 1 behind.
    share = Fraction(recall).limit_denominator(10**9)
    return drawn_hits - failed + math.floor(labelled_hits * (1 - share) / share) + 1


@dataclass(frozen=True)
class AuditDraws:
    """Draws of the candidates that were left out, and thresholds to which the cut may be lowered.

    Attributes:
        thresholds: in ascending order, chosen before the draws, from the edge of the far stratum to the cut.
        near_below: number of candidates of the near stratum with a score below each threshold.
        near_scores: score of each draw of the near stratum.
        near_hits: whether it is a hit, or has no label.
        far: the far stratum; draws without a label count as hits.
        labelled_hits: number of labelled hits, drawn ones counted.
        failed: number of candidates, drawn or not, of which no label could be had.

    Raises:
        ValueError: thresholds do not ascend, or an entry is missing.
    """

    thresholds: Float[np.ndarray, " threshold"]
    near_below: Int[np.ndarray, " threshold"]
    near_scores: Float[np.ndarray, " draw"]
    near_hits: Bool[np.ndarray, " draw"]
    far: Stratum
    labelled_hits: int
    failed: int = 0

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.near_below) or not (np.diff(self.thresholds) > 0).all():
            raise ValueError("thresholds must ascend, and each needs the number of candidates below it")
        if len(self.near_scores) != len(self.near_hits) or np.isnan(self.near_scores).any():
            raise ValueError("each draw needs a score and whether it is a hit")

    def near(self, number: int) -> Stratum:
        """The candidates of the near stratum below a threshold."""
        below = self.near_scores < self.thresholds[number]
        return Stratum(int(self.near_below[number]), int(below.sum()), int(self.near_hits[below].sum()))

    def p_value(self, number: int, recall: float) -> float:
        """The p-value of "the recall of this threshold is below `recall`"."""
        near = self.near(number)
        refuted = fewest_refuted(self.labelled_hits, near.hits + self.far.hits, recall, self.failed)
        return hits_p_value(near, self.far, refuted)


def strictest_audited_threshold(audit: AuditDraws, recall: float, delta: float) -> float | None:
    """The largest threshold with a promised recall, if all candidates that reach it are labelled, or None.

    Thresholds are tested from the smallest one on until one fails (fixed sequence). The draws below a threshold are
    uniform draws from the candidates below it, so that each test is exact; hits above it that are not labelled yet are
    not counted, which errs on the safe side.

    Args:
        audit: draws.
        recall: promised share of the hits.
        delta: largest probability that the recall is lower.
    """
    strictest = None
    for number, threshold in enumerate(audit.thresholds):
        if audit.p_value(number, recall) > delta:
            break
        strictest = float(threshold)
    return strictest


def allocate(near: int, far: int, draws: int, far_share: float) -> tuple[int, int]:
    """Numbers of draws near and far.

    A share of the far stratum is drawn, and the rest of the draws are near; if that were a smaller share, both strata
    have the same one.

    Args:
        near, far: sizes of the strata.
        draws: number of draws in all.
        far_share: share of the far candidates that is drawn if there are as many draws.
    """
    in_far = min(far, math.ceil(min(far_share, draws / max(1, near + far)) * far), draws)
    in_near = min(near, draws - in_far)
    return in_near, min(far, draws - in_near)


def quiet_share(labelled_hits: int, recall: float, delta: float) -> float:
    """The least share of candidates whose draws, if none is a hit, prove the recall: (1 - share)^M = delta.

    Args:
        labelled_hits: number of labelled hits.
        recall: promised share of the hits.
        delta: largest probability that the recall is lower.
    """
    return float(-math.expm1(math.log(delta) / fewest_refuted(labelled_hits, 0, recall)))
