"""Energies and conservative forces of an ensemble of networks, and the loss that trains them.

E = sum_a t[z_a] + sum_a (g_a scale e_a - (1 - g_a) release[z_a]),  g_a = 1 - exp(-4 sum_b u(r_ab)),  F = -dE/dx.
The first sum is added outside in float64 (see `references`); e_a is the network's number for an atom. The
gate g is 1 in a molecule and falls smoothly to 0 as the last neighbour leaves, so that an atom alone has
exactly its reference energy, and molecules out of reach of each other have the sum of their energies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from data.structure_batches import StructureBatch
from data.structures import MAX_ATOMIC_NUMBER
from surrogates.graph.geometry import pairs
from surrogates.graph.networks import Network, NetworkConfig, make_network

#: How soon the gate opens: 1 - g is below 0.02 for an atom with one neighbour at a third of the cutoff.
GATE = 4.0
#: Errors of forces below this part of the scale are as good as none, to the loss.
LENGTH_FLOOR = 1e-4


class EnergyModel(nnx.Module):
    """Members of equal shape and different first weights, stacked along the first axis of each weight.

    Args:
        config: of each member.
        members: how many.
        scale: eV; what the network's numbers are multiplied by.
        release: eV by atomic number; see `References.release`.
        rngs: for the first weights.
    """

    def __init__(
        self, config: NetworkConfig, members: int, scale: float, release: Mapping[int, float], rngs: nnx.Rngs
    ) -> None:
        @nnx.split_rngs(splits=members)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs: nnx.Rngs) -> Network:
            return make_network(config, rngs)

        self.config = config
        self.members = members
        self.scale = scale
        self.release = tuple(release.get(z, 0.0) for z in range(MAX_ATOMIC_NUMBER + 1))
        self.networks = make(rngs)

    def __call__(
        self,
        numbers: Int[Array, "M N"],
        positions: Float[Array, "M N 3"],
        neighbours: Int[Array, "M N K"] | None,
    ) -> tuple[Float[Array, "E M"], Float[Array, "E M N 3"]]:
        """Energies (eV) above sum_a t[z_a], and forces (eV/Angstrom; 0 for padding), of each member."""
        graph, state = nnx.split(self.networks)

        def total(state: nnx.State, x: Float[Array, "M N 3"]) -> tuple[Array, Float[Array, " M"]]:
            energy = self._energy(nnx.merge(graph, state), numbers, x, neighbours)
            return energy.sum(), energy

        def member(state: nnx.State) -> tuple[Float[Array, " M"], Float[Array, "M N 3"]]:
            (_, energy), gradient = jax.value_and_grad(total, argnums=1, has_aux=True)(state, positions)
            return energy, -gradient

        if self.members == 1:
            energy, forces = member(jax.tree.map(lambda leaf: leaf[0], state))
            return energy[None], forces[None]
        return jax.vmap(member)(state)

    def _energy(
        self,
        network: Network,
        numbers: Int[Array, "M N"],
        positions: Float[Array, "M N 3"],
        neighbours: Int[Array, "M N K"] | None,
    ) -> Float[Array, " M"]:
        edges = pairs(numbers, positions, neighbours, self.config.cutoff_angstrom)
        closed = jnp.exp(-GATE * edges.weight.sum(axis=-1))
        release = jnp.asarray(self.release, positions.dtype)[numbers]
        atomic = self.scale * (1.0 - closed) * network(numbers, edges) - closed * release
        return jnp.sum(jnp.where(numbers > 0, atomic, 0.0), axis=-1)


def evaluate(model: EnergyModel, batch: StructureBatch) -> tuple[Float[Array, "E M"], Float[Array, "E M N 3"]]:
    """The model's energies and forces of a batch; see `EnergyModel.__call__`."""
    neighbours = None if batch.neighbours is None else jnp.asarray(batch.neighbours)
    return model(jnp.asarray(batch.numbers), jnp.asarray(batch.positions), neighbours)


