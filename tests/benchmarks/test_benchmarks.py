"""Benchmarks write complete results, and both programs of a comparison get the same molecules and cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import chemprop
from benchmarks.__main__ import main as benchmarks
from benchmarks.chemprop import Chemprop, read_smiles, write_smiles
from benchmarks.common import Result, report
from benchmarks.models import MEV_PER_HARTREE, read_gaps
from benchmarks.pair import Pair
from benchmarks.qm9_gap import CALIBRATION, TRAIN, VALID, split
from benchmarks.rung_pairs import paid_back
from data.errors import InputError


def test_report_has_every_key_and_the_command_that_repeats_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [Result.against("rate", 12_000.0, "molecules/s", "peer 1.0", 3000.0), Result("memory", 0.5, "MB")]
    path = report("screening", results, tmp_path, ["--cores", "2"])
    rows = json.loads(path.read_text())
    assert [sorted(row) for row in rows] == [
        ["command", "name", "peer", "peer_value", "ratio", "unit", "value"] for _ in results
    ]
    assert rows[0]["ratio"] == 4.0
    assert rows[1]["peer"] is None
    assert rows[0]["command"] == "python -m benchmarks.screening --cores 2"
    assert "12,000" in capsys.readouterr().out


def test_split_is_the_published_one_and_no_row_is_in_two_parts() -> None:
    parts = split(133_885)
    assert [len(parts[n]) for n in ("train", "valid", "calibration", "test")] == [
        TRAIN,
        VALID - CALIBRATION,
        CALIBRATION,
        13_885,
    ]
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(133_885))
    np.testing.assert_array_equal(parts["train"][:10_000], split(133_885)["train"][:10_000])


def test_gaps_are_read_in_mev(shared_data: Path) -> None:
    gaps = read_gaps(shared_data / "molecules" / "qm9_homo_lumo_gap_hartree.csv")
    assert len(gaps.smiles) == 133_885
    # QM9's mean gap is 6.86 eV (Ramakrishnan et al., Sci. Data 2014, 1, 140022).
    assert gaps.gap.mean() == pytest.approx(6860, abs=40)
    assert round(MEV_PER_HARTREE, 3) == 27211.386


def test_repeated_file_has_the_molecules_in_rounds(tmp_path: Path) -> None:
    write_smiles(tmp_path / "a.csv", ["C", "CC", "CCC"], 8)
    assert read_smiles(tmp_path / "a.csv") == ["C", "CC", "CCC", "C", "CC", "CCC", "C", "CC"]


def test_rate_of_the_peer_leaves_its_start_up_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that takes 1 s to start, 6 s the first time, and 1 ms a molecule is timed at 1000 molecules/s."""
    (tmp_path / "python").write_text("")
    starts, now = 0, 0.0

    def run(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        nonlocal starts, now
        rows = len(read_smiles(Path(line[line.index("-i") + 1])))
        # The first start reads packages from the disk.
        now += 1.0 + rows * 1e-3 + (5.0 if starts == 0 else 0.0)
        starts += 1
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(chemprop, "time", SimpleNamespace(perf_counter=lambda: now))
    rate = Chemprop(tmp_path, 1, tmp_path / "log").rate(tmp_path / "model", ["C"], 1500, 100)
    assert rate == pytest.approx(1000)
    assert starts == 4


def test_the_numbers_of_training_molecules_reach_the_benchmark_of_the_gap(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[str]] = []

    def note(line: list[str]) -> subprocess.CompletedProcess[str]:
        lines.append(line)
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(subprocess, "run", note)
    benchmarks(["--train", "10000", "30000"])
    (gap,) = (line for line in lines if "benchmarks.qm9_gap" in line)
    assert gap[gap.index("--train") + 1 :][:2] == ["10000", "30000"]
    assert not any("--train" in line for line in lines if line is not gap)
    monkeypatch.undo()
    line = ["make", "--dry-run", "bench", "TRAIN=10000 30000"]
    printed = subprocess.run(line, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert "benchmarks --train 10000 30000" in printed


def test_missing_peer_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make peers"):
        Chemprop(tmp_path, 1, tmp_path / "log").version()


def test_missing_data_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.qm9_gap", "--data", str(tmp_path), "--cores", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("benchmark: --data: no such file")
    assert len(done.stderr.splitlines()) == 1


def test_labels_and_training_have_paid_after_as_many_answers_as_save_their_cost() -> None:
    """A label costs 1 s here: an answer of 0.1 s pays after 150 s of labels and training, and one of 2 s never does."""
    costs = {"on": 0.1, "alone": 2.0}
    pair = Pair("flow", "solver", 1, [], {}, answer=lambda folder: costs[folder.name], labels=100)
    results = {r.name: r.value for r in paid_back(pair, Path("on"), Path("alone"), 50.0, 20.0, labels=100.0)}
    answers = {name: value for name, value in results.items() if "have paid" in name}
    assert answers == {
        "flow, on solver: answers after which labels and training have paid, with the rung": pytest.approx(150 / 0.9)
    }
    assert results["flow, on solver: an answer"] == pytest.approx(100.0)
    unknown = paid_back(pair, Path("on"), Path("alone"), 50.0, 20.0, labels=None)
    assert [r.peer for r in unknown] == ["the same network alone"]
    beside = replace(pair, rivals={"cheap solver": 0.05, "dear solver": 0.4})
    rows = paid_back(beside, Path("on"), Path("alone"), 50.0, 20.0, labels=100.0)[-3:]
    assert [(r.peer, r.ratio) for r in rows[:2]] == [
        ("cheap solver", pytest.approx(2)),
        ("dear solver", pytest.approx(0.25)),
    ]
    assert rows[2].value == pytest.approx(150 / 0.3)
