"""Probabilities of binary labels: their calibration, the labels that they cannot exclude, and their scores.

Calibration is Platt's: the logit z of the ensemble's mean probability becomes a z + b by logistic regression on held-
out molecules, with labels smoothed to (n1 + 1) / (n1 + 2) and 1 / (n0 + 2) (Platt 1999, in Advances in Large Margin
Classifiers). The labels that a molecule may have are a conformal prediction set with one threshold for each class
(Vovk 2012; Sadinle, Lei and Wasserman, JASA 2019, 114, 223): among the molecules of either class, a share of at least
1 - alpha has its label in the set. Thresholds depend on the order of z alone, which the calibration does not change.
The expected calibration error is that of Naeini et al. 2015 for ten bins of equal width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from surrogates.learning.conformal import ALPHA

#: Smallest distance of a probability from 0 and 1, so that its logit is finite.
SMALLEST = 1e-12
#: Smallest slope of a calibration: it keeps the order of probabilities that turn out to say nothing.
SMALLEST_SLOPE = 0.01
#: Folds by which it is decided whether a calibration helps.
FOLDS = 5
#: Bins of the expected calibration error.
BINS = 10


def logit(probability: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The logit of probabilities, finite also for 0 and 1."""
    clipped = np.clip(np.asarray(probability, np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(z: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The probability of a logit; does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(z, np.float64))))


