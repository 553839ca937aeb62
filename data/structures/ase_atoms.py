"""ASE's atoms as structures, with the total charge and the unpaired electrons under the names that frames use."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from data.spec import SimulationError
from data.structures.frame_names import FrameKeys, total_charge, unpaired_electrons
from data.structures.structures import Structures


def charge_and_spin(atoms: Atoms, *, spins: bool = True) -> tuple[int, int | None]:
    """The total charge (e), and the number of unpaired electrons where it is stated and matters.

    They are read from `atoms.info`, the initial charges and the initial magnetic moments.

    Args:
        atoms: the atoms.
        spins: whether the number of unpaired electrons matters.

    Returns:
        The charge, 0 where none is stated, and the number, None where none is stated or `spins` is false.

    Raises:
        SimulationError: `invalid_input`: one of them is ambiguous.
    """
    fields = {**atoms.info, **{k: v for k, v in atoms.arrays.items() if k in ("initial_charges", "initial_magmoms")}}
    charge, _, problem = total_charge(fields, atoms.numbers, FrameKeys())
    spin = None
    if problem is None and spins:
        spin, _, problem = unpaired_electrons(fields, atoms.numbers, charge or 0, bool(atoms.pbc.any()), FrameKeys())
    if problem is not None:
        what = problem.split(": write")[0]
        raise SimulationError("invalid_input", f"{what}; set atoms.info['charge'] and atoms.info['spin']")
    return charge or 0, spin


def structure_of(atoms: Atoms, *, spins: bool = True) -> Structures:
    """A table of one structure, without labels: positions (Angstrom), cell (Angstrom; zeros where not periodic).

    Args:
        atoms: the atoms.
        spins: see `charge_and_spin`.

    Raises:
        SimulationError: see `charge_and_spin`.
    """
    charge, spin = charge_and_spin(atoms, spins=spins)
    return Structures.from_arrays(
        [atoms.numbers],
        [atoms.positions],
        charge=[charge],
        lattice=[np.where(np.asarray(atoms.pbc)[:, None], atoms.cell.array, 0.0)],
        spin=[spin],
    )
