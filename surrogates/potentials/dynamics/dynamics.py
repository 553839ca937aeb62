"""Molecular dynamics of many molecules at once on a potential, on the device: NVE and Langevin NVT.

NVE is velocity Verlet (Swope et al. 1982, doi:10.1063/1.442716); NVT is its BAOAB splitting with an exact
Ornstein-Uhlenbeck step (Leimkuhler and Matthews 2013, doi:10.1063/1.4802990), which without friction is velocity
Verlet. Random numbers depend on the seed, the molecule and the step alone, so a trajectory changes neither with the
other molecules of the batch nor with an interruption. Fixed coordinates have no velocity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import units
from ase.data import atomic_masses
from flax import nnx
from jaxtyping import Array, Float, Int

from data.structures.batches import Shape, System, choose_sizes, pad, round_up, shapes
from data.structures.structures import Structures
from simulators.precision import jit_float32
from surrogates.potentials.dynamics.force_field import ForceField
from surrogates.potentials.dynamics.relax import free_coordinates, refuse_baseline, refuse_constraints
from surrogates.potentials.energy import EnergyAndForces
from surrogates.potentials.padding import pairs_budget

#: Angstrom beyond the cutoff that neighbour lists reach.
MARGIN = 1.0


@dataclass(frozen=True)
class DynamicsConfig:
    """Settings of the integrator, and how often it records.

    Attributes:
        steps: number of steps of each molecule; a multiple of `record_every`.
        timestep_fs: length of a step, fs.
        temperature_kelvin: temperature of the initial velocities and of the heat bath, K.
        friction_per_fs: friction of the heat bath, 1/fs; 0 for NVE.
        record_every: steps between recorded frames.
        seed: seed of the initial velocities and of the heat bath.
        buckets: number of padded sizes of molecules; each is compiled once.
    """

    steps: int = 1000
    timestep_fs: float = 0.5
    temperature_kelvin: float = 300.0
    friction_per_fs: float = 0.0
    record_every: int = 10
    seed: int = 0
    buckets: int = 4

    def __post_init__(self) -> None:
        if min(self.steps, self.record_every, self.buckets) < 1 or self.steps % self.record_every:
            raise ValueError(f"steps must be a multiple of record_every, and both at least 1; got {self}")
        numbers = (self.timestep_fs, self.temperature_kelvin, self.friction_per_fs)
        if not np.isfinite(numbers).all() or self.timestep_fs <= 0 or min(numbers) < 0:
            raise ValueError(
                f"timestep_fs must be above 0, temperature and friction not negative, all finite; got {self}"
            )


@dataclass(frozen=True)
class Snapshot:
    """The molecules of one batch at one time.

    Attributes:
        step: number of steps since the start.
        rows: index of each molecule in the input.
        structures: the molecules with their positions (Angstrom), energies (eV) and forces (eV/Angstrom).
        velocities: Angstrom/fs, in the order of the atoms of `structures`.
        kinetic: kinetic energy of each molecule, eV.
        energy_std: standard deviation of each energy over the ensemble, eV; None for a single network.
        alive: False for a molecule whose energy or forces are not finite any more; it keeps its last finite state.
    """

    step: int
    rows: Int[np.ndarray, " m"]
    structures: Structures
    velocities: Float[np.ndarray, "a 3"]
    kinetic: Float[np.ndarray, " m"]
    energy_std: Float[np.ndarray, " m"] | None
    alive: np.ndarray


class Walkers(NamedTuple):
    """State of M molecules in ASE's units (eV, Angstrom, atomic mass units); the first axis of each leaf is M."""

    system: System
    free: Float[Array, "M N 3"]
    ids: Int[Array, " M"]
    velocities: Float[Array, "M N 3"]
    forces: Float[Array, "M N 3"]
    atomic: Float[Array, "M E N"]
    anchor: Float[Array, "M N 3"]
    alive: Array


