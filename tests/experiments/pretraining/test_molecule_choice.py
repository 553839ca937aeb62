"""The molecules of a pre-training: no molecule in two parts, none that was left out, and reasons for the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from rdkit import Chem

from data.errors import InputError
from data.molecules.writing import write_csv
from experiments.pretraining.molecule_choice import MoleculeChoice, choose_molecules

LEFT_OUT = {
    "[Na+].[Cl-]": "other elements: Na", "CC[O-]": "charged", "C.C": "several fragments", "[CH3]": "unpaired electrons",
    "C(": "unreadable", "C[C@H](N)C(=O)O": "a molecule of --without, or one that was taken already",
    "CCCCCCCCCC": "more than 20 atoms",
}  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    alcohols = ["C" * n + "O" for n in range(1, 6)]
    write_csv(tmp_path / "table.csv", {"smiles": [*alcohols, *LEFT_OUT, "OC"]})
    return tmp_path / "table.csv"


def test_parts_are_disjoint_and_what_is_left_out_is_said(table: Path) -> None:
    choice = MoleculeChoice(5, ("C", "H", "N", "O", "Cl"), 20, ("C[C@@H](N)C(=O)O",))
    chosen = choose_molecules(table, "smiles", choice)
    assert {name: len(smiles) for name, smiles in chosen.parts.items()} == {"train": 3, "valid": 1, "test": 1}
    molecules = {Chem.CanonSmiles(text) for smiles in chosen.parts.values() for text in smiles}
    assert molecules == {"C" * n + "O" for n in range(1, 6)}
    with pytest.raises(InputError, match=r"has 5 molecules .* Give --count 5") as refused:
        choose_molecules(table, "smiles", MoleculeChoice(9, choice.elements, 20, choice.without))
    for reason in LEFT_OUT.values():
        assert reason in str(refused.value)
    assert choose_molecules(table, "smiles", choice) == chosen


def test_an_element_of_one_molecule_is_learned(tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", {"smiles": ["CCl", "CF", "C", "CC", "CO"]})
    for seed in range(3):
        chosen = choose_molecules(tmp_path / "one.csv", "smiles", MoleculeChoice(5, seed=seed))
        assert {"CCl", "CF", "CO"} <= set(chosen.parts["train"])
    write_csv(tmp_path / "each.csv", {"smiles": ["CCl", "CF", "CO"]})
    with pytest.raises(InputError, match="an element that no other one has"):
        choose_molecules(tmp_path / "each.csv", "smiles", MoleculeChoice(3))


def test_a_molecule_to_leave_out_has_to_be_readable(table: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        choose_molecules(table, "smiles", MoleculeChoice(5, without=("C(",)))
