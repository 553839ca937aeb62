"""Splits: nothing leaks, nothing is lost, and each kind splits by what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from data.errors import CorruptStoreError, InputError
from data.splits import Split, canonical, counts, random_split, scaffold, scaffold_split, size_split

CHAINS = ["C" * n for n in range(1, 21)]
ALCOHOLS = ["C" * n + "O" for n in range(1, 21)]
RINGS = [f"{ring}{tail}" for ring in ("c1ccccc1", "C1CCCC1", "c1ccncc1", "C1CCOC1") for tail in ("C", "CC", "F", "O")]
MOLECULES = CHAINS + ALCOHOLS + RINGS
#: The same molecules, each written from its other end.
REWRITTEN = [Chem.MolToSmiles(Chem.MolFromSmiles(s), rootedAtAtom=0, canonical=False) for s in MOLECULES]
PARTS = {"train": 0.6, "valid": 0.2, "test": 0.2}
KINDS = (random_split, scaffold_split, size_split)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_in_exactly_one_part(kind) -> None:  # type: ignore[no-untyped-def]
    split = kind(MOLECULES, PARTS, seed=3)
    together = np.concatenate([split[name] for name in split])
    assert sorted(together.tolist()) == list(range(len(MOLECULES)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(2 * len(MOLECULES))), seed=st.integers(0, 100))
def test_a_molecule_is_never_in_two_parts_however_it_is_written(kind, order, seed) -> None:  # type: ignore[no-untyped-def]
    smiles = [(MOLECULES + REWRITTEN)[i] for i in order]
    split = kind(smiles, PARTS, seed=seed)
    names = canonical(smiles)
    parts = [{names[i] for i in split[part]} for part in split]
    assert not (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])


def test_the_seed_fixes_a_split_and_another_gives_another() -> None:
    one, same, other = (random_split(MOLECULES, PARTS, seed=s)["train"] for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_no_scaffold_is_in_two_parts() -> None:
    split = scaffold_split(RINGS * 1, {"train": 0.5, "test": 0.5}, seed=0)
    scaffolds = [{scaffold(RINGS[i]) for i in split[name]} for name in split]
    assert scaffolds[0]
    assert scaffolds[1]
    assert not scaffolds[0] & scaffolds[1]


def test_scaffolds_are_those_of_bemis_and_murcko() -> None:
    assert scaffold("CCc1ccc(CC2CCCC2)cc1O") == "c1ccc(CC2CCCC2)cc1"
    assert scaffold("CCO") == ""


def test_the_last_part_of_a_size_split_holds_the_largest_molecules() -> None:
    split = size_split(MOLECULES, PARTS, seed=0)
    sizes = np.array([Chem.MolFromSmiles(s).GetNumHeavyAtoms() for s in MOLECULES])
    assert sizes[split["train"]].max() <= sizes[split["test"]].min() + 1
    assert sizes[split["train"]].mean() < sizes[split["valid"]].mean() < sizes[split["test"]].mean()


def test_counts_and_fractions_can_be_mixed() -> None:
    assert counts({"train": 0.5, "test": 7}, 20) == {"train": 10, "test": 7}
    assert counts({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10) == {"a": 4, "b": 3, "c": 3}
    with pytest.raises(InputError, match="30 rows"):
        counts({"train": 30}, 20)


def test_a_split_is_read_as_it_was_written(tmp_path: Path) -> None:
    split = random_split(MOLECULES, PARTS, seed=0)
    split.save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json")
    assert all(np.array_equal(split[name], again[name]) for name in split)
    (tmp_path / "split.json").write_text('{"train": [1, 2], "test": [2]}')
    with pytest.raises(CorruptStoreError):
        Split.load(tmp_path / "split.json")
