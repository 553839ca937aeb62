"""The benchmark of few labels: labels at an error, molecules of rings, and bodies that may have learned the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from rdkit import Chem
from small_potential import potential

from benchmarks.few_labels import labels_to_reach, main
from benchmarks.ring_molecules import ring_molecules
from data.errors import InputError
from data.files import write_json


def test_labels_at_an_error_follow_a_power_law() -> None:
    errors = {count: 300.0 * count**-0.5 for count in (10, 30, 100, 300)}
    for count in (10, 17, 100, 300):
        assert labels_to_reach(errors, 300.0 * count**-0.5) == pytest.approx(count)
    # The fewest labels are a bound where they reach it, and what no number reaches is no number.
    assert labels_to_reach(errors, 1000.0) == 10
    assert not labels_to_reach(errors, 1.0) > 0


def test_rings_are_aromatic_molecules_with_groups() -> None:
    molecules = [Chem.MolFromSmiles(text) for text in ring_molecules(50, 0)]
    assert all(molecule is not None for molecule in molecules)
    assert all(any(atom.GetIsAromatic() for atom in molecule.GetAtoms()) for molecule in molecules)
    assert ring_molecules(5, 1) == ring_molecules(5, 1) != ring_molecules(5, 2)


def test_a_body_that_may_have_learned_the_molecule_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.few_labels.pin", lambda cores: None)
    potential().save(tmp_path / "body")
    write_json(tmp_path / "body" / "body.json", {"settings": {"choice": {"without": ["CCO"]}}})
    with pytest.raises(InputError, match=r"may have learned aspirin.*--without"):
        main(["--body", str(tmp_path / "body"), "--molecules", "aspirin", "--ways", "scratch"])
