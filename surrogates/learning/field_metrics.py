"""How far predicted fields are from the truth, by the definitions of the benchmarks that published them.

Arrays have the layout (sample, time, channel, *space), without the initial state. Sums are in float64. Where a
prediction is not finite its error counts as infinite, so that a mean over samples is infinite too and never NaN;
`non_finite` counts such values. The truth has to be finite.

Every metric that ends with a mean over samples can be computed in chunks: the mean over chunks, weighted by their
numbers of samples, is that of the whole. This holds for all but `gmean_nrmse` and `rank_correlation`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from data.errors import InputError

Fields = Float[np.ndarray, "sample time channel *space"]


def checked_pair(prediction: np.ndarray, truth: np.ndarray) -> tuple[Fields, Fields]:
    """Prediction and truth as float64, with `inf` wherever the prediction is not finite.

    Args:
        prediction, truth: (sample, time, channel, *space); other shapes are refused.

    Raises:
        InputError: the shapes differ or have no space axis, the arrays are empty, or the truth is not finite.
    """
    if np.shape(prediction) != np.shape(truth) or np.ndim(truth) < 4:
        raise InputError(
            f"predictions of shape {np.shape(prediction)} cannot be compared with truth of shape {np.shape(truth)}",
            where="field metrics",
            remedy="Give both as (sample, time, channel, *space)",
        )
    exact = np.asarray(truth, np.float64)
    if exact.size == 0 or not np.isfinite(exact).all():
        raise InputError(
            "the truth is empty or holds values that are not finite",
            where="field metrics",
            remedy="Leave out samples whose reference failed",
        )
    predicted = np.asarray(prediction, np.float64)
    return np.where(np.isfinite(predicted), predicted, np.inf), exact


def over(above: Any, below: Any) -> np.ndarray:
    """above / below, where 0/0 is 0 (nothing to predict, and nothing predicted) and every other NaN is infinite."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(above == 0, 0.0, above / below)
    return np.where(np.isnan(ratio), np.inf, ratio)


def _space(fields: np.ndarray) -> tuple[int, ...]:
    return tuple(range(3, fields.ndim))


def _mean_square(fields: Fields) -> Float[np.ndarray, "sample time channel"]:
    with np.errstate(over="ignore"):
        return np.square(fields).mean(axis=_space(fields))


def non_finite(prediction: np.ndarray) -> int:
    """Number of values that are NaN or infinite."""
    return int(np.size(prediction) - np.isfinite(prediction).sum())


def relative_l2_each(prediction: Fields, truth: Fields) -> Float[np.ndarray, " sample"]:
    """||p - t|| / ||t|| of each sample, the norms over its times, channels and points.

    Li et al. 2021 (arXiv:2010.08895), whose loss flattens each sample. neuraloperator's `LpLoss` takes norms
    over space alone and then sums or averages the ratios over samples and channels: the same where a sample has one
    channel and one time, as Darcy flow has.
    """
    p, t = checked_pair(prediction, truth)
    return over(np.sqrt(_mean_square(p - t).mean((1, 2))), np.sqrt(_mean_square(t).mean((1, 2))))


def relative_l2(prediction: Fields, truth: Fields) -> float:
    """Mean over samples of `relative_l2_each`."""
    return float(relative_l2_each(prediction, truth).mean())


def relative_l2_per_step(prediction: Fields, truth: Fields) -> Float[np.ndarray, " time"]:
    """At each time the mean over samples of ||p - t|| / ||t||, the norms over channels and points together."""
    p, t = checked_pair(prediction, truth)
    return over(np.sqrt(_mean_square(p - t).mean(2)), np.sqrt(_mean_square(t).mean(2))).mean(0)


def relative_l2_by_channel(prediction: Fields, truth: Fields) -> Float[np.ndarray, " channel"]:
    """`relative_l2` of each channel by itself."""
    p, t = checked_pair(prediction, truth)
    return over(np.sqrt(_mean_square(p - t).mean(1)), np.sqrt(_mean_square(t).mean(1))).mean(0)


def rmse_over_spread(prediction: Fields, truth: Fields) -> Float[np.ndarray, " channel"]:
    """Root mean square error of each channel over the standard deviation of its truth, both over everything.

    The standard deviation is about the mean, so that a large mean hides no error: predicting the mean of all samples
    scores 1. The square is 1 minus the coefficient of determination. A channel that does not vary scores 0, or
    infinity if its prediction differs.
    """
    p, t = checked_pair(prediction, truth)
    axes = (0, 1, *_space(t))
    size = np.abs(t).max(axis=axes, keepdims=True)
    unit = np.where(size > 0, size, 1.0)
    error = np.sqrt(np.square((p - t) / unit).mean(axis=axes))
    spread = (t / unit).std(axis=axes)
    return over(error, np.where(spread > 1e-12, spread, 0.0))


