"""The format in which a parsing process answers: MessagePack with the arrays beside it, from which nothing is executed.

A process that parses foreign files may have been taken over by one of them, so that its answers are data alone:
numbers, texts, arrays, containers, and dataclasses of this project, whose fields are set without running their code.
What MessagePack does not know stands as a map with the key `MARK`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from data.errors import InputError

#: Key of a map that stands for another object; no file gives such a key.
MARK = b"\0"
#: Arrays of at least this many bytes are sent beside the message, without a copy.
BESIDE = 1 << 15
#: Packages whose dataclasses an answer may hold.
PACKAGES = ("data.", "simulators.", "experiments.")


class GarbledAnswerError(ValueError):
    """The bytes of an answer are not what `pack` writes."""


def pack(value: Any) -> list[bytes | memoryview]:
    """The parts of a message: the value, then its large arrays.

    Raises:
        TypeError: the value holds something that is no data.
    """
    beside: list[memoryview] = []

    def stand_in(item: Any) -> Any:
        return _stand_in(item, beside)

    head: bytes = msgpack.packb(value, default=stand_in, strict_types=True, unicode_errors="surrogatepass")
    return [head, *beside]


def unpack(head: bytes, beside: Sequence[bytearray] = ()) -> Any:
    """The value of a message that `pack` made; its arrays can be written to.

    Args:
        head: first part of the message.
        beside: the other parts, over which the large arrays lie.

    Raises:
        GarbledAnswerError: the bytes are not what `pack` writes, or name a class that an answer may not hold.
    """

    def restore(entries: dict[Any, Any]) -> Any:
        return _restored(entries, beside) if MARK in entries else entries

    try:
        return msgpack.unpackb(head, object_hook=restore, strict_map_key=False, unicode_errors="surrogatepass")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, msgpack.UnpackException) as error:
        raise GarbledAnswerError(f"an answer cannot be read: {error}") from error


@cache
def _fields(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


def _stand_in(item: Any, beside: list[memoryview]) -> Any:
    """A map in place of an object that MessagePack does not know."""
    cls = type(item)
    if cls is tuple:
        return {MARK: "tuple", 0: list(item)}
    if isinstance(item, np.ndarray):
        return _array(item, beside)
    if isinstance(item, np.generic) and item.dtype.kind in "biufc":
        return {MARK: "number", 0: item.dtype.str, 1: item.tobytes()}
    if dataclasses.is_dataclass(cls) and cls.__module__.startswith(PACKAGES):
        return {MARK: "object", 0: cls.__module__, 1: cls.__name__, 2: [getattr(item, name) for name in _fields(cls)]}
    if isinstance(item, str | bytes | int | float):
        # A subclass of one of these, or an integer of more than 64 bits.
        if isinstance(item, int):
            return {MARK: "integer", 0: str(int(item))}
        return str(item) if isinstance(item, str) else bytes(item) if isinstance(item, bytes) else float(item)
    if isinstance(item, Mapping):
        return dict(item)
    for name, (kind, plain, _) in _OTHERS.items():
        if isinstance(item, kind):
            return {MARK: name, 0: plain(item)}
    raise TypeError(f"a {cls.__name__} is no data that a parsing process may answer with")


def _array(array: np.ndarray, beside: list[memoryview]) -> dict[Any, Any]:
    if array.dtype.kind not in "biufcMm":
        return {MARK: "objects", 0: list(array.shape), 1: array.ravel().tolist()}
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    entry = {MARK: "array", 0: array.dtype.str, 1: list(array.shape)}
    if flat.nbytes < BESIDE:
        return entry | {2: flat.tobytes()}
    beside.append(flat.data)
    return entry | {3: len(beside) - 1}


def _restored(entries: dict[Any, Any], beside: Sequence[bytearray]) -> Any:
    name = entries[MARK]
    if name == "tuple":
        return tuple(entries[0])
    if name == "object":
        return _object(entries[0], entries[1], entries[2])
    if name == "array":
        content = bytearray(entries[2]) if 2 in entries else beside[entries[3]]
        return np.frombuffer(content, _dtype(entries[0])).reshape(entries[1])
    if name == "number":
        return np.frombuffer(entries[1], _dtype(entries[0]))[0]
    if name == "integer":
        return int(entries[0])
    if name == "objects":
        array = np.empty(len(entries[1]), object)
        array[:] = entries[1]
        return array.reshape(entries[0])
    return _OTHERS[name][2](entries[0])


def _dtype(text: str) -> np.dtype:
    dtype = np.dtype(text)
    if dtype.kind not in "biufcMm":
        raise GarbledAnswerError(f"an array of {text!r} is no data")
    return dtype


def _object(module: str, name: str, values: list[Any]) -> Any:
    """An instance of a dataclass of this project that is imported already, whose own code does not run."""
    cls = getattr(sys.modules.get(module), name, None) if module.startswith(PACKAGES) else None
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls) or cls.__module__ != module:
        raise GarbledAnswerError(f"{module}.{name} is no class that an answer may hold")
    item = object.__new__(cls)
    for field, value in zip(_fields(cls), values, strict=True):
        object.__setattr__(item, field, value)
    return item


def _input_error(parts: list[Any]) -> InputError:
    problem, where, remedy, file, row, key = parts
    return InputError(problem, where=where, remedy=remedy, file=file, row=row, key=key)


def _input_error_parts(error: InputError) -> list[Any]:
    return [error.problem, error.where, error.remedy, error.file, error.row, error.key]


#: Other objects: their class, what stands for them, and how they are made again.
_OTHERS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "list": (list, list, list),
    "set": (set, list, set),
    "frozenset": (frozenset, list, frozenset),
    "complex": (complex, lambda z: [z.real, z.imag], lambda parts: complex(*parts)),
    "path": (Path, str, Path),
    "refusal": (InputError, _input_error_parts, _input_error),
    "tuple of a kind": (tuple, list, tuple),
}
