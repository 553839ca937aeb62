"""The comparison with Chemprop on tables of properties: its parts, its verdict, and one run with a stand-in for it."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.property_parts import Labels, TableChoice, draw_parts, score, verdict
from benchmarks.property_tables import main
from data.errors import InputError
from data.splits import scaffold

#: A program with the command line of Chemprop that predicts the mean label of the training part, and logs its calls.
STAND_IN = """#!{python}
import csv, pathlib, sys
line = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(line) + "\\n")
if "--help" not in line:
    start = line.index("-i")
    read = lambda path: list(csv.DictReader(open(path)))
    train, test = read(line[start + 1]), read(line[start + 3])
    mean = sum(float(row["target"]) for row in train) / len(train)
    out = pathlib.Path(line[line.index("-o") + 1]) / "model_0"
    out.mkdir(parents=True)
    with open(out / "test_predictions.csv", "w") as file:
        file.write("smiles,target\\n" + "".join(f"{{row['smiles']}},{{mean}}\\n" for row in test))
"""


def molecules() -> list[str]:
    """180 molecules on four rings and on none, each once; a twentieth is enough to calibrate intervals."""
    rings = ("c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCOC1", "C")
    return [
        f"{'C' * length}{end}{ring}" for ring in rings for length in range(1, 10) for end in ("", "O", "N", "C(=O)")
    ]


def labels() -> Labels:
    """The molecules, with their number of letters as label."""
    smiles = molecules()
    return Labels(smiles, np.array([float(len(text)) for text in smiles]))


@pytest.mark.parametrize("split", ["random", "scaffold"])
def test_each_molecule_is_in_one_part_and_no_ring_of_the_test_was_learned(split: str) -> None:
    table = labels()
    parts = draw_parts(table, split, seed=1)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(table.smiles)))
    assert {name: len(rows) for name, rows in parts.items()} == {"train": 144, "valid": 9, "calibration": 9, "test": 18}
    if split == "scaffold":
        learned, tested = ({scaffold(table.smiles[i]) for i in parts[name]} - {""} for name in ("train", "test"))
        assert not learned & tested


def seeds(score: str, values: Sequence[float], core_seconds: float = 1.0) -> list[dict[str, float]]:
    """What was measured of one side, for each seed."""
    return [{score: value, "core_seconds": core_seconds} for value in values]


def test_a_verdict_is_a_tie_within_the_spread_over_the_seeds() -> None:
    theirs = seeds("rmse", [0.6, 0.7, 0.8])
    assert verdict("regression", seeds("rmse", [0.5, 0.6, 0.7]), theirs) == "win"
    assert verdict("regression", seeds("rmse", [0.5, 0.6, 0.7], 1.1), theirs) == "win, slower"
    assert verdict("regression", seeds("rmse", [0.7, 0.8, 0.9]), theirs) == "loss"
    # Differences of 0.1, -0.1 and 0.1 have a mean of 0.03 and a standard deviation of 0.12.
    assert verdict("regression", seeds("rmse", [0.5, 0.8, 0.7]), theirs) == "tie"
    # An area under a curve is better when it is larger.
    assert verdict("classification", seeds("roc_auc", [0.9, 0.8]), seeds("roc_auc", [0.8, 0.7])) == "win"
    assert verdict("classification", seeds("roc_auc", [0.9]), seeds("roc_auc", [0.95])) == "loss?"


def test_a_test_part_of_one_class_has_no_score() -> None:
    assert score("classification", np.array([0.0, 1.0]), np.array([0.2, 0.8]))["roc_auc"] == 1.0
    with pytest.raises(InputError, match="one kind only"):
        score("classification", np.ones(3), np.full(3, 0.5))


@pytest.mark.parametrize(
    ("text", "word"),
    [("table.csv:logs", "not FILE"), ("table.csv:logs:ranking", "no kind"), ("none.csv:logs:regression", "no such")],
)
def test_a_table_that_cannot_be_read_is_refused(
    text: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("smiles,logs\nC,1\n")
    with pytest.raises(InputError, match=word):
        TableChoice.parse(text)
    assert TableChoice.parse("table.csv:logs:regression:SMILES").smiles == "SMILES"


def test_a_run_scores_both_sides_on_the_same_molecules_and_repeats_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.property_tables.pin", lambda cores: [0])
    table, log, peers = labels(), tmp_path / "calls", tmp_path / "bin"
    with open(tmp_path / "letters.csv", "w", newline="") as file:
        csv.writer(file).writerows([("smiles", "letters"), *zip(table.smiles, table.values, strict=True)])
    peers.mkdir()
    (peers / "python").write_text("#!/bin/sh\necho 9.9\n")
    (peers / "chemprop").write_text(STAND_IN.format(python=sys.executable, log=str(log)))
    for program in peers.iterdir():
        program.chmod(0o755)
    line = ["--table", f"{tmp_path / 'letters.csv'}:letters:regression", "--splits", "random", "--seeds", "0"]
    line += ["--peers", str(peers), "--out", str(tmp_path / "out")]
    line.append("--set")
    line += ["train.epochs=1", "model.network.features=8", "model.network.layers=1", "model.ensemble=1"]
    main([*line, "model.buckets=1"])
    path = tmp_path / "out" / "property_tables.json"
    first = {row["name"]: row for row in json.loads(path.read_text())}
    rmse = first["letters:letters, random: rmse"]
    rows = draw_parts(table, "random", 0)
    truth, mean = table.values[rows["test"]], table.values[rows["train"]].mean()
    assert rmse["peer"] == "chemprop 9.9"
    assert rmse["peer_value"] == pytest.approx(float(np.sqrt(((truth - mean) ** 2).mean())))
    calls = log.read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["--help", "--help", "-i"]
    assert "--task-type regression --pytorch-seed 0 --epochs 50" in calls[-1]

    def train_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("benchmarks.property_sides._train", train_again)
    main([*line, "model.buckets=1"])
    assert json.loads(path.read_text()) == list(first.values())
    assert len(log.read_text().splitlines()) == 5
