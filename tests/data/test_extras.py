"""The command that installs an extra works where it is read."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import data.extras
from data.extras import install_command


def test_the_command_names_this_python_and_this_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, Path(data.extras.ROOT)):
        monkeypatch.chdir(folder)
        python, *line = shlex.split(install_command("weather"))
        assert os.path.samefile(python, sys.executable)
        assert line[:-1] == ["-m", "pip", "install", "-e"]
        # pip itself reads the requirement: it fails on a path that is none, or that has no such project.
        checkout, _, extra = line[-1].rpartition("[")
        assert (Path(checkout) / "pyproject.toml").samefile(Path(data.extras.ROOT) / "pyproject.toml")
        assert extra == "weather]"
        version = subprocess.run([python, *line[:2], "--version"], capture_output=True, text=True, timeout=300)
        assert version.returncode == 0, version.stderr


def test_an_installed_package_is_named_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.extras, "ROOT", tmp_path)
    assert install_command("ngsolve").endswith("-m pip install 'understudy[ngsolve]'")
