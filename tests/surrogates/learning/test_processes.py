"""Four processes of two devices train as one: also when one of them is asked to stop, or is killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import linear_problem
import numpy as np
import pytest
from process_group import PROCESSES, Signals, compare_data, run_group, train_linear

EPOCHS = 6


def together(folder: Path, every_s: float | None = 0.0, **signals: tuple[signal.Signals, int, int]) -> list[int]:
    """Train in `folder/run` with a signal to process K, given as `pK`; returns the exit statuses."""
    at: Signals = {int(name[1:]): value for name, value in signals.items()}
    statuses, errors = run_group(folder, train_linear, str(folder / "run"), str(folder), EPOCHS, every_s, at)
    for k, text in enumerate(errors):
        (folder / f"errors-{k}").write_text(text)
    return statuses


def weights(folder: Path) -> list[list[np.ndarray]]:
    arrays = [np.load(folder / f"weights-{k}.npz") for k in range(PROCESSES)]
    return [[one[name] for name in one.files] for one in arrays]


def checkpoints(folder: Path) -> list[str]:
    return sorted(place.name for place in (folder / "run" / "checkpoints").glob("0*"))


def test_four_processes_that_are_stopped_and_killed_end_as_one_process_does(tmp_path: Path) -> None:
    alone = linear_problem.train(tmp_path / "alone", epochs=EPOCHS, every_s=None)
    # One process is asked to stop: all stop after one step, and the first one writes the checkpoint.
    assert together(tmp_path, 1e9, p2=(signal.SIGTERM, 1, 5)) == [130] * PROCESSES
    steps = {(tmp_path / f"stopped-{k}").read_text() for k in range(PROCESSES)}
    (kept,) = checkpoints(tmp_path)
    assert steps == {str(int(kept))}
    assert 8 < int(kept) < 24
    # One is killed: each of the others names it, in one line, and ends.
    statuses = together(tmp_path, p3=(signal.SIGKILL, 4, 2))
    assert statuses == [130, 130, 130, -signal.SIGKILL]
    for k in range(3):
        (line,) = [row for row in (tmp_path / f"errors-{k}").read_text().splitlines() if "of this training" in row]
        assert line.startswith("Process 3 (")
        assert "died. All its processes end; the same command resumes" in line
    # The first process may still have been writing the checkpoint of that epoch.
    assert checkpoints(tmp_path)[-1] in ("000000024", "000000032")
    # The same command again goes on to the end.
    assert together(tmp_path) == [0] * PROCESSES
    first, *others = weights(tmp_path)
    for a, b in zip(first, linear_problem.weights(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    for other in others:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(first, other, strict=True))
    rows = [json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [row["step"] for row in alone.history]
    for row, single in zip(rows, alone.history, strict=True):
        assert row["train/loss"] == pytest.approx(single["train/loss"], rel=2e-5)
        assert row["valid/loss"] == pytest.approx(single["valid/loss"], rel=2e-4)


def test_other_data_on_another_host_are_refused_and_all_end(tmp_path: Path) -> None:
    statuses, errors = run_group(tmp_path, compare_data, processes=2, devices=1)
    assert statuses == [2, 2]
    problem = "process 1 has another training part than process 0"
    assert problem in errors[1]
    assert "training recipe" not in errors[1]
    assert errors[0].startswith("Process 1 (")
    assert problem in errors[0]