def nrmse_per_step(prediction: Fields, truth: Fields) -> Float[np.ndarray, " time"]:
    """APEBench's mean nRMSE: at each time the mean over samples of ||p - t|| / ||t||, the norms over space.

    Koehler et al. 2024 (arXiv:2411.00180). With more than one channel the ratios of the channels are summed, as
    `exponax.metrics.nRMSE` does; `relative_l2_per_step` takes the norm over channels.
    """
    p, t = checked_pair(prediction, truth)
    return over(np.sqrt(_mean_square(p - t)), np.sqrt(_mean_square(t))).sum(2).mean(0)


def geometric_mean(values: Float[np.ndarray, " time"]) -> float:
    """The geometric mean, exp(mean(log v)); infinite if any value is, else 0 if any is 0."""
    if not np.isfinite(values).all():
        return float("inf")
    return float(np.exp(np.log(values).mean())) if (np.asarray(values) > 0).all() else 0.0


def gmean_nrmse(prediction: Fields, truth: Fields, steps: int = 100) -> float:
    """APEBench's GMean: the geometric mean over the first `steps` times of `nrmse_per_step`.

    Koehler et al. 2024 (arXiv:2411.00180): first the arithmetic mean over samples, then the geometric over times 1 to
    100, the initial state not among them.

    Raises:
        InputError: there are fewer times, so that the number could be compared with no published one.
    """
    if steps < 1 or np.ndim(truth) < 4 or np.shape(truth)[1] < steps:
        raise InputError(
            f"a geometric mean over {steps} steps of arrays of shape {np.shape(truth)}",
            where="steps",
            remedy="Roll out further, or state a smaller number of steps",
        )
    return geometric_mean(nrmse_per_step(prediction[:, :steps], truth[:, :steps]))


def energy_error(prediction: Fields, truth: Fields) -> float:
    """|E(p) - E(t)| / E(t), averaged over samples and times; E is the sum over channels of mean(u^2) / 2."""
    p, t = checked_pair(prediction, truth)
    true = _mean_square(t).sum(2)
    return float(over(np.abs(_mean_square(p).sum(2) - true), true).mean())


def drift(
    prediction: Fields, initial: Float[np.ndarray, "sample channel *space"], of: Literal["mean", "energy"] = "mean"
) -> float:
    """How far a conserved quantity strays from its initial value: the largest over times, averaged over samples.

    For the mean: max over channels of |mean(u(t)) - mean(u(0))|, over the initial state's root mean square over
    channels and points. For the energy E = sum over channels of mean(u^2) / 2: |E(t) - E(0)| / E(0).

    Args:
        prediction: the trajectory.
        initial: the state that it began from.
        of: the quantity that should be conserved.
    """
    start = np.asarray(initial)[:, None]
    p, first = checked_pair(prediction, np.broadcast_to(start, (len(start), np.shape(prediction)[1], *start.shape[2:])))
    before = _mean_square(first).sum(2)
    if of == "energy":
        return float(over(np.abs(_mean_square(p).sum(2) - before), before).max(1).mean())
    moved = np.abs(p.mean(axis=_space(p)) - first.mean(axis=_space(first))).max(2)
    return float(over(moved, np.sqrt(before / first.shape[2])).max(1).mean())


class RankCorrelation(NamedTuple):
    """Agreement of two rankings: 1 where they are the same, and -1 where one is the reverse of the other.

    Attributes:
        spearman: Pearson's correlation of the ranks.
        kendall: Kendall's tau-b, pairs in the same order less those in the opposite one, corrected for ties.
    """

    spearman: float
    kendall: float


def rank_correlation(prediction: Float[np.ndarray, " design"], truth: Float[np.ndarray, " design"]) -> RankCorrelation:
    """Rank correlation of predicted scalars of designs with the true ones.

    A prediction that is the same for all designs, or is not finite somewhere, scores 0.

    Raises:
        InputError: there are not at least two true values that differ.
    """
    p, t = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if p.shape != t.shape or t.ndim != 1 or not np.isfinite(t).all() or len(np.unique(t)) < 2:
        raise InputError(
            f"scalars of shapes {p.shape} and {t.shape} cannot be ranked",
            where="rank correlation",
            remedy="Give two or more designs whose true values are finite and differ",
        )
    if not np.isfinite(p).all() or len(np.unique(p)) < 2:
        return RankCorrelation(0.0, 0.0)
    return RankCorrelation(float(stats.spearmanr(p, t).statistic), float(stats.kendalltau(p, t).statistic))
