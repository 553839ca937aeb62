"""Two spellings of one molecule have one key; two molecules have two."""

from __future__ import annotations

import numpy as np
import pytest

from data.identity import molecule_keys
from data.splits import random_split, scaffold_split, size_split

#: Spellings of each molecule: other ends, Kekule forms, atom maps, isotopes, hydrogens as atoms.
SPELLINGS = [
    ["CCO", "OCC", "[CH3:1][CH2:2][OH:3]", "[2H]C([2H])([2H])CO", "[13CH3]CO", "[H]OCC"],
    ["c1ccccc1", "C1=CC=CC=C1", "[cH:9]1ccccc1", "[2H]c1ccccc1"],
    ["C[C@H](F)O", "O[C@H](C)F", "[CH3:4][C@H:2]([F:1])[OH:3]", "[13CH3][C@H](F)O"],
    ["C[C@@H](F)O"],
    ["C/C=C/C", "[2H]C/C=C/C"],
    ["C/C=C\\C"],
    ["OCC", "[2H][C@H](C)O", "C[C@@H]([2H])O"],
    ["CC(=O)O"],
    ["CC(=O)[O-]"],
]


def test_a_key_is_that_of_the_molecule_and_of_no_other() -> None:
    keys = [set(molecule_keys(spellings)) for spellings in SPELLINGS]
    assert all(len(spelled_keys) == 1 for spelled_keys in keys), keys
    # The first and the seventh are both ethanol.
    assert len(set.union(*keys)) == len(SPELLINGS) - 1
    assert keys[0] == keys[6]
    assert molecule_keys(["no molecule"]) == ["no molecule"]


@pytest.mark.parametrize("kind", [random_split, scaffold_split, size_split])
def test_isotopologues_and_mapped_molecules_never_leak_between_parts(kind) -> None:  # type: ignore[no-untyped-def]
    chains = ["C" * n + "O" for n in range(2, 30)]
    rows = chains + [f"[13CH3]{text[1:]}" for text in chains] + [f"[CH3:{n + 1}]{t[1:]}" for n, t in enumerate(chains)]
    split = kind(rows, {"train": 0.5, "test": 0.5}, seed=1)
    sides = [{int(row) % len(chains) for row in split[name]} for name in split]
    assert not sides[0] & sides[1]
    assert np.concatenate([split[name] for name in split]).size == len(rows)
