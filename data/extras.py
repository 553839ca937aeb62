"""The command that installs an optional part, from where the user is."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from data.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """A command line for the running Python: from the checkout, where this is one, and else by the package's name.

    Args:
        extra: a key of `project.optional-dependencies`, such as `weather`.
    """
    checkout = (ROOT / "pyproject.toml").is_file()
    what = ["-e", f"{_short(ROOT)}[{extra}]"] if checkout else [f"understudy[{extra}]"]
    return shlex.join([_short(Path(sys.executable)), "-m", "pip", "install", *what])


class MissingExtraError(InputError):
    """An optional part of the package is not installed.

    Args:
        problem: what needs it.
        extra: a key of `project.optional-dependencies`, such as `weather`.
        where: key of the configuration, or file, that needs it.
        otherwise: what can be done without it, behind the command that installs it.
    """

    kind = "missing_extra"

    def __init__(self, problem: str, extra: str, *, where: str | None = None, otherwise: str = "") -> None:
        remedy = f"Install it with `{install_command(extra)}`{otherwise}"
        super().__init__(problem, where=where, remedy=remedy)
        self.extra = extra


def _short(path: Path) -> str:
    """A path as it is typed from the working directory, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # On another drive.
        return str(path)
    return min(relative, str(path), key=len)
