"""Shortest distances of elements in training, below which a network is asked no distance.

A network knows nothing of distances that training lacks. Its radial functions and the products of what they weigh grow
there as powers, so that a squeezed bond may have an energy of any size and sign. Each pair of elements therefore has a
distance, a little below the shortest one of training, at which the distance that the network sees ceases to follow that
of the atoms; there the repulsion of nuclei begins (see `repulsion`). Training frames are not changed by either.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from jaxtyping import Array, Float

from data.structures.structures import MAX_ATOMIC_NUMBER, Structures

#: The seen distance is constant below this share of the end, and follows the true one above the end.
CONSTANT = 18 / 19
#: Largest end, over the sum of the covalent radii: elements that training has far apart alone are no collision there.
LARGEST = 2.0


def shortest_distances(structures: Structures, cutoff: float) -> dict[str, float]:
    """The shortest distance of each pair of elements, Angstrom, by their symbols, such as "C-H"; images included.

    Args:
        structures: the structures of a training.
        cutoff: Angstrom; pairs that never come closer are left out.
    """
    table = structures.neighbours(cutoff)
    centre = np.repeat(np.arange(len(structures.numbers)), table.counts)
    other = structures.atom_start[structures.molecule[centre]] + table.index
    vector = structures.positions[other] - structures.positions[centre]
    if table.offset is not None:
        vector += table.offset
    # Each pair occurs in both orders.
    first, second = structures.numbers[centre], structures.numbers[other]
    once = first <= second
    kind = first[once].astype(np.int64) * (MAX_ATOMIC_NUMBER + 1) + second[once]
    kinds, place = np.unique(kind, return_inverse=True)
    shortest = np.full(len(kinds), np.inf)
    np.minimum.at(shortest, place, np.linalg.norm(vector[once], axis=-1))
    pairs = [divmod(int(k), MAX_ATOMIC_NUMBER + 1) for k in kinds]
    return {
        "-".join(sorted(chemical_symbols[z] for z in pair)): float(r) for pair, r in zip(pairs, shortest, strict=True)
    }


def shorter(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The shortest distances of two sets of structures together."""
    return {pair: min(one.get(pair, np.inf), other.get(pair, np.inf)) for pair in sorted({*one, *other})}


def ends(shortest: Mapping[str, float], floor: float, reach: float) -> Float[np.ndarray, "Z Z"]:
    """Distance of two elements, Angstrom, below which the network does not follow and nuclei repel.

    Args:
        shortest: see `shortest_distances`.
        floor: the end over the shortest distance, for pairs that have one.
        reach: the end over the sum of the covalent radii, for the others.
    """
    radii = np.nan_to_num(covalent_radii[: MAX_ATOMIC_NUMBER + 1])
    both = radii[:, None] + radii
    table = reach * both
    for pair, distance in shortest.items():
        i, j = (atomic_numbers[symbol] for symbol in pair.split("-"))
        table[i, j] = table[j, i] = min(floor * distance, LARGEST * both[i, j])
    return table


def seen_distance(distance: Float[Array, "*S"], end: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """The distance that the network sees: the true one above `end`, a constant a little below `end` further in.

    Its slope between the two is the polynomial 10 u^3 - 15 u^4 + 6 u^5, so that forces and their slopes are continuous.
    """
    width = (1.0 - CONSTANT) * end
    u = jnp.clip((distance - CONSTANT * end) / width, 0.0, 1.0)
    inside = end - width * (0.5 - u**4 * (2.5 - 3.0 * u + u**2))
    return jnp.where(distance < end, inside, distance)
