"""The packages of this project come before files of the same names, such as somebody's own `data.py`.

Their names are common words. Where the working directory stands on Python's path (`python -m`, a notebook, an empty
entry of PYTHONPATH), a file there would be imported in place of ours.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("data", "simulators", "surrogates", "experiments")


def shadowed() -> str | None:
    """Which other module stands in the place of one of our packages, as a sentence; None where none does.

    If it stands in the working directory, that directory is taken from Python's path, and with it from the path of the
    processes that a stage starts. A module of one of the names that was imported before stays what it is.
    """
    here = Path.cwd().resolve()
    for name in NAMES:
        folder, origin = _place(name)
        if folder == here != ROOT and name not in sys.modules:
            sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
            sys.path_importer_cache.clear()
            folder, origin = _place(name)
        if folder != ROOT:
            return (
                f"the package {name!r} is found at {origin}, not at {ROOT / name}. Rename it, or leave its folder out "
                "of PYTHONPATH"
            )
    return None


def _place(name: str) -> tuple[Path | None, str]:
    """The directory on Python's path that holds a module or a package, and the file that is imported."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # A module that was made by hand and not imported from a file.
        return None, repr(sys.modules.get(name))
    if spec is None:
        return None, "nowhere"
    folder = _folder(spec)
    return folder, spec.origin or str(folder)


def _folder(spec: ModuleSpec) -> Path | None:
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(spec.origin).resolve().parent if spec.origin else None
