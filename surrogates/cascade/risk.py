"""The threshold of a cascade for answers, with a controlled probability that an answer is wrong.

Rung k of a ladder answers a request with a chance p_k of being wrong, as an `ErrorModel` predicts it. With the
threshold t the first rung with p_k < t answers, and the last rung answers what is left; it is right by definition. As t
rises, a request is answered by cheaper and cheaper rungs, and let u be the first t above which one of them is wrong. An
answer with the threshold t is then wrong only if u < t, which is a loss that never falls with t, so that conformal risk
control applies (Angelopoulos, Bates, Fisch, Lei and Schuster, ICLR 2024, arXiv:2208.02814): with n labels that are
exchangeable with later requests and the c-th smallest of their u as the threshold,

    P(answer is wrong) <= c / (n + 1),

the mean over labels and requests. With a confidence, the risk itself, given the labels, is at most alpha with that
probability: the number of labels with u < t is tested against a binomial with the share alpha (Learn then Test;
Angelopoulos, Bates, Candes, Jordan and Lei, Annals of Applied Statistics 2025, 19, 1641).

Neither depends on whether the predicted chances are right: those decide only how many requests a cheap rung answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binom, norm

#: A threshold above every chance: the cheapest rung with an answer gives it.
ALWAYS = 2.0
#: Fewest labels to which an `ErrorModel` is fitted.
FEWEST_DESIGN = 10


@dataclass(frozen=True)
class ErrorModel:
    """The chance that an answer is wrong: errors are lognormal around a power of the difficulty.

    With the difficulty d and the error e, both in units of the tolerance, log e = offset + slope log d + scale z, z
    standard normal. The chance is that of e > 1.

    Attributes:
        offset: mean of log e where d is 1.
        slope: exponent of the difficulty, 0 or more; 0 where the difficulty says nothing.
        scale: standard deviation of log e about its mean, above 0.
    """

    offset: float
    slope: float
    scale: float

    def __post_init__(self) -> None:
        if not (self.slope >= 0 and self.scale > 0):
            raise ValueError(f"slope must be 0 or more and scale above 0, got {self.slope} and {self.scale}")

    @staticmethod
    def fit(difficulty: Float[np.ndarray, " label"], error: Float[np.ndarray, " label"]) -> ErrorModel:
        """Least squares over the labels whose difficulty and error are finite.

        Args:
            difficulty: of each answer; NaN where it has none.
            error: of each answer, in units of the tolerance; infinite where it is not known.
        """
        use = np.isfinite(difficulty) & np.isfinite(error)
        if not use.any():
            return ErrorModel(0.0, 0.0, 1.0)
        x, y = _log(difficulty[use]), _log(error[use])
        spread = float(x.var())
        slope = max(0.0, float(np.mean((x - x.mean()) * (y - y.mean()))) / spread) if spread > 1e-12 else 0.0
        offset = float(y.mean() - slope * x.mean())
        return ErrorModel(offset, slope, max(float(np.std(y - offset - slope * x)), 1e-3))

    def chance(self, difficulty: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """The chance that an answer is wrong, in [0, 1]; infinite where the difficulty is NaN.

        Args:
            difficulty: of each answer; NaN for an answer that must not be given.
        """
        finite = np.where(np.isnan(difficulty), 1.0, difficulty)
        chance = norm.cdf((self.offset + self.slope * _log(finite)) / self.scale)
        return np.where(np.isnan(difficulty), np.inf, chance)


def _log(values: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Logarithms, of 1e-12 for what is smaller."""
    return np.log(np.clip(np.asarray(values, np.float64), 1e-12, 1e12))


def allowed(labels: int, alpha: float, confidence: float | None = None) -> int:
    """Number of labels that may have u < t at the threshold t; -1 if the promise takes more labels.

    Args:
        labels: number of labels.
        alpha: promised risk, in (0, 1).
        confidence: probability with which the risk given the labels is at most `alpha`, in (0, 1); None for a risk that
            is the mean over labels.
    """
    if not 0 < alpha < 1 or (confidence is not None and not 0 < confidence < 1):
        raise ValueError(f"alpha and confidence must lie between 0 and 1, got {alpha} and {confidence}")
    if confidence is None:
        # Rounding must not turn 0.3 * 10 into 2.
        return math.floor(alpha * (labels + 1) + 1e-9) - 1
    counts = np.arange(labels + 1)
    return int((binom.cdf(counts, labels, alpha) <= 1 - confidence).sum()) - 1


def fewest_labels(alpha: float, confidence: float | None = None) -> int:
    """The fewest labels with which a risk can be promised; see `allowed`."""
    least = 1 / alpha - 1 if confidence is None else math.log(1 - confidence) / math.log1p(-alpha)
    fewest = max(1, math.ceil(least - 1e-9))
    return fewest if allowed(fewest, alpha, confidence) >= 0 else fewest + 1


def first_wrong(
    chance: Float[np.ndarray, "label rung"], wrong: Bool[np.ndarray, "label rung"]
) -> Float[np.ndarray, " label"]:
    """The threshold above which the answer to each labelled request is, or has been, wrong; infinite if it never is.

    Args:
        chance: predicted chance that each answer is wrong; infinite for one that is never given.
        wrong: whether it is.
    """
    # Rung k answers at some threshold only if its chance is below those of all cheaper rungs.
    cheaper = np.minimum.accumulate(chance, axis=1)
    before = np.concatenate([np.full((len(chance), 1), np.inf), cheaper[:, :-1]], axis=1)
    return np.where(wrong & (chance < before), chance, np.inf).min(axis=1, initial=np.inf)


def risk_threshold(wrong_from: Float[np.ndarray, " label"], alpha: float, confidence: float | None = None) -> float:
    """The largest threshold that keeps the promise; at most `ALWAYS`.

    Args:
        wrong_from: `first_wrong` of labels that are exchangeable with later requests.
        alpha: promised risk.
        confidence: see `allowed`.

    Raises:
        ValueError: there are fewer labels than `fewest_labels`.
    """
    count = allowed(len(wrong_from), alpha, confidence)
    if count < 0:
        raise ValueError(f"{len(wrong_from)} labels are fewer than {fewest_labels(alpha, confidence)}")
    if count >= len(wrong_from):
        return ALWAYS
    return min(ALWAYS, float(np.sort(wrong_from)[count]))


def answering_rung(chance: Float[np.ndarray, "request rung"], threshold: float) -> np.ndarray:
    """The rung that answers each request: the first with a chance below the threshold, or the one after all of them.

    Args:
        chance: predicted chances of the rungs before the last one.
        threshold: the threshold.

    Returns:
        An integer for each request, from 0 to the number of columns of `chance`.
    """
    below = chance < threshold
    return np.where(below.any(axis=1), below.argmax(axis=1), chance.shape[1])
