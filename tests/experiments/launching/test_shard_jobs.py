"""Shards of a local array run on GPUs of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data.errors import InputError
from experiments.launching import array, shard_job
from experiments.launching.array import LauncherSettings, devices_of_job
from experiments.launching.shard_job import ShardJob


def test_no_two_local_jobs_share_a_gpu() -> None:
    settings = LauncherSettings(shards=4, jobs=2, cluster="local", gpus=2)
    assert [devices_of_job(job, settings, None) for job in range(2)] == ["0,1", "2,3"]
    assert [devices_of_job(job, settings, "7,5,3,GPU-a") for job in range(2)] == ["7,5", "3,GPU-a"]
    with pytest.raises(InputError, match="2 jobs ask for 4 GPUs, CUDA_VISIBLE_DEVICES names 3"):
        devices_of_job(0, settings, "0,1,2")
    assert devices_of_job(0, LauncherSettings(cluster="local"), None) is None
    assert devices_of_job(0, LauncherSettings(cluster="slurm", gpus=1), "3") is None


def test_a_shard_sees_the_gpus_of_its_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def record_call(arguments: list[str], folder: str, environment: dict[str, str] | None) -> int:
        seen.append(
            (arguments[-1], environment and environment["CUDA_VISIBLE_DEVICES"], environment and environment["PATH"])
        )
        return 0

    monkeypatch.setattr(shard_job, "run_understudy", record_call)
    ShardJob("screen", (), ("1/2", "2/2"), ".", "5")()
    ShardJob("screen", (), ("1/1",), ".")()
    path = os.environ["PATH"]
    assert seen == [("shard=1/2", "5", path), ("shard=2/2", "5", path), ("shard=1/1", None, None)]


def test_a_job_that_was_asked_to_stop_does_not_begin_its_next_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {"shard=1/3": 1, "shard=2/3": 130}
    monkeypatch.setattr(shard_job, "run_understudy", lambda arguments, **_: statuses[arguments[-1]])
    assert ShardJob("screen", (), ("1/3", "2/3", "3/3"), ".")() == [1, 130]


RECORD = """
import os, pathlib, sys

shard = next(a for a in sys.argv if a.startswith("shard=")).removeprefix("shard=").replace("/", "-of-")
pathlib.Path(shard).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
"""


def test_each_process_that_submitit_starts_sees_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # submitit tells each of its local jobs to use the first GPU. What `python -m understudy` runs here records its own.
    (tmp_path / "understudy.py").write_text(RECORD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(array.__file__).parents[2]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-b")
    limits = ["launcher=submitit", "launcher.cluster=local", "launcher.gpus=1"]
    # The shards that did not write a state are not finished.
    assert array.launch("screen", ["surrogate=s", "out=hits", *limits]) == 1
    assert {path.name: path.read_text() for path in tmp_path.glob("*-of-2")} == {"1-of-2": "5", "2-of-2": "GPU-b"}
