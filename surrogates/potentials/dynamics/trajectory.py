"""Output of dynamics and relaxations as trajectory files; see `data.structures.trajectories`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.structures.frame import Frame
from data.structures.structures import Structures
from data.structures.trajectories import write_frames
from surrogates.potentials.dynamics.dynamics import Dynamics, Snapshot
from surrogates.potentials.dynamics.relax import Relaxed


def write_trajectory(
    snapshots: Iterable[Snapshot] | Relaxed,
    path: Path | str,
    *,
    timestep_fs: float | None = None,
    source: str = "",
    resume: bool = False,
) -> int:
    """Write the snapshots of a dynamics, or the result of a relaxation; returns the number of new frames.

    Args:
        snapshots: snapshots from `Dynamics`, or the result of a `Relaxer`.
        path: file with suffix .xyz or .extxyz (each also .gz), or .zarr.
        timestep_fs: length of a step of the dynamics, fs; None for no times.
        source: name of the potential.
        resume: continue the file of an interrupted run of the same dynamics. Its frames are computed again and
            compared with the file.

    Raises:
        InputError, CorruptStoreError: as `write_frames`.
    """
    new_frames = relaxed_frames(snapshots) if isinstance(snapshots, Relaxed) else frames(snapshots, timestep_fs)
    return write_frames(new_frames, path, source=source, resume=resume)


def run_dynamics(
    dynamics: Dynamics,
    structures: Structures,
    path: Path | str,
    *,
    velocities: Float[np.ndarray, "A 3"] | None = None,
    resume: bool = False,
) -> int:
    """Run a dynamics and write its trajectory with the name of the potential; returns the number of new frames.

    Args:
        dynamics: the potential and the settings of the integrator.
        structures: initial structures.
        path: trajectory file, as in `write_trajectory`.
        velocities: initial velocities, Angstrom/fs, as in `Dynamics`.
        resume: continue the file of an interrupted run, as in `write_trajectory`.

    Raises:
        SimulationError: `invalid_input`, as `PotentialSurrogate.predict_structures`.
        InputError, CorruptStoreError: as `write_trajectory`.
    """
    return write_trajectory(
        dynamics(structures, velocities),
        path,
        timestep_fs=dynamics.config.timestep_fs,
        source=dynamics.potential.name,
        resume=resume,
    )


def frames(snapshots: Iterable[Snapshot], timestep_fs: float | None = None) -> Iterator[Frame]:
    """A frame for each molecule of each snapshot; a molecule with numbers that are not finite is `broken`."""
    for now in snapshots:
        table = now.structures
        for i, molecule in enumerate(now.rows.tolist()):
            atoms = slice(table.atom_start[i], table.atom_start[i + 1])
            yield Frame(
                molecule=molecule,
                step=now.step,
                time_fs=float("nan") if timestep_fs is None else now.step * timestep_fs,
                numbers=table.numbers[atoms],
                positions=table.positions[atoms],
                energy=float(table.energy[i]),
                forces=table.forces[atoms],
                velocities=now.velocities[atoms],
                kinetic_energy=float(now.kinetic[i]),
                energy_std=float("nan") if now.energy_std is None else float(now.energy_std[i]),
                status="ok" if now.alive[i] else "broken",
                cell=_cell(table, i),
            )


def relaxed_frames(relaxed: Relaxed) -> Iterator[Frame]:
    """A frame for each molecule at the end of its relaxation; the status is `ok`, `out_of_steps` or `broken`."""
    table = relaxed.structures
    for i, status in enumerate(relaxed.status):
        atoms = slice(table.atom_start[i], table.atom_start[i + 1])
        forces = table.forces[atoms]
        yield Frame(
            molecule=i,
            step=int(relaxed.steps[i]),
            time_fs=float("nan"),
            numbers=table.numbers[atoms],
            positions=table.positions[atoms],
            energy=float(table.energy[i]),
            forces=forces if np.isfinite(forces).all() else None,
            status="ok" if status == "converged" else status,
            cell=_cell(table, i),
        )


def _cell(table: Structures, row: int) -> Float[np.ndarray, "3 3"] | None:
    return table.lattice[row] if table.lattice[row].any() else None
