"""Whether molecules stay whole in a dynamics, and how far their total energy drifts where nothing exchanges energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from data.structures.structures import Structures
    from surrogates.potentials.dynamics.force_field import ForceField

#: A bond is broken that is longer than this multiple of its first length.
BROKEN = 1.6
#: Atoms closer than this multiple of the sum of their covalent radii are bonded in a first frame.
BONDED = 1.25


@dataclass(frozen=True)
class FirstBonds:
    """The bonds of the first frames of trajectories.

    Attributes:
        pairs: for each frame, the atoms at the two ends of each bond, counted within the frame.
        lengths: their first lengths, Angstrom.
    """

    pairs: list[tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"]]]
    lengths: list[Float[np.ndarray, " b"]]

    @staticmethod
    def of(frames: Structures) -> FirstBonds:
        """The bonds of frames, by the covalent radii of their atoms."""
        from ase.data import covalent_radii

        pairs, lengths = [], []
        for first, last in zip(frames.atom_start[:-1], frames.atom_start[1:], strict=True):
            x, radii = frames.positions[first:last], covalent_radii[frames.numbers[first:last]]
            apart = np.linalg.norm(x[:, None] - x[None], axis=-1)
            i, j = np.nonzero(np.triu(apart < BONDED * (radii[:, None] + radii), 1))
            pairs.append((i, j))
            lengths.append(apart[i, j])
        return FirstBonds(pairs, lengths)

    def broken(self, frames: Structures, rows: Int[np.ndarray, " M"]) -> Bool[np.ndarray, " M"]:
        """Whether a bond of each frame is too long by now, or a distance is not a number.

        Args:
            frames: what the trajectories have become, all of them or those of one batch.
            rows: the trajectory of each frame.
        """
        bad = np.zeros(len(frames), bool)
        for place, m in enumerate(rows):
            (i, j), first = self.pairs[m], self.lengths[m]
            x = frames.positions[frames.atom_start[place] : frames.atom_start[place + 1]]
            ratio = np.linalg.norm(x[i] - x[j], axis=-1) / first
            bad[place] = bool(~np.isfinite(ratio).all() or (ratio > BROKEN).any())
        return bad


@dataclass(frozen=True)
class FreeRun:
    """Trajectories at constant energy.

    Attributes:
        picoseconds: time of each record since the start, ps.
        energy: total energy of each record and trajectory, eV an atom.
        kelvin: temperature of each record and trajectory, from all but six degrees of freedom, K.
        whole: whether each trajectory was whole until each record.
        core_seconds: processor time, s.
    """

    picoseconds: Float[np.ndarray, " T"]
    energy: Float[np.ndarray, "T M"]
    kelvin: Float[np.ndarray, "T M"]
    whole: Bool[np.ndarray, "T M"]
    core_seconds: float

    def drifts(self) -> Float[np.ndarray, " M"]:
        """Slope of a line through the total energy of each trajectory while it is whole, meV an atom and ps.

        It is not a number where fewer than three records are whole.
        """
        slopes = np.full(self.energy.shape[1], np.nan)
        for m, whole in enumerate(self.whole.T):
            if whole.sum() > 2:
                slopes[m] = 1e3 * np.polyfit(self.picoseconds[whole], self.energy[whole, m], 1)[0]
        return slopes

    def scatter(self) -> Float[np.ndarray, " M"]:
        """Standard deviation of the total energy of each trajectory while it is whole, meV an atom."""
        each = zip(self.energy.T, self.whole.T, strict=True)
        return np.array([1e3 * energy[whole].std() if whole.any() else np.nan for energy, whole in each])


def free_run(
    potential: ForceField,
    start: Structures,
    picoseconds: float,
    *,
    kelvin: float,
    timestep_fs: float = 0.5,
    record_every: int = 100,
    seed: int = 0,
) -> FreeRun:
    """Run the dynamics of frames without a heat bath, side by side, from velocities at a temperature.

    Args:
        potential: gives the forces.
        start: first frames, one a trajectory.
        picoseconds: length of each trajectory.
        kelvin: temperature of the first velocities.
        timestep_fs: time step, fs.
        record_every: steps between records.
        seed: seed of the velocities.
    """
    from ase import units

    from data.processes.processor import tree_seconds
    from data.terminal import progress_bar
    from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig

    steps = round(1000 * picoseconds / timestep_fs / record_every) * record_every
    settings = DynamicsConfig(steps, timestep_fs, kelvin, record_every=record_every, seed=seed, buckets=1)
    bonds, began = FirstBonds.of(start), tree_seconds()
    times, energies, kelvins, whole = [], [], [], []
    so_far = np.ones(len(start), bool)
    with progress_bar("dynamics", steps) as bar:
        for now in Dynamics(potential, settings)(start):
            if len(now.rows) != len(start):
                raise ValueError("the trajectories do not fit into one batch")
            so_far = so_far & np.asarray(now.alive, bool)[: len(start)] & ~bonds.broken(now.structures, now.rows)
            times.append(1e-3 * timestep_fs * now.step)
            energies.append((np.asarray(now.structures.energy) + now.kinetic) / start.sizes)
            kelvins.append(2 * now.kinetic / (units.kB * (3 * start.sizes - 6)))
            whole.append(so_far)
            bar.advance(record_every if now.step else 0)
    tables = np.array(energies), np.array(kelvins), np.array(whole)
    return FreeRun(np.array(times), *tables, tree_seconds() - began)
