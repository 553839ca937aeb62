"""The command: its help, its exit statuses, and errors that teach in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import STAGES


def understudy(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, in a directory of its own."""
    return subprocess.run(
        [sys.executable, "-m", "experiments.cli", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_help_names_every_stage_and_the_exit_statuses(tmp_path: Path) -> None:
    result = understudy("--help", cwd=tmp_path)
    assert result.returncode == 0
    for stage in STAGES:
        assert f"  {stage} " in result.stdout
    assert "130" in result.stdout


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_stage_shows_examples_and_options_and_runs_nothing(stage: str, tmp_path: Path) -> None:
    result = understudy(stage, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"understudy {stage}:")
    assert f"understudy {stage} " in result.stdout
    assert "Options" in result.stdout
    assert "$" not in result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], ["nonsense", "pipeline"]),
        (["train", "data.colour=red"], ["colour"]),
        (["train", "surrogate=unheard_of"], ["unheard_of"]),
        (["simulate"], ["inputs"]),
        (["simulate", "inputs=absent.csv"], ["absent.csv"]),
        (["screen", "surrogate=absent", "candidates=absent.csv", "out=o"], ["absent"]),
        (["evaluate", "surrogate=absent", "data.test=[absent.csv]"], ["absent"]),
        (["train", "--experimental-rerun=job.pickle"], ["pickle"]),
    ],
)
def test_a_usage_error_is_one_line_and_status_two(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    result = understudy(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_a_target_outside_the_project_is_never_instantiated(tmp_path: Path) -> None:
    molecules = tmp_path / "one.smi"
    molecules.write_text("CCO\n")
    result = understudy(
        "simulate", f"inputs={molecules}", "simulator._target_=os.system", f"run.dir={tmp_path / 'run'}", cwd=tmp_path
    )
    assert result.returncode == 2
    assert "os.system" in result.stderr
