"""ASE calculators as simulators: analytic potentials, and tblite's own ASE interface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.calculator import FileIOCalculator
from ase.calculators.emt import EMT
from tblite.ase import TBLite

from data.errors import InputError
from data.spec import SimulationError
from simulators.adapter import Simulator
from simulators.chemistry.ase_calculator import ASECalculator
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.variables import Geometry
from simulators.chemistry.xtb import XTB

LENNARD_JONES = "ase.calculators.lj.LennardJones"


def dimer(distance: float) -> Geometry:
    return Geometry(np.array([18, 18], np.int32), np.array([[0, 0, 0], [0, 0, distance]]))


def test_a_lennard_jones_dimer_is_the_formula() -> None:
    epsilon, sigma, cutoff = 0.0104, 3.4, 12.0
    simulator = ASECalculator(LENNARD_JONES, {"epsilon": epsilon, "sigma": sigma, "rc": cutoff})

    def formula(r: float) -> float:
        return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)

    for r in (3.6, 2 ** (1 / 6) * sigma, 5.0):
        answer = simulator.simulate(dimer(r).dataset())
        assert float(answer.energy) == pytest.approx(formula(r) - formula(cutoff), abs=1e-10)
        slope = (formula(r + 1e-5) - formula(r - 1e-5)) / 2e-5
        assert answer.forces.values[1, 2] == pytest.approx(-slope, abs=1e-7)


def test_any_calculator_from_python_gives_its_own_numbers() -> None:
    water = Geometry(
        np.array([8, 1, 1], np.int32), np.array([[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]])
    )
    outputs = ("energy", "forces", "dipole", "dipole_moment", "mulliken_charges")
    by_ase = ASECalculator("tblite", {"method": "GFN2-xTB"}, outputs, make=_tblite).simulate(water.dataset())
    by_tblite = XTB(outputs=outputs).simulate(water.dataset())
    for name in outputs:
        assert by_ase[name].values == pytest.approx(by_tblite[name].values, abs=1e-5)
        assert by_ase[name].attrs["units"] == by_tblite[name].attrs["units"]


def _tblite() -> TBLite:
    return TBLite(method="GFN2-xTB", verbosity=0)


def test_what_a_calculator_lacks_is_invalid_input() -> None:
    simulator = ASECalculator(LENNARD_JONES, outputs=("dipole",))
    with pytest.raises(SimulationError) as caught:
        simulator.simulate(dimer(4.0).dataset())
    assert caught.value.kind == "invalid_input"


@pytest.mark.parametrize("path", ["os.system", "ase.calculators.nothing.Here", "ase.io.read", "tblite.ase.Calculator"])
def test_a_configuration_imports_nothing_but_calculators_of_ase(path: str) -> None:
    with pytest.raises(InputError):
        ASECalculator(path)


def repeated(atoms: Atoms) -> Geometry:
    return Geometry(
        atoms.numbers.astype(np.int32), atoms.positions, cell=np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    )


def test_a_calculator_of_another_package_is_named_from_a_list_with_the_charge_of_the_request() -> None:
    ammonium = Geometry(
        np.array([7, 1, 1, 1, 1], np.int32),
        np.array([[0, 0, 0], [0.6, 0.6, 0.6], [-0.6, -0.6, 0.6], [-0.6, 0.6, -0.6], [0.6, -0.6, -0.6]]),
        charge=1,
    ).dataset()
    listed = ASECalculator("tblite.ase.TBLite", {"method": "GFN1-xTB", "verbosity": 0})
    by_ase, by_tblite = listed.simulate(ammonium), XTB("GFN1-xTB", outputs=("energy", "forces")).simulate(ammonium)
    for name in ("energy", "forces"):
        np.testing.assert_allclose(by_ase[name], by_tblite[name], atol=1e-5)
    assert ", tblite " in listed.provenance["version"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("tblite.ase.TBLite", "charge"),
        ("tblite.ase.TBLite", "xtb_config"),
        ("dftd4.ase.DFTD4", "charge"),
    ],
)
def test_no_parameter_of_another_package_names_a_file_or_a_charge(path: str, parameter: str) -> None:
    with pytest.raises(InputError, match=rf"simulator\.parameters\.{parameter}: a configuration does not give"):
        ASECalculator(path, {parameter: 1})


@pytest.mark.parametrize("name", ["crystal", "one atom", "slab", "wire"])
def test_a_cell_is_repeated_as_ase_repeats_it(name: str) -> None:
    crystal = bulk("Cu", a=3.61, cubic=True)
    atoms = {
        "crystal": crystal,
        "one atom": bulk("Cu", a=3.61),
        "slab": fcc111("Cu", (1, 1, 3), a=3.61, vacuum=6.0),
        "wire": Atoms("Cu2", [[0, 0, 0], [0.3, 0, 2.4]], cell=[0, 0, 4.9], pbc=(False, False, True)),
    }[name]
    atoms.calc = EMT()
    answer = ASECalculator("ase.calculators.emt.EMT").simulate(repeated(atoms).dataset())
    assert float(answer.energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(answer.forces.values, atoms.get_forces(), atol=1e-9)
    if name == "crystal":
        # EMT is fitted to the cohesion of copper, and counts energies from there.
        assert float(answer.energy) / 4 == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    "simulator",
    [XTB(), PySCF(method="hf", basis="sto-3g"), ASECalculator("ase.calculators.orca.ORCA")],
    ids=lambda s: s.name,
)
def test_simulators_of_molecules_refuse_a_cell(simulator: Simulator) -> None:
    assert "cell" not in {variable.name for variable in simulator.spec.inputs}
    with pytest.raises(SimulationError, match="repeats along 3 directions"):
        simulator.simulate(repeated(bulk("Cu", a=3.61)).dataset())


def test_a_force_field_refuses_ions_and_a_spin() -> None:
    pair = dimer(4.0)
    for geometry in (replace(pair, charge=1, spin=1), replace(pair, spin=2)):
        with pytest.raises(SimulationError, match="knows no electrons"):
            ASECalculator(LENNARD_JONES).simulate(geometry.dataset())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([[4, 0, 0], [8, 0, 0], [0, 0, 4]], "do not span"),
        ([[0.1, 0, 0], [0, 4, 0], [0, 0, 9]], r"0\.100 Angstrom apart"),
    ],
)
def test_a_cell_that_makes_no_sense_is_refused(cell: list[list[float]], message: str) -> None:
    geometry = replace(dimer(4.0), cell=np.array(cell, float))
    with pytest.raises(SimulationError, match=message):
        ASECalculator(LENNARD_JONES).simulate(geometry.dataset())


@pytest.mark.parametrize(
    "name", ["ase.calculators.abc.ABC", "ase.calculators.emt.np", "ase.calculators.calculator.compare_atoms"]
)
def test_what_is_no_calculator_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no calculator"):
        ASECalculator(name)


def test_a_configuration_does_not_say_which_program_runs() -> None:
    with pytest.raises(InputError, match=r"simulator\.parameters\.command: a configuration does not say which program"):
        ASECalculator("ase.calculators.gaussian.Gaussian", {"command": "touch /tmp/pwned"})


class Program(FileIOCalculator):
    """Runs a program that writes a file and leaves it there."""

    implemented_properties = ("energy",)
    places: ClassVar[list[Path]] = []

    def __init__(self) -> None:
        super().__init__(command="pwd > place")

    def read_results(self) -> None:
        """The energy, and where the program ran."""
        self.places.append(Path((Path(self.directory) / "place").read_text().strip()))
        self.results = {"energy": -1.0}


def test_a_calculator_that_runs_a_program_has_a_directory_of_its_own_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    simulator = ASECalculator("program", outputs=("energy",), make=Program)
    for _ in range(2):
        assert float(simulator.simulate(dimer(4.0).dataset())["energy"]) == -1.0
    first, second = Program.places
    assert first != second
    assert not first.exists()
    assert list(tmp_path.iterdir()) == []


def test_the_stress_of_a_crystal_is_that_of_ase() -> None:
    crystal = bulk("Cu", cubic=True)
    strain = np.array([[1.0, 0.02, 0.0], [0.02, 1.0, 0.0], [0.0, 0.0, 1.01]])
    crystal.set_cell(crystal.cell.array @ strain, scale_atoms=True)
    simulator = ASECalculator("ase.calculators.emt.EMT", outputs=("energy", "stress"))
    request = Geometry(crystal.numbers, crystal.positions, cell=crystal.cell.array)
    crystal.calc = EMT()
    np.testing.assert_allclose(simulator.simulate(request.dataset()).stress, crystal.get_stress(voigt=False), rtol=1e-9)
    with pytest.raises(SimulationError, match="a stress needs a cell"):
        simulator.simulate(Geometry(crystal.numbers, crystal.positions).dataset())
