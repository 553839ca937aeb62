"""Which energies are of isolated atoms: not those of crystals of one atom a cell, nor those of ions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from data.reading_summary import Reading
from data.structures.structures import Structures
from surrogates.potentials.atom_energies import References, isolated_energies
from surrogates.potentials.structure_reading import isolated_said, read_structures


def copper(a: float) -> tuple[np.ndarray, np.ndarray, float]:
    atoms = bulk("Cu", a=a)
    atoms.calc = EMT()
    return atoms.positions, atoms.cell.array, float(atoms.get_potential_energy())


def test_a_crystal_of_one_atom_a_cell_is_no_isolated_atom() -> None:
    cells = [copper(a) for a in (3.5, 3.61, 3.7)]
    free = 3.51  # EMT's energy of an atom without neighbours
    table = Structures.from_arrays(
        [np.array([29])] * 4,
        [x for x, _, _ in cells] + [np.zeros((1, 3))],
        [e for _, _, e in cells] + [free],
        lattice=[cell for _, cell, _ in cells] + [20 * np.eye(3)],
    )
    # The last structure is one atom in a wide box, as plane-wave codes compute an isolated atom.
    assert table.alone().tolist() == [False, False, False, True]
    assert isolated_energies(table) == {29: free}
    references = References.fit(table)
    assert references.isolated == (free,)
    assert references.bonded[0] == pytest.approx(np.mean([e for _, _, e in cells]), abs=1e-9)


def test_ions_are_no_isolated_atoms() -> None:
    table = Structures.from_arrays(
        [np.array([17]), np.array([17]), np.array([1]), np.array([1]), np.array([17, 1])],
        [np.zeros((1, 3))] * 4 + [np.array([[0, 0, 0], [0, 0, 1.28]])],
        [-12516.40, -12520.01, -13.60, 0.0, -12534.6],
        charge=[0, -1, 0, 1, 0],
    )
    assert isolated_energies(table) == {17: -12516.40, 1: -13.60}
    assert References.fit(table).isolated == (-13.60, -12516.40)


def test_elements_without_an_isolated_atom_are_named_and_what_they_are_given_instead() -> None:
    reading = isolated_said(Reading("atoms.xyz", "extended XYZ"), {1: -13.6, 8: -2041.8, 9: -2713.5}, (1, 6, 7, 8))
    assert len(reading.assumed) == 1
    assert reading.assumed[0].startswith("there is no isolated atom of C, N")
    assert "mean contribution" in reading.assumed[0]
    assert list(reading.unused) == ["F"]
    whole = isolated_said(Reading("atoms.xyz", "extended XYZ"), {1: -13.6, 8: -2041.8}, (1, 8))
    assert (whole.assumed, dict(whole.unused)) == ((), {})
    # A head that is trained further keeps its reference energies, whatever a file says.
    kept = isolated_said(Reading("atoms.xyz", "extended XYZ"), {1: -13.6}, (1, 8), "main")
    assert "'main' keeps" in kept.unused["isolated atoms"]
    assert kept.assumed == ()


def test_what_becomes_of_single_atoms_is_said(repository: Path) -> None:
    cases = Path(os.environ.get("UNDERSTUDY_CASES", repository.parent / "shared" / "cases")) / "molecules"
    if not cases.is_dir():
        pytest.skip("the folder of small inputs is absent; point UNDERSTUDY_CASES at it to run this test")
    readings: list = []  # type: ignore[type-arg]
    read_structures(cases / "min_F6.xyz", None, training=True, readings=readings)
    assert readings[0].quantities["isolated atoms"].startswith("H -13.6 eV, Cl -12516.4 eV, from 2 frames")
    assert list(readings[0].left_out.values()) == [2]
    table = read_structures(cases / "min_F5.xyz", None, training=True, readings=readings)
    assert not table.alone().any()
    assert "isolated atoms" not in readings[1].quantities
