"""A stage that a script started stops when the script ends, however that ends, and can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pausing
import pytest

import understudy
from data.processes.descendants import descendants
from data.store.records import RecordStore
from experiments.runs.status import run_status

SCRIPT = """
import understudy

understudy.simulate(
    "simulator=table", "simulator.file=none", "simulator.outputs=[y]", "campaign.workers=1", run_dir="run", out="y.zarr"
)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_stops_with_the_script_that_called_it(number: signal.Signals, tmp_path: Path) -> None:
    pausing.shadow(tmp_path, "simulate")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "label.py").write_text(SCRIPT)
    paths = [str(Path(pausing.__file__).parent), str(Path(understudy.__file__).parents[1])]
    script = subprocess.Popen(
        [sys.executable, "scripts/label.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    calls = tmp_path / "calls"
    while not calls.exists() or len(calls.read_text().splitlines()) <= pausing.PAUSED:
        assert script.poll() is None
        time.sleep(0.05)
    below = descendants(script.pid)
    script.send_signal(number)
    assert script.wait(60) == -number
    while any(Path(f"/proc/{pid}/stat").exists() for pid in below):
        time.sleep(0.05)
    assert run_status(str(tmp_path / "run")).state == "stopped"
    records = RecordStore.open(tmp_path / "y.zarr").dataset()
    assert records["y"].values.tolist() == [float(x * x) for x in range(pausing.PAUSED)]
