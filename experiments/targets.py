"""What a configuration may build: the classes that the YAML files of this package name, and nothing else.

A `_target_` is a name that Hydra would import and call, whatever it is. The files under `conf/` are the table of what
may be built, so that a new simulator with its YAML is in it; the object that a name leads to has to be the very class
of that name, and no function or re-export.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib import resources
from typing import Any

import hydra.utils

from data.errors import InputError

_TARGET = re.compile(r"_target_:\s*([\w.]+)")


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
    """Refuse a `_target_` anywhere in a plain configuration that is none of `targets`.

    Raises:
        InputError: names it.
    """
    if isinstance(node, list):
        for item in node:
            refuse_other_targets(item)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        name = node["_target_"]
        if not isinstance(name, str) or name not in targets():
            raise InputError(
                f"_target_ {name!r} is nothing that a configuration may build",
                remedy="Choose by the name of a group, such as simulator=xtb; from Python, build any object yourself",
            )
        cls = hydra.utils.get_object(name)
        if not inspect.isclass(cls) or f"{cls.__module__}.{cls.__qualname__}" != name:
            raise InputError(f"_target_ {name!r} leads to {cls!r}, which is no class of that name")
    for item in node.values():
        refuse_other_targets(item)
