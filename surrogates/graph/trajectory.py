"""What dynamics and relaxations give, written as trajectories; see `data.trajectories`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.frames import Frame
from data.structures import Structures
from data.trajectories import write_frames
from surrogates.graph.dynamics import Dynamics, Snapshot
from surrogates.graph.relax import Relaxed


def write_trajectory(
    snapshots: Iterable[Snapshot] | Relaxed,
    path: Path | str,
    *,
    timestep_fs: float | None = None,
    source: str = "",
    resume: bool = False,
) -> int:
    """Write snapshots as the dynamics gives them, or the end of a relaxation; how many frames were new.

    Args:
        snapshots: what `Dynamics` yields, or what a `Relaxer` returns.
        path: .xyz or .extxyz (each also .gz), or .zarr.
        timestep_fs: of the dynamics; None where steps are of no time.
        source: the name of the potential.
        resume: go on where a killed run of the same dynamics stopped; its frames are computed, compared and
            passed over.

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
    """Move molecules and write where they go, with the potential's name; how many frames were new.

    Args:
        dynamics: see `Dynamics`.
        structures, velocities: where they begin, as `Dynamics` takes them.
        path, resume: as `write_trajectory`.

    Raises:
        SimulationError: `invalid_input`, as `Potential.predict_structures`.
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
    """Each molecule of each snapshot; one that has left the finite numbers has the status `broken`."""
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
    """Each molecule where its relaxation ended; the status is `ok`, `out_of_steps` or `broken`."""
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
