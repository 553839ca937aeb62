"""Costs survive whatever ends a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.application.stage_costs import Ledger

BURN = """
import sys, time
from pathlib import Path
from experiments.application import stage_costs
stage_costs.UPDATE_S = 0.1
with stage_costs.Ledger(Path(sys.argv[1])).stage("pretraining") as cost:
    cost.items = 7
    while True:
        sum(range(10000))
"""


def costs(path: Path) -> dict[str, dict[str, float]]:
    return {row["stage"]: row for row in json.loads(path.read_text())}


def test_what_a_killed_stage_spent_is_counted_when_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    spent = 0.0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", BURN, str(path)])
        deadline = time.monotonic() + 300
        while not path.exists() or costs(path)["pretraining"]["core_seconds"] < spent + 0.5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        spent = costs(path)["pretraining"]["core_seconds"]
    assert spent >= 1.0
    assert costs(path)["pretraining"]["items"] == 7
    with Ledger(path).stage("pretraining") as cost:
        cost.items = 9
    stored_cost = costs(path)["pretraining"]
    assert spent <= stored_cost["core_seconds"] < spent + 0.5
    assert stored_cost["items"] == 9


def test_what_a_stage_counted_itself_replaces_what_was_measured(tmp_path: Path) -> None:
    for _ in range(2):
        with Ledger(tmp_path / "costs.json").stage("expensive labels") as cost:
            cost.core_seconds = 123.0
    assert costs(tmp_path / "costs.json")["expensive labels"]["core_seconds"] == 123.0


def test_a_stage_that_fails_has_cost_something(tmp_path: Path) -> None:
    def fail() -> None:
        with Ledger(tmp_path / "costs.json").stage("screening"):
            time.sleep(0.05)
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fail()
    assert costs(tmp_path / "costs.json")["screening"]["wall_seconds"] >= 0.05
