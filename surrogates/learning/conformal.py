"""Intervals whose coverage holds by construction: split conformal prediction on normalised residuals.

With scores s_i = |y_i - mu_i| / sigma_i of n calibration points that are exchangeable with new points, the
interval mu +/- q sigma, q the ceil((n + 1)(1 - alpha))-th smallest score, contains the truth with probability at
least 1 - alpha (Vovk et al. 2005; Lei et al., JASA 2018, 113, 1094; Angelopoulos and Bates 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import betabinom

from data.errors import InputError
from data.plain import decode

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
        # Members that agree can be wrong together, and their spread is a noisy estimate from few members. The
        # typical residual as a floor keeps a small spread from deciding the width. The smallest floor is relative
        # to the labels, so that it suits every unit; the least positive number avoids 0 / 0.
        least = max(1e-9 * float(np.abs(truth).max(initial=0.0)), float(np.finfo(np.float64).tiny))
        floor = max(float(np.median(np.abs(truth - mean))) if len(truth) else 0.0, least)
        sigma = np.hypot(std, floor)
        return Conformal(conformal_quantile(np.abs(truth - mean) / sigma, alpha), alpha, floor, len(truth))

    def interval(
        self, mean: Float[np.ndarray, " n"], std: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Lower and upper bounds of the intervals."""
        half = self.factor * np.hypot(std, self.floor)
        return mean - half, mean + half

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {"factor": self.factor, "alpha": self.alpha, "floor": self.floor, "n": self.n}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Conformal:
        """What `to_json` described."""
        return decode(Conformal, value)


def coverage(truth: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> float:
    """Share of truths within their bounds."""
    return float(np.mean((low <= truth) & (truth <= high)))


def coverage_band(n_calibration: int, n_test: int, alpha: float, confidence: float = 0.95) -> tuple[float, float]:
    """Where the measured coverage lies with `confidence`, if the calibration is right.

    Given the calibration points, coverage is Beta(k, n + 1 - k), k = ceil((n + 1)(1 - alpha)); hence the count
    of covered test points is beta-binomial (Vovk 2012; Angelopoulos and Bates 2021, section 3.2).
    """
    k = math.ceil((n_calibration + 1) * (1 - alpha))
    counts = betabinom(n_test, k, n_calibration + 1 - k)
    tail = (1 - confidence) / 2
    return float(counts.ppf(tail)) / n_test, float(counts.ppf(1 - tail)) / n_test
