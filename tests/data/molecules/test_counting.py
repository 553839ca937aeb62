"""Rows are counted as they are read, for every kind of file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from data.molecules import files as molecules
from data.molecules import writing as molecule_writing
from data.molecules.counting import count_rows
from data.molecules.files import Row, read

ROWS = [
    Row(i, smiles, np.array([8, 1, 1], np.int32), np.eye(3) + i, {"name": f"m{i}"})
    for i, smiles in enumerate(["O", "CCO", "c1ccccc1", "CN", "C#N", "CC", "N"])
]
SMILES = [row.smiles or "" for row in ROWS]


def write(path: Path) -> None:
    kind = molecules.kind_of(path)
    if kind == ".smi":
        molecule_writing.write_smiles(path, SMILES)
    elif kind in (".csv", ".parquet"):
        writer = molecule_writing.write_csv if kind == ".csv" else molecule_writing.write_parquet
        writer(path, {"id": list(range(len(ROWS))), "smiles": SMILES})
    else:
        writers = {
            ".sdf": molecule_writing.write_sdf,
            ".xyz": molecule_writing.write_extxyz,
            ".db": molecule_writing.write_ase_db,
        }
        writers[kind](path, ROWS)


@pytest.mark.parametrize("name", ["m.smi", "m.csv", "m.csv.gz", "m.parquet", "m.sdf", "m.sdf.gz", "m.xyz", "m.db"])
def test_as_many_rows_are_counted_as_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write(path)
    assert count_rows(path) == len(list(read(path))) == len(ROWS)
    assert count_rows(path, at_most=3) == 3
    assert count_rows(path, at_most=100) == len(ROWS)


@pytest.mark.parametrize("name", ["m.sdf", "m.xyz"])
def test_records_that_lie_over_the_ends_of_blocks_are_counted_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    write(path)
    for size in (1, 40, 333):
        monkeypatch.setattr("data.formats.rows.BLOCK", size)
        assert count_rows(path) == len(ROWS)
    # A last record without its end is one, blank lines after the last end are none.
    text = path.read_text()
    path.write_text(text + "\n\n")
    assert count_rows(path) == len(ROWS)
    if name == "m.sdf":
        path.write_text(text.removesuffix("$$$$\n"))
        assert count_rows(path) == len(ROWS)


def test_a_file_that_breaks_off_counts_up_to_there(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"C{'C' * (i % 60)}\n" for i in range(200_000)).encode())
    (tmp_path / "m.smi.gz").write_bytes(whole[: len(whole) // 2])
    count = count_rows(tmp_path / "m.smi.gz")
    assert 0 < count < 200_000
    assert count_rows(tmp_path / "m.smi.gz", at_most=5) == 5
