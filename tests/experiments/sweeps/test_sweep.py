"""Sweeps: each job in a process and a directory of its own, the failed ones named, and nothing done twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from forked_commands import Command, understudy

from experiments.application.hydra_options import refuse_unsafe
from experiments.cli import run_stage
from experiments.sweeps import job
from experiments.sweeps.asked import asks_sweep
from experiments.sweeps.job import job_arguments
from experiments.sweeps.sweep import sweep_directory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.smi").write_text("CCO\nCCC\n")
    Path("b.smi").write_text("CCN\nbad\n")
    return tmp_path


def swept(arguments: Sequence[str], run: Callable[[Sequence[str]], int] | None = None) -> tuple[int, str, list[str]]:
    """Run a sweep of `prepare` in a fork, since Hydra sets up the log of its process.

    Args:
        arguments: those of the stage.
        run: runs a job by its arguments; None for the command in a fork of its own.

    Returns:
        Its exit status, what it printed, and the candidates of the jobs that it ran.
    """
    Path("asked.txt").write_text("")

    def one(words: Sequence[str], *, alone: bool) -> int:
        assert alone
        with open("asked.txt", "a") as file:
            file.write(next(a for a in words if a.startswith("candidates=")) + "\n")
        return understudy(*words).returncode if run is None else run(words)

    def child() -> None:
        with open("said.txt", "w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))  # noqa: SIM115
        job.run_understudy = one  # type: ignore[assignment]
        status = run_stage("prepare", arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(300)
    return process.exitcode or 0, Path("said.txt").read_text(), Path("asked.txt").read_text().split()


SWEEP = ["--multirun", "candidates=a.smi,missing.smi,b.smi", "out=lib", "workers=1", "run.dir=sweep"]


def rows(folder: Path) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads((folder / "sweep" / "sweep.json").read_text())["jobs"]
    return jobs


def states(folder: Path) -> dict[int, tuple[str, int | None]]:
    return {row["job"]: (row["state"], row["exit_status"]) for row in rows(folder)}


def test_a_failed_job_leaves_its_siblings_alone_and_the_same_command_does_only_what_is_left(folder: Path) -> None:
    status, said, asked = swept(SWEEP)
    assert status == 1
    assert asked == ["candidates=a.smi", "candidates=missing.smi", "candidates=b.smi"]
    assert states(folder) == {0: ("finished", 0), 1: ("failed", 2), 2: ("finished", 0)}
    assert "failed, exit status 2" in said
    assert "no such file" in rows(folder)[1]["problem"]
    for number in (0, 2):
        assert (folder / "sweep" / str(number) / "lib" / "library.json").is_file()
    Path("missing.smi").write_text("CCF\n")
    assert swept(SWEEP)[::2] == (0, ["candidates=missing.smi"])
    assert set(states(folder).values()) == {("finished", 0)}
    assert rows(folder)[1]["headline"]["prepare/valid"] == 1
    assert rows(folder)[1]["core_seconds"] > 0
    # Another combination has no place under a number that is taken.
    assert swept([SWEEP[0], "candidates=b.smi,a.smi", *SWEEP[2:]])[::2] == (1, [])
    assert [state for state, _ in states(folder).values()] == ["refused", "refused", "finished"]
    assert swept(SWEEP)[::2] == (0, [])


def test_a_job_that_is_killed_is_named_and_runs_again(folder: Path) -> None:
    two = [SWEEP[0], "candidates=a.smi,b.smi", *SWEEP[2:]]

    def killed(words: Sequence[str]) -> int:
        command = Command(*words)
        if words[1] == "candidates=a.smi":
            command.send_signal(signal.SIGKILL)
        return command.wait(120)

    status, said, _ = swept(two, killed)
    assert status == 1
    assert "ended by signal 9" in said
    assert states(folder) == {0: ("failed", -9), 1: ("finished", 0)}
    (folder / "sweep" / "jobs" / "0.json").write_text("{")
    status, said, asked = swept(two)
    assert (status, asked) == (2, [])
    assert "0.json: cannot be read" in said
    (folder / "sweep" / "jobs" / "0.json").unlink()
    status, said, asked = swept(two)
    assert (status, asked) == (0, ["candidates=a.smi"])
    assert "WARNING" not in said


def test_a_stopped_sweep_ends_with_130_and_names_what_was_stopped(folder: Path) -> None:
    assert swept(SWEEP, lambda words: 130)[::2] == (130, ["candidates=a.smi"])
    assert states(folder) == {0: ("stopped", 130)}


def test_jobs_of_submitit_write_what_jobs_without_it_write(folder: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    status, said, asked = swept([SWEEP[0], "candidates=a.smi,missing.smi", *SWEEP[2:], *launcher])
    assert (status, asked) == (1, []), said
    assert states(folder) == {0: ("finished", 0), 1: ("failed", 2)}
    assert (folder / "sweep" / "0" / "lib" / "library.json").is_file()


def test_each_job_has_its_own_directory_and_output() -> None:
    place = Path("sweep/3")
    assert job_arguments("screen", ["surrogate=a", "out=hits", "top_k=3"], place) == [
        "surrogate=a", "out=sweep/3", "top_k=3", "run.dir=sweep/3",
    ]  # fmt: skip
    assert job_arguments("screen", ["surrogate=a"], place)[1] == "out=sweep/3"
    assert job_arguments("predict", ["out='x/p.csv'", "run.dir=r"], place) == [
        "out=sweep/3/p.csv",
        "run.dir=sweep/3",
    ]
    assert job_arguments("train", ["data.seed=1"], place) == ["data.seed=1", "run.dir=sweep/3"]
    assert job_arguments("train", [], Path("a b"))[0] == "run.dir='a b'"


@pytest.mark.parametrize(
    ("stage", "arguments", "expected"),
    [
        ("train", ["-m", "run.dir=runs/a"], "runs/a"),
        ("train", ["-m", "run.dir=runs/a", "hydra.sweep.dir='b c'"], "b c"),
        ("screen", ["-m", "out=hits"], "hits"),
        ("predict", ["-m", "out=p.csv"], "p.csv.run"),
    ],
)
def test_a_sweep_has_one_directory(stage: str, arguments: list[str], expected: str) -> None:
    assert sweep_directory(stage, arguments) == Path(expected)
    assert asks_sweep(arguments)
    assert not asks_sweep([*arguments, "--cfg", "job"])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("shard=1/2", "does not go with --multirun"),
        ("launcher=submitit", "does not go with --multirun"),
        ("out=a,b", "numbered directories"),
        ("hydra/launcher=joblib", "cannot be set"),
        ("hydra.launcher._target_=os.system", "cannot be set"),
        ("hydra.launcher.setup=[ls]", "cannot be set"),
        ("hydra.launcher.submitit_folder=x", "cannot be set"),
        ("hydra.launcher.partition=a\nls", "cannot be set"),
        ("hydra.launcher.partition=${oc.env:HOME}", "cannot be set"),
    ],
)
def test_what_does_not_go_with_a_sweep_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], argument: str, words: str
) -> None:
    assert run_stage("prepare", [*SWEEP, argument]) == 2
    assert words in capsys.readouterr().err
    assert not (folder / "sweep").exists()


def test_keys_of_launchers_that_name_no_code_are_let_through() -> None:
    refuse_unsafe(["hydra/launcher=submitit_slurm", "hydra.launcher.partition=short", "hydra.launcher.gres=gpu:a100:2"])
