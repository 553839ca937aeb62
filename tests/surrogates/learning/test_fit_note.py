"""What a training took is written down, and a training that its time ended at once is said to have learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from experiments.stages.train import closing_rows
from surrogates.learning.fit_note import note_fit
from surrogates.learning.loop import FitResult


@pytest.mark.parametrize(
    ("stopped", "epochs", "said"),
    [
        ("max_seconds", 1, "ended the training after 1 step, in epoch 1"),
        ("max_seconds", 2, "ended the training after 2 steps, in epoch 2"),
        ("max_seconds", 3, ""),
        ("max_seconds", 0, ""),
        ("epochs", 1, ""),
    ],
)
def test_a_training_that_its_time_ended_at_once_is_said(
    stopped: Literal["max_seconds", "epochs"],
    epochs: int,
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network: Any = None
    history = [{"epoch": float(i), "step": float(i + 1)} for i in range(epochs)]
    note_fit(FitResult(network, history, 2.0, 1.0, 0.0, {"train": 1}, stopped, float("inf")), tmp_path)
    assert json.loads((tmp_path / "fit.json").read_text())["epochs"] == epochs
    assert (said in caplog.text) if said else not caplog.text


@pytest.mark.parametrize(("epochs_done", "said"), [(3.2, "after 3.2 of 50 epochs"), (30.0, "")])
def test_a_training_that_made_few_of_its_epochs_is_said(
    epochs_done: float, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network: Any = None
    history = [{"epoch": float(i), "step": float(i + 1)} for i in range(4)]
    epochs = (epochs_done, 50)
    note_fit(FitResult(network, history, 2.0, 1.0, 0.0, {"train": 1}, "max_seconds", 1.0, epochs), tmp_path)
    assert (said in caplog.text) if said else not caplog.text
    rows = closing_rows({"train/epochs": epochs_done, "train/epochs_asked": 50.0, "test/a": 1.0})
    assert rows["epochs"] == f"{epochs_done:.3g} of 50, ended by time or patience"
