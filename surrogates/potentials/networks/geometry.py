"""Vectors, distances and weights of pairs of atoms, differentiable in the positions; all networks share them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from data.structures.batches import System
from surrogates.potentials.networks.radial import envelope


class Pairs(NamedTuple):
    """Pairs of atoms of M molecules of N atoms, each with K slots for neighbours.

    Attributes:
        distance: Angstrom; equal to the cutoff in empty slots.
        weight: the envelope at the distance of the pair; 0 in empty slots.
        direction: unit vector from the atom to its neighbour.
        neighbours: index of the neighbour in each slot; None where slot j is atom j (K = N).
    """

    distance: Float[Array, "M N K"]
    weight: Float[Array, "M N K"]
    direction: Float[Array, "M N K 3"]
    neighbours: Int[Array, "M N K"] | None

    def gather(self, values: Shaped[Array, "M N *F"]) -> Shaped[Array, "M _ K *F"]:
        """The values of the neighbours in the slots of each atom; axis 1 has length 1 where all atoms share a row."""
        return gather(values, self.neighbours)


def gather(values: Shaped[Array, "M N *F"], neighbours: Int[Array, "M N K"] | None) -> Shaped[Array, "M _ K *F"]:
    """The values of the atoms at the indices `neighbours`; those of all atoms, without a copy, where it is None."""
    if neighbours is None:
        return values[:, None]
    return jax.vmap(lambda rows, index: rows[index])(values, neighbours)


def pairs(system: System, cutoff: float) -> Pairs:
    """All pairs within the cutoff, periodic images included.

    Args:
        system: the atoms. Where its `neighbours` are None all pairs are computed, which is faster for small molecules.
        cutoff: Angstrom.
    """
    numbers, positions, neighbours = system.numbers, system.positions, system.neighbours
    n = numbers.shape[1]
    itself = jnp.arange(n)[None, :, None]
    real = numbers > 0
    slots = jnp.arange(n)[None, None, :] if neighbours is None else neighbours
    pair: Bool[Array, "M N K"] = slots != itself
    vector = gather(positions, neighbours) - positions[:, :, None, :]
    if system.offsets is not None:
        pair = pair | jnp.any(system.offsets != 0, axis=-1)
        vector = vector + system.offsets
    pair = pair & real[:, :, None] & gather(real, neighbours)
    # An empty slot gets a vector at which all functions below are smooth, so that no gradient is NaN.
    vector = jnp.where(pair[..., None], vector, jnp.asarray([cutoff, 0.0, 0.0], vector.dtype))
    distance = jnp.sqrt(jnp.sum(vector * vector, axis=-1))
    weight = jnp.where(pair, envelope(distance, cutoff), 0.0)
    return Pairs(distance, weight, vector / distance[..., None], neighbours)
