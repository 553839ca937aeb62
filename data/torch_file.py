"""Tensors of a file that `torch.save` wrote, read without PyTorch and without unpickling.

Such a file is a zip archive: `<name>/data.pkl` describes the tensors, `<name>/data/<key>` holds the bytes of
each storage (PyTorch, "Serialization semantics"). The description is a pickle. Its opcodes are read here one by one,
those that build plain containers and the two constructors of a tensor are followed, and anything else is
refused, so that nothing in a file can run.
"""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import CorruptStoreError, InputError

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
_MARK = object()


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
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}", remedy="Check the path") from None
    except zipfile.BadZipFile as error:
        raise InputError(
            "is not a zip file as torch.save writes it", where=where, remedy="Save it again with PyTorch 1.6 or newer"
        ) from error
    with archive:
        inner = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(inner) != 1:
            raise InputError("holds no data.pkl", where=where, remedy="Give a file that torch.save wrote")
        head = inner[0].removesuffix("data.pkl")
        try:
            found = _describe(archive.read(inner[0]))
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise InputError(
                f"holds more than tensors: {error}", where=where, remedy="Save a dict of plain tensors"
            ) from error
        items = found if isinstance(found, dict) else {"tensor": found}
        strange = sorted(str(k) for k, v in items.items() if not isinstance(v, _Tensor))
        if strange:
            raise InputError(f"{', '.join(strange)} is no tensor", where=where, remedy="Save a dict of plain tensors")
        return {str(name): _load(archive, head, tensor, where) for name, tensor in items.items()}


def _load(archive: zipfile.ZipFile, head: str, tensor: _Tensor, where: str) -> np.ndarray:
    try:
        body = archive.read(f"{head}data/{tensor.key}")
    except (KeyError, zipfile.BadZipFile) as error:
        raise CorruptStoreError(
            f"storage {tensor.key} is missing or damaged", where=where, remedy="Restore the file from a copy"
        ) from error
    flat = np.frombuffer(body, np.dtype(tensor.dtype))
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if 0 not in tensor.shape and (min(tensor.strides, default=0) < 0 or tensor.offset < 0 or last >= len(flat)):
        raise CorruptStoreError(
            f"storage {tensor.key} has {len(flat)} entries, {last + 1} are needed",
            where=where,
            remedy="Restore the file from a copy",
        )
    strides = tuple(s * flat.itemsize for s in tensor.strides)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False).copy()


def _describe(body: bytes) -> Any:
    """What the opcodes build.

    Raises:
        ValueError: one of them builds something else than containers of tensors.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    value: Any
    for opcode, value, _ in pickletools.genops(body):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"):
            stack.append(value)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(value)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(value)])
        elif name == "GLOBAL":
            module, _, attribute = str(value).partition(" ")
            stack.append(_Name(module, attribute))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            items = tuple(stack[-count:])
            del stack[-count:]
            stack.append(items)
        elif name == "SETITEM":
            entry = stack.pop()
            key = stack.pop()
            stack[-1][key] = entry
        elif name == "SETITEMS":
            pairs = since_mark()
            stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name == "BINPERSID":
            kind, storage, key, *_ = stack.pop()
            if kind != "storage" or not isinstance(storage, _Name) or storage.name not in DTYPES:
                raise ValueError(f"storage of kind {getattr(storage, 'name', kind)!r}")
            stack.append((str(key), DTYPES[storage.name]))
        elif name == "REDUCE":
            given = stack.pop()
            made = stack.pop()
            if (made.module, made.name) == EMPTY and given == ():
                stack.append({})
            elif (made.module, made.name) == REBUILD:
                (key, dtype), offset, shape, strides = given[:4]
                stack.append(_Tensor(key, dtype, int(offset), tuple(shape), tuple(strides)))
            else:
                raise ValueError(f"{made.module}.{made.name}")
        else:
            raise ValueError(f"opcode {name}")
    raise ValueError("the description does not end")
