"""Padded sizes of batches of predictions, which are few so that few programs are compiled."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Int

from data.structures.batches import choose_sizes

#: Atom slots times neighbour slots of one batch of predictions, which fit the cache of a CPU, or fill a GPU.
CPU_PAIRS, ACCELERATOR_PAIRS = 4_096, 1_048_576
#: Up to this number of distinct sizes of molecules, each size has its own padded shape.
EXACT_SIZES = 4
#: Number of padded shapes for a table with more sizes than that.
MOST_SIZES = 8


def pairs_budget() -> int:
    """Atom slots times neighbour slots of one batch of predictions on this machine."""
    return CPU_PAIRS if jax.default_backend() == "cpu" else ACCELERATOR_PAIRS


def padded_sizes(sizes: Int[np.ndarray, " M"]) -> tuple[int, ...]:
    """Padded sizes for molecules of these sizes: the sizes themselves if they are few, else a few even numbers.

    Even numbers let tables with similar sizes share compiled programs.
    """
    distinct = np.unique(sizes)
    if len(distinct) <= EXACT_SIZES:
        return tuple(int(n) for n in distinct)
    return choose_sizes(sizes + sizes % 2, MOST_SIZES)
