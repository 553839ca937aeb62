"""xTB against the reference numbers that tblite ships, and against finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase.units import Bohr, Hartree
from tblite.test_interface import get_ala

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.variables import Geometry
from simulators.chemistry.xtb import XTB

WATER = Geometry(
    np.array([8, 1, 1], np.int32), np.array([[0, 0, 0.119262], [0, 0.763239, -0.477047], [0, -0.763239, -0.477047]])
)


def peptide(name: str) -> Geometry:
    numbers, positions = get_ala(name)
    return Geometry(numbers.astype(np.int32), positions * Bohr)


# The numbers asserted by tblite's own test_interface.py for the peptide that it defines.
@pytest.mark.parametrize(("conformer", "energy"), [("xac", -32.97134042392298), ("xag", -32.97132127543436)])
def test_gfn2_gives_the_energies_of_tblites_reference(conformer: str, energy: float) -> None:
    answer = XTB(outputs=("energy",)).simulate(peptide(conformer).dataset())
    assert float(answer.energy) / Hartree == pytest.approx(energy, abs=1e-6)


def test_forces_are_those_of_tblites_reference() -> None:
    gradient = XTB(outputs=("forces",)).simulate(peptide("xag").dataset()).forces.values * Bohr / Hartree
    # The first, sixth and last rows of the gradient in tblite's test_gfn2, which restarts from another geometry:
    # the two agree to within the convergence of the cycle.
    assert gradient[0] == pytest.approx([-1.17642910e-2, 5.29400903e-3, -3.72680358e-3], abs=1e-5)
    assert gradient[5] == pytest.approx([8.96440228e-3, -1.19118693e-2, 8.33051410e-3], abs=1e-5)
    assert gradient[-1] == pytest.approx([-7.47441343e-4, -1.68498046e-3, 1.52492395e-3], abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"method": "GFN1-xTB"}, {"solvent": "water"}], ids=str)
def test_forces_are_minus_the_gradient(settings: dict[str, Any]) -> None:
    simulator = XTB(outputs=("energy", "forces"), accuracy=0.01, **settings)
    start = replace(WATER, positions=WATER.positions + 0.05)
    forces, step = simulator.simulate(start.dataset()).forces.values, 1e-3
    for atom, axis in [(0, 2), (1, 1)]:
        ends = []
        for sign in (1, -1):
            moved = start.positions.copy()
            moved[atom, axis] += sign * step
            ends.append(float(simulator.simulate(replace(start, positions=moved).dataset()).energy))
        assert forces[atom, axis] == pytest.approx(-(ends[0] - ends[1]) / (2 * step), abs=1e-4)


def test_energy_and_gap_do_not_depend_on_where_the_molecule_lies() -> None:
    simulator = XTB(outputs=("energy", "gap", "dipole", "dipole_moment"))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    one = simulator.simulate(WATER.dataset())
    other = simulator.simulate(replace(WATER, positions=WATER.positions @ turn.T + 3.0).dataset())
    assert float(one.energy) == pytest.approx(float(other.energy), abs=1e-6)
    assert float(one.gap) == pytest.approx(float(other.gap), abs=1e-5)
    assert other.dipole.values == pytest.approx(turn @ one.dipole.values, abs=1e-4)
    assert float(one.dipole_moment) == pytest.approx(2.2, abs=0.2)  # Debye; experiment 1.85


def test_a_radical_has_a_gap_and_charges_sum_to_the_total() -> None:
    methyl = Geometry(
        np.array([6, 1, 1, 1], np.int32),
        np.array([[0, 0, 0], [1.08, 0, 0], [-0.54, 0.935, 0], [-0.54, -0.935, 0]]),
        spin=1,
    )
    answer = XTB(outputs=("gap", "homo", "lumo", "mulliken_charges", "orbital_energies")).simulate(methyl.dataset())
    assert float(answer.gap) == pytest.approx(float(answer.lumo) - float(answer.homo))
    # Seven valence electrons, one unpaired: the fourth orbital is the highest that holds one.
    assert float(answer.homo) == pytest.approx(float(np.sort(answer.orbital_energies.values)[3]))
    cation = replace(methyl, charge=1, spin=0)
    charges = XTB(outputs=("mulliken_charges",)).simulate(cation.dataset()).mulliken_charges.values
    assert charges.sum() == pytest.approx(1, abs=1e-5)


def test_what_does_not_converge_is_an_error_and_not_a_number() -> None:
    with pytest.raises(SimulationError) as caught:
        XTB(max_iterations=1).simulate(peptide("xac").dataset())
    assert caught.value.kind == "not_converged"


@pytest.mark.parametrize("settings", [{"method": "GFN9"}, {"outputs": ("polarizability",)}, {"outputs": ()}])
def test_a_wrong_choice_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        XTB(**settings)


def test_an_unknown_solvent_is_invalid_input() -> None:
    with pytest.raises(SimulationError) as caught:
        XTB(solvent="beer").simulate(WATER.dataset())
    assert caught.value.kind == "invalid_input"


@pytest.mark.parametrize("method", ["GFN1-xTB", "GFN2-xTB"])
def test_the_stress_of_a_cell_is_the_derivative_of_its_energy(method: str) -> None:
    simulator = XTB(method=method, outputs=("energy", "forces", "stress"), accuracy=0.01, periodic=True)
    cell = np.array([[0.0, 2.8, 2.7], [2.7, 0.1, 2.7], [2.6, 2.7, 0.0]])
    silicon = Geometry(np.array([14, 14], np.int32), np.array([[0.0, 0, 0], [1.3, 1.4, 1.35]]), cell=cell)
    answer = simulator.simulate(silicon.dataset())
    energies = []
    for step in (-1e-3, 1e-3):
        strain = np.eye(3)
        strain[0, 1] = strain[1, 0] = step / 2
        strained = replace(silicon, positions=silicon.positions @ strain, cell=cell @ strain)
        energies.append(float(simulator.simulate(strained.dataset()).energy))
    slope = (energies[1] - energies[0]) / 2e-3
    assert abs(slope) > 0.1
    assert float(answer.stress[0, 1]) * silicon.volume == pytest.approx(slope, rel=1e-3)
    # A cell moves its atoms' neighbours with it: what is shifted by a lattice vector is the same crystal.
    moved = replace(silicon, positions=silicon.positions + np.array([[0.0, 0, 0], cell[1]]))
    assert float(simulator.simulate(moved.dataset()).energy) == pytest.approx(float(answer.energy), abs=1e-6)


def test_a_cell_is_refused_where_cells_are_not_asked_for_and_a_molecule_has_no_stress() -> None:
    boxed = replace(WATER, cell=10.0 * np.eye(3))
    with pytest.raises(SimulationError, match="repeats along 3 directions"):
        XTB().simulate(boxed.dataset())
    with pytest.raises(SimulationError, match="a stress needs a cell"):
        XTB(outputs=("stress",), periodic=True).simulate(WATER.dataset())
    with pytest.raises(InputError, match=r"\['stress'\] cannot be computed"):
        XTB(outputs=("stress",))
    assert XTB(periodic=True).fingerprint != XTB().fingerprint
    assert "periodic" not in XTB().provenance["settings"]
