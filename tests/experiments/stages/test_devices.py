"""One script for any number of devices and processes: training and screening give what one device gives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import fit_and_screen
import jax
import numpy as np
import pandas as pd
import pytest
from forked_commands import Command, understudy

from data.molecules.featurise import encode
from surrogates.properties.property_table import read_table
from surrogates.saved import load_surrogate

SMALL = [
    "train.checkpoint_every_s=0", "train.mlflow=false", "model.network.features=8", "model.network.layers=1",
    "model.ensemble=1", "model.buckets=1", "data.parts=[0.6,0.1,0.2,0.1]",
]  # fmt: skip


def write_table(path: Path, count: int) -> Path:
    """Chains with branches, and how many heavy atoms they have."""
    random = np.random.default_rng(0)
    smiles = dict.fromkeys("C" + "".join(random.choice(["C", "N", "O", "C(C)", "C(=O)"], 4)) for _ in range(3 * count))
    rows = [f"{s},{sum(c in 'CNO' for c in s)}" for s in list(smiles)[:count]]
    path.write_text("smiles,heavy\n" + "\n".join(rows) + "\n")
    return path


def environment(**more: str) -> dict[str, str]:
    """That of the tests, with this checkout's packages first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "JAX_PLATFORMS": "cpu", **more}


@pytest.mark.slow
def test_training_and_screening_on_eight_devices_give_what_one_gives(tmp_path: Path) -> None:
    table = write_table(tmp_path / "labels.csv", 120)
    assert len(jax.devices()) == 1
    fit_and_screen.run(table, tmp_path / "1")
    subprocess.run(
        [sys.executable, fit_and_screen.__file__, str(table), str(tmp_path / "8")],
        env=environment(XLA_FLAGS=f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"),
        check=True,
        timeout=1200,
    )
    scores = {}
    for devices in (1, 8):
        out = tmp_path / str(devices)
        assert json.loads((out / "fit" / "fit.json").read_text())["devices"] == devices
        scores[devices] = pd.read_parquet(out / "screen" / "results")
    assert scores[1].smiles.tolist() == scores[8].smiles.tolist()
    for column in ("prediction", "std"):
        np.testing.assert_allclose(scores[8][column], scores[1][column], rtol=2e-4, atol=2e-4)
    assert scores[1].prediction.std() > 0.1


@pytest.mark.slow
def test_two_processes_train_what_one_trains_and_resume_it(tmp_path: Path) -> None:
    table = write_table(tmp_path / "labels.csv", 120)
    line = ["train", "task=molecules/properties", f"data.file={table}", "data.target=heavy", "train.epochs=3", *SMALL]

    def together() -> dict[str, float]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        switches = ["devices.distributed=true", f"devices.coordinator=127.0.0.1:{port}", "devices.processes=2"]
        processes = [
            Command(*line, *switches, f"devices.process={k}", "run.dir=two", cwd=tmp_path, environment=environment())
            for k in range(2)
        ]
        assert [p.wait(timeout=1200) for p in processes] == [0, 0], [p.said for p in processes]
        return json.loads((tmp_path / "two" / "metrics.json").read_text())

    metrics = together()
    history = (tmp_path / "two" / "train.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in history] == [1, 2, 3]
    assert json.loads((tmp_path / "two" / "fit.json").read_text())["devices"] == 2
    done = understudy(*line, "run.dir=one", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    alone = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert metrics["test/mae"] == pytest.approx(alone["test/mae"], rel=1e-4)
    labels = read_table(table, "smiles", ["heavy"], [], None)
    graphs = encode(labels.smiles)[0]
    answers = [load_surrogate(tmp_path / run / "surrogate").predict_table(graphs)["heavy"] for run in ("one", "two")]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-4)
    # The same command again goes on from the checkpoint that the first process wrote: nothing is left to train.
    assert together()["test/mae"] == pytest.approx(metrics["test/mae"], rel=1e-6)
    assert (tmp_path / "two" / "train.jsonl").read_text().splitlines() == history
