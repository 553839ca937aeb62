"""Arrays of HDF5 files without named dims, and of MATLAB files, read only where they are asked for.

The layouts of PDEBench are among them: arrays at the root of a file, or groups "0000", "0001", ... of one sample each,
whose arrays of one name are stacked along a first axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DAMAGED, InputError
from data.formats.damage import UnpackedBytes, parsing
from data.processes.probe import refuse_deadly

HDF5 = b"\x89HDF\r\n\x1a\n"
#: Bytes before the HDF5 that a file of MATLAB 7.3 is.
MATLAB_HEADER = 512
#: Kinds of numbers of NumPy.
NUMBERS = "biuf"


@dataclass(frozen=True)
class StoredArray:
    """An array of a file that is not read yet.

    Attributes:
        shape: its shape, as `read` returns it.
        read: reads it.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5 by content; one of MATLAB 7.3 is, behind a header of its own."""
    with open(path, "rb") as file:
        head = file.read(len(HDF5))
        file.seek(MATLAB_HEADER)
        return head == HDF5 or (head.startswith(b"MATLAB") and file.read(len(HDF5)) == HDF5)


@contextmanager
def stored_arrays(path: Path) -> Iterator[Mapping[str, StoredArray]]:
    """The arrays of numbers of a file of HDF5 or MATLAB, by name, as long as the block lasts.

    Axes of length 1 of MATLAB's arrays are dropped, because it has no numbers and no vectors.

    Raises:
        InputError: it is damaged, its data lie in other files, or it holds no array of numbers.
    """
    with open(path, "rb") as file:
        matlab = file.read(6) == b"MATLAB"
    if matlab and not is_hdf5(path):
        arrays = _matlab_5(path)
        _refuse_none(arrays, path)
        yield arrays
        return
    import h5py  # type: ignore[import-untyped]

    refuse_deadly("hdf5", path)
    with parsing(path):
        opened = h5py.File(path, "r")
    with opened as file:
        with parsing(path):
            arrays = _hdf5(file, path, matlab)
        _refuse_none(arrays, path)
        yield arrays


def _refuse_none(arrays: Mapping[str, StoredArray], path: Path) -> None:
    if not arrays:
        raise InputError("holds no array of numbers", where=str(path), remedy="Save its arrays with numpy.savez")


def _hdf5(file: Any, path: Path, matlab: bool) -> dict[str, StoredArray]:
    """The arrays of a file; "/" in their names becomes "_"."""
    import h5py

    budget = UnpackedBytes(path, path.stat().st_size)
    members = {str(name): file[name] for name in file if not str(name).startswith("#")}
    samples = [name for name, member in members.items() if isinstance(member, h5py.Group) and name.isdigit()]
    if samples and len(samples) == len(members):
        return _stacked([members[name] for name in sorted(samples)], path, budget)
    return {
        name.replace("/", "_"): _one(data, path, budget, matlab) for name, data in _datasets(file) if _is_numbers(data)
    }


def _datasets(group: Any) -> list[tuple[str, Any]]:
    """Name below a group and dataset, of all below it."""
    import h5py

    named: list[tuple[str, Any]] = []

    def visit(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset) and not name.startswith("#"):
            named.append((name, member))

    group.visititems(visit)
    return named


def _is_numbers(data: Any) -> bool:
    return data.dtype.kind in NUMBERS and data.shape is not None


def _one(data: Any, path: Path, budget: UnpackedBytes, matlab: bool) -> StoredArray:
    # MATLAB stores columns first, and HDF5 shows them as rows.
    shape = tuple(n for n in reversed(data.shape) if n != 1) if matlab else tuple(data.shape)

    def read() -> np.ndarray:
        budget.take(math.prod(data.shape) * data.dtype.itemsize, str(data.name)[:60])
        with parsing(f"{path} ({data.name})"):
            values = np.asarray(data[...])
        return np.squeeze(values.T) if matlab else values

    return StoredArray(shape, read)


def _stacked(groups: list[Any], path: Path, budget: UnpackedBytes) -> dict[str, StoredArray]:
    """The arrays that all groups have, stacked; those of coordinates ("grid/x") are left to the first group."""
    first = {name: data for name, data in _datasets(groups[0]) if _is_numbers(data)}
    arrays: dict[str, StoredArray] = {}
    for name, data in first.items():
        if name.startswith("grid/"):
            arrays[name.replace("/", "_")] = _one(data, path, budget, False)
            continue
        same = [group.get(name) for group in groups]
        if unlike := [g.name for g, d in zip(groups, same, strict=True) if d is None or d.shape != data.shape]:
            raise InputError(
                f"group {unlike[0]} has no array {name} of shape {' x '.join(map(str, data.shape))}, as the first has",
                where=str(path),
                remedy="Give samples of one shape",
            )
        parts = [_one(d, path, budget, False) for d in same]
        arrays[name.replace("/", "_")] = StoredArray(
            (len(parts), *data.shape),
            lambda parts=parts: np.stack([part.read() for part in parts]),  # type: ignore[misc]
        )
    return arrays


#: Bytes of a number of each class of MATLAB.
_MATLAB_BYTES = {
    "double": 8, "single": 4, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
    "uint64": 8, "logical": 1,
}  # fmt: skip


def _matlab_5(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file of MATLAB 5 to 7.2."""
    from scipy.io import loadmat, whosmat

    with parsing(path, remedy=DAMAGED):
        members = whosmat(str(path))
    budget = UnpackedBytes(path, path.stat().st_size)

    def reader(name: str, shape: tuple[int, ...], kind: str) -> Callable[[], np.ndarray]:
        def read() -> np.ndarray:
            budget.take(math.prod(shape) * _MATLAB_BYTES[kind], name[:60])
            with parsing(f"{path} ({name[:60]})"):
                return np.squeeze(np.asarray(loadmat(str(path), variable_names=[name])[name]))

        return read

    return {
        name: StoredArray(tuple(n for n in shape if n != 1), reader(name, shape, kind))
        for name, shape, kind in members
        if kind in _MATLAB_BYTES
    }
