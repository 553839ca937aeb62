"""Which candidates are labelled to set thresholds: with certainty, uniformly, or more often where hits are expected.

A candidate is drawn with probability q = a / n + (1 - a) g / sum(g), g the square root of the predicted probability of
a hit, which is the optimal allocation for a rare event (Neyman, J. R. Stat. Soc. 1934, 97, 558). The uniform part
bounds the weights, so that hits which the cheap rung does not expect are also accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

#: Share of the draws that are uniform.
UNIFORM = 0.8


@dataclass(frozen=True)
class Draws:
    """Independent draws with replacement.

    Attributes:
        rows: row of each draw.
        weights: 1/q of each draw.
        largest_weight: largest 1/q of all rows.
    """

    rows: Int[np.ndarray, " draw"]
    weights: Float[np.ndarray, " draw"]
    largest_weight: float


def importance(log_chance: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """The unnormalised g of each row from the logarithm of its predicted probability of being a hit."""
    return np.exp(0.5 * np.clip(np.nan_to_num(log_chance, nan=-np.inf, neginf=-1e4), -1e4, 0.0))


def draw(g: Float[np.ndarray, " row"], count: int, seed: int, uniform: float = UNIFORM) -> Draws:
    """Draw rows with replacement, in the order in which they are to be labelled.

    Args:
        g: importance of each row, 0 or more; see `importance`.
        count: number of draws.
        seed: seed of the draws; the first draws do not depend on their number.
        uniform: share of uniform draws, in (0, 1]; 1 for uniform draws.
    """
    stream = DrawStream(len(g), float(np.sum(g)), count, seed, uniform)
    stream.take(np.arange(len(g)), g)
    return stream.draws()


class DrawStream:
    """Draws from rows that arrive block by block, in memory that grows with the draws and not with the rows.

    Args:
        rows: number of all rows.
        total: sum of the importance of all rows.
        count, seed, uniform: see `draw`.

    Raises:
        ValueError: there is no row, or `uniform` is not in (0, 1].
    """

    def __init__(self, rows: int, total: float, count: int, seed: int, uniform: float = UNIFORM) -> None:
        if rows < 1 or not 0 < uniform <= 1:
            raise ValueError(f"there must be rows, and uniform must lie in (0, 1]; got {rows} rows and {uniform}")
        self._rows, self._total, self._uniform = rows, total, uniform
        points = np.random.default_rng(seed).random(count)
        self._order = np.argsort(points, kind="stable")
        self._points = points[self._order]
        self._next, self._sum, self._least = 0, 0.0, np.inf
        self._drawn = np.zeros(count, np.int64)
        self._q = np.zeros(count)

    def take(self, names: Int[np.ndarray, " row"], g: Float[np.ndarray, " row"]) -> Int[np.ndarray, " drawn"]:
        """Draw from the next rows, and return the places of the drawn ones among them.

        Args:
            names: number by which each row is known in `Draws.rows`.
            g: their importance.
        """
        if not len(g):
            return np.zeros(0, np.int64)
        share = g / self._total if self._total > 0 else np.full(len(g), 1 / self._rows)
        q = self._uniform / self._rows + (1 - self._uniform) * share
        edges = self._sum + np.cumsum(q)
        stop = int(np.searchsorted(self._points, edges[-1], side="left"))
        places = np.searchsorted(edges, self._points[self._next : stop], side="right")
        self._drawn[self._next : stop], self._q[self._next : stop] = names[places], q[places]
        self._next, self._sum, self._least = stop, float(edges[-1]), min(self._least, float(q.min()))
        # Points between the last edge and 1, which rounding may leave, belong to the last row.
        self._drawn[stop:], self._q[stop:] = names[-1], q[-1]
        return np.unique(places)

    def draws(self) -> Draws:
        """The draws, after all rows were taken."""
        rows, q = np.empty_like(self._drawn), np.empty_like(self._q)
        rows[self._order], q[self._order] = self._drawn, self._q
        return Draws(rows, 1 / q, 1 / self._least)
