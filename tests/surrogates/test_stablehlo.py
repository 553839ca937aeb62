"""Surrogates as StableHLO programs: what is loaded from the files gives the answers of the surrogate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.data import chemical_symbols
from saved_files import unpack
from small_potential import WATER

from data.errors import CorruptStoreError, InputError
from data.molecules.featurise import encode
from data.molecules.graphs import pad
from data.structures.structures import Structures
from experiments.exporting.surrogate_programs import export_surrogate
from surrogates.saved import load_surrogate
from surrogates.stablehlo import LoadedPrograms


def exported(kind: str, place: Path, sizes: tuple[int, ...] = (), batch: int = 1) -> tuple[Any, LoadedPrograms]:
    directory, _ = unpack(f"surrogates/{kind}", place / "saved")
    export_surrogate(str(directory), place / "out", sizes, batch)
    return load_surrogate(directory), LoadedPrograms(place / "out")


def test_a_potential_gives_the_same_energies_and_forces(tmp_path: Path) -> None:
    potential, programs = exported("potentials", tmp_path, (4,))
    assert programs.names == ("atoms-4",)
    expected = potential.predict_structures(Structures.from_arrays([np.array([8, 1, 1])], [WATER]))
    centred = WATER - WATER.mean(axis=0)
    reference = programs.card["reference_energy_ev"]
    # One row is padding.
    numbers, positions = np.zeros((1, 4), int), np.zeros((1, 4, 3))
    numbers[0, :3], positions[0, :3] = [8, 1, 1], centred
    answer = programs("atoms-4", {"numbers": numbers, "positions": positions, "charge": np.zeros(1)})
    energy = answer["atomic_energy"].astype(float).sum() + sum(reference[chemical_symbols[z]] for z in (8, 1, 1))
    assert energy == pytest.approx(expected.energy[0], abs=1e-5)
    np.testing.assert_allclose(answer["forces"][0, :3], expected.forces, atol=1e-5)
    assert not answer["forces"][0, 3:].any()
    with pytest.raises(InputError, match="numbers has shape"):
        programs("atoms-4", {"numbers": np.zeros((1, 3)), "positions": np.zeros((1, 4, 3)), "charge": np.zeros(1)})
    card = json.loads((tmp_path / "out" / "export.json").read_text())
    assert card["surrogate"] == potential.fingerprint
    assert card["programs"][0]["outputs"]["forces"] == {
        "dtype": "float32", "shape": [1, 4, 3], "meaning": "eV/Angstrom",
    }  # fmt: skip


def test_properties_have_the_same_values(tmp_path: Path) -> None:
    saved, _ = unpack("surrogates/properties", tmp_path / "first")
    smallest = next(b for b in load_surrogate(saved).buckets if b.atoms >= 3 and b.bonds >= 2)
    surrogate, programs = exported("properties", tmp_path, (smallest.atoms,), batch=2)
    table, _ = encode(["CCO", "C"])
    mean, std = surrogate.raw(table)
    buckets = [b for b in surrogate.buckets if b.atoms == smallest.atoms]
    for bucket, name in zip(buckets, programs.names, strict=True):
        batch = pad(table, np.arange(2), bucket, 2)
        arrays = {n: np.asarray(getattr(batch, n)) for n in ("atoms", "bonds", "bond_atoms", "atom_counts")}
        answer = programs(name, arrays)
        np.testing.assert_allclose(answer["value"], mean, rtol=1e-5)
        np.testing.assert_allclose(answer["std"], std, rtol=1e-3, atol=1e-6)
    assert programs.card["units"] == dict(surrogate.facts.units)


def test_fields_have_the_same_trajectory(tmp_path: Path) -> None:
    surrogate, programs = exported("fields", tmp_path, batch=2)
    rng = np.random.default_rng(0)
    initial, speed = rng.normal(size=(2, 8, 1)), np.array([[0.05], [0.1]])
    expected = surrogate.predict_arrays(initial, np.zeros((2, 8, 0)), speed).mean
    answer = programs("grid", {"initial": initial, "parameters": speed})["answer"]
    np.testing.assert_allclose(answer, expected[:, surrogate.facts.layout.lead :], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_exported_is_refused_and_a_changed_program_too(tmp_path: Path) -> None:
    directory, _ = unpack("surrogates/potentials", tmp_path / "saved")
    with pytest.raises(InputError, match="numbers of atoms are not named"):
        export_surrogate(str(directory), tmp_path / "none", (), 1)
    meshes, _ = unpack("surrogates/meshes", tmp_path / "meshes")
    with pytest.raises(InputError, match="a surrogate of meshes is not exported"):
        export_surrogate(str(meshes), tmp_path / "none", (), 1)
    export_surrogate(str(directory), tmp_path / "out", (2,), 1)
    file = tmp_path / "out" / "atoms-2.stablehlo"
    file.write_bytes(file.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(CorruptStoreError, match="is not what was exported"):
        LoadedPrograms(tmp_path / "out")
