"""Energies, conservative forces and stresses of an ensemble of networks, and the loss that trains them.

E = sum_a t[z_a] + sum_a (g_a scale e_a - (1 - g_a) release[z_a]) + pairs,  g_a = 1 - exp(-4 sum_b u(r_ab)).
F = -dE/dx, and the stress is dE/d(strain) / volume (Knuth et al. 2015, doi:10.1016/j.cpc.2015.01.003). The first
sum is added elsewhere in float64 (see `references`), where the energies of the atoms are summed too; e_a is the output
of the network for an atom. The gate g is 1 in a molecule and falls smoothly to 0 as the last neighbour leaves, so that
an isolated atom has exactly its reference energy, and the energies of molecules beyond the cutoff of each other
add up. `pairs` stands for the repulsion of nuclei and the Coulomb energy of latent charges, which are both optional.
Networks see no distances below those of training where these are known (see `distance_floor`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.structures.batches import StructureBatch, System
from data.structures.structures import MAX_ATOMIC_NUMBER
from surrogates.learning.nn.ensemble import apply_members, first_member, stack_members
from surrogates.learning.nn.initial import LECUN
from surrogates.potentials.coulomb import conserve, coulomb
from surrogates.potentials.distance_floor import seen_distance
from surrogates.potentials.networks.architectures import ARCHITECTURES, NetworkConfig
from surrogates.potentials.networks.geometry import Pairs, pairs
from surrogates.potentials.networks.readout import Readout
from surrogates.potentials.repulsion import ends_at_radii, repulsion

#: Steepness of the gate: 1 - g is below 0.02 for an atom with one neighbour at a third of the cutoff.
GATE = 4.0
#: Length of the error of a force, over the scale of the model, below which the loss is flat.
LENGTH_FLOOR = 1e-4


class EnergyAndForces(NamedTuple):
    """Energies, forces and virials of M molecules of N atoms from the E members of an ensemble.

    Attributes:
        atomic: energy of each atom above its reference, eV; 0 for padding.
        forces: eV/Angstrom; 0 for padding.
        virial: derivative of the energy with respect to the strain, eV; None where nothing is periodic.
    """

    atomic: Float[Array, "E M N"]
    forces: Float[Array, "E M N 3"]
    virial: Float[Array, "E M 3 3"] | None


class Member(nnx.Module):
    """One network with its readout heads, and its charges where the potential is long-ranged."""

    def __init__(self, config: NetworkConfig, heads: int, long_range: bool, rngs: nnx.Rngs) -> None:
        self.body = ARCHITECTURES.network(config, rngs)
        self.readout = Readout(self.body.width, config.features, heads, rngs)
        self.charges = nnx.Linear(self.body.width, 1, kernel_init=LECUN, rngs=rngs) if long_range else None


class Fact(nnx.Variable[Array]):
    """Numbers that the labels decide, not training: arguments of compiled programs, which serve other labels too."""


class EnergyModel(nnx.Module):
    """An ensemble of networks that differ in their initial weights, stacked along the first axis of each weight.

    Args:
        config: hyperparameters of the network of each member.
        members: number of members.
        scale: factor of the outputs of the network, eV.
        release: for each head, an energy in eV by atomic number; see `References.release`.
        rngs: random numbers for the initial weights.
        repulsive: whether the repulsion of nuclei is added (see `repulsion`).
        reach: where it ends, over the sum of the covalent radii; without meaning beside `ends`.
        ends: distance by two atomic numbers, Angstrom, below which the networks do not follow distances and where the
            repulsion ends (see `distance_floor.ends`); None for networks that see all distances as they are.
        long_range: whether the Coulomb energy of latent charges is added (see `coulomb`).
    """

    def __init__(
        self,
        config: NetworkConfig,
        members: int,
        scale: float,
        release: Sequence[Mapping[int, float]],
        rngs: nnx.Rngs,
        *,
        repulsive: bool = False,
        reach: float = 1.0,
        ends: Float[np.ndarray, "Z Z"] | None = None,
        long_range: bool = False,
    ) -> None:
        self.config = config
        self.members = members
        self.state_facts(scale, release, ends)
        self.repulsive = repulsive
        self.reach = reach
        self.long_range = long_range
        self.networks = stack_members(lambda rngs: Member(config, len(release), long_range, rngs), members, rngs)

    def state_facts(
        self, scale: float, release: Sequence[Mapping[int, float]], ends: Float[np.ndarray, "Z Z"] | None
    ) -> None:
        """Set what is known without training; see the arguments of the class."""
        self.ends = None if ends is None else Fact(jnp.asarray(ends, jnp.float32))
        table = [[one.get(z, 0.0) for z in range(MAX_ATOMIC_NUMBER + 1)] for one in release]
        self.factor, self.release = Fact(jnp.asarray(scale, jnp.float32)), Fact(jnp.asarray(table, jnp.float32))

    @property
    def scale(self) -> Float[Array, ""]:
        """Factor of the outputs of the network, eV."""
        factor: Array = self.factor[...]
        return factor

    def __call__(self, system: System) -> EnergyAndForces:
        """Energies, forces and, for periodic systems, virials of each member."""

        def answer(member: Member) -> EnergyAndForces:
            return differentiate(lambda moved: self._atomic(member, moved)[0], system)

        answers: EnergyAndForces = apply_members(self.networks, self.members, answer)
        return answers

    def atomic_energies(self, system: System) -> Float[Array, "E M N"]:
        """Energies of the atoms above their references, eV, of each member, without forces."""
        energies: Array = apply_members(self.networks, self.members, lambda member: self._atomic(member, system)[0])
        return energies

    def last_layer(self, system: System) -> tuple[Float[Array, "M N"], Float[Array, "M N C"]]:
        """Atomic energies of the first member, eV, and their derivatives with respect to its output weights, eV."""
        return self._atomic(first_member(self.networks), system)

    def squeeze(self, system: System) -> Float[Array, " M"]:
        """The end of two atoms (see `ends`) over their distance, the largest of each molecule; 0 where none is known.

        Above 1 some pair is closer than the networks follow, and what they see is another geometry.
        """
        if self.ends is None:
            return jnp.zeros(len(system.numbers), system.positions.dtype)
        edges = pairs(system, self.config.cutoff_angstrom)
        ratio = jnp.where(edges.weight > 0, self._ends(system, edges) / edges.distance, 0.0)
        return ratio.max(axis=(1, 2))

    def _ends(self, system: System, edges: Pairs) -> Float[Array, "M N K"]:
        numbers = system.numbers
        if self.ends is None:
            return ends_at_radii(numbers, edges, self.reach)
        table: Array = self.ends[...].astype(edges.distance.dtype)
        return table[numbers[..., None], edges.gather(numbers)]

    def _atomic(self, member: Member, system: System) -> tuple[Float[Array, "M N"], Float[Array, "M N C"]]:
        numbers, positions = system.numbers, system.positions
        edges = pairs(system, self.config.cutoff_angstrom)
        end, seen = self._ends(system, edges), edges
        if self.ends is not None:
            seen = edges._replace(distance=seen_distance(edges.distance, end))
        features = member.body(numbers, seen, system.charge)
        last = member.readout.last(features, system.head)
        closed = jnp.exp(-GATE * edges.weight.sum(axis=-1))
        release = self.release[...].astype(positions.dtype)
        release = release[0][numbers] if len(release) == 1 else release[system.head[:, None], numbers]
        opened = self.scale * (1.0 - closed)
        atomic = opened * member.readout.energy(last, system.head) - closed * release
        if self.repulsive:
            atomic = atomic + repulsion(numbers, edges, end)
        if member.charges is not None:
            charges = conserve(member.charges(features)[..., 0], numbers, system.charge)
            atomic = atomic + coulomb(charges, numbers, positions)
        real = numbers > 0
        return jnp.where(real, atomic, 0.0), jnp.where(real[..., None], opened[..., None] * last, 0.0)


def differentiate(atomic: Callable[[System], Float[Array, "M N"]], system: System) -> EnergyAndForces:
    """Differentiate energies with respect to positions and, if the system is periodic, to strain.

    Args:
        atomic: gives the energies of the atoms, eV, of a system.
        system: where they are evaluated.

    Returns:
        An `EnergyAndForces` without the axis of members.
    """

    def total(x: Float[Array, "M N 3"], strain: Float[Array, "M 3 3"] | None) -> tuple[Array, Array]:
        moved = system._replace(positions=x)
        if strain is not None:
            assert system.offsets is not None
            # Symmetrised, because a rotation is no strain.
            s = 0.5 * (strain + jnp.swapaxes(strain, 1, 2))
            moved = system._replace(
                positions=x + jnp.einsum("mni,mij->mnj", x, s),
                offsets=system.offsets + jnp.einsum("mnki,mij->mnkj", system.offsets, s),
            )
        energies = atomic(moved)
        return energies.sum(), energies

    if system.offsets is None:
        (_, energies), slope = jax.value_and_grad(total, has_aux=True)(system.positions, None)
        return EnergyAndForces(energies, -slope, None)
    still = jnp.zeros((system.numbers.shape[0], 3, 3), system.positions.dtype)
    (_, energies), (slope, virial) = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(system.positions, still)
    return EnergyAndForces(energies, -slope, virial)


def evaluate(model: EnergyModel, batch: StructureBatch) -> tuple[Float[Array, "E M"], Float[Array, "E M N 3"]]:
    """Energies above sum_a t[z_a] (eV, summed in the dtype of the model) and forces (eV/Angstrom) of a batch."""
    answer = model(jax.tree.map(jnp.asarray, batch.system))
    return answer.atomic.sum(axis=-1), answer.forces


@dataclass(frozen=True)
class EnergyForcesLoss:
    """Absolute errors of energies per atom, and lengths of the errors of forces, in units of the model's scale.

    The loss takes lengths rather than squares, so that a few frames with large errors do not dominate the training.
    Both errors are then lower after the same time (on 950 frames of ethanol by a half for energies and by a quarter
    for forces).

    The weights may change towards the end of training, as in the two stages in which MACE is trained (Batatia et
    al. 2022, arXiv:2206.07697): forces, of which a frame has many, dominate at first, and energies count for more at
    the end.

    Attributes:
        energy_weight: weight of the mean absolute error of the energy per atom.
        forces_weight: weight of the mean length of the error of the force on an atom.
        stress_weight: weight of the mean absolute error of a component of the stress times the volume per atom.
        final_energy_weight, final_forces_weight: the weights at the end of training; None for no change.
        final_from: share of training from which the final weights apply.
        final_ramp: share of training before `final_from` over which the weights change linearly; 0 for a jump.

    Raises:
        ValueError: a weight is negative, energies and forces both have a weight of 0 at the start or at the end, or the
            ramp does not lie within the training.
    """

    energy_weight: float = 1.0
    forces_weight: float = 1.0
    final_energy_weight: float | None = None
    final_forces_weight: float | None = None
    final_from: float = 0.75
    final_ramp: float = 0.0
    stress_weight: float = 1.0

    def __post_init__(self) -> None:
        for pair in self._ends():
            if min(pair) < 0 or max(pair) == 0 or self.stress_weight < 0:
                raise ValueError(f"weights must not be negative, and not all 0 at any time; got {self}")
        if not 0 <= self.final_ramp <= self.final_from <= 1:
            raise ValueError(f"0 <= final_ramp <= final_from <= 1 must hold; got {self}")

    def _ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The weights of energies and forces at the start and at the end of training."""
        first = (self.energy_weight, self.forces_weight)
        last = (self.final_energy_weight, self.final_forces_weight)
        return first, (first[0] if last[0] is None else last[0], first[1] if last[1] is None else last[1])

    def weights(self, progress: Float[Array, ""] | float) -> Float[Array, " 2"]:
        """The weights of energies and of forces when the share `progress` of training is done."""
        first, last = jnp.asarray(self._ends(), jnp.result_type(float))
        begin = self.final_from - self.final_ramp
        ramp = (progress - begin) / self.final_ramp if self.final_ramp > 0 else jnp.asarray(progress >= begin)
        return first + jnp.clip(ramp, 0.0, 1.0) * (last - first)

    def __call__(
        self, model: nnx.Module, batch: StructureBatch, key: Array, progress: Array
    ) -> tuple[Float[Array, ""], dict[str, tuple[Array, Array]]]:
        """The loss; and sums and counts of the loss and of the absolute errors of the ensemble's mean.

        Missing energies, forces and stresses do not contribute. The weights of frames enter the loss, not the errors.
        """
        assert isinstance(model, EnergyModel)
        answer = model(jax.tree.map(jnp.asarray, batch.system))
        energy, forces = answer.atomic.sum(axis=-1), answer.forces
        atoms = jnp.maximum((batch.numbers > 0).sum(axis=-1), 1)
        n_energy = batch.energy_known.sum()
        n_forces = batch.forces_known.sum()
        # With weights of 1 these are the same counts.
        energy_counts, forces_counts = batch.energy_known * batch.weight, batch.forces_known * batch.weight[:, None]
        energy_error = (energy - batch.energy) * batch.energy_known
        forces_error = (forces - batch.forces) * batch.forces_known[..., None]
        # The square root has no gradient at 0, which is the error of padding.
        length = jnp.sqrt(jnp.sum(forces_error**2, axis=-1) + (LENGTH_FLOOR * model.scale) ** 2)
        energy_term = jnp.sum(jnp.abs(energy_error) * batch.weight / atoms) / _or_one(energy_counts.sum())
        forces_term = jnp.sum(length * forces_counts) / _or_one(forces_counts.sum())
        energy_weight, forces_weight = self.weights(progress).astype(energy.dtype)
        each = energy_weight * energy_term + forces_weight * forces_term
        if answer.virial is not None:
            stress_counts = batch.stress_known * batch.weight
            volume, labelled = batch.volume[:, None, None], stress_counts[:, None, None]
            missed = jnp.abs(answer.virial - batch.stress * volume) * labelled / atoms[:, None, None]
            each = each + self.stress_weight * missed.sum() / _or_one(9.0 * stress_counts.sum())
        loss = each / (model.scale * model.members)
        molecules = jnp.sum(batch.numbers[:, 0] > 0).astype(loss.dtype)
        return loss, {
            "loss": (loss * molecules, molecules),
            "energy_mae_ev": (jnp.abs(energy_error.mean(axis=0)).sum(), n_energy),
            "forces_mae_ev_per_angstrom": (jnp.abs(forces_error.mean(axis=0)).sum(), 3.0 * n_forces),
        }


def _or_one(count: Float[Array, ""]) -> Float[Array, ""]:
    """A sum of weights by which a sum is divided; 1 where nothing is known, so that 0 stays 0."""
    return jnp.where(count > 0, count, 1.0)
