"""Delta-learning: labels as differences to a cheaper simulator, which answers beside the surrogate ever after.

What a semi-empirical method gets right need not be learned (Ramakrishnan et al. 2015, doi:10.1021/acs.jctc.5b00099).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from data.structures import Structures
from simulators.base import Simulator, dataset


def baseline_answers(
    baseline: Simulator, structures: Structures
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "A 3"]]:
    """Energies (eV) and forces (eV/Angstrom) of a simulator, one structure after the other, in this process.

    Raises:
        SimulationError: it has no answer for one of them.
    """
    energy, forces = np.zeros(len(structures)), np.zeros_like(structures.positions)
    names = {v.name for v in baseline.spec.inputs}
    for m in range(len(structures)):
        atoms = slice(structures.atom_start[m], structures.atom_start[m + 1])
        values = request(structures, m)
        found = baseline.simulate(dataset(baseline.spec.inputs, {k: v for k, v in values.items() if k in names}))
        energy[m], forces[atoms] = float(found["energy"]), found["forces"].values
    return energy, forces


def request(structures: Structures, row: int) -> dict[str, Any]:
    """What a quantum-chemical simulator is asked about one structure, in its lowest spin."""
    atoms = slice(structures.atom_start[row], structures.atom_start[row + 1])
    numbers, charge = structures.numbers[atoms], int(structures.charge[row])
    spin = (int(numbers.sum()) - charge) % 2
    return {"numbers": numbers, "positions": structures.positions[atoms], "charge": charge, "spin": spin}
