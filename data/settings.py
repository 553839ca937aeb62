"""Settings as frozen dataclasses, read from plain mappings such as a part of a configuration.

An unknown key, a value of a wrong type and a number out of range are errors that name the key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from data.errors import InputError, UsageError
from data.ranges import refuse_out_of_range
from data.remote.path import path_of
from data.suggestions import did_you_mean
from data.value_types import as_written, refuse_other_kinds_inside

__all__ = ["MISSING", "build", "existing_file", "names", "one_name", "refuse_equal_stems"]

T = TypeVar("T")


def build(cls: type[T], node: Mapping[str, Any], *, where: str) -> T:
    """A frozen dataclass from a mapping: unknown keys and wrong types are errors.

    Args:
        cls: dataclass whose fields are the keys, with the types of their values.
        node: the values, such as a part of a configuration.
        where: key of the part, which precedes the keys in messages; "" for a whole configuration.

    Raises:
        InputError: a key is unknown or missing, or a value has a wrong type or is out of range; the message names it.
    """
    try:
        merged = OmegaConf.merge(_writable(OmegaConf.structured(cls)), node)
        refuse_out_of_range(OmegaConf.to_container(merged, resolve=False), where)
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = ".".join(part for part in (where, error.full_key) if part)
        if isinstance(error, MissingMandatoryValue):
            raise InputError("a value is needed", where=key, key=key, remedy=f"Give {key}=...") from error
        if isinstance(error, ConfigKeyError):
            kind: Any = error.object_type
            keys = [f.name for f in fields(kind)] if is_dataclass(kind) else []
            near = did_you_mean(str(error.key), keys)
            remedy = " ".join(filter(None, [near, f"Keys here are {', '.join(keys)}"])) if keys else "See --help"
            raise UsageError("no such key", where=key, key=key, remedy=remedy) from error
        raise InputError(str(error).splitlines()[0], where=key or None, key=key or None) from error
    except (ValueError, TypeError) as error:
        raise InputError(str(error), where=where or None, key=where or None) from error
    assert isinstance(settings, cls)
    refuse_other_kinds_inside(settings, where)
    return settings


def _writable(schema: Any) -> Any:
    """The schema of frozen and nested dataclasses, made writable so that values can be merged into it."""
    OmegaConf.set_readonly(schema, False)
    for key in schema:
        node = schema._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            _writable(node)
    return schema


def existing_file(value: str | None, key: str) -> Path:
    """The path that a required key names, of a file of this machine or at a URL.

    Raises:
        InputError: the key is empty, there is no such file, or a URL cannot be read.
    """
    if value is None or value == "":
        raise InputError("a path is needed", where=key, key=key, remedy=f"Give {key}=PATH")
    path = path_of(one_name(value, key))
    if not path.exists():
        raise InputError(f"no such file: {path}", where=key, key=key, file=str(path), remedy="Check the path")
    return path


def one_name(value: Any, key: str) -> str:
    """The text of a key that takes one name; a number is the name that its digits spell, such as a column "1".

    Raises:
        InputError: it is a list, a mapping, a truth value or nothing.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"must be a name, got {as_written(value)}", where=key, key=key, remedy=f"Give {key}=NAME")


def names(value: Any, key: str) -> list[str]:
    """A configured name or list of names as a list; None is the empty list.

    Args:
        value: what the configuration holds.
        key: its key, for messages.

    Raises:
        InputError: it is neither, or an entry of the list is no name.
    """
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_listed_name(one, value, key) for one in value]
    return [_listed_name(value, value, key)]


def _listed_name(one: Any, value: Any, key: str) -> str:
    try:
        return one_name(one, key)
    except InputError:
        raise InputError(
            f"must be a name or a list of names, got {as_written(value)}",
            where=key,
            key=key,
            remedy=f"Give {key}=NAME or '{key}=[NAME,...]'",
        ) from None


def refuse_equal_stems(files: Sequence[Path], key: str) -> None:
    """Refuse files whose scores would have the same names.

    Raises:
        InputError: two files have the same stem.
    """
    stems = [path.stem for path in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise InputError(
            f"two files are called {min(twice)!r}, and their scores would have the same names",
            where=key,
            key=key,
            remedy="Rename one",
        )
