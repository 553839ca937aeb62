"""The exact test of a recall from audits of what was left out: uniform draws without replacement from strata.

The best candidates are labelled, and so is all that the model was trained on; K hits are among them. The others are
divided by their scores, before one of them is drawn, into strata from the cut down to those far from it. Let a stratum
of n candidates hold a hits, and let m of its candidates be drawn without replacement; the number of hits among the
draws is hypergeometric. The hypothesis "the strata hold M hits or more" does not say how the hits are shared out, so
that its p-value is the largest one of all ways to share them out:

    p(M) = max over sum(a_s) = M of P(T <= t | a),    T = sum over s of w_s * (hits drawn from stratum s),

with t the observed T. A hit weighs more where fewer candidates are drawn, since it stands for more of them. With
f_s the drawn share of stratum s, c = `SHARE_OF_LEAST` min(f_s) and

    w_s = -log(1 - c / f_s),

each hit, in whatever stratum, has the same expectation of exp(-w) or 1, by whether it is drawn: 1 - f_s + f_s exp(-w_s)
= 1 - c. So no way to share the hits out is much harder to refute than others, and strata may be drawn as densely as
hits are expected in them. Any order that is fixed before the draws is valid. Nothing is assumed about the score.

With x hits drawn, the recall is below r exactly if the hits that stay unlabelled are more than (1 - r)/r times the hits
that are labelled, so that the promise holds with the probability 1 - delta if p(M) <= delta for

    M = x + floor((K + x) (1 - r)/r) + 1.

With one stratum this is the test of elusion of electronic discovery with a finite population (Roitblat, The Sedona
Conference Journal 2007, 8; Lewis, Li and Oard, Certifying one-phase technology-assisted reviews, CIKM 2021), and the
bound of a hypergeometric variable (Buonaccorsi, The American Statistician 1987, 41, 215).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import hypergeom

#: Ends of the strata near the cut, as ranks below it over the number of labelled candidates above it; the far stratum
#: begins after the last one.
NEAR = (0.5, 2.0)
#: Hits that are expected in each of these strata, relative to each other.
NEAR_HITS = (0.6, 0.4)
#: The share of the far stratum that is drawn, in units of the share that proves the recall if no draw is a hit.
SLACK = 1.25
#: The c of the weights of hits, over the least share that is drawn of a stratum.
SHARE_OF_LEAST = 0.8
#: Numbers of hits of a stratum that are tried; more are tried in steps, each of which stands for those up to the next.
TRIED = 150


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


def hits_p_value(strata: Sequence[Stratum], hits: int) -> float:
    """The p-value of "the strata held this many hits or more before the draws".

    Args:
        strata: from the cut down; at most three.
        hits: number of hits in all strata together, drawn ones counted.
    """
    strata = [s for s in strata if s.size]
    if hits <= sum(s.hits for s in strata):
        return 1.0
    if hits > sum(s.size - (s.drawn - s.hits) for s in strata):
        # What was drawn contradicts it, or there are not as many candidates.
        return 0.0
    if not all(s.drawn for s in strata):
        # All of the hits, or as many as fit, may lie where nothing was drawn.
        full = [s for s in strata if s.drawn]
        left = hits - sum(s.size for s in strata if not s.drawn)
        return hits_p_value(full, left) if left > 0 else 1.0
    if len(strata) > 3:
        raise ValueError(f"at most three strata, got {len(strata)}")
    weights = hit_weights(strata)
    # The lightest hits come last, where their numbers are summed up.
    order = np.argsort(-weights, kind="stable")
    strata, weights = [strata[k] for k in order], weights[order]
    strata = [Stratum(1, 1, 0)] * (3 - len(strata)) + strata
    weights = np.concatenate([np.full(3 - len(weights), np.inf), weights])
    limit = float(sum(w * s.hits for w, s in zip(weights, strata, strict=True) if s.hits))
    return _largest(strata, weights, limit, hits)


def hit_weights(strata: Sequence[Stratum]) -> Float[np.ndarray, " stratum"]:
    """How much a hit among the draws weighs, by stratum: the w_s of this module; every stratum has draws."""
    share = np.array([s.drawn / s.size for s in strata])
    return -np.log1p(-SHARE_OF_LEAST * share.min() / share)


def _largest(strata: Sequence[Stratum], weights: Float[np.ndarray, " stratum"], limit: float, hits: int) -> float:
    """The largest P(T <= limit) of all ways to share hits out among three strata, of falling weights."""
    step = max(1, hits // TRIED)
    tried = np.arange(0, hits + 1, step)
    # Fewer hits make a small T likelier, so that the least numbers that a step stands for bound it from above.
    first, second = (tried[(tried + step - 1 >= s.hits) & (tried <= s.size - s.drawn + s.hits)] for s in strata[:2])
    light = strata[2]
    rest = hits - (first[:, None] + step - 1) - (second[None, :] + step - 1)
    most = light.size - light.drawn + light.hits
    possible = (hits - first[:, None] - second[None, :] >= light.hits) & (rest <= most)
    counts, place = np.unique(np.clip(rest, light.hits, most), return_inverse=True)
    place = place.reshape(rest.shape)
    heavy, middle = (_chances(s, some, limit / w) for s, some, w in zip(strata, (first, second), weights, strict=False))
    reach = min(light.drawn, math.floor(limit / weights[2] + 1e-9))
    at_most = np.cumsum(_chances(light, counts, float(reach)), axis=1)
    total = np.zeros(possible.shape)
    for x in range(heavy.shape[1]):
        for y in range(middle.shape[1]):
            spent = sum(w * n for w, n in zip(weights, (x, y), strict=False) if n)
            if spent > limit * (1 + 1e-12) + 1e-12:
                break
            last = min(at_most.shape[1] - 1, math.floor((limit - spent) / weights[2] + 1e-9))
            total += heavy[:, x, None] * middle[None, :, y] * at_most[place, last]
    return float(min(1.0, np.where(possible, total, 0.0).max()))


def _chances(stratum: Stratum, hits: Int[np.ndarray, " case"], most: float) -> Float[np.ndarray, "case drawn"]:
    """Probability of each number of hits among the draws, up to `most`, for each number of hits in a stratum."""
    drawn = np.arange(min(stratum.drawn, math.floor(most + 1e-9)) + 1)
    return np.asarray(hypergeom.pmf(drawn[None, :], stratum.size, hits[:, None], stratum.drawn), np.float64)


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
        edges: scores that separate the strata near the cut, in ascending order; the least one is the edge of the far
            stratum.
        near_below: number of candidates of each near stratum, from the cut down, with a score below each threshold.
        near_scores: score of each draw of these strata.
        near_hits: whether it is a hit, or has no label.
        far: the far stratum; draws without a label count as hits.
        labelled_hits: number of labelled hits, drawn ones counted.
        failed: number of candidates, drawn or not, of which no label could be had.

    Raises:
        ValueError: thresholds or edges do not ascend, or an entry is missing.
    """

    thresholds: Float[np.ndarray, " threshold"]
    edges: Float[np.ndarray, " near"]
    near_below: Int[np.ndarray, "near threshold"]
    near_scores: Float[np.ndarray, " draw"]
    near_hits: Bool[np.ndarray, " draw"]
    far: Stratum
    labelled_hits: int
    failed: int = 0

    def __post_init__(self) -> None:
        shape = (len(self.edges), len(self.thresholds))
        if self.near_below.shape != shape or not (np.diff(self.thresholds) > 0).all():
            raise ValueError("thresholds must ascend, and each needs the numbers of candidates below it")
        if not (np.diff(self.edges) > 0).all():
            raise ValueError("edges must ascend")
        if len(self.near_scores) != len(self.near_hits) or np.isnan(self.near_scores).any():
            raise ValueError("each draw needs a score and whether it is a hit")

    def strata(self, number: int) -> list[Stratum]:
        """The candidates below a threshold: those near the cut, and the far stratum last."""
        below = self.near_scores < self.thresholds[number]
        place = len(self.edges) - np.searchsorted(self.edges, self.near_scores, side="right")
        near = [
            Stratum(int(size), int((inside := below & (place == k)).sum()), int(self.near_hits[inside].sum()))
            for k, size in enumerate(self.near_below[:, number])
        ]
        return [*near, self.far]

    def p_value(self, number: int, recall: float) -> float:
        """The p-value of "the recall of this threshold is below `recall`"."""
        strata = self.strata(number)
        drawn_hits = sum(s.hits for s in strata)
        return hits_p_value(strata, fewest_refuted(self.labelled_hits, drawn_hits, recall, self.failed))