@dataclass(frozen=True)
class ProbabilityCalibration:
    """The calibration of one probability.

    Attributes:
        slope, offset: logit of the calibrated probability, `slope * z + offset`, of the logit z of the ensemble; 1 and
            0 if no calibration lowers the log loss of molecules that it was not fitted to.
        least_positive: z from which on the label 1 is not excluded; None if it is never excluded.
        largest_negative: z up to which the label 0 is not excluded; None if it is never excluded.
        positives, negatives: number of calibration molecules of each label.
    """

    slope: float
    offset: float
    least_positive: float | None
    largest_negative: float | None
    positives: int
    negatives: int

    def __post_init__(self) -> None:
        if not self.slope > 0 or min(self.positives, self.negatives) < 0:
            raise ValueError(f"slope must be above 0, and positives and negatives be 0 or more; got {self}")

    @staticmethod
    def fit(
        truth: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"], alpha: float = ALPHA
    ) -> ProbabilityCalibration:
        """Calibrate on held-out molecules; those without a label (NaN) are left out.

        Args:
            truth: labels 0 and 1.
            probability: mean probability of the ensemble.
            alpha: share of the molecules of each class whose label may lie outside of the set.
        """
        keep = np.isfinite(truth)
        positive, z = truth[keep] > 0.5, logit(probability[keep])
        ones, zeros = int(positive.sum()), int((~positive).sum())
        slope, offset = _platt(positive, z) if _platt_helps(positive, z) else (1.0, 0.0)
        # The rank of split conformal prediction; where there are too few molecules, no label is excluded.
        low = _threshold(-z[positive], alpha)
        high = _threshold(z[~positive], alpha)
        return ProbabilityCalibration(slope, offset, None if low is None else -low, high, ones, zeros)

    def apply(self, probability: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Calibrated probabilities of those of the ensemble."""
        return sigmoid(self.slope * logit(probability) + self.offset)

    def undo(self, calibrated: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Probabilities of the ensemble of the calibrated ones."""
        return sigmoid((logit(calibrated) - self.offset) / self.slope)

    def spread(self, probability: Float[np.ndarray, " n"], std: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Standard deviation of the calibrated probability over the members, to first order, at most 1/2."""
        clipped = np.clip(probability, SMALLEST, 1 - SMALLEST)
        calibrated = self.apply(probability)
        return np.minimum(std * self.slope * calibrated * (1 - calibrated) / (clipped * (1 - clipped)), 0.5)

    def labels(self, probability: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The smallest and the largest label that is not excluded: 0 and 1 where both are possible.

        Where both would be excluded, the more probable one is taken.
        """
        z = logit(probability)
        one = np.ones(len(z), bool) if self.least_positive is None else z >= self.least_positive
        zero = np.ones(len(z), bool) if self.largest_negative is None else z <= self.largest_negative
        likely = self.apply(probability) >= 0.5
        neither = ~one & ~zero
        one, zero = one | (neither & likely), zero | (neither & ~likely)
        return np.where(zero, 0.0, 1.0), np.where(one, 1.0, 0.0)


def _platt(positive: Bool[np.ndarray, " n"], z: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Slope and offset; 1 and 0 if a class is missing, because then nothing can be learned."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 1.0, 0.0
    target = np.where(positive, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    # Predictions, which need none of scikit-learn, start without it.
    from sklearn.linear_model import LogisticRegression

    # A molecule with a smoothed label t counts t times as a 1 and 1 - t times as a 0. Without a penalty.
    model = LogisticRegression(C=np.inf, max_iter=1000)
    model.fit(np.tile(z, 2)[:, None], np.repeat([1, 0], len(z)), np.concatenate([target, 1 - target]))
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope >= SMALLEST_SLOPE:
        return slope, offset
    share = float(target.mean())
    return SMALLEST_SLOPE, math.log(share / (1 - share)) - SMALLEST_SLOPE * float(z.mean())


def _platt_helps(positive: Bool[np.ndarray, " n"], z: Float[np.ndarray, " n"]) -> bool:
    """Whether Platt's fit to some of the molecules lowers the log loss of the others, over `FOLDS` of them.

    On few molecules the fit adds more noise than it removes from probabilities that were learned with the log loss.
    """
    fitted = np.zeros(len(z))
    fold = np.arange(len(z)) % FOLDS
    for k in range(min(FOLDS, len(z))):
        slope, offset = _platt(positive[fold != k], z[fold != k])
        fitted[fold == k] = slope * z[fold == k] + offset
    return _log_loss(positive, fitted) < _log_loss(positive, z)


def _log_loss(positive: Bool[np.ndarray, " n"], z: Float[np.ndarray, " n"]) -> float:
    return float(np.logaddexp(0.0, np.where(positive, -z, z)).sum())


def _threshold(scores: Float[np.ndarray, " n"], alpha: float) -> float | None:
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    return None if rank > len(scores) else float(np.sort(scores)[rank - 1])


def calibration_error(
    truth: Float[np.ndarray, " n"], probability: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None = None
) -> float:
    """The expected calibration error: mean |share of ones - mean probability| over `BINS` bins of the probability."""
    weights = np.ones(len(truth)) if weights is None else weights
    place = np.minimum((np.asarray(probability) * BINS).astype(int), BINS - 1)
    apart = np.bincount(place, weights * (np.asarray(truth) - probability), minlength=BINS)
    return float(np.abs(apart).sum() / weights.sum())


def probability_scores(
    truth: Float[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"] | None = None,
) -> dict[str, float]:
    """Scores of probabilities of binary labels, none of which has a unit.

    Args:
        truth: labels 0 and 1, at least one.
        probability: predicted probability of 1.
        weights: number of molecules for which each entry stands; None for 1.

    Returns:
        `positives` (share of ones), `log_loss`, `brier`, `ece`, and, if both labels occur, `roc_auc` and `pr_auc`
        (average precision).
    """
    from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

    weights = np.ones(len(truth)) if weights is None else weights
    share = float(np.average(truth, weights=weights))
    inside = np.clip(probability, SMALLEST, 1 - SMALLEST)
    metrics = {
        "positives": share,
        "log_loss": float(log_loss(truth, inside, sample_weight=weights, labels=[0, 1])),
        "brier": float(np.average((truth - probability) ** 2, weights=weights)),
        "ece": calibration_error(truth, probability, weights),
    }  # fmt: skip
    if 0 < share < 1:
        metrics["roc_auc"] = float(roc_auc_score(truth, probability, sample_weight=weights))
        metrics["pr_auc"] = float(average_precision_score(truth, probability, sample_weight=weights))
    return metrics


def label_set_scores(
    truth: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]
) -> dict[str, float]:
    """How often the label lies in its set, of all and of each class, and the share of sets with both labels."""
    inside = (low <= truth) & (truth <= high)
    metrics = {"coverage_90": float(inside.mean()), "undecided": float((low < high).mean())}
    for name, label in (("positives", 1), ("negatives", 0)):
        of_class = truth == label
        if of_class.any():
            metrics[f"coverage_90_{name}"] = float(inside[of_class].mean())
    return metrics
