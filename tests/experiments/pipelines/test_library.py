"""The enumerated library: distinct, valid, small molecules, the same ones every time."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from rdkit import Chem

from data.errors import InputError
from experiments.pipelines.enumeration import MOST_ATOMS, refuse_other_size, scaffolds, write_library


def read(path: Path) -> list[str]:
    with gzip.open(path, "rt") as file:
        lines = file.read().splitlines()
    assert lines[0] == "smiles"
    return lines[1:]


def test_molecules_are_valid_distinct_canonical_and_small(tmp_path: Path) -> None:
    library = write_library(tmp_path / "a.csv.gz", 3000, workers=1, progress=False)
    smiles = read(library.path)
    assert library.written == len(smiles) == len(set(smiles)) == 3000
    molecules = [Chem.MolFromSmiles(s) for s in smiles]
    assert all(m is not None and m.GetNumHeavyAtoms() <= MOST_ATOMS for m in molecules)
    assert [Chem.MolToSmiles(m) for m in molecules] == smiles
    elements = {a.GetSymbol() for m in molecules for a in m.GetAtoms()}
    assert elements == {"C", "N", "O", "F", "Cl"}
    assert all(Chem.GetFormalCharge(m) == 0 for m in molecules)


def test_the_same_size_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    one = write_library(tmp_path / "a.csv.gz", 500, workers=1, progress=False, chunk=200)
    other = write_library(tmp_path / "b.csv.gz", 500, workers=2, progress=False, chunk=200)
    assert one.path.read_bytes() == other.path.read_bytes()
    seeded = write_library(tmp_path / "c.csv.gz", 500, workers=1, seed=1, progress=False)
    assert read(seeded.path) != read(one.path)


def test_the_rules_give_more_than_a_million() -> None:
    assert sum(len(scaffold.decorations()) for scaffold in scaffolds()) > 1_000_000


def test_decorations_that_a_symmetry_maps_onto_each_other_are_one() -> None:
    benzene = next(s for s in scaffolds() if s.smiles([0] * len(s.texts)) == "c1ccccc1")
    smiles = [Chem.CanonSmiles(benzene.smiles(row.tolist())) for row in benzene.decorations()]
    assert len(set(smiles)) == len(smiles)
    # Fluorobenzenes with up to three fluorines: 1 + 3 + 3, besides benzene itself.
    fluorinated = [s for s in smiles if set(s) <= set("Fc1()")]
    assert len(fluorinated) == 8


def test_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rules give"):
        write_library(tmp_path / "a.csv.gz", 10**8, workers=1, progress=False)
    assert not (tmp_path / "a.csv.gz").exists()


def test_a_library_of_another_size_is_not_taken_for_the_one_asked_for(tmp_path: Path) -> None:
    library = write_library(tmp_path / "a.csv.gz", 300, workers=1, progress=False)
    refuse_other_size(library.path, 300)
    with pytest.raises(InputError, match="300 molecules, 301 are asked for"):
        refuse_other_size(library.path, 301)
