"""Scores of candidates from the answers of a rung: the logarithm of the predicted probability of being a hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

#: Fewest labels from which answers are combined, beside two for each input.
FEWEST_LABELS = 20


@dataclass(frozen=True)
class HitRule:
    """What a hit is: intervals in which properties must lie.

    Attributes:
        intervals: property -> (low, high), either of which may be infinite.
    """

    intervals: Mapping[str, tuple[float, float]]

    @property
    def names(self) -> tuple[str, ...]:
        """The properties."""
        return tuple(self.intervals)

    def log_chance(
        self, mean: Mapping[str, Float[np.ndarray, " row"]], std: Mapping[str, Float[np.ndarray, " row"]]
    ) -> Float[np.ndarray, " row"]:
        """Logarithm of the probability of a hit, with independent normal errors; -inf where a mean is NaN.

        Args:
            mean: answer of each property.
            std: standard deviation of its error, above 0.
        """
        total = np.zeros(len(next(iter(mean.values()))))
        for name, (low, high) in self.intervals.items():
            value, scale = np.asarray(mean[name], np.float64), np.asarray(std[name], np.float64)
            below, above = (low - value) / scale, (high - value) / scale
            if not np.isfinite(low):
                part = norm.logcdf(above)
            elif not np.isfinite(high):
                part = norm.logsf(below)
            else:
                # The tail in which the interval lies is the one that does not round to 1.
                right = below > 0
                far, near = (
                    np.where(right, norm.logsf(above), norm.logcdf(below)),
                    np.where(right, norm.logsf(below), norm.logcdf(above)),
                )
                part = near + np.log1p(-np.exp(np.minimum(far - near, -1e-300)))
            total = total + part
        return np.where(np.isnan(total), -np.inf, total)


@dataclass(frozen=True)
class Stack:
    """A linear model of one property of the last rung, from the answers of the rungs before it.

    Attributes:
        centre, scale: of each input.
        weights: of each standardised input.
        bias: of the prediction.
        std: standard deviation of its error, from labels that were each left out.
    """

    centre: Float[np.ndarray, " input"]
    scale: Float[np.ndarray, " input"]
    weights: Float[np.ndarray, " input"]
    bias: float
    std: float

    @staticmethod
    def fit(inputs: Float[np.ndarray, "row input"], truth: Float[np.ndarray, " row"]) -> Stack | None:
        """Fit by ridge regression, its strength chosen by leaving out each label; None if there are too few.

        Args:
            inputs: answers of earlier rungs.
            truth: labels of the last rung.
        """
        good = np.isfinite(inputs).all(axis=1) & np.isfinite(truth)
        inputs, truth = inputs[good], truth[good]
        if len(truth) < max(FEWEST_LABELS, 2 * inputs.shape[1] + 2):
            return None
        centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
        scale = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(centre)), spread, np.inf)
        x, bias = (inputs - centre) / scale, float(truth.mean())
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        best: tuple[float, np.ndarray] | None = None
        for ridge in (1e-6, 1e-4, 1e-2, 1.0):
            shrink = s**2 / (s**2 + ridge * len(truth))
            fitted = u @ (shrink * (u.T @ (truth - bias)))
            leverage = (u**2) @ shrink + 1 / len(truth)
            left_out = float(np.sqrt(np.mean(((truth - bias - fitted) / np.maximum(1 - leverage, 1e-6)) ** 2)))
            if best is None or left_out < best[0]:
                inverse = np.divide(shrink, s, out=np.zeros_like(s), where=s > 1e-12)
                best = (left_out, vt.T @ (inverse * (u.T @ (truth - bias))))
        assert best is not None
        floor = 1e-9 * max(1e-300, float(np.abs(truth).max()))
        return Stack(centre, scale, best[1], bias, max(best[0], floor))

    def plain(self) -> dict[str, Any]:
        """The model as JSON holds it; scales may be infinite, and are texts."""
        return {
            "centre": self.centre.tolist(),
            "scale": [str(s) for s in self.scale],
            "weights": self.weights.tolist(),
            "bias": self.bias,
            "std": self.std,
        }

    def predict(self, inputs: Float[np.ndarray, "row input"]) -> Float[np.ndarray, " row"]:
        """The prediction of each row; NaN where an input is."""
        return np.asarray(self.bias + ((inputs - self.centre) / self.scale) @ self.weights, np.float64)


def margin_std(values: Sequence[np.ndarray]) -> float:
    """A scale for answers without an error bar: a quarter of their standard deviation, or 1 if they are all equal."""
    every = np.concatenate([np.asarray(v, np.float64) for v in values]) if values else np.zeros(0)
    spread = float(np.nanstd(every)) if np.isfinite(every).any() else 0.0
    return spread / 4 if spread > 0 else 1.0
