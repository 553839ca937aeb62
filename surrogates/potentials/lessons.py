"""What a potential teaches another one: energies, forces, energies of atoms, and curvatures along random directions.

The curvature of a frame along a random direction v is dF(x + s v)/ds at s = 0, a product of the Hessian with v, whose
expected square is that of the whole Hessian (Hutchinson 1990, doi:10.1080/03610919008812866). One product a frame costs
about as much as its forces, where the Hessian costs as many as it has columns.

Answers and labels of another method are learned under heads of their own on one body. Where the teacher learned these
very labels, both are of one level of theory and share a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.batch_rows import WHOLE, BatchRows
from data.structures.batches import StructureBatch, StructureBatches
from data.structures.structures import Structures
from simulators.precision import jit_float32
from surrogates.potentials.energy import LENGTH_FLOOR, EnergyForcesLoss, EnergyModel
from surrogates.potentials.surrogate import PotentialSurrogate

#: Entries of a frame with a value, or three, for each atom.
BY_ATOM = ("forces", "atomic", "direction", "curvature")


@dataclass(frozen=True)
class FrameAnswers:
    """The answers of a teacher for the frames of a table.

    Attributes:
        energy: above the reference energies of the teacher's atoms, eV.
        forces: eV/Angstrom.
        atomic: the part of each atom in `energy`, eV.
        direction: the random direction v of each frame, components of standard deviation 1, Angstrom.
        curvature: derivative of the forces along v, eV/Angstrom.
    """

    energy: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "A 3"]
    atomic: Float[np.ndarray, " A"]
    direction: Float[np.ndarray, "A 3"]
    curvature: Float[np.ndarray, "A 3"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return asdict(self)

    def take(self, frames: Structures, rows: np.ndarray) -> FrameAnswers:
        """The answers for some frames of the table."""
        atoms = frames.atoms_of(rows)
        return FrameAnswers(**{n: v[atoms if n in BY_ATOM else rows] for n, v in self.arrays().items()})

    @staticmethod
    def concatenate(parts: list[FrameAnswers]) -> FrameAnswers:
        """The answers of several tables, one after the other."""
        return FrameAnswers(**{n: np.concatenate([p.arrays()[n] for p in parts]) for n in parts[0].arrays()})


def ask_frames(teacher: PotentialSurrogate, frames: Structures, seed: Any, *, curvatures: bool = True) -> FrameAnswers:
    """The answers of a teacher: means over its members, in batches of few shapes.

    Args:
        teacher: the potential, without a baseline.
        frames: the frames, of its elements and charges.
        seed: seed of the directions.
        curvatures: False for energies and forces alone, which cost less than half; curvatures are then 0.
    """
    graph, state = nnx.split(teacher.model)

    @jit_float32
    def run(weights: Any, batch: StructureBatch, direction: Array) -> tuple[Array, Array, Array]:
        model = nnx.merge(graph, weights)
        if not curvatures:
            members = model(jax.tree.map(jnp.asarray, batch.system))
            return members.forces.mean(axis=0), members.atomic.mean(axis=0), jnp.zeros_like(direction)
        forces, atomic, curvature = along(model, batch, direction)
        return forces.mean(axis=0), atomic.mean(axis=0), curvature.mean(axis=0)

    direction = np.random.default_rng(seed).normal(size=frames.positions.shape)
    answers = {name: np.zeros_like(frames.positions) for name in ("forces", "curvature")}
    atomic, batches = np.zeros(len(frames.numbers)), teacher.batches(frames)
    for kind, rows in batches.plan(0):
        batch = batches.pad(kind, rows)
        batch = batch._replace(head=np.full(len(batch.numbers), teacher.facts.index, np.int32))
        real, atoms = batch.numbers > 0, frames.atoms_of(rows)
        wide = np.zeros(batch.positions.shape, np.float32)
        wide[real] = direction[atoms]
        got = run(state, batch, wide)
        answers["forces"][atoms], answers["curvature"][atoms] = np.asarray(got[0])[real], np.asarray(got[2])[real]
        atomic[atoms] = np.asarray(got[1], np.float64)[real]
    energy = np.bincount(frames.molecule, atomic, len(frames))
    return FrameAnswers(energy, answers["forces"], atomic, direction, answers["curvature"])


def along(
    model: EnergyModel, batch: StructureBatch, direction: Float[Array, "M N 3"]
) -> tuple[Float[Array, "E M N 3"], Float[Array, "E M N"], Float[Array, "E M N 3"]]:
    """Forces, energies of atoms, and the derivative of the forces along a direction, of each member."""
    system = jax.tree.map(jnp.asarray, batch.system)

    def answer(positions: Array) -> tuple[Array, Array]:
        members = model(system._replace(positions=positions))
        return members.forces, members.atomic

    direction = jnp.asarray(direction, system.positions.dtype)
    (forces, atomic), (curvature, _) = jax.jvp(answer, (system.positions,), (direction,))
    return forces, atomic, curvature


class TaughtBatch(NamedTuple):
    """A batch of labelled frames and of frames that a teacher answered; a pytree whose leaves all have M first.

    Attributes:
        frames: the frames; the answers stand in place of labels.
        taught: 1 for a frame that the teacher answered, 0 for one with labels.
        atomic, direction, curvature: see `FrameAnswers`; 0 for frames with labels and padding.
    """

    frames: StructureBatch
    taught: Float[Any, " M"]
    atomic: Float[Any, "M N"]
    direction: Float[Any, "M N 3"]
    curvature: Float[Any, "M N 3"]


@dataclass(frozen=True)
class TaughtBatches:
    """Batches for `surrogates.learning.loop.fit` of labelled frames, and behind them in the table those of a teacher.

    Attributes:
        batches: all frames.
        labelled: number of frames with labels.
        answers: of the other frames.
    """

    batches: StructureBatches
    labelled: int
    answers: FrameAnswers
    _columns: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        frames = self.batches.structures
        before = int(frames.atom_start[self.labelled])
        columns = {}
        for name in BY_ATOM[1:]:
            values = getattr(self.answers, name)
            columns[name] = np.concatenate([np.zeros((before, *values.shape[1:])), values]).astype(np.float32)
        object.__setattr__(self, "_columns", columns)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return self.batches.steps_per_epoch

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[TaughtBatch]:
        """The batches of an epoch; see `StructureBatches.epoch`."""
        for kind, planned in self.batches.plan(index):
            frames = self.batches.pad(kind, planned, part)
            rows = planned[part.of(self.batches.shapes[kind].molecules)]
            real, atoms = frames.numbers > 0, self.batches.structures.atoms_of(rows)
            taught = np.zeros(len(frames.numbers), np.float32)
            taught[: len(rows)] = rows >= self.labelled
            wide = {}
            for name, values in self._columns.items():
                wide[name] = np.zeros((*real.shape, *values.shape[1:]), np.float32)
                wide[name][real] = values[atoms]
            yield TaughtBatch(frames, taught, **wide)


@dataclass(frozen=True)
class TaughtFramesLoss:
    """The loss of a student: that of `EnergyForcesLoss`, with weights of labels and answers, and two more terms.

    All terms are in units of the model's scale. A weight of 0 leaves the work of its term out.

    Attributes:
        base: weights of energies and forces, and how they change; stresses are not learned from a teacher.
        labels: weight of a labelled frame.
        energy, forces: weights of the energy and of the forces of a frame that the teacher answered.
        atom_energies: weight of the mean absolute error of the energy of an atom.
        hessian: weight of the mean length of the error of the derivative of a force along the direction, Angstrom.
    """

    base: EnergyForcesLoss
    labels: float = 1.0
    energy: float = 1.0
    forces: float = 1.0
    atom_energies: float = 0.0
    hessian: float = 0.0

    def __call__(
        self, model: nnx.Module, batch: TaughtBatch, key: Array, progress: Array
    ) -> tuple[Float[Array, ""], dict[str, tuple[Array, Array]]]:
        """The loss, and sums and counts of the loss and of the absolute errors of the ensemble's mean."""
        assert isinstance(model, EnergyModel)
        frames, curvature = batch.frames, None
        if self.hessian:
            forces, atomic, curvature = along(model, frames, batch.direction)
        else:
            members = model(jax.tree.map(jnp.asarray, frames.system))
            forces, atomic = members.forces, members.atomic
        real = (frames.numbers > 0).astype(forces.dtype)
        atoms = jnp.maximum(real.sum(axis=-1), 1)
        of_energy = frames.energy_known * frames.weight * jnp.where(batch.taught > 0, self.energy, self.labels)
        of_frame = frames.weight * jnp.where(batch.taught > 0, self.forces, self.labels)
        of_forces = frames.forces_known * of_frame[:, None]
        energy_error = (atomic.sum(axis=-1) - frames.energy) * frames.energy_known
        forces_error = (forces - frames.forces) * frames.forces_known[..., None]
        energy_weight, forces_weight = self.base.weights(progress).astype(forces.dtype)
        each = energy_weight * jnp.sum(jnp.abs(energy_error) * of_energy / atoms) / _at_least(of_energy.sum())
        each += forces_weight * jnp.sum(_lengths(forces_error, model.scale) * of_forces) / _at_least(of_forces.sum())
        taught = real * batch.taught[:, None]
        if self.atom_energies:
            missed = jnp.abs(atomic - batch.atomic) * taught
            each += self.atom_energies * missed.sum() / _at_least(taught.sum())
        if curvature is not None:
            missed = _lengths((curvature - batch.curvature) * taught[..., None], model.scale) * taught
            each += self.hessian * missed.sum() / _at_least(taught.sum())
        loss = each / (model.scale * model.members)
        molecules = jnp.sum(frames.numbers[:, 0] > 0).astype(loss.dtype)
        return loss, {
            "loss": (loss * molecules, molecules),
            "energy_mae_ev": (jnp.abs(energy_error.mean(axis=0)).sum(), frames.energy_known.sum()),
            "forces_mae_ev_per_angstrom": (
                jnp.abs(forces_error.mean(axis=0)).sum(),
                3.0 * frames.forces_known.sum(),
            ),
        }


def _lengths(error: Float[Array, "E M N 3"], scale: Float[Array, ""]) -> Float[Array, "E M N"]:
    """Lengths of errors, with a gradient at 0."""
    return jnp.sqrt(jnp.sum(error**2, axis=-1) + (LENGTH_FLOOR * scale) ** 2)


def _at_least(count: Float[Array, ""]) -> Float[Array, ""]:
    """A sum of weights by which a sum is divided; 1 where nothing counts, so that 0 stays 0."""
    return jnp.where(count > 0, count, 1.0)


def labelled_by(frames: Structures, answers: FrameAnswers) -> Structures:
    """The frames with the answers as labels, energies above the reference energies of the teacher's atoms."""
    unlabelled = np.full_like(frames.stress, np.nan)
    return replace(frames, energy=answers.energy, forces=answers.forces, stress=unlabelled).unweighted()
