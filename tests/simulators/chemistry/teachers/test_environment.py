"""Where pre-trained models are looked for, and what is said where there are none."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.teachers import environment
from simulators.chemistry.teachers.environment import VARIABLE, interpreter
from simulators.chemistry.teachers.so3lr import SO3LR
from simulators.chemistry.variables import Geometry

HYDROGEN = Geometry(np.array([1, 1], np.int32), np.array([[0, 0, 0], [0, 0, 0.74]])).dataset()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages without an environment."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(environment, "_root", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_that_makes_the_environment_is_named_from_where_the_user_is(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"pip install torch==2\.13\.0 .* so3krates-torch==0\.2\.1"):
        interpreter("no_such_package")
    (bare / "Makefile").touch()
    with pytest.raises(InputError, match=r"Run: make teachers \(it takes 2 GB\)$"):
        interpreter("no_such_package")
    (bare / "below").mkdir()
    monkeypatch.chdir(bare / "below")
    with pytest.raises(InputError, match=f"make teachers .* in {bare}$"):
        interpreter("no_such_package")


def test_labels_without_a_model_are_refused_with_the_remedy(bare: Path) -> None:
    with pytest.raises(InputError, match="no environment with so3krates_torch"):
        _ = SO3LR().fingerprint
    with pytest.raises(SimulationError, match=r"missing_component: .*no environment with so3krates_torch.* Run: "):
        SO3LR().simulate(HYDROGEN)


def test_the_variable_goes_first_and_has_to_name_a_program(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = bare / ".venv-teachers/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert interpreter("so3krates_torch") == python
    monkeypatch.setenv(VARIABLE, sys.executable)
    assert interpreter("so3krates_torch") == Path(sys.executable)
    monkeypatch.setenv(VARIABLE, str(bare))
    with pytest.raises(InputError, match=f"{VARIABLE}: .* cannot be run"):
        interpreter("so3krates_torch")


def test_an_environment_without_the_package_names_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, sys.executable)
    with pytest.raises(InputError, match=r"so3lr_model: .*so3krates_torch.* Run: "):
        _ = SO3LR().fingerprint


def test_the_versions_that_are_installed_by_hand_are_those_of_the_extra() -> None:
    root = Path(environment.__file__).resolve().parents[3]
    extra = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["teachers"]
    assert sorted([*environment.PACKAGES.split(), "torch==2.13.0"]) == sorted(extra)
    pinned = (root / "requirements/teachers.txt").read_text()
    for package in environment.PACKAGES.split():
        assert f"{package} \\\n    --hash=sha256:" in pinned
    # Its builds for GPUs would take gigabytes more.
    assert "\ntorch==" not in pinned
    assert "nvidia-cu" not in pinned
