"""A command in the place of the real one, whose stages do what a test says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose package stands in the place of the command; its stages do what a file says."""
    package = tmp_path / "commands" / "understudy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), os.environ["PYTHONPATH"]]))
    return package / "__main__.py"
