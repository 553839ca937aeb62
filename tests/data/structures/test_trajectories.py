"""Trajectories: ASE and xarray read what was written, a kill costs nothing that was whole, damage is named."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import xarray as xr
from ase.data import atomic_masses

from data.errors import CorruptStoreError, InputError
from data.formats.rows import Bad
from data.molecules.files import read
from data.structures.files import read_extxyz
from data.structures.frame import Frame
from data.structures.trajectories import read_frames, read_trajectory, write_frames
from data.structures.trajectory_xyz import XyzWriter

NAMES = ("t.xyz", "t.extxyz.gz", "t.zarr")
MOLECULES = (np.array([8, 1, 1], np.int32), np.array([6, 1, 1, 1, 1], np.int32))


def random_frames(steps: int, molecules: int = 2) -> list[Frame]:
    """Frames of molecules of different sizes, at random places."""
    frames = []
    for step in range(steps):
        for molecule in range(molecules):
            rng = np.random.default_rng([molecule, step])
            numbers = MOLECULES[molecule % 2]
            velocities = rng.normal(size=(len(numbers), 3)) * 0.01
            # 1 amu Angstrom^2/fs^2 is 103.64 eV.
            kinetic = 103.642697 * 0.5 * float((atomic_masses[numbers][:, None] * velocities**2).sum())
            frames.append(
                Frame(
                    molecule,
                    10 * step,
                    5.0 * step,
                    numbers,
                    rng.normal(size=(len(numbers), 3)),
                    float(rng.normal()) - 2000.0,
                    rng.normal(size=(len(numbers), 3)),
                    velocities,
                    kinetic,
                )
            )
    return frames


def assert_equal(frames: list[Frame], expected: list[Frame]) -> None:
    assert [(f.molecule, f.step, f.time_fs, f.status) for f in frames] == [
        (f.molecule, f.step, f.time_fs, f.status) for f in expected
    ]
    for one, other in zip(frames, expected, strict=True):
        for name in ("numbers", "positions", "forces", "energy", "kinetic_energy", "energy_std"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
        # Momenta in the file: the mass is multiplied and divided out again.
        np.testing.assert_allclose(one.velocities, other.velocities, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_written_comes_back(tmp_path: Path, name: str) -> None:
    frames = random_frames(3)
    assert write_frames(frames, tmp_path / name, source="a b") == 6
    assert_equal(list(read_frames(tmp_path / name)), frames)


@pytest.mark.parametrize("name", NAMES[:2])
def test_ase_reads_energies_forces_and_velocities_in_its_units(tmp_path: Path, name: str) -> None:
    frames = random_frames(3)
    write_frames(frames, tmp_path / name)
    for atoms, frame in zip(ase.io.read(tmp_path / name, ":", format="extxyz"), frames, strict=True):
        np.testing.assert_array_equal(atoms.numbers, frame.numbers)
        np.testing.assert_array_equal(atoms.positions, frame.positions)
        np.testing.assert_array_equal(atoms.get_forces(), frame.forces)
        assert atoms.get_potential_energy() == frame.energy
        assert atoms.get_kinetic_energy() == pytest.approx(frame.kinetic_energy, rel=1e-6)
        assert (atoms.info["molecule"], atoms.info["step"], atoms.info["time_fs"]) == (
            frame.molecule,
            frame.step,
            frame.time_fs,
        )


def test_the_reader_of_molecules_takes_a_trajectory_as_frames_to_learn_from(tmp_path: Path) -> None:
    frames = random_frames(2)
    write_frames(frames, tmp_path / "t.xyz")
    rows = list(read(tmp_path / "t.xyz"))
    assert [row.properties["energy"] for row in rows] == [frame.energy for frame in frames]
    np.testing.assert_array_equal(rows[1].properties["forces"], frames[1].forces)


def test_xarray_opens_the_store_with_dims_and_units(tmp_path: Path) -> None:
    frames = random_frames(3)
    write_frames(frames, tmp_path / "t.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = xr.open_zarr(tmp_path / "t.zarr", consolidated=False).load()
    assert plain.energy.dims == ("frame",)
    assert plain.positions.dims == ("atom", "axis")
    assert plain.positions.attrs["units"] == "Angstrom"
    assert plain.velocities.attrs == {"units": "Angstrom/fs", "long_name": "velocities of the nuclei"}
    np.testing.assert_array_equal(plain.atom_count, [3, 5] * 3)
    np.testing.assert_array_equal(plain.forces, np.concatenate([f.forces for f in frames]))
    assert not {"seconds", "threads", "attempts"} & set(plain)


@pytest.mark.parametrize("name", NAMES)
def test_one_molecule_is_an_array_over_frames_and_atoms(tmp_path: Path, name: str) -> None:
    frames = random_frames(4)
    write_frames(frames, tmp_path / name)
    trajectory = read_trajectory(tmp_path / name, molecule=1)
    second = [f for f in frames if f.molecule == 1]
    assert trajectory.positions.dims == ("frame", "atom", "axis")
    np.testing.assert_array_equal(trajectory.positions, np.stack([f.positions for f in second]))
    np.testing.assert_array_equal(trajectory.time_fs, [0.0, 5.0, 10.0, 15.0])
    np.testing.assert_array_equal(trajectory.numbers, MOLECULES[1])
    assert trajectory.energy.attrs["units"] == "eV"
    with pytest.raises(InputError, match="no frame of molecule 7; there are 0, 1"):
        read_trajectory(tmp_path / name, molecule=7)


def stopped(frames: list[Frame], after: int) -> Iterator[Frame]:
    yield from frames[:after]
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_run_goes_on_and_equals_one_that_was_not(tmp_path: Path, name: str) -> None:
    frames = random_frames(5)
    with pytest.raises(KeyboardInterrupt):
        write_frames(stopped(frames, 5), tmp_path / name, source="p")
    assert len(list(read_frames(tmp_path / name))) == 5
    assert write_frames(frames, tmp_path / name, source="p", resume=True) == 5
    assert_equal(list(read_frames(tmp_path / name)), frames)
    assert write_frames(frames, tmp_path / name, source="p", resume=True) == 0


def test_a_file_cut_at_any_byte_is_found_and_mended(tmp_path: Path) -> None:
    frames = random_frames(2)
    path = tmp_path / "t.xyz"
    write_frames(frames, path)
    whole = path.read_bytes()
    ends = {len("".join(whole.decode().splitlines(keepends=True)[:n])) for n in (0, 5, 12, 17, 24)}
    for cut in sorted(
        {*range(0, len(whole), 61), *ends, *(end - 1 for end in ends if end), *range(len(whole) - 9, len(whole))}
    ):
        path.write_bytes(whole[:cut])
        if cut in ends:
            assert len(list(read_frames(path))) == sorted(ends).index(cut)
        else:
            with pytest.raises(CorruptStoreError, match="cut short"):
                list(read_frames(path))
        write_frames(frames, path, resume=True)
        assert path.read_bytes() == whole


def test_a_packed_file_cut_anywhere_keeps_its_whole_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.structures.trajectory_xyz.MEMBER", 700)
    frames = random_frames(4)
    path = tmp_path / "t.xyz.gz"
    write_frames(frames, path)
    whole = path.read_bytes()
    assert gzip.decompress(whole).count(b"Properties") == 8
    for cut in range(1, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(CorruptStoreError, match="cut short"):
            list(read_frames(path))
        write_frames(frames, path, resume=True)
        assert_equal(list(read_frames(path)), frames)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 255]) + whole[101:])
    with pytest.raises(CorruptStoreError, match="not those that were written"):
        list(read_frames(path))


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    write_frames(random_frames(2), path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], "nonsense\n", *lines[5:]]))
    with pytest.raises(CorruptStoreError, match="line 6: a frame should begin here"):
        list(read_frames(path))
    path.write_text("".join([*lines[:8], *lines[9:]]))
    with pytest.raises(CorruptStoreError, match="line 6: no frame of a trajectory"):
        list(read_frames(path))
    with pytest.raises(CorruptStoreError, match="line 6"):
        write_frames(random_frames(2), path, resume=True)


@pytest.mark.parametrize("damage", ["truncate", "remove", "change"])
def test_a_damaged_chunk_is_found(tmp_path: Path, damage: str) -> None:
    write_frames(random_frames(3), tmp_path / "t.zarr")
    chunk = tmp_path / "t.zarr" / "positions" / "c" / "0" / "0"
    data = chunk.read_bytes()
    if damage == "remove":
        chunk.unlink()
    else:
        chunk.write_bytes(data[: len(data) // 2] if damage == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptStoreError, match="positions"):
        list(read_frames(tmp_path / "t.zarr"))


@pytest.mark.parametrize("name", NAMES)
def test_another_path_or_source_is_refused(tmp_path: Path, name: str) -> None:
    frames = random_frames(3)
    write_frames(frames[:4], tmp_path / name, source="a")
    with pytest.raises(InputError, match="something is there"):
        write_frames(frames, tmp_path / name, source="a")
    with pytest.raises(InputError, match="'a', not from 'b'"):
        write_frames(frames, tmp_path / name, source="b", resume=True)
    moved = [replace(f, positions=f.positions + 0.01) for f in frames]
    with pytest.raises(InputError, match="molecule 0 at step 10 is not where"):
        write_frames(moved, tmp_path / name, source="a", resume=True)
    rarer = [f for f in frames if f.step != 10]
    with pytest.raises(InputError, match="of step 10, which this run does not keep"):
        write_frames(rarer, tmp_path / name, source="a", resume=True)
    assert len(list(read_frames(tmp_path / name))) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_comes_twice_is_refused(tmp_path: Path, name: str) -> None:
    frames = random_frames(2, molecules=1)
    with pytest.raises(InputError, match="step 0 of molecule 0 comes after step 10"):
        write_frames([*frames, frames[0]], tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_known_stays_unknown(tmp_path: Path, name: str) -> None:
    bare = replace(
        random_frames(1)[0],
        energy=float("nan"),
        forces=None,
        velocities=None,
        kinetic_energy=float("nan"),
        status="broken",
    )
    write_frames([bare], tmp_path / name)
    (frame,) = read_frames(tmp_path / name)
    assert frame.status == "broken"
    assert frame.forces is None
    assert frame.velocities is None
    assert np.isnan([frame.energy, frame.kinetic_energy, frame.energy_std]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_slab_keeps_its_cell_and_the_directions_along_which_it_repeats(tmp_path: Path, name: str) -> None:
    cell = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.0, 0.0]])
    isolated, slab = random_frames(1)
    write_frames([isolated, replace(slab, cell=cell)], tmp_path / name)
    first, second = read_frames(tmp_path / name)
    assert first.cell is None
    np.testing.assert_array_equal(second.cell, cell)
    assert read_trajectory(tmp_path / name, 1).cell.dims == ("frame", "axis", "axis_2")
    if name != "t.zarr":
        atoms = ase.io.read(tmp_path / name, 1, format="extxyz")
        assert atoms.pbc.tolist() == [True, True, False]


def test_two_writers_are_never_in_one_file(tmp_path: Path) -> None:
    with XyzWriter(tmp_path / "t.xyz", ""), pytest.raises(InputError, match="another process"):
        XyzWriter(tmp_path / "t.xyz", "")


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Use \.zarr"):
        write_frames([], tmp_path / "t.npz")
    with pytest.raises(InputError, match="no such file"):
        read_frames(tmp_path / "t.xyz")


@pytest.mark.parametrize("count", ["²", "١", "2²"])
def test_a_count_is_of_the_digits_of_ascii(count: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(f"{count}\nenergy=1\nH 0 0 0\nH 0 0 1\n", encoding="utf-8")
    with pytest.raises(InputError):
        list(read_frames(path))
    assert all(isinstance(row, Bad) for row in read_extxyz(path, ()))
