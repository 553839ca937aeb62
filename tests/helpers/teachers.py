"""Tests of pre-trained models need their environment, and are skipped where it is absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from data.errors import InputError
from simulators.chemistry.teachers.environment import interpreter
from simulators.workers.model_process import ModelProcess, ServedModel, describe


def has_environment(package: str) -> bool:
    """Whether there is an interpreter for the model of a package."""
    try:
        return bool(interpreter(package))
    except InputError:
        return False


def needs(package: str, module: Path) -> pytest.MarkDecorator:
    """Skips tests where no environment has a package."""
    try:
        describe(interpreter(package), module)
    except InputError as error:
        return pytest.mark.skip(reason=f"{error.problem}; `make teachers` installs it")
    return pytest.mark.skipif(False, reason="")


def by_its_own_package(package: str, module: str, settings: Mapping[str, Any]) -> ModelProcess:
    """A process in which a module of this folder asks a package directly."""
    served = ServedModel(interpreter(package), Path(__file__).with_name(module), json.dumps(dict(settings)))
    return ModelProcess(served)
