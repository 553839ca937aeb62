"""Between typed values and plain JSON: `to_plain` writes a value, `from_plain` reads it as the type that is declared.

The type hints of a dataclass say how it is written and read, so a class needs no code of its own for that. A file that
was edited, truncated or swapped with another gives one line that names the file, the key and what is expected there,
never a value of a wrong type that fails far from where it was read. Every number is finite.
`data.json_files` reads the files.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import AbstractArray

from data.errors import InputError
from data.plain_leaves import PlainError, abbreviate, is_encodable, read_array, read_scalar, within

__all__ = [
    "FLAT",
    "OMIT_DEFAULT",
    "UNWRITTEN",
    "Form",
    "PlainError",
    "Tagged",
    "entry",
    "flat_entries",
    "from_plain",
    "to_plain",
]
__all__ += ["within", "written_as"]

T = TypeVar("T")
#: Metadata of a field that is not written where it has its default. A field that is added to a class whose hash is an
#: identity needs it, because files of earlier versions lack the key and their hash has to stay the same.
OMIT_DEFAULT: Mapping[str, Any] = types.MappingProxyType({"omit_default": True})
#: Metadata of a field that is never written or read.
UNWRITTEN: Mapping[str, Any] = types.MappingProxyType({"unwritten": True})
#: Metadata of a field that holds a dataclass, whose entries are written among those of the class around it. Files keep
#: their keys, and hashes their values, when settings that belong together become a group.
FLAT: Mapping[str, Any] = types.MappingProxyType({"flat": True})


def written_as(key: str) -> Mapping[str, Any]:
    """Metadata of a field that has another key in JSON than its name."""
    return {"key": key}


@dataclass(frozen=True)
class Form:
    """The JSON of a value that is not written by its type: stands in the hint of a field, as `Annotated[type, Form]`.

    Attributes:
        kind: hint of the plain value.
        write: the plain value of a value.
        read: the value of a plain value; a ValueError says what is wrong with it.
    """

    kind: Any
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]

    def to_plain(self, value: Any) -> Any:
        """The plain value of a value."""
        return to_plain(self.write(value))

    def from_plain(self, value: Any) -> Any:
        """The value that `to_plain` described; PlainError where it is none."""
        plain = _value(self.kind, value)
        try:
            return self.read(plain)
        except ValueError as error:
            raise error if isinstance(error, PlainError) else PlainError(str(error)) from error


class Tagged:
    """One of several dataclasses, which a name beside its own keys tells: stands in `Annotated[base class, Tagged]`.

    Args:
        key: of the name, such as "architecture".
        kinds: name -> dataclass.
    """

    def __init__(self, key: str, kinds: Mapping[str, type]) -> None:
        self.key, self.kinds = key, dict(kinds)

    def name_of(self, value: Any) -> str:
        """The name of the class of a value; KeyError where it is none of these."""
        for name, kind in self.kinds.items():
            if type(value) is kind:
                return name
        raise KeyError(f"{type(value).__name__} is none of {', '.join(self.kinds)}")

    def to_plain(self, value: Any) -> dict[str, Any]:
        """The name of the class and the entries of a value."""
        return {self.key: self.name_of(value), **to_plain(value)}

    def from_plain(self, value: Any) -> Any:
        """The value that `to_plain` described.

        Raises:
            PlainError: the name or an entry is missing or unknown, or is not what is declared.
        """
        name = entry(value, self.key, str)
        if name not in self.kinds:
            raise PlainError(f"must be one of {', '.join(self.kinds)}, got {abbreviate(name)}", self.key)
        return _instance(self.kinds[name], {k: v for k, v in value.items() if k != self.key})


def to_plain(value: Any) -> Any:
    """A value as JSON holds it: dicts with text as keys, lists, texts, numbers, booleans and None.

    Args:
        value: one of these, or a dataclass, tuple, path, or scalar or array of NumPy, or any of them in one another. Of
            a dataclass those fields are written that its constructor takes; see `OMIT_DEFAULT`, `UNWRITTEN`, `FLAT`,
            `written_as`, `Form` and `Tagged` for what differs.

    Raises:
        PlainError: a number is not finite, or a value is of another type; names the key.
    """
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise PlainError(f"must be a finite number, got {value}")
        return float(value)
    if isinstance(value, np.generic | np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, str | int | Path):
        return str(value) if isinstance(value, str | Path) else int(value)
    if isinstance(value, Mapping):
        return _write_mapping(to_plain, value)
    if isinstance(value, list | tuple):
        return _write_list(to_plain, value)
    if not is_dataclass(value) or isinstance(value, type):
        raise PlainError(f"cannot be written to JSON: it is of type {type(value).__name__}")
    plain: dict[str, Any] = {}
    for member in _members(type(value)):
        content = getattr(value, member.name)
        if member.flat:
            plain |= to_plain(content)
        elif not (member.omit_default and content == member.default()):
            plain[member.key] = _write_entry(member.key, member.write, content)
    return plain


def _write_entry(key: str, write: Callable[[Any], Any], value: Any) -> Any:
    try:
        return write(value)
    except PlainError as error:
        raise error.under(key) from error


def _write_mapping(write: Callable[[Any], Any], value: Mapping[Any, Any]) -> dict[str, Any]:
    return {_text(key): _write_entry(_text(key), write, entry) for key, entry in value.items()}


def _write_list(write: Callable[[Any], Any], value: Sequence[Any]) -> list[Any]:
    if write is to_plain and all(type(entry) in (str, int, bool) for entry in value):
        return list(value)  # Long lists of rows are looked at as a whole.
    return [_write_entry(str(number), write, entry) for number, entry in enumerate(value)]


def _text(key: Any) -> str:
    """A key as JSON holds it."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return str(int(key))
    raise PlainError(f"must be text or a whole number, got a {type(key).__name__}", str(key))