def strictest_audited_threshold(audit: AuditDraws, recall: float, delta: float) -> float | None:
    """The largest threshold with a promised recall, if all candidates that reach it are labelled, or None.

    Thresholds are tested from the smallest one on until one fails (fixed sequence). The draws below a threshold are
    uniform draws from the candidates of each stratum below it, so that each test is exact; hits above it that are not
    labelled yet are not counted, which errs on the safe side.

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


def near_ranks(labelled: int, rest: int) -> list[int]:
    """Sizes of the strata near the cut; the far stratum is what is left.

    Args:
        labelled: number of labelled candidates above the cut.
        rest: number of the others.
    """
    ends = [min(rest, round(end * labelled)) for end in NEAR]
    return [int(size) for size in np.diff([0, *ends])]


def allocate(sizes: Sequence[int], draws: int, far_share: float) -> list[int]:
    """Numbers of draws of each stratum.

    A share of the far stratum is drawn, and the rest of the draws are near: in proportion to the root of the hits that
    are expected times the candidates (Neyman, Journal of the Royal Statistical Society 1934, 97, 558), but at least
    the share of the far stratum. If there are too few draws, all strata have the same share.

    Args:
        sizes: sizes of the strata, the far one last.
        draws: number of draws in all.
        far_share: share of the far candidates that is drawn if there are as many draws.
    """
    *near, far = sizes
    share = min(far_share, draws / max(1, sum(sizes)))
    in_far = min(far, math.ceil(share * far), draws)
    left = draws - in_far
    drawn = [min(size, math.floor(share * size)) for size in near]
    left -= sum(drawn)
    density = np.sqrt(np.array(NEAR_HITS[: len(near)]) * np.array(near, np.float64))
    for k, size in enumerate(near):
        # What a stratum cannot take falls to those after it.
        take = round(left * float(density[k] / density[k:].sum())) if density[k:].sum() > 0 else 0
        take = min(left, max(0, min(size - drawn[k], take)))
        drawn[k] += take
        left -= take
    return [*drawn, min(far, in_far + left)]


def quiet_share(labelled_hits: int, recall: float, delta: float) -> float:
    """The least share of candidates whose draws, if none is a hit, prove the recall: (1 - share)^M = delta.

    Args:
        labelled_hits: number of labelled hits.
        recall: promised share of the hits.
        delta: largest probability that the recall is lower.
    """
    return float(-math.expm1(math.log(delta) / fewest_refuted(labelled_hits, 0, recall)))
