"""Exploration of ethanol by the dynamics of a kernel model at 500 K, with labels and test frames of GFN2-xTB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import atomic_masses

from benchmarks.active_learning import TEMPERATURE_KELVIN, trajectory
from benchmarks.kernel_committee import Explorer, KernelCommittee, Labeller
from benchmarks.kernel_forces import InverseDistances
from benchmarks.pool_tasks import PoolLabels, PoolTask
from benchmarks.proton_transfer import xtb
from data.structures.structures import Structures
from experiments.active.exploration import CLOSEST, calm, on_leash, pieces
from experiments.active.initial_frames import InitialConfig, shaken

WALKERS, STEPS, EVERY, TIMESTEP_FS, FRICTION_PER_FS, LEASH = 16, 300, 10, 0.5, 0.02, 2.0


def label(frames: Structures) -> Structures:
    """GFN2-xTB energies and forces."""
    energies, forces, positions = [], [], np.split(frames.positions, frames.atom_start[1:-1])
    atoms = Atoms(frames.numbers[: frames.sizes[0]], calculator=xtb())
    for x in positions:
        atoms.positions = x
        energies.append(float(atoms.get_potential_energy()))
        forces.append(atoms.get_forces().copy())
    return Structures.from_arrays([atoms.numbers] * len(positions), positions, energies, forces)


def explore(committee: KernelCommittee, labelled: Structures, seed: int) -> Structures:
    """Frames of Langevin walkers (BAOAB), each up to where it becomes too uncertain or falls apart."""
    rng = np.random.default_rng(seed)
    start = labelled.take(rng.choice(calm(labelled), WALKERS))
    mass = np.tile(np.repeat(atomic_masses[start.numbers[: start.sizes[0]]], 3), (WALKERS, 1))
    heat, dt = units.kB * TEMPERATURE_KELVIN, TIMESTEP_FS * units.fs
    keep = np.exp(-FRICTION_PER_FS * TIMESTEP_FS)
    x, v = start.positions.reshape(WALKERS, -1).copy(), rng.normal(size=mass.shape) * np.sqrt(heat / mass)
    numbers = [start.numbers[: start.sizes[0]]] * WALKERS

    def force() -> np.ndarray:
        frames = Structures.from_arrays(numbers, list(x.reshape(WALKERS, -1, 3)))
        return np.clip(committee.whole.predict(InverseDistances.of(frames))[1], -50.0, 50.0)

    pull, visited = force(), []
    for step in range(1, STEPS + 1):
        v += 0.5 * dt * pull / mass
        x += 0.5 * dt * v
        v = keep * v + np.sqrt((1 - keep**2) * heat / mass) * rng.normal(size=mass.shape)
        x += 0.5 * dt * v
        pull = force()
        v += 0.5 * dt * pull / mass
        if step % EVERY == 0:
            visited.append(x.reshape(WALKERS, -1, 3).copy())
    paths = np.stack(visited, axis=1).reshape(-1, *visited[0].shape[1:])
    frames = Structures.from_arrays([numbers[0]] * len(paths), list(paths))
    walker = np.repeat(np.arange(WALKERS), len(visited))
    well = (frames.shortest_distances() >= CLOSEST) & (pieces(frames) == 1)
    doubt = np.full(len(frames), np.inf)
    doubt[well] = committee.answer(frames.take(np.flatnonzero(well)))[1]
    return frames.take(on_leash(walker, doubt, LEASH)[0])


def dynamics_task(folder: Path, test: int = 200) -> tuple[PoolTask, Explorer, Labeller]:
    """Test frames of an independent trajectory, exploration and labels."""
    from experiments.active.results import write_frames
    from surrogates.potentials.structure_reading import read_structures

    path = folder / "test.xyz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_frames(label(trajectory(embedded(), test, 20.0, 99)), path)
    frames = read_structures(path, None)
    simulator = PoolLabels(frames, "ethanol by GFN2-xTB")
    task = PoolTask(frames, frames, np.zeros(test, int), ("500 K",), simulator, TEMPERATURE_KELVIN)
    return task, explore, label


def first_frames(count: int, seed: int) -> Structures:
    """Labelled frames of the first round, as `understudy active` makes them."""
    return label(shaken(embedded(), InitialConfig(count=count), seed))


def embedded() -> Structures:
    """Ethanol with a geometry by RDKit."""
    from simulators.chemistry.conformers import ConformerConfig, embed

    geometry = embed("CCO", ConformerConfig()).geometry
    return Structures.from_arrays([geometry.numbers], [geometry.positions])
