"""Targets brought to zero mean and unit spread, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError


@dataclass(frozen=True)
class Standardise:
    """An affine map for each target: `(value - mean) / scale`.

    Attributes:
        names: the targets, in order of the last axis.
        mean, scale: one number a target, in its unit; a constant target has scale 1.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

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
            spread = float(finite.std())
            means.append(float(finite.mean()))
            scales.append(spread if spread > 1e-12 * max(1.0, abs(means[-1])) else 1.0)
        return Standardise(tuple(names), tuple(means), tuple(scales))

    def apply(self, values: Float[np.ndarray, "*batch target"]) -> Float[np.ndarray, "*batch target"]:
        """To normalised values; NaN stays NaN."""
        return (np.asarray(values, np.float64) - np.array(self.mean)) / np.array(self.scale)

    def invert(self, values: Float[np.ndarray, "*batch target"]) -> Float[np.ndarray, "*batch target"]:
        """Back to the targets' units."""
        return np.asarray(values, np.float64) * np.array(self.scale) + np.array(self.mean)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal one."""
        return {"names": list(self.names), "mean": list(self.mean), "scale": list(self.scale)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Standardise:
        """What `to_json` described."""
        return Standardise(tuple(value["names"]), tuple(value["mean"]), tuple(value["scale"]))
