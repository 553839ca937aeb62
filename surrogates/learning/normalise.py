"""Normalisation of targets to mean 0 and standard deviation 1, and its inverse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError

#: Ratio of spread to mean up to which values differ by rounding alone; a ratio does not depend on the unit.
SAME = 1e-12


def moments(values: Float[np.ndarray, "*any"]) -> tuple[float, float]:
    """Mean and standard deviation in double precision; squares of very small or large numbers are safe."""
    largest = float(np.abs(values).max()) if values.size else 0.0
    if largest == 0 or not np.isfinite(largest):
        return float(np.mean(values, dtype=np.float64)) if values.size else 0.0, 0.0
    if 1e-100 < largest < 1e100:
        return float(np.mean(values, dtype=np.float64)), float(np.std(values, dtype=np.float64))
    shares = np.asarray(values, np.float64) / largest
    return float(shares.mean()) * largest, float(shares.std()) * largest


def constant(mean: float, spread: float) -> bool:
    """Whether values of this mean and spread are all the same apart from rounding."""
    return not spread > SAME * abs(mean)


def refuse_unlike(**columns: Sequence[Any]) -> None:
    """Refuse sequences of different lengths.

    Raises:
        ValueError: the lengths differ; names each sequence with its length.
    """
    if len({len(entries) for entries in columns.values()}) > 1:
        raise ValueError(
            "must have equal lengths: " + ", ".join(f"{name} has {len(entries)}" for name, entries in columns.items())
        )


def refuse_not_positive(**columns: Sequence[float]) -> None:
    """Refuse sequences that hold a value of 0 or less.

    Raises:
        ValueError: a value is not above 0; names the sequence.
    """
    for name, values in columns.items():
        if any(value <= 0 for value in values):
            raise ValueError(f"{name} must be above 0, got {min(values):g}")


@dataclass(frozen=True)
class Standardise:
    """An affine map for each target: `(value - mean) / scale`.

    Attributes:
        names: names of the targets, in the order of the last axis.
        mean, scale: mean and standard deviation of each target, in its unit; a constant target has scale 1.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        refuse_unlike(names=self.names, mean=self.mean, scale=self.scale)
        refuse_not_positive(scale=self.scale)

    @staticmethod
    def fit(names: Sequence[str], values: Float[np.ndarray, "sample target"]) -> Standardise:
        """Mean and standard deviation of the finite values of each target.

        Raises:
            InputError: a target has no finite value.
        """
        means, scales = [], []
        for name, column in zip(names, np.asarray(values, np.float64).T, strict=True):
            finite = column[np.isfinite(column)]
            if not len(finite):
                raise InputError(f"target {name} has no finite label to learn from")
            mean, spread = moments(finite)
            means.append(mean)
            scales.append(1.0 if constant(mean, spread) else spread)
        return Standardise(tuple(names), tuple(means), tuple(scales))

    def apply(self, values: Float[np.ndarray, "*batch target"]) -> Float[np.ndarray, "*batch target"]:
        """To normalised values; NaN stays NaN."""
        return (np.asarray(values, np.float64) - np.array(self.mean)) / np.array(self.scale)

    def invert(self, values: Float[np.ndarray, "*batch target"]) -> Float[np.ndarray, "*batch target"]:
        """Back to the targets' units."""
        return np.asarray(values, np.float64) * np.array(self.scale) + np.array(self.mean)