@dataclass(frozen=True)
class EnergyForcesLoss:
    """Absolute errors of energies per atom, and lengths of the errors of forces, in units of the model's scale.

    Lengths rather than squares: fewer frames with large errors lead the training, and both errors come out
    lower for the same time (on 950 frames of ethanol by a half for energies and a quarter for forces).

    The weights may change towards the end of training, as in the two stages in which MACE is trained (Batatia et
    al. 2022, arXiv:2206.07697): forces, of which a frame has many, lead while the surface takes shape, and
    energies count for more at the end.

    Attributes:
        energy_weight: of the mean absolute error of the energy divided by the number of atoms.
        forces_weight: of the mean length of the error of the force on an atom.
        final_energy_weight, final_forces_weight: at the end of training; None for no change.
        final_from: share of training from which the final weights hold.
        final_ramp: share of training just before it over which the weights go there on a line; 0 switches.

    Raises:
        ValueError: a weight is negative, all are 0 at one end, or the ramp does not lie within the training.
    """

    energy_weight: float
    forces_weight: float
    final_energy_weight: float | None = None
    final_forces_weight: float | None = None
    final_from: float = 0.75
    final_ramp: float = 0.0

    def __post_init__(self) -> None:
        for pair in self._ends():
            if min(pair) < 0 or max(pair) == 0:
                raise ValueError(f"weights must not be negative, and not all 0 at any time; got {self}")
        if not 0 <= self.final_ramp <= self.final_from <= 1:
            raise ValueError(f"0 <= final_ramp <= final_from <= 1 must hold; got {self}")

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The weights of energies and forces, first and last."""
        first = (self.energy_weight, self.forces_weight)
        last = (self.final_energy_weight, self.final_forces_weight)
        return first, (first[0] if last[0] is None else last[0], first[1] if last[1] is None else last[1])

    def weights(self, progress: Float[Array, ""] | float) -> Float[Array, " 2"]:
        """Those of energies and of forces at a share of training."""
        first, last = jnp.asarray(self._ends(), jnp.result_type(float))
        begin = self.final_from - self.final_ramp
        ramp = (progress - begin) / self.final_ramp if self.final_ramp > 0 else jnp.asarray(progress >= begin)
        return first + jnp.clip(ramp, 0.0, 1.0) * (last - first)

    def __call__(
        self, model: nnx.Module, batch: StructureBatch, key: Array, progress: Array
    ) -> tuple[Float[Array, ""], dict[str, tuple[Array, Array]]]:
        """The number to minimise, and sums and counts of it and of the absolute errors of the ensemble's mean.

        Energies and forces that are not known count for nothing.
        """
        assert isinstance(model, EnergyModel)
        energy, forces = evaluate(model, batch)
        atoms = jnp.maximum((batch.numbers > 0).sum(axis=-1), 1)
        n_energy = batch.energy_known.sum()
        n_forces = batch.forces_known.sum()
        energy_error = (energy - batch.energy) * batch.energy_known
        forces_error = (forces - batch.forces) * batch.forces_known[..., None]
        # The root has no gradient at 0, where the errors of padding lie.
        length = jnp.sqrt(jnp.sum(forces_error**2, axis=-1) + (LENGTH_FLOOR * model.scale) ** 2)
        energy_term = jnp.sum(jnp.abs(energy_error) / atoms) / jnp.maximum(n_energy, 1.0)
        forces_term = jnp.sum(length * batch.forces_known) / jnp.maximum(n_forces, 1.0)
        energy_weight, forces_weight = self.weights(progress).astype(energy.dtype)
        each = energy_weight * energy_term + forces_weight * forces_term
        loss = each / (model.scale * model.members)
        molecules = jnp.sum(batch.numbers[:, 0] > 0).astype(loss.dtype)
        return loss, {
            "loss": (loss * molecules, molecules),
            "energy_mae_ev": (jnp.abs(energy_error.mean(axis=0)).sum(), n_energy),
            "forces_mae_ev_per_angstrom": (jnp.abs(forces_error.mean(axis=0)).sum(), 3.0 * n_forces),
        }
