"""Tensors of a file that `torch.save` wrote, read without PyTorch and without unpickling.

Such a file is a zip archive: `<name>/data.pkl` describes the tensors, `<name>/data/<key>` holds the bytes of
each storage (PyTorch, "Serialization semantics"). The description is a pickle. Its opcodes are read here one by one,
those that build plain containers and the two constructors of a tensor are followed, and anything else is
refused, so that nothing in a file can run.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import CorruptStoreError, InputError
from data.formats.damage import parsing
from data.formats.zip_files import ZipFile

DTYPES = {
    "BoolStorage": "?",
    "ByteStorage": "<u1",
    "CharStorage": "<i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
REBUILD = ("torch._utils", "_rebuild_tensor_v2")
EMPTY = ("collections", "OrderedDict")
#: Bytes of a description; those of large networks have some hundred for each tensor.
MOST_DESCRIPTION = 1 << 24


@dataclass(frozen=True)
class _Name:
    """A class or function that the description names; it is never looked up."""

    module: str
    name: str


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies: storage, offset and strides in elements."""

    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path | str) -> dict[str, np.ndarray]:
    """The tensors of a saved dict, by its keys; a bare tensor is called "tensor".

    Args:
        path: of a file in the zip format, which PyTorch has written since version 1.6.

    Raises:
        InputError: there is no such file, it is of the older format, or it holds something besides tensors.
        CorruptStoreError: bytes are missing.
    """
    where = str(path)
    with ZipFile(
        path, problem="is not a zip file as torch.save writes it", remedy="Save it again with PyTorch 1.6 or newer"
    ) as archive:
        inner = [name for name in archive.names if name.endswith("/data.pkl")]
        if len(inner) != 1:
            raise InputError("holds no data.pkl", where=where, remedy="Give a file that torch.save wrote")
        head = inner[0].removesuffix("data.pkl")
        content = archive.read(inner[0], most=MOST_DESCRIPTION)
        try:
            description = _describe(content, where)
        except _NotTensorsError as error:
            raise InputError(
                f"holds more than tensors: {error}", where=where, remedy="Save a dict of plain tensors"
            ) from error
        items = description if isinstance(description, dict) else {"tensor": description}
        strange = sorted(str(k) for k, v in items.items() if not isinstance(v, _Tensor))
        if strange:
            raise InputError(f"{', '.join(strange)} is no tensor", where=where, remedy="Save a dict of plain tensors")
        return {str(name): _load(archive, head, tensor, where) for name, tensor in items.items()}


def _load(archive: ZipFile, head: str, tensor: _Tensor, where: str) -> np.ndarray:
    body = archive.read(f"{head}data/{tensor.key}", f"storage {tensor.key}")
    dtype = np.dtype(tensor.dtype)
    flat = np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    negative = min((tensor.offset, *tensor.shape, *tensor.strides)) < 0
    if negative or (0 not in tensor.shape and last >= len(flat)):
        raise CorruptStoreError(
            f"storage {tensor.key} has {len(flat)} entries, {last + 1} are needed",
            where=where,
            remedy="Restore the file from a copy",
        )
    # Strides of 0 repeat entries: few bytes may stand for many.
    archive.take(math.prod(tensor.shape) * dtype.itemsize, f"a tensor of {' x '.join(map(str, tensor.shape))}")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, dtype)
    strides = tuple(s * dtype.itemsize for s in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False).copy()


class _NotTensorsError(Exception):
    """The description builds something else than containers of tensors."""


def _describe(body: bytes, where: str) -> Any:
    """What the opcodes build.

    Raises:
        InputError: they are cut short or damaged.
        _NotTensorsError: one of them builds something else than containers of tensors.
    """
    with parsing(f"{where} (data.pkl)"):
        opcodes = [(opcode.name, value) for opcode, value, _ in pickletools.genops(body)]
    stack = _Stack()
    try:
        for name, value in opcodes:
            if name == "STOP":
                return stack.items.pop()
            stack.follow(name, value)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        # Opcodes that do not fit each other: the stack is not what one of them needs.
        raise _NotTensorsError(str(error) or type(error).__name__) from error
    raise _NotTensorsError("the description does not end")


class _Stack:
    """The stack machine of pickle, reduced to the opcodes that build tensors."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def _since_mark(self) -> list[Any]:
        top, self.items = self.items, self._below.pop()
        return top

    def follow(self, name: str, value: Any) -> None:
        """Execute an opcode; any error of Python means that it is not valid here."""
        items = self.items
        if name in ("PROTO", "FRAME"):
            return
        if name == "MARK":
            self._below.append(items)
            self.items = []
        elif name in _EMPTY_CONTAINERS:
            items.append(_EMPTY_CONTAINERS[name]())
        elif name in _CONSTANTS:
            items.append(_CONSTANTS[name])
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"):
            items.append(value)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[int(value)] = items[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = items[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            items.append(self._memo[int(value)])
        elif name == "GLOBAL":
            module, _, attribute = str(value).partition(" ")
            items.append(_Name(module, attribute))
        elif name == "TUPLE":
            top = tuple(self._since_mark())
            self.items.append(top)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            top = tuple(items[len(items) - count :])
            del items[len(items) - count :]
            items.append(top)
        elif name == "SETITEM":
            entry, key = items.pop(), items.pop()
            items[-1][key] = entry
        elif name == "SETITEMS":
            pairs = self._since_mark()
            self.items[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name == "BINPERSID":
            items.append(_storage(items.pop()))
        elif name == "REDUCE":
            arguments, what = items.pop(), items.pop()
            items.append(_build(what, arguments))
        else:
            raise ValueError(f"opcode {name}")


_EMPTY_CONTAINERS: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


def _storage(described: Any) -> tuple[str, str]:
    """The key and the type of a storage."""
    kind, storage, key, *_ = described
    if kind != "storage" or not isinstance(storage, _Name) or storage.name not in DTYPES:
        raise ValueError(f"storage of kind {getattr(storage, 'name', kind)!r}")
    return str(key), DTYPES[storage.name]


def _build(what: Any, arguments: Any) -> Any:
    """What a constructor of PyTorch makes of its arguments, or an empty dict."""
    if not isinstance(what, _Name):
        raise ValueError("what is called is no constructor")
    if (what.module, what.name) == EMPTY and arguments == ():
        return {}
    if (what.module, what.name) != REBUILD:
        raise ValueError(f"{what.module}.{what.name}")
    (key, dtype), offset, shape, strides = arguments[:4]
    numbers = [offset, *shape, *strides]
    if len(shape) != len(strides) or len(shape) > 64 or not all(type(n) is int and abs(n) < 1 << 62 for n in numbers):
        raise ValueError("a tensor whose shape, strides or offset are none")
    return _Tensor(str(key), str(np.dtype(dtype).str), offset, tuple(shape), tuple(strides))
