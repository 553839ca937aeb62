"""Reads the JSON files of this project: every value has the type that its reader declares, every number is finite.

A file that was edited, truncated or swapped with another gives one line that names the file, the key and what is
expected there, never a value of a wrong type that fails far from where it was read.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from data.checksums import read_bytes
from data.errors import CorruptStoreError, InputError

T = TypeVar("T")
#: The largest integer of an array of NumPy.
LARGEST = 2**63 - 1
#: The number up to which float64 holds every whole number.
WHOLE = 2**53


class PlainError(ValueError):
    """A value is not what its reader declares.

    Args:
        problem: what was expected, and what is there.
        key: dotted, from the outermost value that is being read.
    """

    def __init__(self, problem: str, key: str = "") -> None:
        super().__init__(f"{key} {problem}" if key else problem)
        self.problem, self.key = problem, key

    def under(self, outer: str) -> PlainError:
        """The same error, seen from the value that holds this one."""
        return PlainError(self.problem, ".".join(filter(None, (outer, self.key))))


def decode(kind: type[T], value: Any) -> T:
    """A value of plain JSON as the type that its reader declares.

    Args:
        kind: a dataclass, or a hint of what a field of one may be: `bool`, `int`, `float`, `str`, `None`, `Any`,
            `Literal`, tuples, lists, mappings and unions of these. Within another one, a dataclass that has a
            `from_json` of its own is read by that.
        value: dicts, lists, strings, numbers, booleans and None. A key that has a default may be absent, which is how
            files of older versions are read; an unknown one may not be there.

    Raises:
        PlainError: names the key.
    """
    if is_dataclass(kind):
        return _instance(kind, value)
    read: T = _value(kind, value)
    return read


def entry(value: Any, key: str, kind: type[T], *default: T) -> T:
    """The value under a key of an object, as the type that its reader declares.

    Args:
        value: the object.
        key: of its value.
        kind: see `decode`.
        default: where the key may be absent, at most one.

    Raises:
        PlainError: names the key.
    """
    if not isinstance(value, Mapping):
        raise PlainError(f"must be an object, got {_shown(value)}")
    if key not in value:
        if default:
            return default[0]
        raise PlainError("is missing", key)
    with within(key):
        read: T = _value(kind, value[key])
        return read


def _instance(kind: type[T], value: Any) -> T:
    if not isinstance(value, Mapping):
        raise PlainError(f"must be an object, got {_shown(value)}")
    hints = _hints(kind)  # type: ignore[arg-type]
    strange = [str(key) for key in value if key not in hints]
    if strange:
        raise PlainError(f"is no key of these: {', '.join(hints)}", strange[0])
    lacking = [
        f.name
        for f in fields(kind)  # type: ignore[arg-type]
        if f.name in hints and f.name not in value and f.default is MISSING and f.default_factory is MISSING
    ]
    if lacking:
        raise PlainError("is missing", lacking[0])
    values = {}
    for name, entry in value.items():
        with within(str(name)):
            values[name] = _value(hints[name], entry)
    try:
        return kind(**values)
    except InputError as error:
        raise PlainError(error.problem, error.where or "") from error
    except (ValueError, TypeError) as error:
        raise PlainError(str(error)) from error


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind) if f.init}


@contextmanager
def within(key: str) -> Iterator[None]:
    """Errors of what is read in the block name this key first."""
    try:
        yield
    except PlainError as error:
        raise error.under(key) from error


def _value(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise PlainError(f"must be one of {', '.join(map(str, arguments))}, got {_shown(value)}")
        return value
    if origin in (tuple, list, Sequence):
        return _several(kind, value)
    if origin in (dict, Mapping):
        return _mapping(arguments, value)
    if is_dataclass(kind):
        reader = getattr(kind, "from_json", None)
        if reader is None:
            return _instance(kind, value)  # type: ignore[arg-type]
        if not isinstance(value, Mapping):
            raise PlainError(f"must be an object, got {_shown(value)}")
        return reader(value)
    return _scalar(kind, value)


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
        raise PlainError(f"must be a list, got {_shown(value)}")
    if get_origin(kind) is tuple and arguments[-1:] != (Ellipsis,):
        if len(value) != len(arguments):
            raise PlainError(f"must have {len(arguments)} entries, got {len(value)}")
        each = arguments
    else:
        each = (arguments[0],) * len(value)
        if arguments[0] in (int, str) and all(type(entry) is arguments[0] for entry in value):
            # Long lists of rows are looked at as a whole.
            _scalar(arguments[0], max(value, key=len if arguments[0] is str else abs, default=arguments[0]()))
            if arguments[0] is int or _encodable("".join(value)):
                return tuple(value) if get_origin(kind) is tuple else list(value)
    entries = []
    for number, (inner, entry) in enumerate(zip(each, value, strict=True)):
        with within(str(number)):
            entries.append(_value(inner, entry))
    return tuple(entries) if get_origin(kind) is tuple else entries


def _mapping(arguments: tuple[Any, ...], value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise PlainError(f"must be an object, got {_shown(value)}")
    mapping = {}
    for key, entry in value.items():
        with within(str(key)):
            mapping[_value(arguments[0], key)] = _value(arguments[1], entry)
    return mapping


def _scalar(kind: Any, value: Any) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        # A whole number stays one, so that what is written again, and its hash, are the same.
        if abs(value) <= WHOLE:
            return value
        if abs(value) < 1e308 and math.isfinite(value):
            return float(value)
        raise PlainError(f"must be a finite number, got {_shown(value)}")
    if kind is str and isinstance(value, str) and _encodable(value):
        return value
    if kind is types.NoneType and value is None:
        return None
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    raise PlainError(f"must be {names.get(kind, getattr(kind, '__name__', str(kind)))}, got {_shown(value)}")


def _encodable(text: str) -> bool:
    """Whether a text can be written again: half a pair of surrogates cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value as it is shown in a message: short, and in one line."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number of many digits"
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_json(path: Path, *, remedy: str) -> Any:
    """The content of a JSON file of this project, after its checksum was verified; see `data.checksums`.

    Raises:
        CorruptStoreError: it is missing, its checksum differs, or it is no JSON.
        OSError: the file system refuses it.
    """
    try:
        return parse_json(read_bytes(Path(path), remedy=remedy))
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptStoreError("is missing", where=str(path), remedy=remedy) from None
    except ValueError as error:
        raise CorruptStoreError(f"not readable: {error}", where=str(path), remedy=remedy) from error


def parse_json(content: bytes | str) -> Any:
    """The value of JSON text in UTF-8; NaN is refused, because no file of this project holds one.

    Raises:
        ValueError: it is none, or is nested too deep.
    """

    def refuse(text: str) -> None:
        raise ValueError(f"{text} is no number")

    text = content if isinstance(content, str) else content.decode("utf-8")
    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_plain(path: Path, kind: type[T], *, remedy: str) -> T:
    """The content of a JSON file of this project, as the type that its reader declares; see `decode`.

    Raises:
        CorruptStoreError: it is missing, is no JSON, or a value in it is of another type; names the key.
    """
    value = read_json(path, remedy=remedy)
    with reading(path, remedy=remedy):
        return decode(kind, value)


@contextmanager
def reading(path: Path, *, remedy: str) -> Iterator[None]:
    """Errors of what is read in the block name the file.

    Raises:
        CorruptStoreError: a value is missing, or is not what is expected.
    """
    try:
        yield
    except PlainError as error:
        raise CorruptStoreError(str(error), where=str(path), remedy=remedy) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        problem = f"cannot be used: {type(error).__name__}: {error}"
        raise CorruptStoreError(problem, where=str(path), remedy=remedy) from error
