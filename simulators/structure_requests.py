"""Requests to simulators of molecules and crystals for the structures of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.spec import SimulationError, dataset
from data.structures.structures import Structures
from simulators.adapter import Simulator


def request(simulator: Simulator, structures: Structures, row: int) -> xr.Dataset:
    """The request to a quantum-chemical simulator for one structure, with its charge, spin and cell.

    Raises:
        SimulationError: `invalid_input`: the structure is periodic or charged, and the simulator takes no cell or no
            charge.
    """
    atoms = slice(structures.atom_start[row], structures.atom_start[row + 1])
    values: dict[str, Any] = {
        "numbers": structures.numbers[atoms],
        "positions": structures.positions[atoms],
        "charge": int(structures.charge[row]),
        "spin": int(structures.spins[row]),
        "cell": structures.lattice[row],
    }
    names = {v.name for v in simulator.spec.inputs}
    for name in ("cell", "charge"):
        if name not in names and np.any(values[name]):
            what = "is periodic" if name == "cell" else f"has a charge of {values['charge']:+d}"
            raise SimulationError("invalid_input", f"a structure {what}, and {simulator.name} takes no {name}")
    return dataset(simulator.spec.inputs, {k: v for k, v in values.items() if k in names})


def refuse_cells(simulator: Simulator, structures: Structures, where: str) -> None:
    """Refuse periodic structures where the simulator computes isolated molecules only.

    Raises:
        InputError: at least one structure is periodic; the message says how many.
    """
    repeating = int(structures.periodic.any(axis=1).sum())
    if repeating and "cell" not in {v.name for v in simulator.spec.inputs}:
        raise InputError(
            f"{repeating:,} of {len(structures):,} frames are periodic, and {simulator.name} takes isolated molecules",
            where=where,
            remedy="Remove their cells, leave them out, or name a simulator of periodic systems, such as ase",
        )