class Dynamics:
    """Runs the dynamics of tables of structures on one potential; compiled programs are shared by all calls.

    Args:
        potential: gives the forces; of an ensemble their mean.
        config: see `DynamicsConfig`.
    """

    def __init__(self, potential: ForceField, config: DynamicsConfig) -> None:
        self.potential = potential
        self.config = config
        graph, self._weights = nnx.split(potential.model)
        self.compilations = 0

        def advance(weights: nnx.State, walkers: Walkers, first: Array, seed: Array) -> tuple[Walkers, Array]:
            """Advance until a frame is due or a neighbour list is stale; the new state and its step number."""
            self.compilations += 1  # Python runs this only while a new shape is traced.
            model = nnx.merge(graph, weights)
            last = (first // config.record_every + 1) * config.record_every

            def going(carry: tuple[Walkers, Array]) -> Array:
                walkers, step = carry
                fresh = True if walkers.system.neighbours is None else _drift(walkers) < 0.4 * MARGIN
                return (step < last) & fresh

            def body(carry: tuple[Walkers, Array]) -> tuple[Walkers, Array]:
                walkers, step = carry
                return self._step(model, walkers, step, seed), step + 1

            return jax.lax.while_loop(going, body, (walkers, first))

        def measure(weights: nnx.State, walkers: Walkers) -> Walkers:
            answer = nnx.merge(graph, weights)(walkers.system)
            return walkers._replace(atomic=jnp.swapaxes(answer.atomic, 0, 1), forces=answer.forces.mean(axis=0))

        self._advance = jit_float32(advance)
        self._measure = jit_float32(measure)

    def __call__(
        self, structures: Structures, velocities: Float[np.ndarray, "A 3"] | None = None
    ) -> Iterator[Snapshot]:
        """Run the dynamics and yield snapshots in order of time, one batch after the other.

        Args:
            structures: initial structures.
            velocities: initial velocities, Angstrom/fs; by default drawn at the temperature of the settings, without
                drift or rotation. Those of fixed coordinates are set to 0.

        Raises:
            SimulationError: `invalid_input`: as `PotentialSurrogate.predict_structures`, or a structure has constraints
                other than fixed coordinates.
        """
        refuse_baseline(self.potential)
        refuse_constraints(structures)
        self.potential.refuse_unknown(structures)
        structures = structures.with_head(self.potential.facts.index)
        if velocities is None:
            velocities = thermal_velocities(structures, self.config.temperature_kelvin, self.config.seed)
        sizes = choose_sizes(structures.sizes, self.config.buckets)
        batch_shapes, which = shapes(structures, self._reach, sizes, molecules=None, pairs=pairs_budget())
        for k, shape in enumerate(batch_shapes):
            rows = np.flatnonzero(which == k)
            m = min(shape.molecules, max(1, len(rows)))
            for part in (rows[i : i + m] for i in range(0, len(rows), m)):
                yield from self._run(structures.take(part), velocities[structures.atoms_of(part)], part, shape, m)

    @property
    def _reach(self) -> float:
        return self.potential.cutoff_angstrom + MARGIN

    def _run(
        self, table: Structures, velocities: np.ndarray, rows: np.ndarray, shape: Shape, molecules: int
    ) -> Iterator[Snapshot]:
        shape = shape._replace(molecules=molecules)
        table, walkers, shape = self._with_neighbour_lists(table, velocities, rows, shape, None)
        walkers = self._measure(self._weights, walkers)
        step = 0
        yield self._snapshot(table, walkers, rows, step)
        while step < self.config.steps:
            # The seed is an argument, so that runs that differ in the seed alone share the compiled program.
            walkers, done = self._advance(self._weights, walkers, np.int32(step), np.uint32(self.config.seed))
            step = int(done)
            now = self._snapshot(table, walkers, rows, step)
            if step % self.config.record_every == 0:
                yield now
            if walkers.system.neighbours is not None and float(_drift(walkers)) >= 0.4 * MARGIN:
                table, walkers, shape = self._with_neighbour_lists(now.structures, now.velocities, rows, shape, walkers)

    def _with_neighbour_lists(
        self, table: Structures, velocities: np.ndarray, rows: np.ndarray, shape: Shape, old: Walkers | None
    ) -> tuple[Structures, Walkers, Shape]:
        """Walkers at the positions of `table`, with new neighbour lists."""
        if shape.neighbours is not None:
            widest = round_up(int(table.neighbours(self._reach).counts.max(initial=1)))
            shape = shape._replace(neighbours=max(shape.neighbours, widest))
        batch = pad(table, np.arange(len(table)), shape, self._reach)
        v = np.zeros_like(batch.positions)
        v[batch.numbers > 0] = np.where(table.fixed, 0.0, velocities) / units.fs
        ids = np.full(shape.molecules, -1, np.int32)
        ids[: len(rows)] = rows
        members = self.potential.facts.config.ensemble
        walkers = Walkers(
            system=jax.tree.map(jnp.asarray, batch.system),
            free=jnp.asarray(free_coordinates(table, batch.numbers), v.dtype),
            ids=jnp.asarray(ids),
            velocities=jnp.asarray(v),
            forces=jnp.zeros_like(v) if old is None else old.forces,
            atomic=jnp.zeros((len(ids), members, shape.atoms), v.dtype) if old is None else old.atomic,
            anchor=jnp.asarray(batch.positions),
            alive=jnp.asarray(ids >= 0) if old is None else old.alive,
        )
        return table, walkers, shape

    def _step(self, model: Callable[[System], EnergyAndForces], w: Walkers, step: Array, seed: Array) -> Walkers:
        """One step of BAOAB; `w` holds the forces at its positions."""
        config, system = self.config, w.system
        dt = config.timestep_fs * units.fs
        mass = jnp.asarray(atomic_masses, system.positions.dtype)[system.numbers][..., None]
        real = (system.numbers > 0)[..., None]
        # A fixed coordinate has an infinite mass: neither forces nor the heat bath move it.
        inverse = jnp.where(real, 1.0 / jnp.where(real, mass, 1.0), 0.0) * w.free
        v = w.velocities + 0.5 * dt * w.forces * inverse
        x = system.positions + 0.5 * dt * v
        if config.friction_per_fs > 0:
            keep = float(np.exp(-config.friction_per_fs * config.timestep_fs))
            spread = jnp.sqrt((1 - keep**2) * units.kB * config.temperature_kelvin * inverse)
            v = keep * v + spread * _noise(seed, w.ids, step, v.shape[1:], v.dtype)
        x = x + 0.5 * dt * v
        answer = model(system._replace(positions=x))
        forces = answer.forces.mean(axis=0)
        v = v + 0.5 * dt * forces * inverse
        well = jnp.isfinite(answer.atomic).all(axis=(0, 2)) & jnp.isfinite(forces).all(axis=(1, 2))
        well &= jnp.isfinite(v).all(axis=(1, 2))
        alive = w.alive & well
        on = alive[:, None, None]
        return w._replace(
            system=system._replace(positions=jnp.where(on, x, system.positions)),
            velocities=jnp.where(on, v, 0.0),
            forces=jnp.where(on, forces, 0.0),
            atomic=jnp.where(on, jnp.swapaxes(answer.atomic, 0, 1), w.atomic),
            alive=alive,
        )

    def _snapshot(self, table: Structures, walkers: Walkers, rows: np.ndarray, step: int) -> Snapshot:
        m = len(rows)
        system = walkers.system
        numbers, x, v, forces, atomic, alive = jax.device_get(
            (system.numbers, system.positions, walkers.velocities, walkers.forces, walkers.atomic, walkers.alive)
        )
        inside = numbers[:m] > 0
        centre = np.repeat(table.centroids(), table.sizes, axis=0)
        energies = atomic[:m].astype(np.float64).sum(axis=-1)
        references = self.potential.facts.reference_energy(table)
        velocities = v[:m][inside].astype(np.float64)
        half = 0.5 * atomic_masses[table.numbers] * np.sum(velocities**2, axis=1)
        kinetic = np.bincount(table.molecule, weights=half, minlength=m)
        structures = replace(
            table,
            positions=np.where(table.fixed, table.positions, centre + x[:m][inside].astype(np.float64)),
            energy=energies.mean(axis=1) + references,
            forces=forces[:m][inside].astype(np.float64),
            stress=np.full_like(table.stress, np.nan),
            _neighbours={},
        )
        std = energies.std(axis=1, ddof=1) if energies.shape[1] > 1 else None
        return Snapshot(step, rows, structures, velocities * units.fs, kinetic, std, alive[:m])


def thermal_velocities(structures: Structures, kelvin: float, seed: int) -> Float[np.ndarray, "A 3"]:
    """Maxwell-Boltzmann velocities, Angstrom/fs, of molecules that neither drift nor rotate.

    Drift and rotation are removed from the drawn velocities, so the mean kinetic energy is that of 3 N - 6 degrees of
    freedom (3 N - 5 for a linear molecule, 0 for an atom). Fixed coordinates have no velocity, and a molecule with
    fixed coordinates may drift.
    """
    rng = np.random.default_rng(seed)
    masses = atomic_masses[structures.numbers]
    velocities = rng.normal(size=structures.positions.shape) * np.sqrt(units.kB * kelvin / masses)[:, None]
    for first, last in zip(structures.atom_start[:-1], structures.atom_start[1:], strict=True):
        m, v = masses[first:last, None], velocities[first:last]
        if structures.fixed[first:last].any():
            velocities[first:last] = np.where(structures.fixed[first:last], 0.0, v)
            continue
        x = structures.positions[first:last]
        x = x - (m * x).sum(axis=0) / m.sum()
        v = v - (m * v).sum(axis=0) / m.sum()
        inertia = np.einsum("ai,ai,jk->jk", m**0.5 * x, m**0.5 * x, np.eye(3)) - np.einsum("ai,aj->ij", m * x, x)
        spin = np.linalg.pinv(inertia, rcond=1e-8) @ (m * np.cross(x, v)).sum(axis=0)
        velocities[first:last] = v - np.cross(spin, x)
    return velocities * units.fs


def _noise(seed: Array, ids: Array, step: Array, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), shape, dtype))(ids)


def _drift(walkers: Walkers) -> Array:
    """The largest distance that an atom has moved since its neighbour list was computed, Angstrom."""
    return jnp.sqrt(jnp.max(jnp.sum((walkers.system.positions - walkers.anchor) ** 2, axis=-1)))
