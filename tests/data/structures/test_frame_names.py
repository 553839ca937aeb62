"""Charges, spins and labels of frames under the names that people give them: taken where certain, else refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.db
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.io import write as ase_write

from data.errors import InputError
from data.formats.rows import Row
from data.molecules.files import read
from data.molecules.writing import write_ase_db, write_extxyz
from data.structures.frame_names import FrameKeys
from data.structures.frame_reading import FrameTally
from data.structures.structures import Structures
from surrogates.potentials.structure_reading import read_structures


def frame(head: str, atoms: str = "O 0 0 0\nO 0 0 1.2075\n") -> str:
    layout = "" if "Properties" in head else "Properties=species:S:1:pos:R:3 "
    return f"{len(atoms.splitlines())}\n{layout}{head}\n{atoms}"


def rows_of(path: Path, text: str, **keys: Any) -> tuple[list[Row], FrameTally]:
    path.write_text(text)
    tally = FrameTally(path, FrameKeys(**keys))
    rows = list(read(path, rejects=tally, keys=tally.keys))
    for row in rows:
        tally.take(row)
    return rows, tally


@pytest.mark.parametrize(
    ("head", "charge", "spin"),
    [
        ("charge=-1 spin=1", -1, 1),
        ("total_charge=1 multiplicity=2", 1, 1),
        ("Net_Charge=0 spin_multiplicity=3", 0, 2),
        ("molecular_charge=2 uhf=0", 2, 0),
        ("magmom=2.0", None, 2),
        ("nelectrons=16 charge=0", 0, None),
        ("charge=0 total_charge=0 q=0", 0, None),
        ("charge_error=0.3 n_charges=0", None, None),
    ],
)
def test_names_of_known_meaning_are_taken(tmp_path: Path, head: str, charge: int | None, spin: int | None) -> None:
    (row,), tally = rows_of(tmp_path / "a.xyz", frame(head))
    assert (row.properties.get("charge"), row.properties.get("spin")) == (charge, spin)
    assert row.notes.spin_problem is None
    assert tally.reading(spins=True).used == 1


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("charge=0 total_charge=1", "charge is +0 but total_charge is +1"),
        ("ion_charge=-1", "may be its total charge"),
        ("nelectrons=14", "neutral atoms have 16 electrons"),
        ("total_charge=0.5", "not an integer"),
    ],
)
def test_what_may_be_a_charge_costs_the_frame(tmp_path: Path, head: str, reason: str) -> None:
    rows, tally = rows_of(tmp_path / "a.xyz", frame(head) + frame("charge=0"))
    assert len(rows) == 1
    assert [count for text, count in tally.reasons.items() if reason in text] == [1]
    assert tally.reading(spins=True).total == 2


def test_what_looks_like_a_charge_beside_the_one_that_is_taken_is_named(tmp_path: Path) -> None:
    atoms = "Properties=species:S:1:pos:R:3:mulliken_charges:R:1 "
    beside = "charge=1 ion_charge=-1 total_charge=1 charge_error=0.2 nelectrons=14 spin=1 spin_state=3"
    path = tmp_path / "a.xyz"
    rows, tally = rows_of(path, frame(atoms + beside, "O 0 0 0 -1.4\nO 0 0 1.2 -0.6\n") + frame("charge=0"))
    assert [row.properties["charge"] for row in rows] == [1, 0]
    reading = tally.reading(spins=True)
    assert reading.quantities["charge"] == "e, from charge, 2 of 2 frames"
    assert reading.unused == {
        "ion_charge": "looks like charge, in 1 frame; data.charge_key=ion_charge takes it",
        "mulliken_charges": "charges of atoms that do not add up to +1, in 1 frame",
        "nelectrons": "a number of electrons that a charge of +1 does not give, in 1 frame",
        "spin_state": "looks like spin, in 1 frame; data.spin_key=spin_state takes it",
    }
    # Spins change nothing for a potential, and then need no name. A key that is chosen leaves the usual name unused.
    assert "spin_state" not in tally.reading(spins=False).unused
    _, tally = rows_of(path, frame("charge=1 ion_charge=-1") + frame("charge=1"), charge="ion_charge")
    assert tally.reading(spins=False).unused == {
        "charge": "looks like charge, in 2 frames; data.charge_key=charge takes it"
    }


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("spin=3", "spin_convention=multiplicity"),
        ("spin=0 multiplicity=3", "spin means 0 but multiplicity means 2"),
        ("total_spin=1", "may be its spin"),
        ("multiplicity=0", "no multiplicity"),
    ],
)
def test_what_may_be_a_spin_is_a_problem_that_is_said(tmp_path: Path, head: str, problem: str) -> None:
    (row,), _ = rows_of(tmp_path / "a.xyz", frame(head))
    assert problem in str(row.notes.spin_problem)
    with pytest.raises(InputError, match="no frame of it can be used"):
        read_structures(tmp_path / "a.xyz", None, spins=True, labels=False)
    assert len(read_structures(tmp_path / "a.xyz", None, labels=False)) == 1


def test_moments_and_charges_of_atoms_add_up(tmp_path: Path) -> None:
    both = "Properties=species:S:1:pos:R:3:initial_magmoms:R:1:initial_charges:R:1"
    (row,), _ = rows_of(tmp_path / "a.xyz", frame(both, "O 0 0 0 1.0 0.5\nO 0 0 1.2 1.0 0.5\n").replace("1.0", "0.5"))
    assert (row.properties["charge"], row.properties["spin"]) == (1, 1)
    (row,), _ = rows_of(tmp_path / "b.xyz", frame(both, "O 0 0 0 1.0 0.0\nO 0 0 1.2 -1.0 0.0\n"))
    assert "opposite signs" in str(row.notes.spin_problem)
    mulliken = "Properties=species:S:1:pos:R:3:mulliken_charges:R:1"
    _, tally = rows_of(tmp_path / "c.xyz", frame(mulliken, "O 0 0 0 -0.4\nO 0 0 1.2 -0.6\n"))
    assert "add up to -1.00" in next(iter(tally.reasons))
    rows, _ = rows_of(tmp_path / "d.xyz", frame(mulliken + " charge=-1", "O 0 0 0 -0.4\nO 0 0 1.2 -0.6\n"))
    assert rows[0].properties["charge"] == -1


def test_the_convention_of_spin_is_a_choice(tmp_path: Path) -> None:
    (row,), _ = rows_of(tmp_path / "a.xyz", frame("charge=0 spin=3"), spin_convention="multiplicity")
    assert row.properties["spin"] == 2
    with pytest.raises(InputError, match="spin_convention"):
        FrameKeys(spin_convention="alpha")


FORCE = "Properties=species:S:1:pos:R:3:force:R:3"
PULLED = "O 0 0 0 0 0 -1\nO 0 0 1.2 0 0 1\n"


def test_labels_under_other_names_are_refused_until_a_key_says_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(frame(f"{FORCE} energy=-3.0", PULLED) + frame(f"{FORCE} REF_energy=-4.0 energy_weight=2", PULLED))
    readings: list[Any] = []
    with pytest.raises(InputError, match="1 of 2 frames have no energy, which REF_energy") as caught:
        read_structures(path, None, readings=readings)
    assert "'data.energy_key=[energy,REF_energy]' data.forces_key=force," in str(caught.value)
    assert "energy_weight" not in readings[0].unused
    chosen = FrameKeys(energy=("energy", "REF_energy"))
    with pytest.raises(InputError, match=r"data\.forces_key=force"):
        read_structures(path, None, chosen)
    table = read_structures(
        path, None, FrameKeys(energy=("energy", "REF_energy"), forces=("force",)), readings=readings
    )
    assert table.energy.tolist() == [-3.0, -4.0]
    np.testing.assert_array_equal(table.forces[:2], [[0, 0, -1], [0, 0, 1]])
    assert readings[-1].quantities["forces"] == "eV/Angstrom, from force, 2 of 2 frames"
    # Passed over on request, and said.
    without = read_structures(path, None, FrameKeys(energy=("energy",), forces=("forces",)), readings=readings)
    assert np.isnan(without.forces).all()
    assert np.isnan(without.energy).tolist() == [False, True]
    assert "2 frames" in readings[-1].unused["force"]
    assert "in 1 frame" in readings[-1].unused["REF_energy"]
    with pytest.raises(InputError, match=r"no frame has enregy.*energy"):
        read_structures(path, None, FrameKeys(energy=("enregy",), forces=("force",)))
    with pytest.raises(InputError, match="gradients"):
        FrameKeys(forces=("dft_gradient",))


def test_a_virial_becomes_the_stress_that_the_same_calculator_gives(tmp_path: Path) -> None:
    crystal = bulk("Cu", cubic=True) * (1, 1, 1)
    crystal.set_cell(crystal.cell.array @ np.diag([1.02, 1.0, 0.99]), scale_atoms=True)
    crystal.calc = EMT()
    stress, volume = crystal.get_stress(voigt=False), crystal.get_volume()
    bare = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    bare.info["virial"] = -stress * volume
    ase_write(tmp_path / "a.xyz", bare, format="extxyz")
    with pytest.raises(InputError, match="stress_key=virial"):
        read_structures(tmp_path / "a.xyz", None)
    readings: list[Any] = []
    table = read_structures(tmp_path / "a.xyz", None, FrameKeys(stress=("virial",)), readings=readings)
    np.testing.assert_allclose(table.stress[0], stress, atol=1e-8)
    assert "minus the virial in eV over the volume" in readings[0].quantities["stress"]


def test_a_frame_without_a_cell_costs_itself(tmp_path: Path) -> None:
    good = frame('Lattice="4 0 0 0 4 0 0 0 4" pbc="T T T" energy=-3.0')
    close = frame("energy=-3.0", "O 0 0 0\nO 0 0 0.01\n")
    (tmp_path / "a.xyz").write_text(good + frame('pbc="T T T" energy=-3.0') + close + good)
    readings: list[Any] = []
    assert len(read_structures(tmp_path / "a.xyz", None, readings=readings)) == 2
    (reading,) = readings
    assert (reading.total, reading.used) == (4, 2)
    assert sorted(text[:14] for text in reading.left_out) == ["it repeats alo", "two atoms are "]


def test_a_schnetpack_database_is_read_in_the_units_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with ase.db.connect(str(path)) as database:
        labels = {"energy": np.array([-100.0]), "forces": np.array([[0.0, 0, -2], [0, 0, 2]]), "total_charge": [1]}
        database.write(Atoms("OO", [[0, 0, 0], [0, 0, 2.3]]), data=labels)
        database.metadata = {
            "_distance_unit": "Bohr",
            "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Ang"},
        }
    (row,) = read(path)
    assert row.properties["energy"] == pytest.approx(-100 * units.kcal / units.mol)
    assert row.properties["forces"][1, 2] == pytest.approx(2 * units.kcal / units.mol)
    assert row.positions is not None
    assert row.positions[1, 2] == pytest.approx(2.3 * units.Bohr)
    assert row.properties["charge"] == 1
    assert row.notes.taken["energy"] == "eV, converted from kcal/mol"
    with ase.db.connect(str(path)) as database:
        database.metadata = {"_property_unit_dict": {"energy": "furlong"}}
    with pytest.raises(InputError, match="furlong"):
        list(read(path))


def test_bohr_is_suspected_and_said(tmp_path: Path) -> None:
    water = np.array([[0, 0, 0.119], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    for length, said in ((1.0, False), (1 / units.Bohr, True)):
        write_extxyz(tmp_path / "a.xyz", [Row(1, None, np.array([8, 1, 1], np.int32), water * length)])
        readings: list[Any] = []
        read_structures(tmp_path / "a.xyz", None, labels=False, readings=readings)
        assert any("Bohr" in text for text in readings[0].assumed) is said


@pytest.mark.parametrize("name", ["a.xyz", "a.db"])
def test_constraints_travel_with_a_frame(tmp_path: Path, name: str) -> None:
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0)
    slab.info.clear()
    slab.set_constraint(FixAtoms([0]))
    ase_write(tmp_path / name, slab)
    (row,) = read(tmp_path / name)
    (write_ase_db if name.endswith("db") else write_extxyz)(tmp_path / f"again-{name}", [row])
    for path in (tmp_path / name, tmp_path / f"again-{name}"):
        table = Structures.from_frames(read(path), "a")
        assert table.fixed.tolist() == [[True] * 3, [False] * 3, [False] * 3]
        assert table.periodic.tolist() == [[True, True, False]]
    slab.set_constraint(FixBondLength(0, 1))
    ase_write(tmp_path / "b.db", slab)
    assert Structures.from_frames(read(tmp_path / "b.db"), "b").constrained.tolist() == [True]
