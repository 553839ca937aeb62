"""Delta-learning: the surrogate learns differences to a cheaper simulator, whose answers are added at prediction time.

The network need not learn what a semi-empirical method already describes (Ramakrishnan et al. 2015,
doi:10.1021/acs.jctc.5b00099).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.structures.table import Structures
from simulators.adapter import Simulator
from simulators.structure_requests import request


def baseline_answers(
    baseline: Simulator, structures: Structures
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "A 3"]]:
    """Energies (eV) and forces (eV/Angstrom) of a simulator, one structure after the other, in this process.

    Raises:
        SimulationError: the simulator fails for one of the structures.
    """
    energy, forces = np.zeros(len(structures)), np.zeros_like(structures.positions)
    for m in range(len(structures)):
        atoms = slice(structures.atom_start[m], structures.atom_start[m + 1])
        answer = baseline.simulate(request(baseline, structures, m))
        energy[m], forces[atoms] = float(answer["energy"]), answer["forces"].values
    return energy, forces
