"""Prepared libraries: what goes in comes out, and damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.errors import CorruptStoreError, InputError
from data.molecules.featurise import encode
from data.molecules.library import CARD, PreparedLibrary, PreparedMolecules, read_part, write_part

SMILES = ["CCO", "c1ccccc1", "C#N", "CC(=O)N"]


def prepared_part() -> PreparedMolecules:
    text = np.frombuffer("".join(SMILES).encode(), np.uint8)
    offsets = np.cumsum([0, *map(len, SMILES)])
    return PreparedMolecules(encode(SMILES)[0], text, offsets, np.array([2, 3, 5, 9]))


def library(path: Path) -> PreparedLibrary:
    new_library = PreparedLibrary(
        path, tuple(write_part(path, i, prepared_part()) for i in range(2)), 1, {"file": "x.csv"}
    )
    new_library.save()
    return PreparedLibrary.open(path)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    opened = library(tmp_path)
    assert len(opened) == 8
    assert opened.rejected == 1
    back = read_part(tmp_path, opened.parts[1]).rows(1, 3)
    assert bytes(back.text).decode() == "c1ccccc1C#N"
    assert back.offsets.tolist() == [0, 8, 11]
    assert back.lines.tolist() == [3, 5]
    alone = encode(SMILES[1:3])[0]
    for name in ("atom_start", "bond_start", "atoms", "bonds", "bond_atoms"):
        assert np.array_equal(getattr(back.table, name), getattr(alone, name))


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    opened = library(tmp_path)
    path = tmp_path / opened.parts[1].file
    raw = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        start = opened.parts[1].arrays["bonds"][0]
        raw[start] ^= 1
        path.write_bytes(bytes(raw) if damage == "flip" else bytes(raw[:start]))
    read_part(tmp_path, opened.parts[0])
    with pytest.raises(CorruptStoreError, match=opened.parts[1].file):
        read_part(tmp_path, opened.parts[1])


def test_a_library_without_its_card_is_not_one(tmp_path: Path) -> None:
    library(tmp_path)
    (tmp_path / CARD).write_text("{")
    with pytest.raises(CorruptStoreError):
        PreparedLibrary.open(tmp_path)
    (tmp_path / CARD).unlink()
    with pytest.raises(InputError, match="prepare"):
        PreparedLibrary.open(tmp_path)
