"""The range of what a training has seen: beyond it a network extrapolates, and says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from data.plain import decode

#: Share of a range, and of the values themselves, by which a value may lie outside: rounding, not extrapolation.
EDGE, ROUNDING = 1e-6, float(np.finfo(np.float32).eps)
#: The output that tells whether a request is one of the kind that was learned.
IN_DOMAIN = "in_domain"
#: What is said of a surrogate that was saved before its domain was kept.
UNKNOWN = "unknown: the surrogate was saved without the ranges of its training. Train it again to have them"


class OutOfDomainWarning(UserWarning):
    """A request lies outside of what was learned: its answer is an extrapolation, and its bands promise nothing."""


@dataclass(frozen=True)
class Box:
    """The smallest and largest training value of each column.

    Attributes:
        columns: their names.
        low, high: the ends.
    """

    columns: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.columns) == len(self.low) == len(self.high):
            raise ValueError(f"{len(self.columns)} columns have {len(self.low)} lows and {len(self.high)} highs")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("low must not be above high")

    @staticmethod
    def of(
        columns: Sequence[str],
        values: Float[np.ndarray, "sample column"],
        margin: Float[np.ndarray, " column"] | float = 0.0,
    ) -> Box:
        """Around some samples, wider by `margin` at each end."""
        low, high = values.min(axis=0) - margin, values.max(axis=0) + margin
        return Box(tuple(columns), tuple(low.tolist()), tuple(high.tolist()))

    def join(self, other: Box) -> Box:
        """The columns of both."""
        return Box(self.columns + other.columns, self.low + other.low, self.high + other.high)

    def holds(self, values: Float[np.ndarray, "row column"]) -> Bool[np.ndarray, " row"]:
        """Whether each row lies inside; NaN does not."""
        return np.asarray(self._inside(values).all(axis=1))

    def outside(self, row: Float[np.ndarray, " column"]) -> list[str]:
        """What is outside of one row, such as "aspect = 3 outside [1, 2.5]"."""
        inside = self._inside(row[None])[0]
        return [
            f"{name} = {value:g} outside [{low:g}, {high:g}]"
            for name, value, low, high, good in zip(self.columns, row, self.low, self.high, inside, strict=True)
            if not good
        ]

    def of_other_sign(self, row: Float[np.ndarray, " n"]) -> list[str]:
        """The first columns, as many as there are values, whose sign the training has never seen: nu = -1, or 0."""
        return [
            f"{name} = {value:g}, and only {'positive' if low > 0 else 'negative'} values have been learned"
            for name, value, low, high in zip(self.columns, row, self.low, self.high, strict=False)
            if (low > 0 and not value > 0) or (high < 0 and not value < 0)
        ]

    def _inside(self, values: Float[np.ndarray, "row column"]) -> Bool[np.ndarray, "row column"]:
        low, high = np.array(self.low), np.array(self.high)
        edge = np.maximum(EDGE * (high - low), ROUNDING * np.maximum(np.abs(low), np.abs(high)))
        return (low - edge <= values) & (values <= high + edge)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes an equal one."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Box:
        """What `to_json` described."""
        return decode(Box, value)
