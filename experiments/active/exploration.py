"""Where the surrogate's own dynamics goes: many walkers at once, each stopped where the surrogate knows nothing.

A young potential lets atoms fly off, and beyond its cutoff it is sure of itself. So a walker is stopped as well
where its molecule falls apart, and starts where a labelled frame is not strained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float, Int
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

from data.errors import InputError
from data.neighbours import periodic_pairs
from data.structures import Structures
from experiments.active.selection import worst_atom
from surrogates.graph.dynamics import Dynamics, DynamicsConfig
from surrogates.graph.potential import Potential

#: Atoms of a frame that is worth a calculation are at least this far apart, Angstrom; H2 has 0.74.
CLOSEST = 0.5
#: Atoms farther apart than this times the sum of their covalent radii (Cordero et al. 2008) do not hold together.
#: A C-H bond of 1.7 Angstrom still does, so that the way out is labelled.
HOLD = 1.6


@dataclass(frozen=True)
class ExploreConfig:
    """The dynamics of a round: Langevin, from frames that are labelled.

    Attributes:
        walkers: molecules in motion.
        steps: of each.
        timestep_fs: femtoseconds a step.
        temperature_kelvin: of the bath. Above that of later use more is seen, and more labels are needed.
        friction_per_fs: of the bath.
        record_every: steps between frames.
        leash_ev_per_angstrom: a walker stops at the first frame in which an atom's force is less certain than
            this: beyond lies what no molecule does.
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
        """What `surrogates.graph.dynamics` integrates."""
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
    """What was visited.

    Attributes:
        frames: walker after walker, each in order of time, without their first; energies (eV) and forces
            (eV/Angstrom) are the surrogate's.
        walker: which walker made each frame.
        uncertainty: of each frame, eV/Angstrom; see `worst_atom`.
        lost_share: of the walkers, stopped before their time.
    """

    frames: Structures
    walker: Int[np.ndarray, " F"]
    uncertainty: Float[np.ndarray, " F"]
    lost_share: float


def explore(
    potential: Potential, labelled: Structures, config: ExploreConfig, seed: int, *, progress: bool = True
) -> Explored:
    """Walk from labelled frames drawn at random, and look how sure the surrogate is of what it meets.

    Args:
        potential: with standard deviations of its forces.
        labelled: frames to begin at.
        config: see `ExploreConfig`.
        seed: of the first frames, velocities and bath.
        progress: show a bar.

    Raises:
        InputError: the potential has no standard deviations.
    """
    if not any(variable.name == "forces_std" for variable in potential.spec.outputs):
        raise InputError(
            "active learning needs to know where the surrogate is unsure, and a single network does not tell",
            where="surrogate.ensemble",
            remedy="Set surrogate.ensemble=2 or more",
        )
    start = labelled.take(np.random.default_rng(seed).choice(calm(labelled), config.walkers))
    tables: list[Structures] = []
    walkers: list[np.ndarray] = []
    alive: list[np.ndarray] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not progress) as bar:
        task = bar.add_task("exploring", total=config.walkers * config.steps)
        for snapshot in Dynamics(potential, config.dynamics(seed))(start):
            if snapshot.step:
                tables.append(snapshot.structures)
                walkers.append(snapshot.rows)
                alive.append(snapshot.alive)
                bar.update(task, advance=len(snapshot.rows) * config.record_every)
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


def calm(labelled: Structures) -> Int[np.ndarray, " k"]:
    """Labelled frames to start at: of each composition, those with no more than the median energy."""
    elements = labelled.elements
    _, kind = np.unique(labelled.composition(elements), axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    median = np.array([np.median(labelled.energy[kind == k]) for k in range(kind.max() + 1)])
    return np.flatnonzero(labelled.energy <= median[kind])


def pieces(structures: Structures) -> Int[np.ndarray, " M"]:
    """Into how many pieces each structure falls whose atoms do not hold together, images included; see `HOLD`."""
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
    """Frames up to the first one of each walker that is beyond the leash, and how many walkers went there.

    That first frame is kept, as the one to learn most from, unless its uncertainty is not finite, which marks a
    geometry that is none.

    Args:
        walker: of each frame; frames of a walker stand together, in order of time.
        uncertainty: of each frame.
        leash: largest uncertainty at which a walker goes on.
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
