"""Relaxation of many molecules at once to minima of a potential, on the device.

Molecules of similar size share a batch of fixed shape. Each has its own optimiser, and once its largest force is below
the threshold, a waiting molecule takes its slot, so that no slot computes a finished molecule. Neighbour lists, where
they are used, extend beyond the cutoff by a margin; a molecule in which an atom has moved by half the margin pauses
until its list is updated, so no pair is missed. Fixed coordinates do not move, and their forces are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from data.spec import SimulationError
from data.structures.batches import Shape, System, choose_sizes, pad, round_up, shapes
from data.structures.structures import Structures
from data.terminal import progress_bar
from simulators.precision import jit_float32
from surrogates.potentials.dynamics.force_field import ForceField
from surrogates.potentials.dynamics.optimisers import OPTIMISERS
from surrogates.potentials.padding import pairs_budget

RUNNING, CONVERGED, OUT_OF_STEPS, STALE, BROKEN = range(5)
ENDS = {CONVERGED: "converged", OUT_OF_STEPS: "out_of_steps", BROKEN: "broken"}
#: Margin of neighbour lists beyond the cutoff, Angstrom.
MARGIN = 1.0
#: Largest number of steps on the device before the host checks for finished molecules.
CHUNK = 20


@dataclass(frozen=True)
class RelaxConfig:
    """Settings of the optimiser and of its convergence.

    Attributes:
        fmax: threshold of convergence, eV/Angstrom; a molecule is relaxed once no force on an atom is longer.
        max_steps: largest number of evaluations for each molecule.
        optimiser: "lbfgs" or "fire".
        buckets: number of padded sizes of molecules; each is compiled once.
    """

    fmax: float = 0.01
    max_steps: int = 500
    optimiser: str = "lbfgs"
    buckets: int = 4

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}")
        if self.fmax <= 0 or min(self.max_steps, self.buckets) < 1:
            raise ValueError(f"fmax must be above 0, max_steps and buckets at least 1; got {self}")


@dataclass(frozen=True)
class Relaxed:
    """The result of a relaxation, in the order of the input.

    Attributes:
        structures: final positions (Angstrom), energies (eV) and forces (eV/Angstrom); forces on fixed coordinates are
            those without the constraint.
        status: `converged`, `out_of_steps`, or `broken` if the energy or a force was not finite; a broken molecule
            keeps its last positions, and its energy and forces are NaN.
        steps: number of evaluations of each molecule.
        computed: number of evaluations on the device, including empty slots and finished molecules.
    """

    structures: Structures
    status: tuple[str, ...]
    steps: Int[np.ndarray, " M"]
    computed: int

    @property
    def converged(self) -> Bool[np.ndarray, " M"]:
        """Whether each molecule has converged."""
        return np.array([s == "converged" for s in self.status], dtype=bool)


def joined(structures: Structures, parts: Sequence[tuple[Int[np.ndarray, " m"], Relaxed]]) -> Relaxed:
    """The results of parts of a table, each relaxed on a potential of its own, in the order of the table.

    Args:
        structures: the table.
        parts: rows of it, and their result; every row is in one part.
    """
    positions, forces = np.zeros_like(structures.positions), np.zeros_like(structures.positions)
    energy, steps = np.zeros(len(structures)), np.zeros(len(structures), np.int64)
    status = np.full(len(structures), "", object)
    for rows, part in parts:
        atoms = structures.atoms_of(rows)
        positions[atoms], forces[atoms] = part.structures.positions, part.structures.forces
        energy[rows], steps[rows], status[rows] = part.structures.energy, part.steps, part.status
    unknown = np.full_like(structures.stress, np.nan)
    table = replace(structures, positions=positions, energy=energy, forces=forces, stress=unknown, _neighbours={})
    return Relaxed(table, tuple(status.tolist()), steps, sum(part.computed for _, part in parts))


class Slots(NamedTuple):
    """State of M molecules that are being relaxed; the first axis of each leaf is M."""

    system: System
    free: Float[Array, "M N 3"]
    anchor: Float[Array, "M N 3"]
    atomic: Float[Array, "M N"]
    forces: Float[Array, "M N 3"]
    steps: Int[Array, " M"]
    status: Int[Array, " M"]
    memory: Any


class Relaxer:
    """Relaxes tables of structures on one potential; compiled programs are shared by all calls.

    Args:
        potential: gives energies and forces; of an ensemble their means.
        config: see `RelaxConfig`.
    """

    def __init__(self, potential: ForceField, config: RelaxConfig) -> None:
        self.potential = potential
        self.config = config
        self.optimiser = OPTIMISERS[config.optimiser]
        graph, self._weights = nnx.split(potential.model)
        self.compilations = 0

        def advance(weights: nnx.State, slots: Slots, enough: Array) -> tuple[Slots, Array]:
            self.compilations += 1  # Python runs this only while a new shape is traced.
            model = nnx.merge(graph, weights)

            def unfinished(carry: tuple[Slots, Array]) -> Array:
                slots, n = carry
                return (n < CHUNK) & (jnp.sum(slots.status != RUNNING) < enough)

            def body(carry: tuple[Slots, Array]) -> tuple[Slots, Array]:
                slots, n = carry
                answer = model(slots.system)
                return self._move(slots, answer.atomic.mean(axis=0), answer.forces.mean(axis=0)), n + 1

            return jax.lax.while_loop(unfinished, body, (slots, jnp.int32(0)))

        def load(fresh: Slots, fill: Array, slots: Slots) -> Slots:
            def choose(new: Array, old: Array) -> Array:
                return jnp.where(fill.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            return jax.tree.map(choose, fresh, slots)

        self._advance = jit_float32(advance)
        self._load = jit_float32(load)

    def __call__(self, structures: Structures, *, progress: bool = False) -> Relaxed:
        """Relax all structures of a table.

        Raises:
            SimulationError: `invalid_input`: as `PotentialSurrogate.predict_structures`, or a structure has constraints
                other than fixed coordinates.
        """
        refuse_baseline(self.potential)
        refuse_constraints(structures)
        self.potential.refuse_unknown(structures)
        structures = structures.with_head(self.potential.facts.index)
        sizes = choose_sizes(structures.sizes, self.config.buckets)
        batch_shapes, which = shapes(structures, self._reach, sizes, molecules=None, pairs=pairs_budget())
        end = _End.of(structures)
        with progress_bar("relaxing", len(structures), show=progress) as bar:
            for k, shape in enumerate(batch_shapes):
                rows = np.flatnonzero(which == k)
                if len(rows):
                    small = shape._replace(molecules=min(shape.molecules, len(rows)))
                    self._run(structures, rows, small, end, bar.advance)
        energy = end.energy + self.potential.facts.reference_energy(structures)
        unknown = np.full_like(structures.stress, np.nan)
        table = replace(
            structures, positions=end.positions, energy=energy, forces=end.forces, stress=unknown, _neighbours={}
        )
        return Relaxed(table, tuple(ENDS[int(s)] for s in end.status), end.steps, end.computed)

    @property
    def _reach(self) -> float:
        return self.potential.cutoff_angstrom + MARGIN

    def _move(self, slots: Slots, atomic: Float[Array, "M N"], forces: Float[Array, "M N 3"]) -> Slots:
        """One step of the running molecules, from the energies and forces at their positions."""
        old = slots.system.positions
        running = slots.status == RUNNING
        steps = slots.steps + running
        pull = forces * slots.free
        longest = jnp.sqrt(jnp.max(jnp.sum(pull * pull, axis=-1), axis=-1))
        finite = jnp.isfinite(atomic).all(axis=-1) & jnp.isfinite(longest)
        status = jnp.where(steps >= self.config.max_steps, OUT_OF_STEPS, RUNNING)
        status = jnp.where(longest <= self.config.fmax, CONVERGED, status)
        status = jnp.where(finite, status, BROKEN)
        status = jnp.where(running, status, slots.status)
        memory, move = self.optimiser.step(slots.memory, old, pull)
        going = (status == RUNNING)[:, None, None]
        positions = jnp.where(going, old + move * slots.free, old)
        if slots.system.neighbours is not None:
            gone = jnp.max(jnp.sum((positions - slots.anchor) ** 2, axis=-1), axis=-1) > (0.5 * MARGIN) ** 2
            status = jnp.where((status == RUNNING) & gone, STALE, status)
        return slots._replace(
            system=slots.system._replace(positions=positions),
            atomic=jnp.where(running[:, None], atomic, slots.atomic),
            forces=jnp.where(running[:, None, None], forces, slots.forces),
            steps=steps,
            status=status.astype(jnp.int32),
            memory=memory,
        )

    def _run(
        self, structures: Structures, rows: Int[np.ndarray, " m"], shape: Shape, end: _End, done: Callable[[], None]
    ) -> None:
        """Relax the molecules at `rows` in slots of one shape."""
        waiting = list(rows[::-1])
        occupants = np.full(shape.molecules, -1)
        fill = np.zeros(shape.molecules, bool)
        slots: Slots | None = None
        while waiting or (occupants >= 0).any():
            for slot in np.flatnonzero(occupants < 0):
                if waiting:
                    occupants[slot], fill[slot] = waiting.pop(), True
            if fill.any():
                slots, shape = self._fill_slots(structures, shape, end, occupants, fill, slots)
            assert slots is not None
            busy = int((occupants >= 0).sum())
            # Waiting molecules are loaded once an eighth of the slots has finished; without any, all run to the end.
            enough = shape.molecules - busy + (max(1, busy // 8) if waiting else busy)
            slots, n = self._advance(self._weights, slots, np.int32(enough))
            end.computed += int(n) * shape.molecules
            status, steps, atomic, forces, positions = jax.device_get(
                (slots.status, slots.steps, slots.atomic, slots.forces, slots.system.positions)
            )
            fill = (occupants >= 0) & (status == STALE)
            for slot in np.flatnonzero((occupants >= 0) & (status != RUNNING)):
                row = occupants[slot]
                atoms = slice(structures.atom_start[row], structures.atom_start[row + 1])
                size = atoms.stop - atoms.start
                end.steps[row] = steps[slot]
                if status[slot] != BROKEN:
                    moved = end.origin[row] + positions[slot, :size]
                    end.positions[atoms] = np.where(structures.fixed[atoms], end.positions[atoms], moved)
                if status[slot] in (CONVERGED, OUT_OF_STEPS):
                    end.energy[row] = atomic[slot].astype(np.float64).sum()
                    end.forces[atoms] = forces[slot, :size]
                if status[slot] != STALE:
                    end.status[row], occupants[slot] = status[slot], -1
                    done()

    def _fill_slots(
        self,
        structures: Structures,
        shape: Shape,
        end: _End,
        occupants: Int[np.ndarray, " M"],
        fill: Bool[np.ndarray, " M"],
        slots: Slots | None,
    ) -> tuple[Slots, Shape]:
        """Load molecules, or new neighbour lists, into the slots that `fill` marks; the slots and their shape."""
        table = end.table(structures, occupants[fill])
        if shape.neighbours is not None:
            widest = int(table.neighbours(self._reach).counts.max(initial=1))
            if widest > shape.neighbours:
                # All molecules restart from their present positions in a shape with more slots for neighbours.
                for slot in np.flatnonzero((occupants >= 0) & ~fill):
                    assert slots is not None
                    row = occupants[slot]
                    atoms = slice(structures.atom_start[row], structures.atom_start[row + 1])
                    end.positions[atoms] = (
                        end.origin[row] + np.asarray(slots.system.positions)[slot, : atoms.stop - atoms.start]
                    )
                    end.steps[row] = int(np.asarray(slots.steps)[slot])
                fill = occupants >= 0
                table = end.table(structures, occupants[fill])
                widest = int(table.neighbours(self._reach).counts.max(initial=1))
                shape, slots = shape._replace(neighbours=round_up(widest)), None
        rows = occupants[fill]
        end.origin[rows] = table.centroids()
        batch = pad(table, np.arange(len(rows)), shape._replace(molecules=len(rows)), self._reach)

        def spread(values: np.ndarray) -> Array:
            out = np.zeros((shape.molecules, *values.shape[1:]), values.dtype)
            out[fill] = values
            return jnp.asarray(out)

        system = jax.tree.map(spread, batch.system)
        positions = system.positions
        fresh = Slots(
            system=system,
            free=spread(free_coordinates(table, batch.numbers)),
            anchor=positions,
            atomic=jnp.zeros(positions.shape[:2], positions.dtype),
            forces=jnp.zeros_like(positions),
            steps=spread(end.steps[rows].astype(np.int32)),
            status=jnp.asarray(np.where(fill, RUNNING, CONVERGED), jnp.int32),
            memory=self.optimiser.start(positions),
        )
        return (fresh if slots is None else self._load(fresh, fill, slots)), shape


@dataclass
class _End:
    """Positions and results of all molecules on the host; energies without reference energies."""

    positions: Float[np.ndarray, "A 3"]
    origin: Float[np.ndarray, "M 3"]
    energy: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "A 3"]
    steps: Int[np.ndarray, " M"]
    status: Int[np.ndarray, " M"]
    computed: int = 0

    @staticmethod
    def of(structures: Structures) -> _End:
        m = len(structures)
        return _End(
            positions=structures.positions.astype(np.float64),
            origin=np.zeros((m, 3)),
            energy=np.full(m, np.nan),
            forces=np.full(structures.positions.shape, np.nan),
            steps=np.zeros(m, np.int64),
            status=np.full(m, RUNNING),
        )

    def table(self, structures: Structures, rows: Int[np.ndarray, " m"]) -> Structures:
        """The molecules at `rows` with their present positions."""
        return replace(structures.take(rows), positions=self.positions[structures.atoms_of(rows)], _neighbours={})


def refuse_baseline(potential: ForceField) -> None:
    """Refuse potentials that need a baseline, because its forces are not available on the device.

    Raises:
        SimulationError: `invalid_input`.
    """
    baseline = potential.facts.head.baseline
    if baseline is not None:
        raise SimulationError(
            "invalid_input",
            f"the potential learned differences to {baseline['name']}, which does not run on the device; "
            "use PotentialCalculator",
        )


def refuse_constraints(structures: Structures) -> None:
    """Refuse structures that have constraints other than fixed coordinates.

    Raises:
        SimulationError: `invalid_input`, naming the first such structure.
    """
    rows = np.flatnonzero(structures.constrained)
    if len(rows):
        raise SimulationError(
            "invalid_input",
            f"structure {rows[0]} has constraints other than fixed coordinates; remove them, or use ASE with "
            "PotentialCalculator",
        )


def free_coordinates(structures: Structures, numbers: Int[np.ndarray, "M N"]) -> Float[np.ndarray, "M N 3"]:
    """1 for each free coordinate of padded structures, 0 for fixed ones.

    Args:
        structures: the structures.
        numbers: their atomic numbers, padded by `data.structures.batches.pad`.
    """
    free = np.ones((*numbers.shape, 3), np.float32)
    free[numbers > 0] = ~structures.fixed
    return free
