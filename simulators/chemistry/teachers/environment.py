"""The interpreter that has a pre-trained model and PyTorch.

PyTorch is no dependency of this project: its builds take gigabytes, and the packages of models pin others. `make
teachers` therefore makes an environment of its own, `.venv-teachers`. A configuration does not name the interpreter,
which would be a program of its choice: the environment variable `UNDERSTUDY_TEACHERS` does.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import simulators
from data.errors import InputError

VARIABLE = "UNDERSTUDY_TEACHERS"
#: Folder of the environment that `make teachers` makes, beside the packages.
FOLDER = ".venv-teachers"
#: What to install by hand, where there is no Makefile.
PACKAGES = "so3krates-torch==0.2.1 chgnet==0.4.2 admet-ai==2.0.1"


def interpreter(package: str) -> Path:
    """The interpreter for a package: of `UNDERSTUDY_TEACHERS`, of `.venv-teachers`, or this one where it has it.

    Args:
        package: name by which it is imported.

    Raises:
        InputError: there is none; the message names the command that makes it.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        path = Path(chosen).expanduser().absolute()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise InputError(f"{path} cannot be run", where=VARIABLE, remedy="Give the path of a Python interpreter")
        return path
    path = _root() / FOLDER / "bin" / "python"
    if os.access(path, os.X_OK):
        return path
    if find_spec(package) is not None:
        return Path(sys.executable)
    raise InputError(f"no environment with {package} and PyTorch", where="simulator", remedy=remedy())


def remedy() -> str:
    """The command that makes the environment, from the working directory."""
    root = _root()
    if (root / "Makefile").is_file():
        place = os.path.relpath(root)
        return f"Run: make teachers (it takes 2 GB){'' if place == '.' else f' in {root}'}"
    return (
        f"Run: python3 -m venv {FOLDER} && {FOLDER}/bin/pip install torch==2.13.0"
        f" && {FOLDER}/bin/pip install {PACKAGES} && export {VARIABLE}=$PWD/{FOLDER}/bin/python (it takes 2 GB)"
    )


def _root() -> Path:
    return Path(simulators.__file__).parent.parent
