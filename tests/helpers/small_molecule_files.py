"""Small files of molecules, for the tests of their readers and writers."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import AllChem

from data.molecules.files import Row, read
from data.rejects import RejectLog

WATER = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-76.5 charge=0
O 0.0 0.0 0.1 0.1 0.2 0.3
H 0.0 0.7 -0.4 0.0 0.0 0.0
H 0.0 -0.7 -0.4 0.0 0.0 0.0
"""


def both(path: Path, **options: Any) -> tuple[list[Row], dict[int, str]]:
    """The good rows, and line -> reason of the bad ones."""
    log_path = path.with_name("rejects.csv")
    with RejectLog(log_path) as log:
        good = list(read(path, rejects=log, **options))
    with log_path.open(newline="", encoding="utf-8") as file:
        bad = list(csv.DictReader(file))
    assert all(row["file"] == str(path) and row["reason"] for row in bad)
    assert len(bad) == log.count
    return good, {int(row["line"]): row["reason"] for row in bad}


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def block(smiles: str, *, v3000: bool = False, name: str = "x") -> str:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    molecule.SetProp("_Name", name)
    return str(Chem.MolToV3KMolBlock(molecule) if v3000 else Chem.MolToMolBlock(molecule))


def geometries() -> list[Row]:
    rng = np.random.default_rng(0)
    return [
        Row(
            i,
            smiles,
            np.array(numbers, np.int32),
            rng.normal(size=(len(numbers), 3)),
            {"energy": -1.25 / 3 - i, "forces": rng.normal(size=(len(numbers), 3)), "charge": 1, "spin": 0},
        )
        for i, (smiles, numbers) in enumerate([("[OH3+]", [8, 1, 1, 1]), ("C", [6, 1, 1, 1, 1]), (None, [1])])
    ]


def assert_same(rows: list[Row], expected: list[Row]) -> None:
    assert len(rows) == len(expected)
    for a, b in zip(rows, expected, strict=True):
        assert a.smiles == b.smiles
        assert a.numbers is not None
        assert a.positions is not None
        assert a.numbers.dtype == np.int32
        assert a.positions.dtype == np.float64
        np.testing.assert_array_equal(a.numbers, b.numbers)
        np.testing.assert_array_equal(a.positions, b.positions)
        for name, value in b.properties.items():
            np.testing.assert_array_equal(a.properties[name], value)
