"""What there is: stages, simulators, models, objectives and samplings, with their keys, units, ranges and defaults.

Keys and defaults are those of the files under `conf/`, help is the comment beside a key, ranges are those of
`data.ranges`, and inputs and outputs of a simulator are those of its Spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.errors import InputError
from data.ranges import interval_of
from data.spec import SimulationError, Variable
from data.suggestions import did_you_mean
from experiments.agents.composition import Permissions
from experiments.agents.confinement import capped
from experiments.application.choices import CONF, EARLIER, groups, options
from experiments.application.targets import PROGRAMS
from experiments.campaigns.named_simulator import named_simulator

#: What is described -> its group under `conf/`.
GROUPS: Mapping[str, str] = {
    "simulator": "simulator",
    "model": "model",
    "objective": "objective",
    "sampling": "sampling",
    "task": "task",
    "train": "train",
    "data": "data",
    "campaign": "campaign",
    "source": "source",
}
#: Characters of the help of each entry of a list.
LISTED = 140
KINDS = ("overview", "stage", *GROUPS)
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w@./-]+):(?P<rest>.*)$")


@dataclass(frozen=True)
class Key:
    """A setting.

    Attributes:
        name: dotted name, as in name=value.
        default: its default as YAML; "???" for one that is needed.
        help: what it means, with its unit.
        range: interval of its numbers; "" where it holds none.
    """

    name: str
    default: str
    help: str = ""
    range: str = ""


@dataclass(frozen=True)
class Quantity:
    """An input or output of a simulator."""

    name: str
    dims: tuple[str, ...]
    units: str
    dtype: str
    long_name: str


@dataclass(frozen=True)
class Entry:
    """Something that can be chosen by its name.

    Attributes:
        name: the name.
        help: one line.
        allowed: whether this interface may use it.
    """

    name: str
    help: str
    allowed: bool = True


@dataclass(frozen=True)
class Description:
    """What there is of a kind, or one of them in detail.

    Attributes:
        kind: what is described.
        name: name of the one that is described in detail; "" for a list.
        help: what it is for.
        entries: what can be described further: kind -> names with their lines of help.
        keys: settings.
        choices: group -> options, of a stage.
        inputs, outputs: of a simulator.
        note: why something is not stated.
    """

    kind: str
    name: str = ""
    help: str = ""
    entries: Mapping[str, tuple[Entry, ...]] | None = None
    keys: tuple[Key, ...] = ()
    choices: Mapping[str, tuple[str, ...]] | None = None
    inputs: tuple[Quantity, ...] = ()
    outputs: tuple[Quantity, ...] = ()
    note: str = ""


def describe(
    stages: Mapping[str, Any], kind: str = "overview", name: str = "", permissions: Permissions | None = None
) -> Description:
    """What there is of a kind, or one of them in detail.

    Args:
        stages: name of a stage -> something with its `help`.
        kind: one of `KINDS`.
        name: one of them; "" for the list.
        permissions: what may be used.

    Raises:
        InputError: there is no such kind or name.
    """
    permissions = permissions or Permissions(person=True)
    if kind not in KINDS:
        remedies = [did_you_mean(kind, list(KINDS)), f"There are {', '.join(KINDS)}"]
        raise InputError(f"no kind {capped(kind)!r}", where="kind", remedy=" ".join(filter(None, remedies)))
    of_stages = tuple(Entry(each, stage.help) for each, stage in stages.items())
    if kind == "overview":
        entries = {"stage": of_stages} | {group: _entries(group, permissions) for group in GROUPS}
        text = "Describe a kind and a name for keys, units, ranges and choices; check says what a stage would cost."
        return Description(kind, help=text, entries=entries)
    if kind == "stage":
        if not name:
            return Description(kind, entries={kind: of_stages})
        return _stage(stages, name)
    if not name:
        return Description(kind, entries={kind: _entries(kind, permissions)})
    return _choice(kind, name, permissions)


def _stage(stages: Mapping[str, Any], name: str) -> Description:
    if name not in stages:
        raise _no_such("stage", name, list(stages))
    path = CONF / f"{name}.yaml"
    plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    plain.pop("defaults", None)
    texts = plain.pop("hydra", {}).get("help", {})
    of_groups = {group: tuple(options(group)) for group in groups(name) if group not in EARLIER and "@_" not in group}
    help_text = "\n\n".join(filter(None, (texts.get("header"), texts.get("footer"))))
    return Description("stage", name, help_text, keys=tuple(_keys(path, plain)), choices=of_groups)


def _choice(kind: str, name: str, permissions: Permissions) -> Description:
    names = options(GROUPS[kind])
    if name not in names:
        raise _no_such(kind, name, names)
    path = CONF / GROUPS[kind] / f"{name}.yaml"
    prefix = "" if kind == "task" else kind
    keys = tuple(_keys(path, _with_defaults(path), prefix))
    inputs: tuple[Quantity, ...] = ()
    outputs: tuple[Quantity, ...] = ()
    note = ""
    if kind == "simulator":
        inputs, outputs, note = _spec(name, permissions)
    return Description(kind, name, _head(path), keys=keys, inputs=inputs, outputs=outputs, note=note)


def _spec(name: str, permissions: Permissions) -> tuple[tuple[Quantity, ...], tuple[Quantity, ...], str]:
    """Inputs and outputs of a simulator with its default settings, or why they are not stated."""
    if (program := _program(name)) in permissions.refused:
        return (), (), f"simulators of {program} run programs, and are not allowed here"
    try:
        spec = named_simulator(name, (), key="name").spec
    except (InputError, SimulationError, OmegaConfBaseException, ImportError) as error:
        return (), (), f"its inputs and outputs follow from its settings: {capped(str(error))}"
    return _quantities(spec.inputs), _quantities(spec.outputs), ""


def _quantities(variables: Sequence[Variable]) -> tuple[Quantity, ...]:
    return tuple(Quantity(v.name, v.dims, v.units, v.dtype, v.long_name) for v in variables)


def _entries(kind: str, permissions: Permissions) -> tuple[Entry, ...]:
    group = GROUPS[kind]
    return tuple(
        Entry(
            name, capped(_head(CONF / group / f"{name}.yaml"), LISTED), _program(name, kind) not in permissions.refused
        )
        for name in options(group)
    )


def _program(name: str, kind: str = "simulator") -> str:
    """The group of `PROGRAMS` to which a packaged simulator belongs; "" for none."""
    if kind != "simulator":
        return ""
    targets = str(_with_defaults(CONF / "simulator" / f"{name}.yaml").get("_target_"))
    return next((program for program, path in PROGRAMS.items() if targets.startswith(path)), "")


def _no_such(kind: str, name: str, names: Sequence[str]) -> InputError:
    remedies = [did_you_mean(name, list(names)), f"There are {', '.join(names)}"]
    return InputError(f"no {kind} {capped(name)!r}", where="name", remedy=" ".join(filter(None, remedies)))


def _head(path: Path) -> str:
    """The first sentence or sentences of the comment that begins a file."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# ").strip())
    return " ".join(lines)


