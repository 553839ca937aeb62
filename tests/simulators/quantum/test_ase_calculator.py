"""ASE calculators as simulators: analytic potentials, and tblite's own ASE interface."""

from __future__ import annotations

import numpy as np
import pytest
from tblite.ase import TBLite

from data.errors import InputError
from simulators.base import SimulationError
from simulators.quantum.ase_calculator import ASECalculator
from simulators.quantum.variables import Geometry
from simulators.quantum.xtb import XTB

LENNARD_JONES = "ase.calculators.lj.LennardJones"


def dimer(distance: float) -> Geometry:
    return Geometry(np.array([18, 18], np.int32), np.array([[0, 0, 0], [0, 0, distance]]))


def test_a_lennard_jones_dimer_is_the_formula() -> None:
    epsilon, sigma, cutoff = 0.0104, 3.4, 12.0
    simulator = ASECalculator(LENNARD_JONES, {"epsilon": epsilon, "sigma": sigma, "rc": cutoff})

    def formula(r: float) -> float:
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    for r in (3.6, 2 ** (1 / 6) * sigma, 5.0):
        found = simulator.simulate(dimer(r).dataset())
        assert float(found.energy) == pytest.approx(formula(r) - formula(cutoff), abs=1e-10)
        slope = (formula(r + 1e-5) - formula(r - 1e-5)) / 2e-5
        assert found.forces.values[1, 2] == pytest.approx(-slope, abs=1e-7)


def test_any_calculator_from_python_gives_its_own_numbers() -> None:
    water = Geometry(
        np.array([8, 1, 1], np.int32), np.array([[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]])
    )
    outputs = ("energy", "forces", "dipole", "dipole_moment", "mulliken_charges")
    there = ASECalculator("tblite", {"method": "GFN2-xTB"}, outputs, make=_tblite).simulate(water.dataset())
    here = XTB(outputs=outputs).simulate(water.dataset())
    for name in outputs:
        assert there[name].values == pytest.approx(here[name].values, abs=1e-5)
        assert there[name].attrs["units"] == here[name].attrs["units"]


def _tblite() -> TBLite:
    return TBLite(method="GFN2-xTB", verbosity=0)


def test_what_a_calculator_lacks_is_invalid_input() -> None:
    simulator = ASECalculator(LENNARD_JONES, outputs=("dipole",))
    with pytest.raises(SimulationError) as caught:
        simulator.simulate(dimer(4.0).dataset())
    assert caught.value.kind == "invalid_input"


@pytest.mark.parametrize("path", ["os.system", "ase.calculators.nothing.Here", "ase.io.read"])
def test_a_configuration_imports_nothing_but_calculators_of_ase(path: str) -> None:
    with pytest.raises(InputError):
        ASECalculator(path)
