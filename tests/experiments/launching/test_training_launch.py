"""A training of several nodes is one job, whose tasks are processes that find each other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from forked_commands import Command

from data.claim import claim
from data.errors import InputError
from data.progress import follow_progress
from experiments.launching import array, training
from experiments.launching.training import TrainingTask

PLACES = ("task=fluids/drag", "data.file=d.csv")


def test_each_task_knows_its_number() -> None:
    local = TrainingTask(PLACES, ".", port=9000, devices=True)
    assert local.command(3, 4, 1) == [
        "train", *PLACES, "devices.distributed=true", "devices.coordinator=127.0.0.1:9000", "devices.processes=4",
        "devices.process=3", "devices.local_device_ids=[1]",
    ]  # fmt: skip
    assert TrainingTask(PLACES, ".").command(3, 4, 1) == ["train", *PLACES, "devices.distributed=true"]
    assert TrainingTask(PLACES, ".", port=9000, devices=True).command(0, 1, 0) == ["train", *PLACES]


def test_the_job_has_as_many_tasks_as_there_are_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    class Here:
        def submit_array(self, jobs: list[TrainingTask]) -> list[SimpleNamespace]:
            asked.extend(jobs)
            with claim(tmp_path / "run", "train"), follow_progress(tmp_path / "run", "train"):
                pass
            return [SimpleNamespace(job_id=7, done=lambda: True)]

    def executor(folder: Path, settings: array.LauncherSettings) -> Here:
        asked.extend((folder, settings.nodes, settings.tasks))
        return Here()

    monkeypatch.setattr(training, "submitit_executor", executor)
    arguments = [*PLACES, f"run.dir={tmp_path / 'run'}", "launcher=submitit", "launcher.nodes=2", "launcher.gpus=4"]
    assert array.asks_launcher("train", arguments)
    assert training.launch(arguments) == 0
    assert asked[:3] == [tmp_path / "run.jobs", 2, 4]
    assert asked[3].arguments == tuple(arguments[:3])
    assert "8 processes on 2 nodes" in capsys.readouterr().out
    for wrong in (["devices.process=1"], ["launcher.nodes=0"], ["launcher.queue=a"]):
        with pytest.raises(InputError):
            training.launch([*arguments, *wrong])
    with pytest.raises(InputError, match="one directory"):
        training.launch([*PLACES, "launcher=submitit"])
    with pytest.raises(InputError, match="one process of one node"):
        array.launch("screen", ["surrogate=s", "out=o", "launcher=submitit", "launcher.nodes=2"])


@pytest.mark.slow
def test_submitit_starts_all_processes_of_a_training(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.5, (60, 2))
    rows = [f"{a:.6f},{b:.6f},{a + b:.6f}" for a, b in x]
    (tmp_path / "d.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    line = [
        "train", "task=fluids/drag", "data.file=d.csv", "data.inputs=[a,b]", "data.target=[y]",
        "data.units={a: '1', b: '1', y: '1'}", "train.epochs=2", "train.mlflow=false", "model.width=8",
        "run.dir=run", "launcher=submitit", "launcher.cluster=local", "launcher.nodes=2",
    ]  # fmt: skip
    command = Command(*line, cwd=tmp_path, environment={**os.environ, "JAX_PLATFORMS": "cpu"})
    logs = "\n".join(path.read_text() for path in (tmp_path / "run.jobs").glob("*.err")) if command.wait(600) else ""
    assert command.returncode == 0, (command.said, logs)
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["processes"] == 2
    assert (tmp_path / "run" / "surrogate" / "surrogate.json").is_file()
