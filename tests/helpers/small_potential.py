"""Untrained potentials and random clusters, small enough for tests of everything built on a potential."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.structures.batches import System
from data.structures.structures import Structures
from surrogates.potentials.atom_energies import References
from surrogates.potentials.energy import EnergyAndForces, differentiate
from surrogates.potentials.facts import Head, PotentialConfig, PotentialFacts
from surrogates.potentials.networks.ace import ACEConfig
from surrogates.potentials.networks.architectures import NetworkConfig
from surrogates.potentials.networks.geometry import pairs
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.surrogate import PotentialSurrogate

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])
SMALL = {
    "painn": PaiNNConfig(features=8, layers=1, cutoff_angstrom=3.0, basis_size=4),
    "ace": ACEConfig(features=8, layers=1, degree=2, cutoff_angstrom=3.0, basis_size=4, radial=2),
}


def potential(network: NetworkConfig = SMALL["ace"], scale: float = 0.5, members: int = 1) -> PotentialSurrogate:
    """An untrained potential of its own; those of the same settings begin with the same weights and share programs."""
    first = _first(network, scale, members, bool(jax.config.jax_enable_x64))
    return PotentialSurrogate(nnx.clone(first.model), first.facts)._with_programs_of(first)


@functools.cache
def _first(network: NetworkConfig, scale: float, members: int, _double: bool) -> PotentialSurrogate:
    references = References((1, 6, 8), (-13.0, -1030.0, -2040.0), (-13.0, -1030.0, -2040.0))
    facts = PotentialFacts(
        PotentialConfig(network=network, ensemble=members), scale, {"main": Head(references, "none")}, "main"
    )
    return PotentialSurrogate(facts.model(0), facts)


class Morse(nnx.Module):
    """The energy D (1 - exp(-a (r - r0)))^2 - D of all pairs times the envelope, whose minima are known."""

    depth, stiffness, length, cutoff = 1.0, 1.6, 1.4, 3.0

    def __init__(self) -> None:
        self.unused = nnx.Param(jnp.zeros(()))

    def __call__(self, system: System) -> EnergyAndForces:
        def atomic(moved: System) -> jax.Array:
            edges = pairs(moved, self.cutoff)
            well = (1 - jnp.exp(-self.stiffness * (edges.distance - self.length))) ** 2 - 1
            return 0.5 * self.depth * jnp.sum(well * edges.weight, axis=2)

        return jax.tree.map(lambda leaf: leaf[None], differentiate(atomic, system))


def morse() -> PotentialSurrogate:
    """A potential whose model is `Morse`."""
    return PotentialSurrogate(Morse(), potential().facts)._with_programs_of(_first_morse())  # type: ignore[arg-type]


@functools.cache
def _first_morse() -> PotentialSurrogate:
    return PotentialSurrogate(Morse(), potential().facts)  # type: ignore[arg-type]


#: Molecules that `morse_labels` computes together at least, so that one program serves tables of all lengths.
_TOGETHER = 64
_morse_of_labels = functools.cache(morse)


def morse_labels(table: Structures) -> Structures:
    """Molecules of one size with the energies and forces of `Morse`, whatever their elements."""
    many = table.take(np.arange(max(len(table), _TOGETHER)) % len(table))
    hydrogen = replace(many, numbers=np.ones_like(many.numbers))
    answer = _morse_of_labels().predict_structures(hydrogen, error_bars=False)
    return replace(table, energy=answer.energy[: len(table)], forces=answer.forces[: len(table.numbers)])


def scattered(count: int, atoms: int, seed: int = 0, *, fewest: int | None = None) -> Structures:
    """Random clusters of `fewest` (four less than `atoms`) to `atoms` atoms, about as dense as a molecule."""
    rng = np.random.default_rng(seed)
    numbers, positions = [], []
    while len(numbers) < count:
        n = int(rng.integers(fewest or max(2, atoms - 4), atoms + 1))
        x = rng.uniform(-0.6, 0.6, (n, 3)) * n ** (1 / 3) * 1.3
        if (np.linalg.norm(x[:, None] - x, axis=-1) + 9 * np.eye(n)).min() > 0.9:
            numbers.append(rng.choice([1, 6, 8], n))
            positions.append(x)
    return Structures.from_arrays(numbers, positions)
