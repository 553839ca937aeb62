"""Regression metrics as sums that add over chunks, so that files of any size can be scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Regression:
    """Sums over predictions of one quantity; two of them can be added.

    Attributes:
        n: number of pairs.
        absolute, squared, signed: sums of |e|, e^2 and e, e = prediction - truth.
        truth, truth_squared: sums of the truth less `origin` and of its square.
        origin: a value near the truth, so that the squares keep their digits.
    """

    n: int = 0
    absolute: float = 0.0
    squared: float = 0.0
    signed: float = 0.0
    truth: float = 0.0
    truth_squared: float = 0.0
    origin: float = 0.0

    @staticmethod
    def of(truth: Float[np.ndarray, " n"], prediction: Float[np.ndarray, " n"], origin: float = 0.0) -> Regression:
        """Sums of one chunk; pairs without a label (NaN truth) do not count."""
        keep = np.isfinite(truth)
        t = np.asarray(truth, np.float64)[keep]
        e = np.asarray(prediction, np.float64)[keep] - t
        s = t - origin
        return Regression(
            len(t),
            float(np.abs(e).sum()),
            float((e**2).sum()),
            float(e.sum()),
            float(s.sum()),
            float((s**2).sum()),
            origin,
        )

    def __add__(self, other: Regression) -> Regression:
        if self.n and other.n and self.origin != other.origin:
            raise ValueError(f"sums about different origins: {self.origin} and {other.origin}")
        return Regression(
            self.n + other.n,
            self.absolute + other.absolute,
            self.squared + other.squared,
            self.signed + other.signed,
            self.truth + other.truth,
            self.truth_squared + other.truth_squared,
            self.origin if self.n else other.origin,
        )

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return self.absolute / self.n

    @property
    def rmse(self) -> float:
        """Root mean square error."""
        return float(np.sqrt(self.squared / self.n))

    @property
    def bias(self) -> float:
        """Mean of prediction - truth."""
        return self.signed / self.n

    @property
    def r2(self) -> float:
        """Coefficient of determination; NaN where the truth does not vary."""
        spread = self.truth_squared - self.truth**2 / self.n
        return 1.0 - self.squared / spread if spread > 0 else float("nan")
