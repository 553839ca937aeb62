"""A promised recall over several stages: how it is shared out, whether labels suffice, and the threshold of each stage.

Each of k stages may lose the share (1 - r)/k of all hits with probability delta/k at most, so that all of them
together keep the share r with probability 1 - delta (union bound). The losses of a stage are counted over all labelled
hits, also those that an earlier stage loses, so that stages can be calibrated on the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from data.errors import InputError
from surrogates.cascade.betting import WeightedLabels, strictest_weighted_threshold
from surrogates.cascade.learn_then_test import fewest_hits, share_lost_bound, strictest_threshold


@dataclass(frozen=True)
class Promise:
    """A recall that is promised with a confidence, over a number of stages.

    Attributes:
        recall: promised share of the hits that the last rung receives, in (0, 1).
        confidence: probability with which the promise is kept, in (0, 1).
        stages: number of stages that reject candidates, 1 or more.

    Raises:
        ValueError: a number is out of its range.
    """

    recall: float
    confidence: float
    stages: int

    def __post_init__(self) -> None:
        if not (0 < self.recall < 1 and 0 < self.confidence < 1 and self.stages >= 1):
            raise ValueError(f"recall and confidence must lie between 0 and 1, with 1 stage or more; got {self}")

    @property
    def stage_recall(self) -> float:
        """Share of all hits that each stage has to keep."""
        return 1 - (1 - self.recall) / self.stages

    @property
    def stage_delta(self) -> float:
        """Largest probability that a stage keeps fewer."""
        return (1 - self.confidence) / self.stages

    @property
    def fewest_hits(self) -> int:
        """Fewest labelled hits with which the promise can be kept, if no stage loses one of them."""
        return fewest_hits(self.stage_recall, self.stage_delta)

    def refuse_too_few(self, hits: float, *, what: str, where: str, remedy: str) -> None:
        """Refuse a promise that cannot be kept.

        Args:
            hits: number of labelled hits, or the largest number that is possible or expected.
            what: what `hits` counts, such as "labelled hits".
            where: key of the configuration.
            remedy: advice.

        Raises:
            InputError: names the number of labels that is missing.
        """
        missing = self.fewest_hits - int(hits)
        if missing > 0:
            stages = f" over {self.stages} stages" if self.stages > 1 else ""
            raise InputError(
                f"a recall of {self.recall:g} cannot be promised with a confidence of {self.confidence:g}{stages}: it "
                f"takes {self.fewest_hits} labelled hits or more, and {int(hits)} {what}; {missing} labels of hits are "
                "missing",
                where=where,
                remedy=remedy,
            )


@dataclass(frozen=True)
class StageThreshold:
    """The threshold of one stage.

    Attributes:
        threshold: smallest score that passes; -inf if every candidate has to pass.
        hits: number of labelled hits.
        lost: number of labelled hits that the stage loses.
        share_lost: estimate of the share of all hits that it loses.
        bound: promised upper bound of that share.
        confidence: of the bound.
    """

    threshold: float
    hits: int
    lost: int
    share_lost: float
    bound: float
    confidence: float


@dataclass(frozen=True)
class Calibration:
    """Labels from which the thresholds of all stages are set.

    Attributes:
        scores: score of each draw in each stage; -inf where the stage has no answer and the candidate is left out, +inf
            where it then passes.
        hits: whether each draw is a hit; draws without a label of the last rung count as hits that every stage loses.
        weights: 1/q of each draw; None for uniform draws.
        largest_weight: largest 1/q of all candidates.
        certain: scores of the hits among candidates that were labelled with certainty.
    """

    scores: Float[np.ndarray, "draw stage"]
    hits: Bool[np.ndarray, " draw"]
    weights: Float[np.ndarray, " draw"] | None
    largest_weight: float
    certain: Float[np.ndarray, "certain stage"]

    def stage(self, number: int) -> WeightedLabels:
        """The labels as one stage sees them."""
        weights = np.ones(len(self.hits)) if self.weights is None else self.weights
        largest = 1.0 if self.weights is None else self.largest_weight
        return WeightedLabels(self.scores[:, number], self.hits, weights, largest, self.certain[:, number])


def stage_thresholds(calibration: Calibration, promise: Promise) -> list[StageThreshold]:
    """The strictest threshold of each stage with which the promise is kept; -inf where no other one has been proved.

    Uniform draws are tested exactly, others by betting.
    """
    thresholds = []
    recall, delta = promise.stage_recall, promise.stage_delta
    for number in range(promise.stages):
        labels = calibration.stage(number)
        if calibration.weights is None:
            threshold = strictest_threshold(labels.hit_scores(), recall, delta)
        else:
            threshold = strictest_weighted_threshold(labels, recall, delta)
        cut = -np.inf if threshold is None else threshold
        scores = labels.scores[labels.hits]
        weight = labels.weights[labels.hits] / max(1, len(labels.hits))
        every = float(weight.sum()) + len(labels.certain)
        gone = float(weight[scores < cut].sum()) + float((labels.certain < cut).sum())
        lost = int((scores < cut).sum() + (labels.certain < cut).sum())
        hits = len(scores) + len(labels.certain)
        bound = 1 - recall if threshold is not None else float((scores == -np.inf).any())
        if calibration.weights is None:
            bound = min(bound, share_lost_bound(lost, hits, delta)) if threshold is not None else bound
        thresholds.append(StageThreshold(cut, hits, lost, gone / every if every else 0.0, bound, 1 - delta))
    return thresholds
