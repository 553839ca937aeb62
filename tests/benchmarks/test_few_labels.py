"""The benchmark of few labels: labels at an error, molecules of rings, and bodies that may have learned the test."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors
from small_potential import potential

from benchmarks import few_labels_figure
from benchmarks.common import Result, report
from benchmarks.few_labels import labels_to_reach, main
from benchmarks.organic_molecules import drawn, linked_rings, ring_molecule, with_other_elements
from data.errors import InputError
from data.files import write_json


def test_labels_at_an_error_follow_a_power_law() -> None:
    errors = {count: 300.0 * count**-0.5 for count in (10, 30, 100, 300)}
    for count in (10, 17, 100, 300):
        assert labels_to_reach(errors, 300.0 * count**-0.5) == pytest.approx(count)
    # The fewest labels are a bound where they reach it, and what no number reaches is no number.
    assert labels_to_reach(errors, 1000.0) == 10
    assert not labels_to_reach(errors, 1.0) > 0


def test_drawn_molecules_are_different_and_of_the_kind_that_was_asked() -> None:
    def some(seed: int) -> list[list[str]]:
        random, seen = np.random.default_rng(seed), set[str]()
        rings = drawn(30, seen, lambda: ring_molecule(random))
        pairs = drawn(30, seen, lambda: linked_rings(random))
        sources = itertools.cycle(["CCO", "COCC(C)=O", "O=C1CCCC1C", "CCC(=O)CCC", "OC1CCC1", "CC(C)(C)OC"])
        others = drawn(20, seen, lambda: with_other_elements(next(sources), random))
        return [rings, pairs, others]

    parts = some(0)
    assert parts == some(0) != some(1)
    everything = [text for part in parts for text in part]
    assert len(set(everything)) == 80
    for part, rings in zip(parts[:2], (1, 2), strict=True):
        for text in part:
            molecule = Chem.MolFromSmiles(text)
            assert molecule.GetRingInfo().NumRings() == rings == rdMolDescriptors.CalcNumAromaticRings(molecule), text
    symbols = [{atom.GetSymbol() for atom in Chem.MolFromSmiles(text).GetAtoms()} for text in parts[2]]
    assert set().union(*symbols) >= {"S", "F", "Cl"}
    sulphonyl = Chem.MolFromSmarts("S(=O)(=O)")
    assert any(Chem.MolFromSmiles(text).HasSubstructMatch(sulphonyl) for text in parts[2])


def test_the_figure_has_a_line_for_each_way(tmp_path: Path) -> None:
    measured = [Result("aspirin, no labels, GFN2-xTB: force MAE", 300.0, "meV/A")]
    for way, errors in (("scratch", {100: 60.0, 10: 200.0}), ("body", {100: 40.0, 10: 70.0})):
        for count, error in errors.items():
            head = f"aspirin, {count} labels, {way}"
            measured += [Result(f"{head}: force MAE (seeds differ by 0.3)", error, "meV/A")]
            measured += [Result(f"{head}: energy MAE", 1.0, "meV")]
    [(name, drawn_curves)] = few_labels_figure.curves(measured).items()
    axes = Figure().add_subplot()
    few_labels_figure.paint(axes, name, drawn_curves)
    assert [line.get_label() for line in axes.lines] == ["fresh weights", "pre-trained weights", "GFN2-xTB, no label"]
    assert [list(line.get_ydata()) for line in axes.lines] == [[200.0, 60.0], [70.0, 40.0], [300.0, 300.0]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100"]
    with pytest.raises(InputError, match="no errors in it"):
        few_labels_figure.curves(measured[:1])
    report("few_labels", measured, tmp_path, [])
    few_labels_figure.main(["--out", str(tmp_path)])
    assert (tmp_path / "few_labels.png").read_bytes().startswith(b"\x89PNG")


def test_a_body_that_may_have_learned_the_molecule_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.few_labels.pin", lambda cores: None)
    potential().save(tmp_path / "body")
    write_json(tmp_path / "body" / "body.json", {"settings": {"choice": {"without": ["CCO"]}}})
    with pytest.raises(InputError, match=r"may have learned aspirin.*--without"):
        main(["--body", str(tmp_path / "body"), "--molecules", "aspirin", "--ways", "scratch"])
