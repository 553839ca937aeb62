"""Intervals whose coverage holds by construction: split conformal prediction on normalised residuals.

With scores s_i = |y_i - mu_i| / sigma_i of n calibration points that are exchangeable with new points, the
interval mu +/- q sigma, q the ceil((n + 1)(1 - alpha))-th smallest score, contains the truth with probability at
least 1 - alpha (Vovk et al. 2005; Lei et al., JASA 2018, 113, 1094; Angelopoulos and Bates 2021).

Where a label is a field, its score is the (1 - alpha)-quantile over its points of |y - mu| / sigma. A band then
contains at least a share 1 - alpha of the points of a field, for at least a share 1 - alpha of the fields (after Ma et
al. 2024, arXiv:2402.01960). `conformal_factor` computes q in every case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.errors import InputError

#: Share of truths that may lie outside of the intervals of this project.
ALPHA = 0.1


def conformal_quantile(scores: Float[np.ndarray, " n"], alpha: float) -> float:
    """The finite-sample quantile of calibration scores.

    Args:
        scores: one score for each calibration point, 0 or more.
        alpha: share of truths that may lie outside, in (0, 1).

    Raises:
        InputError: n is so small that no finite interval has the coverage, n < 1/alpha - 1.
    """
    n = len(scores)
    rank = math.ceil((n + 1) * (1 - alpha))
    if rank > n:
        raise InputError(
            f"{n} calibration points cannot give {1 - alpha:.0%} intervals",
            remedy=f"Use at least {fewest_points(alpha)}, or a lower level",
        )
    return float(np.sort(scores)[rank - 1])


def conformal_factor(
    ratios: Float[np.ndarray, " n"] | Float[np.ndarray, "n point"] | Sequence[Float[np.ndarray, " point"]],
    alpha: float,
    weights: Float[np.ndarray, " point"] | None = None,
) -> float:
    """The factor of sigma from calibration labels that are numbers or fields.

    Args:
        ratios: |error| / sigma of each label, or of each point of each label; labels may have different points.
        alpha: share of labels that may lie outside, and share of the points of a field.
        weights: weights of the points, such as areas, with a sum of 1; by default all points count alike.

    Raises:
        InputError: there are too few labels for a finite factor.
    """
    if isinstance(ratios, np.ndarray) and ratios.ndim == 1:
        return conformal_quantile(ratios, alpha)
    if weights is not None:
        table = np.asarray(ratios)
        order = np.argsort(table, axis=1)
        reached = np.cumsum(weights[order], axis=1) >= 1 - alpha - 1e-12
        scores = np.take_along_axis(table, np.take_along_axis(order, reached.argmax(axis=1)[:, None], axis=1), axis=1)
        return conformal_quantile(scores[:, 0], alpha)
    if isinstance(ratios, np.ndarray):
        return conformal_quantile(np.quantile(ratios, 1 - alpha, axis=1), alpha)
    return conformal_quantile(np.array([np.quantile(one, 1 - alpha) for one in ratios]), alpha)


def error_floor(
    error: Float[np.ndarray, "*any"],
    largest: float,
    smallest: float = float(np.finfo(np.float64).tiny),
) -> float:
    """The part of sigma that the spread of the members does not show, in the unit of the labels.

    Members that agree can be wrong together, and their spread is a noisy estimate from few members. The typical
    residual as a floor keeps a small spread from deciding the width.

    Args:
        error: absolute errors of the labels.
        largest: largest absolute value of the labels. The floor is at least 1e-9 of it, which suits every unit.
        smallest: smallest floor, which avoids 0 / 0.
    """
    typical = float(np.median(error)) if error.size else 0.0
    return max(typical, 1e-9 * float(largest), smallest)


def fewest_points(alpha: float = ALPHA) -> int:
    """Number of calibration points that a finite interval needs: n >= 1/alpha - 1."""
    return math.ceil(1 / alpha - 1e-9) - 1


def refuse_too_few(truth: Float[np.ndarray, " n"], name: str, *, where: str, alpha: float = ALPHA) -> None:
    """Refuse a calibration part that is too small, before the training begins.

    Args:
        truth: labels of the part; NaN where one is missing.
        name: name of the target.
        where: configuration key that sets the size of the part.
        alpha: share of truths that may lie outside.

    Raises:
        InputError: there are labels, but fewer than `fewest_points(alpha)`.
    """
    labelled = int(np.isfinite(truth).sum())
    if len(truth) and labelled < fewest_points(alpha):
        raise InputError(
            f"{labelled} molecules with a label of {name} are set aside to calibrate its {1 - alpha:.0%} intervals",
            where=where,
            remedy=f"Set aside {fewest_points(alpha)} or more, or none to do without calibrated intervals",
        )


@dataclass(frozen=True)
class Conformal:
    """Calibrated intervals of one target.

    Attributes:
        factor: factor q of the interval mean +/- q * sigma, sigma = sqrt(std^2 + floor^2).
        alpha: 1 - the nominal coverage.
        floor: error that the members share, so that their spread does not show it, in the unit of the target.
        n: number of calibration points.
    """

    factor: float
    alpha: float
    floor: float
    n: int

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and self.factor >= 0 and self.floor >= 0 and self.n >= 0):
            raise ValueError(f"alpha must lie between 0 and 1, and factor, floor and n be 0 or more; got {self}")

    @staticmethod
    def fit(
        truth: Float[np.ndarray, " n"],
        mean: Float[np.ndarray, " n"],
        std: Float[np.ndarray, " n"],
        alpha: float = ALPHA,
    ) -> Conformal:
        """Calibrate on held-out points; those without a label (NaN) are left out."""
        keep = np.isfinite(truth)
        truth, mean, std = truth[keep], mean[keep], std[keep]
        error = np.abs(truth - mean)
        floor = error_floor(error, float(np.abs(truth).max(initial=0.0)))
        return Conformal(conformal_factor(error / np.hypot(std, floor), alpha), alpha, floor, len(truth))

    @staticmethod
    def fit_fields(
        truth: Sequence[Float[np.ndarray, " point"]],
        mean: Sequence[Float[np.ndarray, " point"]],
        std: Sequence[Float[np.ndarray, " point"]],
        alpha: float = ALPHA,
    ) -> Conformal:
        """Calibrate a band that holds a share 1 - alpha of the points of a share 1 - alpha of the fields.

        Args:
            truth, mean, std: held-out fields and their predictions; fields may have different numbers of points.
            alpha: share of points, and of fields, that may lie outside.

        Raises:
            InputError: there are too few fields for a finite factor.
        """
        errors = [np.abs(t - m) for t, m in zip(truth, mean, strict=True)]
        floor = error_floor(np.concatenate(errors), max(float(np.abs(t).max()) for t in truth))
        ratios = [e / np.hypot(s, floor) for e, s in zip(errors, std, strict=True)]
        return Conformal(conformal_factor(ratios, alpha), alpha, floor, len(truth))

    def sigma(self, std: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Standard deviations of the predictions: those over the members, combined with the floor."""
        return np.asarray(np.hypot(std, self.floor))

    def interval(
        self, mean: Float[np.ndarray, "*shape"], std: Float[np.ndarray, "*shape"]
    ) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
        """Lower and upper bounds of the intervals."""
        half = self.factor * self.sigma(std)
        return np.asarray(mean - half), np.asarray(mean + half)


def coverage(truth: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> float:
    """Share of truths within their bounds."""
    return float(np.mean((low <= truth) & (truth <= high)))


def coverage_band(n_calibration: int, n_test: int, alpha: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the measured coverage lies with `confidence`, if the calibration is right.

    Given the calibration points, coverage is Beta(k, n + 1 - k), k = ceil((n + 1)(1 - alpha)); hence the count
    of covered test points is beta-binomial (Vovk 2012; Angelopoulos and Bates 2021, section 3.2).
    """
    # It takes half a second to import, and predictions do without it.
    from scipy.stats import betabinom

    k = math.ceil((n_calibration + 1) * (1 - alpha))
    counts = betabinom(n_test, k, n_calibration + 1 - k)
    tail = (1 - confidence) / 2
    return float(counts.ppf(tail)) / n_test, float(counts.ppf(1 - tail)) / n_test