def _with_defaults(path: Path) -> dict[str, Any]:
    """The keys of a file with those of the files beside it that it begins with."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    merged: dict[str, Any] = {}
    for item in content.pop("defaults", []):
        if isinstance(item, str) and item != "_self_":
            base = (
                CONF / f"{item.partition('@')[0].lstrip('/')}.yaml"
                if item.startswith("/")
                else path.parent / f"{item}.yaml"
            )
            if base.is_file():
                merged = _merged(merged, _with_defaults(base))
    return _merged(merged, content)


def _merged(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for key, value in other.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = _merged(both[key], value) if nested else value
    return both


def _keys(path: Path, plain: Mapping[str, Any], prefix: str = "") -> Iterator[Key]:
    """The settings of a file."""
    comments = _comments(path)
    for name, value in _leaves(plain):
        if name.rpartition(".")[2] in ("_target_", "defaults"):
            continue
        full = f"{prefix}.{name}" if prefix else name
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).replace("\n...", "").strip()
        few = value if isinstance(value, list) else [value]
        numbers = all(isinstance(one, int | float | type(None)) and not isinstance(one, bool) for one in few)
        interval = interval_of(full.split(".")) if numbers and few else None
        yield Key(full, text, comments.get(name, ""), interval or "")


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _comments(path: Path) -> dict[str, str]:
    """Dotted key -> the comment on its line, or on the lines before it; those of files that it begins with as well."""
    comments: dict[str, str] = {}
    content = path.read_text(encoding="utf-8")
    for item in (yaml.safe_load(content) or {}).get("defaults", []):
        if isinstance(item, str) and item != "_self_" and not item.startswith(("/", "base")):
            base = path.parent / f"{item}.yaml"
            comments |= _comments(base) if base.is_file() else {}
    stack: list[tuple[int, str]] = []
    before: list[str] = []
    lines = content.splitlines()
    # The comment that begins a file is about all of it.
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    for line in lines:
        if line.strip().startswith("#"):
            before.append(line.strip().lstrip("# "))
            continue
        match = _LINE.match(line)
        if match is None:
            before = []
            continue
        indent = len(match["indent"])
        stack = [entry for entry in stack if entry[0] < indent]
        name = ".".join([*(entry[1] for entry in stack), match["key"]])
        beside = re.search(r"(?:^|\s)# (.*)$", match["rest"])
        if text := beside[1].strip() if beside else " ".join(before):
            comments[name] = text
        stack.append((indent, match["key"]))
        before = []
    return comments