def from_plain(kind: type[T], value: Any) -> T:
    """A value of plain JSON as the type that its reader declares: the reverse of `to_plain`.

    Args:
        kind: a dataclass, or a hint of what a field of one may be: `bool`, `int`, `float`, `str`, `None`, `Any`,
            `Path`, `Literal`, tuples, lists, mappings, arrays of NumPy, unions of these, and `Annotated` with a `Form`
            or a `Tagged`.
        value: dicts, lists, strings, numbers, booleans and None. A key that has a default may be absent, which is how
            files of older versions are read; an unknown one may not be there.

    Raises:
        PlainError: names the key.
    """
    read: T = _instance(kind, value) if is_dataclass(kind) else _value(kind, value)
    return read


def entry(value: Any, key: str, kind: type[T], *default: T) -> T:
    """The value under a key of an object, as the type that its reader declares.

    Args:
        value: the object.
        key: of its value.
        kind: see `from_plain`.
        default: where the key may be absent, at most one.

    Raises:
        PlainError: names the key.
    """
    if not isinstance(value, Mapping):
        raise PlainError(f"must be an object, got {abbreviate(value)}")
    if key not in value:
        if default:
            return default[0]
        raise PlainError("is missing", key)
    with within(key):
        read: T = _value(kind, value[key])
        return read


@dataclass(frozen=True)
class _Member:
    """A field of a dataclass: its key in JSON, its name and hint, and how it is written."""

    key: str
    name: str
    hint: Any
    required: bool
    flat: bool
    omit_default: bool
    default: Callable[[], Any]
    write: Callable[[Any], Any]


@cache
def _members(kind: Any) -> tuple[_Member, ...]:
    hints = get_type_hints(kind, include_extras=True)
    members = []
    for f in fields(kind):
        if not f.init or f.metadata.get("unwritten"):
            continue
        default = (lambda value=f.default: value) if f.default_factory is MISSING else f.default_factory
        required = f.default is MISSING and f.default_factory is MISSING
        key, omit = f.metadata.get("key", f.name), f.metadata.get("omit_default", False)
        write, flat = _writer(hints[f.name]), f.metadata.get("flat", False)
        members.append(_Member(key, f.name, hints[f.name], required, flat, omit, default, write))
    return tuple(members)


def flat_entries(kind: type) -> dict[str, str]:
    """The key of each entry of the flat fields of a dataclass -> the field and the entry, such as `loss.unroll`."""
    return {
        inner.key: f"{member.name}.{inner.name}"
        for member in _members(kind)
        if member.flat
        for inner in _members(member.hint)
    }


