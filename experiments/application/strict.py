"""Refuses keys and choices that a command would not use, and rewrites the error messages of Hydra.

The rewritten messages suggest similar names, and show how to quote a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from data.errors import InputError, UsageError
from data.suggestions import did_you_mean
from experiments.application import renamed
from experiments.application.choices import CONF, EARLIER, groups, options

#: Keys whose sub-keys are names that the user chooses; `+` adds one.
OPEN = frozenset(
    {
        "windows",
        "ranges",
        "replay",
        "variable_weights",
        "parameters",
        "constants",
        "fields",
        "grid",
        "_kwargs_",
        "logarithms",
        "tau",
        "config_type",
    }
)


def refuse_missing_choices() -> None:
    """Refuse a choice of an optional group without a file, which Hydra would ignore silently.

    This is called within a Hydra application.

    Raises:
        InputError: a choice has no file; the message names the group, the choice and similar ones.
    """
    folders = [_folder(s.schema, s.path) for s in HydraConfig.get().runtime.config_sources]
    for key, choice in HydraConfig.get().runtime.choices.items():
        group = str(key).partition("@")[0]
        if choice is None or group.startswith("hydra"):
            continue
        files = [(folder, path) for folder in folders if folder for path in (folder / group).rglob("*.yaml")]
        options = {str(path.relative_to(folder / group).with_suffix("")) for folder, path in files}
        for name in [choice] if isinstance(choice, str) else choice:
            if name not in options:
                raise missing_choice(str(key), str(name), options)


def refuse_flattened(stage: str, config: DictConfig) -> None:
    """Refuse a value in the place of a group of keys, such as `tune=1`.

    Raises:
        InputError: the configuration holds such a value; the message names its key.
    """
    packaged = read_packaged(stage)
    for key, content in packaged.items():
        # Of an empty mapping the user names the keys, and null leaves it as it is.
        if isinstance(content, Mapping) and content and key in config and not isinstance(config[key], DictConfig):
            name = str(key)
            raise UsageError(
                f"is a group of keys, got {config[key]}",
                where=name,
                key=name,
                remedy=f"Set one of them: {', '.join(f'{name}.{inner}' for inner in content)}",
            )


@cache
def read_packaged(stage: str) -> Mapping[str, Any]:
    """The keys that the packaged file of a stage itself has."""
    plain: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{stage}.yaml"), resolve=False)
    return {key: value for key, value in plain.items() if key not in ("defaults", "hydra")}


def _folder(schema: str, path: str) -> Path | None:
    """The folder of a source of configurations; None if it is not a folder."""
    if schema == "pkg":
        return Path(str(resources.files(path)))
    return Path(path) if schema == "file" else None


def missing_choice(key: str, choice: str, options: Iterable[str]) -> InputError:
    """The error for a choice without a file, or of a file that has another name now."""
    present = renamed.CHOICES.get(key.partition("@")[0], {}).get(choice)
    if present is not None:
        return UsageError(
            f"the choice {choice} is called {present} now", where=key, key=key, remedy=f"Write {key}={present}"
        )
    options = sorted(options)
    remedy = " ".join(filter(None, [did_you_mean(choice, options), f"There are {', '.join(options)}"]))
    return UsageError(f"no choice {choice!r}", where=key, key=key, remedy=remedy)


def assigned(override: str) -> tuple[str, str]:
    """Key and value of an argument; the key of `simulator@baseline=xtb` is `baseline`."""
    left, _, value = override.partition("=")
    group, _, package = left.lstrip("+~").partition("@")
    return package or group.replace("/", "."), value.strip()


def refuse_unused(overrides: Sequence[str], unused: Mapping[str, str]) -> None:
    """Refuse arguments that a stage would not use, except those whose value is null or empty.

    Args:
        overrides: arguments of the command.
        unused: key, which includes all keys below it -> reason; "KEY=" is only the choice of a group.

    Raises:
        InputError: an argument is not used; the message gives the reason.
    """
    for override in overrides:
        key, value = assigned(override)
        if value in ("", "null", "[]", "{}"):
            continue
        for prefix, why in unused.items():
            if key == prefix.removesuffix("=") or key.startswith(f"{prefix}."):
                raise UsageError(f"is not used: {why}", where=key, key=key, remedy="Leave it out")


def explained(error: Exception, arguments: Sequence[str] = ()) -> Exception:
    """A clearer error for a known error of Hydra; otherwise the same error.

    Args:
        error: the error.
        arguments: arguments of the command, which remedies repeat.
    """
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        keys = [a.partition("=")[0] for a in arguments if re.fullmatch(rf"{group}(@[\w.]+)?={re.escape(choice)}", a)]
        return missing_choice(keys[0] if keys else group, choice, error.options)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, ConfigCompositionException) and isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause, arguments)
    if isinstance(error, ConfigCompositionException) and (
        match := re.search(r"Could not override '([\w/@.]+)'", str(error))
    ):
        key = match[1]
        return renamed.renamed_key(key, arguments) or UsageError(
            "is not chosen in this stage", where=key, key=key, remedy="See --help for its groups and keys"
        )
    if isinstance(error, HydraException) and (
        match := re.search(r"Ambiguous value for argument '(.*?)'\n", str(error))
    ):
        key, _, value = match[1].partition("=")
        return UsageError(
            f"{value!r} may be a list or one name with a comma",
            where=key,
            key=key,
            remedy=f'Write "{key}=[{value}]" for a list, "{key}=\'{value}\'" for one name, or add --multirun to run '
            "once for each",
        )
    return error


def _unreadable(override: str) -> InputError:
    key, sign, value = override.partition("=")
    if not sign:
        return UsageError(f"{override!r} is no key=value", remedy="Arguments are key=value; see --help")
    if value.startswith("[") and value.endswith("]"):
        items = [item.strip().strip("'\"") for item in value[1:-1].split(",")]
        quoted = f"'{key}=[{','.join(item if item.isidentifier() else _in_quotes(item) for item in items)}]'"
    else:
        quoted = f"\"{key}='{value.strip(chr(39))}'\""
    return UsageError(
        f"{value!r} cannot be read as a value",
        where=key,
        key=key,
        remedy=f"A name with brackets, commas or other signs goes within both kinds of quotes: {quoted}",
    )


def _place(group: str) -> str:
    """The key under which the choice of a group stands: `baseline` of `simulator@baseline`."""
    name, _, package = group.partition("@")
    return package or name.replace("/", ".")


def _without_choice(place: str, unchosen: Sequence[str], arguments: Sequence[str]) -> InputError:
    """The error for a key of a group of which nothing is chosen."""
    group = next(name for name in unchosen if _place(name) == place)
    key = next((k for k, _ in map(assigned, arguments) if k.startswith(f"{place}.")), place)
    return UsageError(
        f"no {group} is chosen, whose keys these would be",
        where=key,
        key=key,
        remedy=f"Write {group}=NAME as well; there are {', '.join(options(group))}",
    )


def _in_quotes(text: str) -> str:
    return f'"{text}"'


def _unknown_key(cause: ConfigAttributeError | ConfigKeyError, arguments: Sequence[str]) -> InputError:
    key, parent = str(cause.full_key), cause.parent_node
    names = [str(k) for k in parent if k != "hydra"] if isinstance(parent, DictConfig) and not parent._is_none() else []
    outer, _, last = key.rpartition(".")
    if not outer:
        # A group without a choice is not a key of the configuration.
        stage = parent.get("stage") if isinstance(parent, DictConfig) else None
        unchosen = [name for name in groups(str(stage)) if name not in names and name not in EARLIER]
        if last in {_place(group) for group in unchosen}:
            return _without_choice(last, unchosen, arguments)
        names += unchosen
    if (error := renamed.renamed_key(key, arguments)) is not None:
        return error
    kind = parent.get("kind") if isinstance(parent, DictConfig) and not parent._is_none() else None
    if outer == "model" and last in (grouped := renamed.GROUPED.get(str(kind), {})):
        present = f"model.{grouped[last]}"
        return UsageError(f"this key is called {present} now", where=key, key=key, remedy=f"Write {present}")
    if outer == "model.network" and last in renamed.NETWORK:
        present = f"{outer}.{renamed.NETWORK[last]}"
        return UsageError(f"this key is called {present} now", where=key, key=key, remedy=f"Write {present}")
    offers = [did_you_mean(last, names)]
    if outer.rpartition(".")[2] in OPEN:
        offers.append(
            f"To add it, write +{key}=...; to have your own alone, write '~{outer}' '+{outer}={{{last}: ...}}'"
        )
    if names:
        offers.append(f"Keys {f'of {outer}' if outer else 'here'} are {', '.join(names)}")
    return UsageError("no such key", where=key, key=key, remedy=" ".join(filter(None, offers)) or "See --help")
