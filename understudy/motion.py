"""Relaxation and dynamics of many molecules at once on a trained potential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from data.errors import InputError
from data.molecules.files import read
from data.structures.structures import Structures
from surrogates.abilities import HasExperts
from surrogates.potentials.dynamics.dynamics import Dynamics, DynamicsConfig
from surrogates.potentials.dynamics.force_field import ForceField
from surrogates.potentials.dynamics.relax import RelaxConfig, Relaxed, Relaxer, joined
from surrogates.potentials.dynamics.trajectory import run_dynamics
from surrogates.trained import Surrogate


def structures(file: str | Path) -> Structures:
    """The geometries of a file (.xyz, .extxyz, .sdf, .db).

    Raises:
        InputError: the file or a row of it cannot be read.
    """
    return Structures.from_frames(read(Path(file)), str(file))


def relax(potential: Surrogate, molecules: Structures | str | Path, **settings: Any) -> Relaxed:
    """Relax geometries until no force is longer than `fmax`.

    Args:
        potential: what `understudy.load` gave for a potential or a mixture, whose experts answer a molecule each.
        molecules: a file of geometries, or a table of them.
        **settings: of `surrogates.potentials.dynamics.relax.RelaxConfig`: fmax (eV/Angstrom), max_steps, optimiser and
            buckets.

    Returns:
        Positions, energies (eV), forces (eV/Angstrom) and the status of each molecule.

    Raises:
        InputError: the surrogate is no potential, or the file cannot be read.
        SimulationError: `invalid_input`: the potential does not know an element.
    """
    table = molecules if isinstance(molecules, Structures) else structures(molecules)
    config = RelaxConfig(**settings)
    parts = [(rows, Relaxer(_potential(one), config)(table.take(rows))) for one, rows in _answering(potential, table)]
    return parts[0][1] if len(parts) == 1 else joined(table, parts)


def dynamics(
    potential: Surrogate,
    molecules: Structures | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    **settings: Any,
) -> int:
    """Molecular dynamics of each molecule, written frame by frame.

    Args:
        potential: what `understudy.load` gave for a potential.
        molecules: a file of geometries, or a table of them.
        out: trajectory, `.zarr` or `.extxyz`.
        resume: go on with the trajectory that is there.
        **settings: of `surrogates.potentials.dynamics.dynamics.DynamicsConfig`: steps, timestep_fs, temperature_kelvin,
            friction_per_fs (0: constant energy), record_every, seed, buckets.

    Returns:
        Frames written.

    Raises:
        InputError: the surrogate is no potential, a file cannot be read or written, or several experts of a mixture
            answer the molecules.
        SimulationError: `invalid_input`: the potential does not know an element.
    """
    table = molecules if isinstance(molecules, Structures) else structures(molecules)
    (one, _), *others = _answering(potential, table)
    if others:
        raise InputError(
            f"{len(others) + 1} experts answer these molecules, and a trajectory has one potential",
            remedy="Give the molecules of each expert a trajectory of their own; potential.by_expert(molecules) tells "
            "which these are",
        )
    return run_dynamics(Dynamics(_potential(one), DynamicsConfig(**settings)), table, out, resume=resume)


def _answering(surrogate: Surrogate, table: Structures) -> list[tuple[Surrogate, Int[np.ndarray, " m"]]]:
    """The surrogate with all rows; of a mixture the experts that answer the rows as they are now.

    A molecule keeps its expert, whatever geometries it moves through, so that it moves on one surface.
    """
    if not isinstance(surrogate, HasExperts) or not len(table):
        return [(surrogate, np.arange(len(table)))]
    return [(surrogate.experts[expert], rows) for expert, rows in surrogate.by_expert(table)]


def _potential(surrogate: Surrogate) -> ForceField:
    if "rung" in {variable.name for variable in surrogate.spec.outputs}:
        raise InputError(
            f"{surrogate.name} may change its rung between two steps, which conserves no energy",
            remedy="Move atoms with one of its rungs, and ask the cascade for the frames of the trajectory",
        )
    if not isinstance(surrogate, ForceField):
        raise InputError(
            f"{surrogate.name} is no potential: it has no forces to follow",
            remedy="Load one that understudy train task=molecules/potentials made",
        )
    return surrogate