def _form(hint: Any) -> Form | Tagged | None:
    """What a hint says beside its type."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra for extra in extras if isinstance(extra, Form | Tagged)), None)


def _has_form(hint: Any) -> bool:
    return _form(hint) is not None or any(map(_has_form, get_args(hint)))


def _writer(hint: Any) -> Callable[[Any], Any]:
    """How values of a hint are written, which their own types say unless a `Form` or a `Tagged` is in it."""
    if form := _form(hint):
        return form.to_plain
    if not _has_form(hint):
        return to_plain
    origin, arguments = get_origin(hint), get_args(hint)
    others = [kind for kind in arguments if kind is not types.NoneType]
    if origin in (dict, Mapping):
        return partial(_write_mapping, _writer(arguments[1]))
    if origin in (list, Sequence) or (origin is tuple and arguments[-1:] == (Ellipsis,)):
        return partial(_write_list, _writer(arguments[0]))
    if origin in (Union, types.UnionType) and len(others) == 1:
        write = _writer(others[0])
        return lambda value: None if value is None else write(value)
    raise TypeError(f"a Form or a Tagged cannot stand within {hint}")


def _instance(kind: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise PlainError(f"must be an object, got {abbreviate(value)}")
    every = _members(kind)
    groups = {m.name: (m.hint, [inner.key for inner in _members(m.hint)]) for m in every if m.flat}
    members = {member.key: member for member in every if not member.flat}
    keys = [key for m in every for key in (groups[m.name][1] if m.flat else (m.key,))]
    strange = [str(key) for key in value if key not in keys]
    if strange:
        raise PlainError(f"is no key of these: {', '.join(keys)}", strange[0])
    lacking = [key for key, member in members.items() if member.required and key not in value]
    if lacking:
        raise PlainError("is missing", lacking[0])
    values = {
        name: _instance(hint, {key: entry for key, entry in value.items() if key in inner})
        for name, (hint, inner) in groups.items()
    }
    for key, entry in value.items():
        if key in members:
            with within(str(key)):
                values[members[key].name] = _value(members[key].hint, entry)
    try:
        return kind(**values)
    except InputError as error:
        raise PlainError(error.problem, error.where or "") from error
    except (ValueError, TypeError) as error:
        raise PlainError(str(error)) from error


def _value(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if origin is Annotated:
        form = _form(kind)
        return _value(arguments[0], value) if form is None else form.from_plain(value)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise PlainError(f"must be one of {', '.join(map(str, arguments))}, got {abbreviate(value)}")
        return value
    if origin in (tuple, list, Sequence):
        return _several(kind, value)
    if origin in (dict, Mapping):
        return _mapping(arguments, value)
    if is_dataclass(kind):
        return _instance(kind, value)
    if kind is np.ndarray or (isinstance(kind, type) and issubclass(kind, AbstractArray)):
        return read_array(kind, value)
    return read_scalar(kind, value)


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    for kind in others[:-1]:
        try:
            return _value(kind, value)
        except PlainError:
            continue
    return _value(others[-1], value)


def _several(kind: Any, value: Any) -> Any:
    arguments = get_args(kind)
    if not isinstance(value, list | tuple):
        raise PlainError(f"must be a list, got {abbreviate(value)}")
    if get_origin(kind) is tuple and arguments[-1:] != (Ellipsis,):
        if len(value) != len(arguments):
            raise PlainError(f"must have {len(arguments)} entries, got {len(value)}")
        each = arguments
    else:
        each = (arguments[0],) * len(value)
        if arguments[0] in (int, str) and all(type(entry) is arguments[0] for entry in value):
            # Long lists of rows are looked at as a whole.
            read_scalar(arguments[0], max(value, key=len if arguments[0] is str else abs, default=arguments[0]()))
            if arguments[0] is int or is_encodable("".join(value)):
                return tuple(value) if get_origin(kind) is tuple else list(value)
    entries = []
    for number, (inner, entry) in enumerate(zip(each, value, strict=True)):
        with within(str(number)):
            entries.append(_value(inner, entry))
    return tuple(entries) if get_origin(kind) is tuple else entries


def _mapping(arguments: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise PlainError(f"must be an object, got {abbreviate(value)}")
    mapping = {}
    for key, entry in value.items():
        with within(str(key)):
            if arguments[0] is int and isinstance(key, str) and re.fullmatch("0|-?[1-9][0-9]{0,18}", key):
                key = int(key)  # JSON has no other keys than text
            mapping[_value(arguments[0], key)] = _value(arguments[1], entry)
    return mapping
