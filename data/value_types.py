"""Whether the values of a configuration are of the kinds that the classes take which they are given to.

Configurations are text, so that a list may stand where a number belongs. A class that is handed one fails in some line
of its own; here the annotations of its arguments refuse it first, by the name of the key.
"""

from __future__ import annotations

import collections.abc
import inspect
import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union

from data.errors import InputError

_LISTS = (
    list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection,
)  # fmt: skip
_MAPPINGS = (dict, collections.abc.Mapping)
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
}


def refuse_other_kinds(cls: Any, values: Mapping[str, Any], where: str, *, plain_alone: bool = False) -> None:
    """Refuse values that are not of the kinds of the arguments of a class.

    Args:
        cls: class, or function, whose annotations say them; arguments without one take anything.
        values: argument -> plain value.
        where: key of the mapping, which precedes the names in messages; "" for none.
        plain_alone: whether to look only at arguments that are a number, a text or a truth value, since a class may
            take lists and mappings in other forms than that in which it keeps them.

    Raises:
        InputError: a value is of another kind; the message names its key, what it must be and what it is.
    """
    hints = annotations_of(cls)
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]) and (not plain_alone or is_plain(hints[name])):
            key = ".".join(filter(None, (where, str(name))))
            raise InputError(
                f"must be {described(hints[name])}, got {as_written(value)}",
                where=key,
                key=key,
                remedy=f"Give such a value, or leave {key} out",
            )


def refuse_other_kinds_inside(settings: Any, where: str) -> None:
    """Refuse values of the fields of a dataclass, and of those within it, that are of other kinds; see above."""
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    refuse_other_kinds(type(settings), values, where)
    for name, value in values.items():
        if is_dataclass(value) and not isinstance(value, type):
            refuse_other_kinds_inside(value, ".".join(filter(None, (where, name))))


@cache
def annotations_of(cls: Any) -> Mapping[str, Any]:
    """Argument -> its annotation; empty where they cannot be resolved."""
    try:
        if isinstance(cls, type) and not is_dataclass(cls):
            return typing.get_type_hints(cls.__init__)  # type: ignore[misc]
        return typing.get_type_hints(cls)
    except (NameError, TypeError, AttributeError):
        return {}


def is_plain(hint: Any) -> bool:
    """Whether an annotation is that of a number, a text, a truth value or nothing, or of one of these."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return all(is_plain(one) for one in typing.get_args(hint))
    return hint is None or hint in (int, float, str, bool, type(None))


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of the kind of an annotation; annotations that are not known here fit anything."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    if (origin or hint) in _LISTS:
        return isinstance(value, list | tuple | set | frozenset) and _entries_fit(list(value), origin, arguments)
    if (origin or hint) in _MAPPINGS:
        return isinstance(value, Mapping) and (not arguments or all(fits(v, arguments[1]) for v in value.values()))
    if inspect.isclass(hint) and issubclass(hint, os.PathLike):
        return isinstance(value, str | os.PathLike)
    if inspect.isclass(hint) and is_dataclass(hint):
        return isinstance(value, hint)
    return True


def _entries_fit(values: list[Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    if not arguments:
        return True
    if origin is tuple and arguments[-1] is not Ellipsis:
        return len(values) == len(arguments) and all(map(fits, values, arguments))
    return all(fits(value, arguments[0]) for value in values)


def described(hint: Any) -> str:
    """What a value of an annotation is, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _WORDS or hint is None:
        return _WORDS[type(None) if hint is None else hint]
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(described, arguments)))
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if (origin or hint) in _LISTS:
        kinds = dict.fromkeys(described(one) for one in arguments if one is not Ellipsis)
        return f"a list, each entry {' or '.join(kinds)}" if kinds else "a list"
    if (origin or hint) in _MAPPINGS:
        return f"a mapping, each value {described(arguments[1])}" if arguments else "a mapping"
    if inspect.isclass(hint) and issubclass(hint, os.PathLike):
        return "a path"
    return "a group of keys"


def as_written(value: Any) -> str:
    """A value as a command writes it."""
    return json.dumps(value, default=str).replace('"', "")
