"""`understudy export`: answers of a store in files of other programs, which read the same numbers back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from omegaconf import OmegaConf

from data.errors import InputError
from data.rejects import RejectLog
from data.store.records import RecordStore
from experiments.stages.export import export
from simulators.chemistry.ase_calculator import ASECalculator
from simulators.chemistry.variables import Geometry
from simulators.chemistry.xtb import XTB
from surrogates.potentials.structure_reading import read_structures

WATER = Atoms("OHH", [[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]])


def run(store: Path, out: Path) -> Path:
    run_dir = Path(f"{out}.run")
    run_dir.mkdir(exist_ok=True)
    node = {"stage": "export", "run": {"dir": str(run_dir)}, "store": str(store), "out": str(out)}
    export(OmegaConf.create(node), run_dir)
    return run_dir


@pytest.fixture(scope="module")
def alloys(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The store of EMT: a molecule, a crystal with a skew cell, and a request that failed."""
    return once("store-of-alloys", lambda place: make(place, ASECalculator("ase.calculators.emt.EMT")))


@pytest.fixture(scope="module")
def ions(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The store of GFN2-xTB: water, its cation with an unpaired electron, and hydroxide."""
    return once(
        "store-of-ions", lambda place: make(place, XTB(outputs=("energy", "forces", "dipole", "mulliken_charges")))
    )


def make(place: Path, simulator: ASECalculator | XTB) -> None:
    if isinstance(simulator, XTB):
        water = WATER.numbers, WATER.positions
        geometries = [Geometry(*water), Geometry(*water, charge=1, spin=1),
                      Geometry(water[0][:2], water[1][:2], charge=-1)]  # fmt: skip
    else:
        cell = bulk("Cu").cell.array + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.2, 0]])
        pair = Atoms("CuAu", [[0, 0, 0], [0, 0, 2.6]])
        geometries = [Geometry(pair.numbers, pair.positions), Geometry(np.array([29]), np.zeros((1, 3)), cell=cell)]
    with RecordStore.create(
        place / "labels.zarr",
        simulator.spec.inputs,
        simulator.spec.outputs,
        provenance=simulator.provenance,
        sync=False,
    ) as store:
        names = [v.name for v in simulator.spec.inputs]
        for i, geometry in enumerate(geometries):
            values = {n: np.zeros((3, 3)) if (v := getattr(geometry, n)) is None else v for n in names}
            answer = simulator.simulate(geometry.dataset())
            store.append(f"request{i}", values | {n: answer[n].values for n in answer}, core_seconds=0.5)
        store.append("last", values, status="not_converged", message="no luck")


@pytest.mark.parametrize("suffix", [".extxyz", ".xyz.bz2", ".traj", ".db"])
def test_frames_have_the_answers_and_the_cells_of_the_store(alloys: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"labels{suffix}"
    run_dir = run(alloys / "labels.zarr", out)
    pair, crystal = ase.io.read(out, index=":", **({"format": "extxyz"} if "xyz" in suffix else {}))
    for atoms in (pair, crystal):
        forces, energy = atoms.get_forces(), atoms.get_potential_energy()
        atoms.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-9)
    assert [pair.pbc.any(), crystal.pbc.all()] == [False, True]
    (reject,) = csv.DictReader((run_dir / "rejects.csv").read_text().splitlines())
    assert (reject["line"], reject["text"], reject["reason"]) == ("3", "Cu", "not_converged: no luck")
    assert json.loads((run_dir / "columns.json").read_text())["forces"] == "eV/Angstrom"
    # The command that is given again finds the file complete; another store is not written over it.
    written = out.stat().st_mtime_ns
    run(alloys / "labels.zarr", out)
    assert out.stat().st_mtime_ns == written


def test_a_store_trains_a_potential_like_the_frames_that_it_is_exported_to(ions: Path, tmp_path: Path) -> None:
    run(ions / "labels.zarr", tmp_path / "labels.extxyz")
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        stored = read_structures(ions / "labels.zarr", rejects)
    assert "not_converged: no luck" in (tmp_path / "rejects.csv").read_text()
    written = read_structures(tmp_path / "labels.extxyz", None)
    np.testing.assert_array_equal(stored.charge, [0, 1, -1])
    np.testing.assert_array_equal(stored.spins, [0, 1, 0])
    for name in ("numbers", "positions", "energy", "forces", "charge", "spin", "lattice"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(written, name))
    assert "mulliken_charges" in ase.io.read(tmp_path / "labels.extxyz", index=0).arrays


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".parquet"])
def test_a_table_has_a_column_for_each_number_and_says_units(ions: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"labels{suffix}"
    run_dir = run(ions / "labels.zarr", out)
    separator = "\t" if "tsv" in suffix else ","
    table = pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out, sep=separator)
    assert table["formula"].tolist() == ["H2O", "H2O", "HO"]
    assert table["charge"].tolist() == [0, 1, -1]
    data = RecordStore.open(ions / "labels.zarr").dataset()
    np.testing.assert_array_equal(table["energy"], data.energy[:3])
    np.testing.assert_array_equal(table[["dipole_x", "dipole_y", "dipole_z"]], data.dipole[:3])
    units = json.loads((run_dir / "columns.json").read_text())
    assert set(units) == set(table)
    assert (units["energy"], units["dipole_z"], units["charge"], units["core_seconds"]) == ("eV", "Debye", "e", "s")


def test_what_cannot_be_written_is_refused(ions: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Use one of"):
        run(ions / "labels.zarr", tmp_path / "labels.smi")
    with pytest.raises(InputError, match="no store here"):
        run(ions, tmp_path / "labels.csv")
    (tmp_path / "mine.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match="is not replaced"):
        run(ions / "labels.zarr", tmp_path / "mine.csv")
