"""Frames in the formats of other programs: the same geometries and labels, in eV and Angstrom, whatever they lie in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from small_potential import WATER

from data.errors import InputError
from data.formats.rows import Bad, Row
from data.molecules.files import read
from data.molecules.writing import write_extxyz, write_trajectory
from data.structures.frame_files import read_frames
from data.structures.frame_names import FrameKeys
from data.structures.frame_settings import KeySettings, LabelUnits
from surrogates.potentials.structure_reading import read_structures

RNG = np.random.default_rng(0)
KCAL = units.kcal / units.mol
NUMBERS = np.array([8, 1, 1])
POSITIONS = np.stack([WATER + 0.03 * RNG.normal(size=(3, 3)) for _ in range(4)])
ENERGY, FORCES = RNG.normal(size=4) - 2000.0, RNG.normal(size=(4, 3, 3))


def keys(**chosen: Any) -> FrameKeys:
    return KeySettings(units=LabelUnits(**chosen)).keys("data.")


def assert_water(path: Path, chosen: FrameKeys | None = None, *, atol: float = 1e-9) -> None:
    table = read_structures(path, None, chosen)
    np.testing.assert_allclose(table.positions.reshape(4, 3, 3), POSITIONS, atol=1e-8)
    np.testing.assert_allclose(table.energy, ENERGY, atol=atol, rtol=0)
    np.testing.assert_allclose(table.forces.reshape(4, 3, 3), FORCES, atol=atol, rtol=0)
    np.testing.assert_array_equal(table.numbers, np.tile(NUMBERS, 4))


@pytest.mark.parametrize(
    "names", [("z", "R", "E", "F"), ("nuclear_charges", "coords", "energies", "forces")], ids=["md17", "rmd17"]
)
def test_arrays_of_md17_need_the_units_that_they_do_not_say(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "w.npz"
    # MD17 has a column of energies, and other arrays beside them.
    energy = (ENERGY / KCAL)[:, None] if names[0] == "z" else ENERGY / KCAL
    arrays = dict(zip(names, (NUMBERS, POSITIONS, energy, FORCES / KCAL), strict=True))
    np.savez(path, **arrays, old_indices=np.arange(4), md5=np.array("none"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"unit of its energy and forces.*units\.energy=kcal/mol"):
        read_structures(path, None)
    with pytest.raises(InputError, match=r"unit of its forces.*data\.units\.forces"):
        read_structures(path, None, keys(energy="kcal/mol"))
    assert_water(path, keys(energy="kcal/mol", forces="kcal/mol/Angstrom"), atol=1e-8)
    # A simulator needs the geometries alone.
    rows = list(read(path, keys=FrameKeys(labels=False)))
    assert [row.properties.get("energy", row.properties.get("E")) for row in rows] == [None] * 4
    assert rows[3].properties["old_indices"] == 3


def test_units_that_a_file_says_are_used_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    said = {"e_unit": np.array("kcal/mol"), "r_unit": np.array("Ang")}
    np.savez(path, z=NUMBERS, R=POSITIONS, E=ENERGY / KCAL, F=FORCES / KCAL, **said)  # type: ignore[arg-type]
    assert_water(path, atol=1e-8)
    with pytest.raises(InputError, match=r"energy is in kcal/mol, and the settings say eV"):
        read_structures(path, None, keys(energy="eV", forces="eV/Angstrom"))
    with pytest.raises(InputError, match=r"no unit 'kcal/foo'.*data\.units\.energy|data\.units\.energy"):
        keys(energy="kcal/foo")


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", z=np.array([8, "H"], object), R=POSITIONS)
    with pytest.raises(InputError, match="objects of Python"):
        list(read(tmp_path / "w.npz"))


def test_units_of_choice_hold_for_extended_xyz(tmp_path: Path) -> None:
    path = tmp_path / "w.extxyz"
    rows = [
        Row(i, None, NUMBERS, p, {"energy": e / units.Hartree, "forces": f * units.Bohr / units.Hartree})
        for i, (p, e, f) in enumerate(zip(POSITIONS, ENERGY, FORCES, strict=True))
    ]
    write_extxyz(path, rows)
    assert_water(path, keys(energy="Hartree", forces="Hartree/Bohr"))
    with pytest.raises(InputError, match=r"unit of its forces is not given.*units\.forces"):
        read_structures(path, None, keys(energy="Hartree"))


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_compressed_frames_are_written_and_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w.extxyz{suffix}"
    rows = [Row(i, None, NUMBERS, p, {"energy": e, "forces": f}) for i, (p, e, f) in
            enumerate(zip(POSITIONS, ENERGY, FORCES, strict=True))]  # fmt: skip
    write_extxyz(path, rows)
    assert path.read_bytes()[:2] != b"3\n"
    assert_water(path)


def test_trajectories_keep_labels_charge_and_what_stands_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "w.traj"
    write_trajectory(path, [Row(i, None, NUMBERS, p, {"energy": e, "forces": f, "charge": 0, "name": f"w{i}"})
                            for i, (p, e, f) in enumerate(zip(POSITIONS, ENERGY, FORCES, strict=True))])  # fmt: skip
    assert_water(path)
    by_ase = ase.io.read(path, index=2)
    assert by_ase.info["name"] == "w2"
    np.testing.assert_array_equal(by_ase.get_forces(), FORCES[2])
    (row,) = [r for r in read_frames(path) if isinstance(r, Row) and r.line == 3]
    assert (row.properties["name"], row.notes.taken["energy"]) == ("w2", "eV, as the file says")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=str(path)):
        list(read_frames(path))


def deepmd(system: Path, *, cell: bool) -> np.ndarray:
    """A system of two sets; the cells."""
    for number, part in enumerate((slice(0, 3), slice(3, 4))):
        folder = system / f"set.{number:03d}"
        folder.mkdir(parents=True)
        np.save(folder / "coord.npy", POSITIONS[part].reshape(-1, 9))
        np.save(folder / "energy.npy", ENERGY[part])
        np.save(folder / "force.npy", FORCES[part].reshape(-1, 9))
        box = np.broadcast_to(np.array([[8.0, 0, 0], [1, 8, 0], [0.5, 0.25, 9]]), (4, 3, 3))[part]
        if cell:
            np.save(folder / "box.npy", box.reshape(-1, 9))
            np.save(folder / "virial.npy", np.arange(9.0) + np.zeros((len(box), 9)))
    (system / "type.raw").write_text("1 0 0\n")
    (system / "type_map.raw").write_text("H\nO\n")
    if not cell:
        (system / "nopbc").touch()
    return np.asarray(box[0])


def test_a_system_of_deepmd_kit_is_read_with_cells_and_stresses(tmp_path: Path) -> None:
    box = deepmd(tmp_path / "periodic", cell=True)
    assert_water(tmp_path / "periodic")
    table = read_structures(tmp_path / "periodic", None)
    np.testing.assert_array_equal(table.lattice[3], box)
    np.testing.assert_allclose(table.stress[0], -np.arange(9.0).reshape(3, 3) / np.linalg.det(box))
    deepmd(tmp_path / "open" / "water", cell=False)
    assert_water(tmp_path / "open")
    assert not read_structures(tmp_path / "open", None).periodic.any()


@pytest.mark.parametrize(
    ("name", "problem"),
    [("type_map.raw", "not named"), ("set.000/coord.npy", "no such file"), ("nopbc", "has no file nopbc")],
)
def test_a_system_that_lacks_a_file_is_refused_by_its_name(tmp_path: Path, name: str, problem: str) -> None:
    deepmd(tmp_path / "s", cell=False)
    (tmp_path / "s" / name).unlink()
    with pytest.raises(InputError, match=problem):
        read_structures(tmp_path / "s", None)


def vasprun(steps: list[tuple[np.ndarray, float, int]], nelm: int = 60) -> str:
    """A file of VASP with one silicon cell whose second atom moves: positions, energy and electronic iterations."""
    si = bulk("Si")
    rows = "".join(f"<v>{a} {b} {c}</v>" for a, b, c in si.cell.array)

    def structure(x: np.ndarray, name: str = "") -> str:
        at = "".join(f"<v>{a} {b} {c}</v>" for a, b, c in x)
        return (f'<structure {name}><crystal><varray name="basis">{rows}</varray></crystal>'
                f'<varray name="positions">{at}</varray></structure>')  # fmt: skip

    def energies(e: float) -> str:
        return f'<energy><i name="e_fr_energy">{e - 0.01}</i><i name="e_0_energy">{e}</i></energy>'

    calculations = "".join(
        f"<calculation>{f'<scstep>{energies(e)}</scstep>' * iterations}{structure(x)}"
        '<varray name="forces"><v>0.5 0 0</v><v>-0.5 0 0</v></varray>'
        '<varray name="stress"><v>10 0 0</v><v>0 10 0</v><v>0 0 10</v></varray>'
        f"{energies(e)}</calculation>"
        for x, e, iterations in steps
    )
    atoms = "".join("<rc><c>Si</c><c>1</c></rc>" for _ in range(2))
    atominfo = f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>'
    first = structure(steps[0][0], 'name="initialpos"')
    return (
        '<?xml version="1.0"?><modeling><kpoints><varray name="kpointlist"/></kpoints>'
        f'<parameters><separator><i type="int" name="NELM">{nelm}</i></separator></parameters>'
        f"{atominfo}{first}{calculations}</modeling>"
    )


def test_a_vasprun_gives_its_ionic_steps_without_those_that_did_not_converge(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    x = bulk("Si").get_scaled_positions()
    moved = x + np.array([[0, 0, 0], [0.01, 0, 0]])
    path.write_text(vasprun([(x, -10.8, 12), (moved, -10.7, 9), (x, -3.0, 60)]))
    rows = list(read_frames(path))
    assert [type(row) for row in rows] == [Row, Row, Bad]
    assert "all 60 iterations (NELM)" in rows[2].reason  # type: ignore[union-attr]
    table = read_structures(path, None)
    np.testing.assert_allclose(table.energy, [-10.8, -10.7])
    np.testing.assert_allclose(table.forces[0], [0.5, 0, 0])
    # VASP writes the pressure, positive under compression, in kbar.
    np.testing.assert_allclose(table.stress[0], -10e8 * units.Pascal * np.eye(3))
    np.testing.assert_allclose(read_structures(path, None, FrameKeys(energy=("free_energy",))).energy, [-10.81, -10.71])


def test_the_reading_says_where_units_come_from(tmp_path: Path) -> None:
    atoms = Atoms(NUMBERS, POSITIONS[0])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=FORCES[0])
    ase.io.write(tmp_path / "a.extxyz", atoms)
    ase.io.write(tmp_path / "a.traj", atoms)
    for name, assumed in (("a.extxyz", True), ("a.traj", False)):
        readings: list[Any] = []
        read_structures(tmp_path / name, None, readings=readings)
        assert any("which the file does not say" in text for text in readings[0].assumed) is assumed
