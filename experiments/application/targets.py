"""The classes that a configuration may build, which are those that the YAML files of this package name.

Hydra would import and call any `_target_`. The files under `conf/` therefore serve as the list of allowed classes, to
which a new simulator is added by its YAML file. The object of a name must be the class that is defined under that name,
not a function or a re-export.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import hydra.utils

from data.errors import InputError

_TARGET = re.compile(r"_target_:\s*([\w.]+)")
#: Name of a group of simulators that run programs, or classes of the user's choice -> beginning of their paths.
PROGRAMS: Mapping[str, str] = {
    "openfoam": "simulators.fluids.openfoam.",
    "ase": "simulators.chemistry.ase_calculator.",
}
#: Variable of the environment with names of `PROGRAMS`, separated by commas, that this process does not build, wherever
#: they are named: in a setting, in the run of another command, or as a rung. Whoever starts the process sets it.
WITHOUT = "UNDERSTUDY_WITHOUT"


@cache
def targets() -> frozenset[str]:
    """Dotted paths of the classes that the configurations of this package build."""
    names: set[str] = set()

    def look(folder: Any) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                look(entry)
            elif entry.name.endswith(".yaml"):
                names.update(_TARGET.findall(entry.read_text(encoding="utf-8")))

    look(resources.files("experiments").joinpath("conf"))
    return frozenset(names)


def refuse_other_targets(node: Any) -> None:
    """Refuse a `_target_` anywhere in a plain configuration that is not in `targets`.

    Raises:
        InputError: a `_target_` is not allowed, or this process builds none of its kind (`WITHOUT`); the message names
            it.
    """
    for name in filter(None, os.environ.get(WITHOUT, "").split(",")):
        if runs_program(name, node):
            raise InputError(
                f"a simulator of {name} runs programs, which is not allowed here",
                remedy=f"Whoever started this process may allow it: {WITHOUT} names what is refused",
            )
    _refuse_unlisted(node)


def runs_program(name: str, node: Any) -> bool:
    """Whether a plain configuration builds, anywhere in it, a simulator of one of `PROGRAMS`."""
    return any(target.startswith(PROGRAMS[name]) for target in _targets_in(node))


def _targets_in(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _targets_in(item)
    elif isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for item in node.values():
            yield from _targets_in(item)


def _refuse_unlisted(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _refuse_unlisted(item)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        name = node["_target_"]
        if not isinstance(name, str) or name not in targets():
            raise InputError(
                f"_target_ {name!r} is not a class that a configuration may build",
                remedy="Choose by the name of a group, such as simulator=xtb; from Python, build any object yourself",
            )
        cls = hydra.utils.get_object(name)
        if not inspect.isclass(cls) or f"{cls.__module__}.{cls.__qualname__}" != name:
            raise InputError(f"_target_ {name!r} leads to {cls!r}, which is not a class of that name")
    for item in node.values():
        _refuse_unlisted(item)
