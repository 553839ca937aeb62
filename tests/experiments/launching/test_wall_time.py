"""Jobs that reach their wall time stop as by Ctrl-C, are submitted again, and end as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pausing
import pytest
from forked_commands import understudy

from data.processes.descendants import descendants
from data.store.records import RecordStore
from experiments.launching import array, job_process, waiting
from experiments.launching.array import LauncherSettings
from experiments.runs.status import run_status
from simulators.campaigns.campaign import CampaignConfig, run_campaign

SHARD = "labels.zarr.shards/1-of-1"
SIMULATE = ("simulator=table", "simulator.file=none", "simulator.outputs=[y]", "campaign.workers=1", "out=labels.zarr")
TRAIN = (
    "task=fluids/drag", "data.file=d.csv", "data.inputs=[a,b]", "data.target=[y]", "train.mlflow=false",
    "data.units={a: '1', b: '1', y: '1'}", "train.epochs=3", "train.batch_size=16", "model.width=8",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `python -m understudy` is a command that pauses."""
    monkeypatch.chdir(tmp_path)
    paths = [str(Path(pausing.__file__).parent), str(Path(array.__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return tmp_path


def calls(folder: Path) -> Counter[int]:
    """How often each request was asked for."""
    path = folder / "calls"
    return Counter(int(line.split()[0]) for line in path.read_text().splitlines()) if path.exists() else Counter()


def test_a_shard_at_its_wall_time_stops_and_the_next_job_ends_it(folder: Path) -> None:
    pausing.shadow(folder, "simulate")
    # submitit's clock: a job of one minute is told to stop after half of it. What has not come as far as the pause by
    # then does so in the next job.
    limits = ["launcher.cluster=local", "launcher.shards=1", "launcher.minutes=1", "launcher.stop_s=30"]
    assert array.launch("simulate", [*SIMULATE, "launcher=submitit", "launcher.resubmitted=5", *limits]) == 0
    assert run_status(SHARD).state == "finished"
    # Nothing but what was under way was asked for a second time.
    assert calls(folder) == Counter({**dict.fromkeys(range(pausing.REQUESTS), 1), pausing.PAUSED: 2})
    said = "".join(path.read_text() for path in (folder / "labels.zarr.shards" / "jobs").glob("*.err"))
    assert "Stopped. The same command resumes from here." in said
    whole = folder / "whole"
    whole.mkdir()
    simulator = pausing.Pausing(str(whole))
    (whole / f"hung-{pausing.PAUSED}").touch()
    run_campaign(simulator, simulator.requests(), whole / "labels.zarr", CampaignConfig(workers=1), progress=False)
    records, expected = (RecordStore.open(p / "labels.zarr").dataset() for p in (folder / SHARD, whole))
    assert records["y"].values.tolist() == [x * x for x in range(pausing.REQUESTS)]
    for name in ("x", "y", "mode", "status", "message"):
        assert records[name].equals(expected[name]), name


JOB = """
import signal, sys
from experiments.launching.shard_job import ShardJob
from experiments.launching.training import TrainingTask

stage, *arguments = sys.argv[1:]
job = TrainingTask(tuple(arguments), ".") if stage == "train" else ShardJob(stage, tuple(arguments), ("1/1",), ".")

def at_wall_time(number, frame):
    assert job.checkpoint().function == job
    sys.exit(144)

signal.signal(signal.SIGUSR2, at_wall_time)
job()
"""


def paused_job(is_paused: Callable[[], bool], *arguments: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A job with the handler of submitit whose command has come as far as its pause, and all processes below."""
    environment = {**os.environ, "SUBMITIT_EXECUTOR": "local", "JAX_PLATFORMS": "cpu"}
    job = subprocess.Popen([sys.executable, "-c", JOB, *arguments], env=environment)
    while not is_paused():
        assert job.poll() is None
        time.sleep(0.05)
    return job, descendants(job.pid)


def announce_end(job: subprocess.Popen[bytes], below: list[int]) -> int:
    """Announce the end of a job as SLURM does, to all processes of its step; its exit status."""
    for pid in (job.pid, *below):
        os.kill(pid, signal.SIGUSR2)
    return job.wait(300)


@pytest.mark.parametrize("how", ["announced", "killed"])
def test_a_job_that_is_over_stops_its_command_with_all_that_it_started(how: str, folder: Path) -> None:
    pausing.shadow(folder, "simulate")
    job, below = paused_job(lambda: calls(folder)[pausing.PAUSED] > 0, "simulate", *SIMULATE)
    assert run_status(SHARD).state == "running"
    if how == "announced":
        assert announce_end(job, below) == 144
    else:
        job.kill()
        job.wait(60)
    while any(Path(f"/proc/{pid}/stat").exists() for pid in below):
        time.sleep(0.05)
    assert run_status(SHARD).state == "stopped"
    records = RecordStore.open(folder / SHARD / "labels.zarr").dataset()
    assert records["x"].values.tolist() == [*range(pausing.PAUSED)]
    assert set(records["status"].values.tolist()) == {"ok"}


def test_a_training_at_its_wall_time_writes_a_checkpoint_and_ends_with_the_same_weights(folder: Path) -> None:
    pausing.shadow(folder, "train")
    x = np.random.default_rng(0).uniform(0.5, 1.5, (60, 2))
    (folder / "d.csv").write_text("a,b,y\n" + "".join(f"{a:.6f},{b:.6f},{a + b:.6f}\n" for a, b in x))
    assert announce_end(*paused_job((folder / "paused").exists, "train", *TRAIN, "run.dir=run")) == 144
    stopped = run_status("run")
    assert (stopped.state, stopped.share == 1.0) == ("stopped", False)
    assert [path.name for path in (folder / "run" / "checkpoints").iterdir()] == [f"{pausing.PAUSED:09}"]
    for run in ("run", "whole"):
        done = understudy("train", *TRAIN, f"run.dir={run}", cwd=folder)
        assert done.returncode == 0, done.stderr
    cards = [json.loads((folder / run / "surrogate" / "surrogate.json").read_bytes()) for run in ("run", "whole")]
    assert cards[0]["weights_sha256"] == cards[1]["weights_sha256"]


def test_what_is_ignored_above_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(job_process.ANNOUNCEMENT, "USR1")
    assert job_process.announcing_signal() == signal.SIGUSR1
    monkeypatch.delenv(job_process.ANNOUNCEMENT)
    assert job_process.announcing_signal() == signal.SIGUSR2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"cluster": "local", "resubmitted": 6}, "from 0 to 5 with cluster=local"),
        ({"cluster": "local", "minutes": 1, "stop_s": 60}, "has to last 61 s"),
        ({"minutes": 2}, "has to last 150 s"),
        ({"minutes": 4, "stop_s": 121}, "has to last 241 s"),
    ],
)
def test_a_job_too_short_to_be_stopped_is_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        LauncherSettings(**settings)  # type: ignore[arg-type]


def test_jobs_get_their_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LauncherSettings(cluster="local", minutes=7, stop_s=45, resubmitted=4)
    local = array.submitit_executor(tmp_path / "local", settings)._executor
    assert local.max_num_timeout == 4
    assert (local.parameters["timeout_min"], local.parameters["signal_delay_s"]) == (7, 45)
    (tmp_path / "srun").write_text("")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    slurm = array.submitit_executor(tmp_path / "slurm", LauncherSettings(minutes=7, resubmitted=2))._executor._executor
    assert slurm.max_num_timeout == 2
    assert (slurm.parameters["time"], slurm.parameters["signal_delay_s"]) == (7, 90)


QUEUE = """#!/bin/sh
case "$*" in
  *--jobs=3_0) echo 3_0; echo 3_1;;
  *--jobs=3_2) echo 3_0; echo 3_1;;
  *--jobs=4) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
  *) echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1;;
esac
"""


def test_a_job_that_left_no_result_is_over_when_the_queue_does_not_list_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "squeue").write_text(QUEUE)
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert [waiting.is_queued(name) for name in ("3_0", "3_2", "4", "5")] == [True, False, False, True]
    monkeypatch.setattr(waiting, "POLL_S", 0.001)
    monkeypatch.setattr(waiting, "QUEUE_S", 0.0)
    killed = [SimpleNamespace(job_id=name, done=lambda: False) for name in ("3_2", "4")]
    assert waiting.wait_for(killed, "jobs", queue=True)

    def stop() -> bool:
        raise KeyboardInterrupt

    assert not waiting.wait_for([SimpleNamespace(job_id=9, done=stop)], "jobs", queue=True)
    assert "The jobs go on: 9" in capsys.readouterr().err
