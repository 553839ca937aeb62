"""A stage and its settings as a command would compose them, without running anything.

The checks are those of the command, and further ones: what a program asks for cannot name code, paths outside of the
root, hosts, or variables of the environment.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from data.errors import InputError
from data.ranges import refuse_out_of_range
from data.settings import build
from data.spec import content_hash
from data.suggestions import did_you_mean
from experiments.agents.confinement import Root, capped
from experiments.application.composing import composing
from experiments.application.hydra_options import refuse_unsafe
from experiments.application.renamed import present_targets, refuse_moved, refuse_renamed
from experiments.application.shard_arguments import with_shard_places
from experiments.application.stage import StageSettings, unused_of
from experiments.application.strict import explained, refuse_missing_choices, refuse_unused
from experiments.application.targets import PROGRAMS, refuse_other_targets, runs_program
from surrogates.shipped import is_shipped

#: Keys whose values name other machines, or start processes that no one follows.
BEYOND = ("launcher", "campaign.address", "campaign.scheduler_file", "devices.coordinator", "devices.distributed")
#: Stages that answer other programs until they are stopped, which a person starts.
SERVING = ("serve",)
#: Largest number of settings of a call, and of characters of one.
MOST_SETTINGS, MOST_LENGTH = 200, 10_000


@dataclass(frozen=True)
class Permissions:
    """What the person who starts the server allows beyond the defaults.

    Attributes:
        programs: simulators that run programs or classes of the user's choice, of `targets.PROGRAMS`.
        network: whether settings may name addresses of other hosts.
        person: whether a person gives the settings at a terminal, who may give all that the command takes.
    """

    programs: frozenset[str] = frozenset()
    network: bool = False
    person: bool = False

    @property
    def refused(self) -> tuple[str, ...]:
        """Names of `targets.PROGRAMS` that are not allowed."""
        return tuple(name for name in PROGRAMS if name not in self.programs)


@dataclass(frozen=True)
class Composed:
    """A command that passed all checks that need no run.

    Attributes:
        stage: name of the stage.
        id: identity of the run: the hash of the stage and its settings, in any order.
        arguments: settings, with the directory of the run.
        config: the composed configuration; missing values are "???".
        plain: its resolved values.
        missing: dotted keys of values that are needed and not given.
        run_dir: directory of the run; None if it follows from a value that is missing.
    """

    stage: str
    id: str
    arguments: tuple[str, ...]
    config: DictConfig
    plain: Mapping[str, Any]
    missing: tuple[str, ...]
    run_dir: Path | None


def compose_stage(
    stages: Mapping[str, Any], stage: str, overrides: Sequence[str], root: Root, permissions: Permissions
) -> Composed:
    """Compose a stage and check it as far as this is possible without reading its input.

    Args:
        stages: name of a stage -> something with the name of its `module`.
        stage: name of the stage.
        overrides: settings as the command takes them, such as "train.epochs=10".
        root: the folder in which the command would run.
        permissions: what is allowed.

    Raises:
        InputError: a setting is refused; the message names it.
    """
    if stage not in stages:
        offers = [did_you_mean(stage, list(stages)), f"Stages are {', '.join(stages)}"]
        raise InputError(f"no stage {capped(stage)!r}", where="stage", remedy=" ".join(filter(None, offers)))
    if permissions.person:
        refuse_unsafe(overrides)
        refuse_moved(stage, overrides)
    else:
        _refuse_arguments(stage, overrides)
    identity = content_hash([stage, sorted(overrides)])[:16]
    arguments = with_shard_places(stage, overrides)
    module = importlib.import_module(stages[stage].module)
    try:
        with composing():
            config = _composed(stage, arguments)
            place = _place(config, f"runs/{stage}-{identity}")
            if place is not None:
                arguments = [*arguments, place]
                config = _composed(stage, arguments)
            if (unused := unused_of(stage)) is not None:
                refuse_unused(arguments, _read_below(root, unused, config))
            plain = _plain(config)
    except (HydraException, OmegaConfBaseException) as error:
        refused = explained(error, arguments)
        if isinstance(refused, InputError):
            raise refused from error
        text = " ".join(str(refused).split())
        raise InputError(capped(text), where="overrides", remedy=f"describe the stage {stage}") from error
    plain = present_targets(plain)
    refuse_other_targets(plain)
    for name in permissions.refused:
        if runs_program(name, plain):
            remedy = f"The person who starts the server may allow it: --allow {name}"
            raise InputError(
                f"a simulator of {name} runs programs, which is not allowed", where="simulator", remedy=remedy
            )
    root.refuse_outside(plain, network=permissions.network)
    missing = tuple(_missing(plain))
    if not missing:
        for settings in _settings_of(module):
            build(settings, config, where="")
    else:
        refuse_out_of_range(plain)
    directory = str(plain.get("run", {}).get("dir", "???"))
    run_dir = None if "???" in directory or "${" in directory else root.inside(directory, "run.dir")
    return Composed(stage, identity, tuple(arguments), config, plain, missing, run_dir)


def _refuse_arguments(stage: str, overrides: Sequence[str]) -> None:
    """Refuse what the command would take from a person and not from a program."""
    if stage in SERVING:
        raise InputError("a person starts this command", where="stage", remedy="predict answers requests here")
    if len(overrides) > MOST_SETTINGS or any(len(text) > MOST_LENGTH for text in overrides):
        raise InputError("there are too many settings, or one is too long", where="overrides")
    for text in overrides:
        key = text.partition("=")[0]
        if text.startswith("-") or "=" not in text:
            remedy = "Settings are key=value, as describe lists them"
            raise InputError(f"{capped(text)!r} is no setting", where="overrides", remedy=remedy)
        if "${" in text:
            raise InputError("a value may not refer to others or to the environment", where=key, remedy="Write it out")
        if "_target_" in text:
            remedy = "Choose by the name of a group, such as simulator=xtb"
            raise InputError("a setting may not name a class", where=key, remedy=remedy)
        plain = key.lstrip("+~")
        if plain == "stage" or any(plain == name or plain.startswith((f"{name}.", f"{name}@")) for name in BEYOND):
            raise InputError("this is not set through this interface", where=key, remedy="Leave it out")
        if plain.startswith("hydra"):
            raise InputError("keys of Hydra are not set through this interface", where=key, remedy="Leave it out")
    refuse_unsafe(overrides)
    refuse_moved(stage, overrides)


def _composed(stage: str, arguments: Sequence[str]) -> DictConfig:
    written = [f"++{text}" if stage == "screen" and text.startswith("rungs.") else text for text in arguments]
    config = compose(stage, written, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    refuse_missing_choices()
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    OmegaConf.set_struct(config, True)
    refuse_renamed(config, arguments)
    return config


def _plain(config: DictConfig) -> Any:
    """Resolved values, or those as they are written where one refers to a value that is missing."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return OmegaConf.to_container(config, resolve=False, throw_on_missing=False)


def _place(config: DictConfig, directory: str) -> str | None:
    """The argument that gives a run a directory of its own, where its configuration would name one by the time."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    run_dir, out = str(raw["run"]["dir"]), str(raw.get("out"))
    if "${now:" in run_dir:
        return f"run.dir={directory}"
    return f"out={directory}" if run_dir == "${out}" and "${now:" in out else None


def _read_below(root: Root, unused: Any, config: DictConfig) -> Mapping[str, str]:
    """What a stage says of keys that it would not use; it looks at the files that the settings name, below the root."""
    copy = OmegaConf.create(_plain(config))
    for key in ("surrogate", "inputs", "candidates"):
        value = copy.get(key)
        if isinstance(value, str) and value not in ("???", "sampled") and not is_shipped(value):
            copy[key] = str(root.inside(value, key))
    OmegaConf.set_struct(copy, True)
    try:
        refused: Mapping[str, str] = unused(copy)
    except OmegaConfBaseException:
        # A value that this needs is missing, which is reported as such.
        return {}
    return refused


def _settings_of(module: Any) -> list[type[StageSettings]]:
    """The class of the settings of a stage."""
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, StageSettings) and value.__module__ == module.__name__
    ]


def _missing(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _missing(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and node == "???":
        yield key
