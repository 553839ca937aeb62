"""The packages of this project come before files of the same names, such as somebody's own `data.py`.

Their names are common words. Where the working directory stands on Python's path (`python -m`, an empty entry of
PYTHONPATH), a file there would be imported in place of ours.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("data", "simulators", "surrogates")


def prefer_own_packages() -> None:
    """Take the working directory from Python's path, if one of our packages would be imported from there.

    Nothing of this project may be imported before. The path is handed on to the processes that a stage starts.

    Raises:
        SystemExit: another directory on the path holds a package of the name; the status is that of a usage error.
    """
    here = Path.cwd().resolve()
    for name in NAMES:
        spec = importlib.util.find_spec(name)
        folder = None if spec is None else _folder(spec)
        if folder == here != ROOT:
            sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
            sys.path_importer_cache.clear()
            spec = importlib.util.find_spec(name)
            folder = None if spec is None else _folder(spec)
        if folder != ROOT:
            found = "nowhere" if spec is None else spec.origin or str(folder)
            print(
                f"understudy: the package {name!r} is found at {found}, not at {ROOT / name}. Rename it, or leave its "
                "folder out of PYTHONPATH",
                file=sys.stderr,
            )
            raise SystemExit(2)


def _folder(spec: ModuleSpec) -> Path | None:
    """The directory on Python's path that holds a module or a package."""
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(spec.origin).resolve().parent if spec.origin else None


prefer_own_packages()
