"""Small molecules with published energies, and PySCF's answer for one; shared by the tests beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase.units import Bohr

from data.spec import check
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.variables import Geometry

# The water of the Crawford group's programming projects (github.com/CrawfordGroup/ProgrammingProjects), Bohr,
# which publish its RHF, MP2, CCSD and CCSD(T) energies in STO-3G.
WATER = Geometry(
    np.array([8, 1, 1], np.int32),
    np.array([[0, -0.143225816552, 0], [1.638036840407, 1.136548822547, 0], [-1.638036840407, 1.136548822547, 0]])
    * Bohr,
)
HELIUM = Geometry(np.array([2], np.int32), np.zeros((1, 3)))
HYDROGEN = Geometry(np.array([1, 1], np.int32), np.array([[0, 0, 0], [0, 0, 1.4 * Bohr]]))


def run(geometry: Geometry, **settings: Any) -> Any:
    simulator = PySCF(**{"density_fit": False, "basis": "sto-3g", "method": "hf", **settings})
    answer = simulator.simulate(geometry.dataset())
    check(answer, simulator.spec.outputs)
    return answer


def bent(seed: int = 0) -> Geometry:
    return replace(WATER, positions=WATER.positions + 0.05 * np.random.default_rng(seed).normal(size=(3, 3)))


def stretched(length: float, geometry: Geometry = HYDROGEN) -> Geometry:
    return replace(geometry, positions=np.array([[0, 0, 0], [0, 0, length]]))
