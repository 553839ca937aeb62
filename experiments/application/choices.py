"""The groups of which a stage takes a choice, and their options, which are files under `conf/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

CONF = Path(__file__).parents[1] / "conf"
#: Groups with earlier names of choices, which keep working and are not offered.
EARLIER = frozenset({"experiment"})


def groups(stage: str) -> list[str]:
    """Groups in the defaults of a stage, such as `simulator@baseline`; empty if there is no such stage."""
    path = CONF / f"{stage}.yaml"
    if not path.is_file():
        return []
    loaded: Any = OmegaConf.load(path)
    entries = [str(key) for item in loaded["defaults"] if not isinstance(item, str) for key in item]
    return [entry.removeprefix("optional ").removeprefix("override ") for entry in entries]


def options(group: str) -> list[str]:
    """Names of the files of a group."""
    folder = CONF / group.partition("@")[0]
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def choices_text(stage: str) -> str:
    """One line for each group of a stage, with its options, for the help of the stage."""
    lines = [f"  {group}: {', '.join(options(group))}" for group in groups(stage) if group not in EARLIER]
    return "Choices (group=option)\n\n" + "\n".join(lines) if lines else ""


OmegaConf.register_new_resolver("choices", choices_text, replace=True)
