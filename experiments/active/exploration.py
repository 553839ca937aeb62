"""Exploration by molecular dynamics with the surrogate: many walkers, each stopped where it becomes too uncertain.

A potential that was trained on few labels lets atoms fly off, and its uncertainty is zero beyond the cutoff. A walker
is therefore also stopped where its molecule falls apart, and walkers start from labelled frames of low energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from data.errors import InputError
from data.structures.neighbours import periodic_pairs
from data.structures.structures import Structures
from data.terminal import progress_bar
from experiments.active.frame_selection import worst_atom
from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig
from surrogates.potentials.dynamics.force_field import ForceField
from surrogates.potentials.surrogate import PotentialSurrogate

#: Shortest distance between atoms of a frame that is worth a calculation, Angstrom; the bond of H2 is 0.74.
CLOSEST = 0.5
#: Atoms farther apart than this times the sum of their covalent radii (Cordero et al. 2008) are not bonded.
#: A C-H bond of 1.7 Angstrom still is, so that the onset of dissociation is labelled.
HOLD = 1.6


@dataclass(frozen=True)
class ExploreConfig:
    """Langevin dynamics of a round, which starts from labelled frames.

    Attributes:
        walkers: number of trajectories, which run side by side.
        steps: time steps of each walker.
        timestep_fs: time step, fs.
        temperature_kelvin: temperature of the heat bath, K. A temperature above that of later use visits more
            geometries, and needs more labels.
        friction_per_fs: friction coefficient of the heat bath, 1/fs.
        record_every: steps between recorded frames.
        leash_ev_per_angstrom: largest uncertainty of an atom's force, eV/Angstrom; a walker stops at the first frame
            above it, because geometries beyond are not physical.
    """

    walkers: int = 32
    steps: int = 1000
    timestep_fs: float = 0.5
    temperature_kelvin: float = 500.0
    friction_per_fs: float = 0.02
    record_every: int = 20
    leash_ev_per_angstrom: float = 2.0

    def __post_init__(self) -> None:
        if self.walkers < 1 or self.friction_per_fs <= 0 or self.leash_ev_per_angstrom <= 0:
            raise ValueError(f"walkers must be at least 1, friction and leash above 0; got {self}")
        self.dynamics(0)

    def dynamics(self, seed: int) -> DynamicsConfig:
        """The settings of `surrogates.potentials.dynamics.dynamics`, with a seed."""
        return DynamicsConfig(
            steps=self.steps,
            timestep_fs=self.timestep_fs,
            temperature_kelvin=self.temperature_kelvin,
            friction_per_fs=self.friction_per_fs,
            record_every=self.record_every,
            seed=seed,
        )


@dataclass(frozen=True)
class Explored:
    """Frames that the walkers visited.

    Attributes:
        frames: frames of one walker after the other, each in order of time and without its first frame; energies (eV)
            and forces (eV/Angstrom) are predictions of the surrogate.
        walker: index of the walker of each frame.
        uncertainty: uncertainty of each frame, eV/Angstrom; see `worst_atom`.
        lost_share: share of the walkers that were stopped early.
    """

    frames: Structures
    walker: Int[np.ndarray, " F"]
    uncertainty: Float[np.ndarray, " F"]
    lost_share: float


def explore(
    potential: PotentialSurrogate,
    labelled: Structures,
    config: ExploreConfig,
    seed: int,
    *,
    mover: ForceField | None = None,
    progress: bool = True,
) -> Explored:
    """Run dynamics from labelled frames drawn at random, and estimate the uncertainty of every frame.

    Args:
        potential: an ensemble, which predicts standard deviations of its forces.
        labelled: frames from which the first ones are drawn.
        config: see `ExploreConfig`.
        seed: seed of the first frames, the velocities and the heat bath.
        mover: gives the forces that move the walkers; None for the potential. The energies and forces of the frames are
            its own.
        progress: whether to show a progress bar.

    Raises:
        InputError: the potential has no standard deviations.
    """
    refuse_without_spread(potential)
    start = labelled.take(np.random.default_rng(seed).choice(calm(labelled), config.walkers))
    tables: list[Structures] = []
    walkers: list[np.ndarray] = []
    alive: list[np.ndarray] = []
    with progress_bar("exploring", config.walkers * config.steps, show=progress) as bar:
        for snapshot in Dynamics(mover or potential, config.dynamics(seed))(start):
            if snapshot.step:
                tables.append(snapshot.structures)
                walkers.append(snapshot.rows)
                alive.append(snapshot.alive)
                bar.advance(len(snapshot.rows) * config.record_every)
    # Snapshots come in order of time within a batch of walkers, so a stable sort keeps that order.
    order = np.argsort(np.concatenate(walkers), kind="stable")
    frames, walker = Structures.concatenate(tables).take(order), np.concatenate(walkers)[order]
    well = np.concatenate(alive)[order] & (frames.shortest_distances() >= CLOSEST)
    well &= pieces(frames) <= pieces(start)[walker]
    uncertainty = np.full(len(frames), np.inf)
    rows = np.flatnonzero(well)
    if len(rows):
        sane = frames.take(rows)
        answer = potential.predict_structures(sane)
        assert answer.forces_std is not None
        uncertainty[rows] = worst_atom(sane, answer.forces_std)
    kept, lost = on_leash(walker, uncertainty, config.leash_ev_per_angstrom)
    return Explored(frames.take(kept), walker[kept], uncertainty[kept], lost / config.walkers)


def refuse_without_spread(potential: PotentialSurrogate) -> None:
    """Refuse a potential that does not know where it is unsure.

    Raises:
        InputError: it has no standard deviations.
    """
    if not any(variable.name == "forces_std" for variable in potential.spec.outputs):
        raise InputError(
            "active learning needs the uncertainty of the surrogate, and a single network does not estimate it",
            where="model.ensemble",
            remedy="Set model.ensemble=2 or more",
        )


def calm(labelled: Structures) -> Int[np.ndarray, " k"]:
    """Rows of the labelled frames to start from: of each composition, those with at most its median energy."""
    elements = labelled.elements
    _, kind = np.unique(labelled.composition(elements), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    median = np.array([np.median(labelled.energy[kind == k]) for k in range(kind.max() + 1)])
    return np.flatnonzero(labelled.energy <= median[kind])


def pieces(structures: Structures) -> Int[np.ndarray, " M"]:
    """Number of fragments of each structure, periodic images included; atoms within `HOLD` are bonded."""
    counts = np.zeros(len(structures), np.int64)
    for m, (first, last) in enumerate(zip(structures.atom_start[:-1], structures.atom_start[1:], strict=True)):
        radius = covalent_radii[structures.numbers[first:last]]
        hold = HOLD * (radius[:, None] + radius)
        if structures.periodic[m].any():
            pairs = periodic_pairs(structures.positions[first:last], structures.lattice[m], float(hold.max()) + 1e-6)
            near = np.zeros(hold.shape, bool)
            close = pairs.distance <= hold[pairs.centre, pairs.other]
            near[pairs.centre[close], pairs.other[close]] = True
        else:
            near = squareform(pdist(structures.positions[first:last])) <= hold
        counts[m] = connected_components(near, directed=False)[0]
    return counts


def on_leash(
    walker: Int[np.ndarray, " F"], uncertainty: Float[np.ndarray, " F"], leash: float
) -> tuple[Int[np.ndarray, " k"], int]:
    """Rows of the frames up to the first one of each walker that exceeds the leash, and how many walkers exceed it.

    That first frame is kept, because it teaches most, unless its uncertainty is not finite, which marks a geometry that
    is not physical.

    Args:
        walker: walker of each frame; frames of a walker are contiguous and in order of time.
        uncertainty: uncertainty of each frame, eV/Angstrom.
        leash: largest uncertainty at which a walker continues, eV/Angstrom.
    """
    kept: list[np.ndarray] = []
    lost = 0
    for number in np.unique(walker):
        rows = np.flatnonzero(walker == number)
        beyond = np.flatnonzero(~(uncertainty[rows] <= leash))
        if len(beyond):
            lost += 1
            rows = rows[: beyond[0] + int(np.isfinite(uncertainty[rows[beyond[0]]]))]
        kept.append(rows)
    return np.concatenate(kept).astype(np.int64), lost
