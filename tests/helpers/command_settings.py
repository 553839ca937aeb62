"""Which settings the commands take, by the names in the files of configuration, without composing them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.application.choices import CONF, groups, options
from experiments.application.strict import OPEN

#: Files that others of these packages begin with.
BASES = {
    "stage": [""],
    "train": ["train", "first", "again", "pretrain", "finetune"],
    "fields": ["model"],
    "forecasts": ["model"],
    "tune": ["tune"],
}


@functools.cache
def read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) or {}


def flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The dotted name and the value of each key of a configuration below a prefix."""
    for key, below in value.items() if isinstance(value, dict) else ():
        name = f"{prefix}.{key}".strip(".")
        yield name, below
        yield from flat(below, name)


@functools.cache
def keys_of(stage: str) -> set[str]:
    """Every key of a stage with any choice of its groups."""
    keys = {name for name, _ in flat(read_yaml(CONF / f"{stage}.yaml"), "")}
    for base, packages in BASES.items():
        keys |= {name for package in packages for name, _ in flat(read_yaml(CONF / "base" / f"{base}.yaml"), package)}
    for group in groups(stage):
        folder, _, package = group.partition("@")
        for path in (CONF / folder).rglob("*.yaml"):
            whole = path.read_text(encoding="utf-8").startswith("# @package _global_")
            keys |= {name for name, _ in flat(read_yaml(path), "" if whole else package or folder)}
    return keys


def assigned(argument: str) -> tuple[str, Any]:
    """The key and the value of an argument, read by Hydra's grammar where more than a word stands behind the sign."""
    name, _, value = argument.partition("=")
    if re.fullmatch(r"[\w./:,-]+", value):
        return name.lstrip("+"), value
    override = OverridesParser.create().parse_override(argument)
    return override.key_or_group, override.value()


def refused(name: str, value: Any, of_groups: set[str], keys: set[str]) -> bool:
    """Whether a command does not take `name=value`, as far as names tell."""
    if name in of_groups and re.fullmatch(r"[a-z_/0-9]+", str(value)) and value != "null":
        return value not in options(name)
    above = name.rpartition(".")[0]
    return name not in keys | of_groups and not any(part in OPEN or part == "rungs" for part in above.split("."))
