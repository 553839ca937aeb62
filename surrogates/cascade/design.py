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

    Raises:
        ValueError: there is no row, or `uniform` is not in (0, 1].
    """
    if not len(g) or not 0 < uniform <= 1:
        raise ValueError(f"there must be rows, and uniform must lie in (0, 1]; got {len(g)} rows and {uniform}")
    total = float(g.sum())
    share = g / total if total > 0 else np.full(len(g), 1 / len(g))
    q = uniform / len(g) + (1 - uniform) * share
    edges = np.cumsum(q)
    points = np.random.default_rng(seed).random(count) * edges[-1]
    rows = np.minimum(np.searchsorted(edges, points, side="right"), len(g) - 1)
    return Draws(rows, 1 / q[rows], float(1 / q.min()))
