"""The range of the training data: outside of it a network extrapolates, and its answers say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

#: Share of a range, and of the values themselves, by which a value may lie outside, because of rounding alone.
EDGE, ROUNDING = 1e-6, float(np.finfo(np.float32).eps)
#: The output that tells whether a request is one of the kind that was learned.
IN_DOMAIN = "in_domain"
#: Message about a surrogate that was saved by a version that did not store its domain.
UNKNOWN = "unknown: the surrogate was saved without the ranges of its training. Train it again to have them"


class OutOfDomainWarning(UserWarning):
    """A request lies outside of the training data: its answer extrapolates, and its intervals promise nothing."""


@dataclass(frozen=True)
class Box:
    """The smallest and largest training value of each column.

    Attributes:
        columns: names of the columns.
        low, high: smallest and largest training value of each column.
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
        """The box around some samples, wider by `margin` at each end."""
        low, high = values.min(axis=0) - margin, values.max(axis=0) + margin
        return Box(tuple(columns), tuple(low.tolist()), tuple(high.tolist()))

    def join(self, other: Box) -> Box:
        """A box with the columns of both."""
        return Box(self.columns + other.columns, self.low + other.low, self.high + other.high)

    def holds(self, values: Float[np.ndarray, "row column"]) -> Bool[np.ndarray, " row"]:
        """Whether each row lies inside; NaN does not."""
        return np.asarray(self._inside(values).all(axis=1))

    def counts(self, values: Float[np.ndarray, "row column"]) -> dict[str, int]:
        """`in_domain`, the number of rows inside, and for each column those outside; counts of arrays add up."""
        inside = self._inside(values)
        outside = {f"{name}_outside": int(n) for name, n in zip(self.columns, (~inside).sum(axis=0), strict=True)}
        return {"in_domain": int(inside.all(axis=1).sum()), **outside}

    def outside(self, row: Float[np.ndarray, " column"]) -> list[str]:
        """The columns of one row that lie outside, as phrases such as "aspect = 3 outside [1, 2.5]"."""
        inside = self._inside(row[None])[0]
        return [
            f"{name} = {value:g} outside [{low:g}, {high:g}]"
            for name, value, low, high, good in zip(self.columns, row, self.low, self.high, inside, strict=True)
            if not good
        ]

    def of_other_sign(self, row: Float[np.ndarray, " n"]) -> list[str]:
        """The columns whose value has a sign that the training data never has, as phrases; `row` may be shorter."""
        return [
            f"{name} = {value:g}, and only {'positive' if low > 0 else 'negative'} values have been learned"
            for name, value, low, high in zip(self.columns, row, self.low, self.high, strict=False)
            if (low > 0 and not value > 0) or (high < 0 and not value < 0)
        ]

    def _inside(self, values: Float[np.ndarray, "row column"]) -> Bool[np.ndarray, "row column"]:
        low, high = np.array(self.low), np.array(self.high)
        edge = np.maximum(EDGE * (high - low), ROUNDING * np.maximum(np.abs(low), np.abs(high)))
        return (low - edge <= values) & (values <= high + edge)
