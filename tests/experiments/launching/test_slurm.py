"""Shards on a real SLURM: one of two jobs reaches its wall time, or is killed. Skipped where no SLURM answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pausing
import pytest

from data.store.records import RecordStore
from experiments.launching import array
from experiments.runs.status import run_status

ROOT = Path(array.__file__).parents[2]
SIMULATE = ("simulator=table", "simulator.file=none", "simulator.outputs=[y]", "campaign.workers=1", "out=labels.zarr")


def slurm(*command: str) -> str:
    """What a command of SLURM prints, or why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no: {error}"
    return done.stdout if done.returncode == 0 else f"no: {done.stderr}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a command that pauses; nodes have to see it."""
    if (answer := slurm("sinfo", "--noheader")).startswith("no:"):
        pytest.skip(f"no SLURM answers here ({answer.strip()})")
    pausing.shadow(tmp_path, "simulate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(pausing.__file__).parent), str(ROOT)]))
    return tmp_path


def launched() -> subprocess.Popen[bytes]:
    """The command that submits two shards and waits for them."""
    limits = ["launcher=submitit", "launcher.shards=2", "launcher.minutes=10"]
    code = "import sys; from experiments.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code, "simulate", *SIMULATE, *limits])


def wait_until(true: Callable[[], bool], command: subprocess.Popen[bytes]) -> None:
    """Wait for something that comes while a command runs."""
    while not true():
        assert command.poll() is None
        time.sleep(0.2)


def requests(folder: Path) -> Counter[int]:
    """How often each request was asked for."""
    calls = folder / "calls"
    return Counter(int(line.split()[0]) for line in calls.read_text().splitlines()) if calls.exists() else Counter()


@pytest.mark.slow
@pytest.mark.parametrize("number", ["USR2", "KILL"])
def test_an_array_of_slurm_survives_its_wall_time_and_names_a_shard_that_was_killed(number: str, folder: Path) -> None:
    command = launched()
    states = {shard: f"labels.zarr.shards/{shard}-of-2" for shard in (1, 2)}
    wait_until(lambda: sum(requests(folder).values()) == pausing.REQUESTS - 1, command)
    paused = next(shard for shard, path in states.items() if run_status(path).state == "running")
    tasks = slurm("squeue", "--noheader", "--array", "--states=running", "--format=%i").split()
    job = next(name for name in tasks if name.endswith(f"_{paused - 1}"))
    # What SLURM sends to a job that is about to reach its wall time, or whose node runs out of memory.
    assert slurm("scancel", f"--signal={number}", job) == ""
    assert command.wait(600) == (0 if number == "USR2" else 1)
    if number == "KILL":
        # The end of its parent may stop the command before the kill reaches it.
        assert run_status(states[paused]).state in ("lost", "stopped")
        command = launched()
        assert command.wait(600) == 0
    assert [run_status(path).state for path in states.values()] == ["finished", "finished"]
    assert requests(folder) == Counter({**dict.fromkeys(range(pausing.REQUESTS), 1), pausing.PAUSED: 2})
    stores = [RecordStore.open(Path(path) / "labels.zarr").dataset() for path in states.values()]
    answers = {float(x): float(y) for one in stores for x, y in zip(one["x"], one["y"], strict=True)}
    assert answers == {float(x): float(x * x) for x in range(pausing.REQUESTS)}
