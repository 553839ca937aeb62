"""Molecules that were written to a file are read back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_molecule_files import assert_same, both, geometries

from data.errors import InputError
from data.molecules.files import Row, iter_smiles_chunks, read
from data.molecules.writing import write_ase_db, write_csv, write_extxyz, write_parquet, write_sdf, write_smiles


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz.gz", "a.sdf", "a.sd.gz", "a.db"])
def test_geometries_round_trip(tmp_path: Path, name: str) -> None:
    writer = {"db": write_ase_db, "sd": write_sdf, "sdf": write_sdf}.get(name.split(".")[1], write_extxyz)
    writer(tmp_path / name, iter(geometries()))
    writer(tmp_path / name, iter(geometries()))
    good, bad = both(tmp_path / name)
    assert not bad
    assert_same(good, geometries())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "rejects.csv"])


def test_smiles_round_trip_through_sdf(tmp_path: Path) -> None:
    rows = [Row(1, "CCO", properties={"name": "ethanol", "gap": 1.5}), Row(2, "[Na+].[Cl-]"), Row(3, "C")]
    write_sdf(tmp_path / "a.sdf", rows)
    stored = list(read(tmp_path / "a.sdf", columns=[]))
    assert [row.smiles for row in stored] == ["CCO", "[Cl-].[Na+]", "C"]
    assert [row.positions for row in stored] == [None, None, None]
    assert (stored[0].properties["name"], stored[0].properties["gap"]) == ("ethanol", "1.5")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet"])
def test_tables_round_trip(tmp_path: Path, name: str) -> None:
    columns: dict[str, Any] = {
        "smiles": ["CCO", "CCN", "CC", "CF"],
        "gap": np.array([0.1, np.nan, 1e-17, 3.0]),
        "mu": [1.0, 2.0, 3.0, None],
        "note": ['a,"b"', "x\ny", "tab\t", ""],
    }
    (write_parquet if name.endswith("parquet") else write_csv)(tmp_path / name, columns)
    good, bad = both(tmp_path / name, columns=["gap", "mu"])
    assert not bad
    assert [row.smiles for row in good] == columns["smiles"]
    np.testing.assert_array_equal([row.properties["gap"] for row in good], columns["gap"])
    np.testing.assert_array_equal([row.properties["mu"] for row in good], [1, 2, 3, np.nan])
    chunks = list(iter_smiles_chunks(tmp_path / name, 3))
    assert [chunk.smiles for chunk in chunks] == [["CCO", "CCN", "CC"], ["CF"]]


def test_smiles_round_trip_and_an_interrupted_write(tmp_path: Path) -> None:
    path = tmp_path / "a.smi.gz"
    write_smiles(path, iter(["CCO ethanol", "CN"]))
    before = path.read_bytes()
    assert [(row.smiles, row.properties) for row in read(path)] == [("CCO", {"name": "ethanol"}), ("CN", {})]
    with pytest.raises(InputError, match="not one line"):
        write_smiles(path, iter(["CC", "C\nC"]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
