"""Arrays of answers that grow along the samples, first in a Zarr store and at the end in the file that is asked for.

The store takes whole chunks of samples, and a count of those that are on the disk; a killed run goes on behind them.
The file is then written variable by variable and chunk by chunk, and appears once it is whole.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.lib import format as npy

from data.errors import InputError
from data.files import atomic_directory, atomic_path, remove_directory, write_json
from data.json_files import read_plain
from data.store.synced_zarr import SyncedStore
from experiments.prediction.vtk_output import write_fields

STORE, WRITTEN = "answers.zarr", "written.json"
SUFFIXES = (".zarr", ".nc", ".h5", ".hdf5", ".npz", ".npy", ".pvd")
SAMPLE = "sample"


@dataclass(frozen=True)
class AnswerArray:
    """An array of answers.

    Attributes:
        name: its name.
        dims: names of its axes; the first one is `sample`, except for coordinates.
        shape: length of each axis.
        dtype: type of its values.
        attrs: units, long name and other attributes.
        values: values of a coordinate; None for answers.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    values: np.ndarray | None = None


def array_kind(out: Path) -> str:
    """The suffix of a file of arrays.

    Raises:
        InputError: no file of this suffix is written.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"cannot tell the kind of file from the name {out.name!r}",
            where="out",
            remedy=f"Use one of {' '.join(SUFFIXES)}",
        )
    return suffix


class AnswerStore:
    """Arrays of answers under way.

    Args:
        directory: where they lie; created if absent.
        arrays: the arrays.
        settings: what they depend on; others in the same directory are refused.
        chunk: samples of a chunk.

    Raises:
        InputError: the directory holds arrays that depend on other settings.
    """

    def __init__(self, directory: Path, arrays: Sequence[AnswerArray], settings: Mapping[str, Any], chunk: int) -> None:
        self.directory, self.arrays, self._settings = directory, tuple(arrays), dict(settings) | {"chunk": chunk}
        self.done, path = 0, directory / WRITTEN
        if path.exists():
            written = read_plain(path, dict[str, Any], remedy=f"Remove {directory}")
            if written["settings"] != self._settings:
                raise InputError(
                    "the directory holds predictions with other settings",
                    where=str(directory),
                    remedy="Give the same settings to resume them, or name another out",
                )
            self.done = int(written["samples"])
        elif (directory / STORE).exists():
            remove_directory(directory / STORE)
        self._group = zarr.open_group(SyncedStore(directory / STORE), mode="a", zarr_format=3)
        if path.exists():
            return
        for array in self.arrays:
            stored = self._group.create_array(
                array.name,
                shape=array.shape,
                chunks=(min(chunk, array.shape[0]), *array.shape[1:]) if array.values is None else array.shape,
                dtype=array.dtype,
                dimension_names=array.dims,
                attributes=dict(array.attrs),
                fill_value=np.nan if array.dtype.startswith("float") else 0,
            )
            if array.values is not None:
                stored[...] = array.values
        self._note()

    def write(self, start: int, values: Mapping[str, np.ndarray]) -> None:
        """Write the answers of the samples from `start` on, one chunk."""
        for name, some in values.items():
            self._group[name][start : start + len(some)] = some  # type: ignore[index]
            stop = start + len(some)
        self.done = stop
        self._note()

    def _note(self) -> None:
        write_json(self.directory / WRITTEN, {"settings": self._settings, "samples": self.done})

    def blocks(self, array: AnswerArray) -> Iterator[np.ndarray]:
        """The values of an array, a chunk of samples at a time."""
        step = int(self._settings["chunk"]) if array.values is None else max(1, array.shape[0])
        for start in range(0, array.shape[0], step):
            yield np.asarray(self._group[array.name][start : start + step])  # type: ignore[index]


def write_arrays(store: AnswerStore, out: Path, attrs: Mapping[str, str], main: str) -> None:
    """Write finished answers to one file.

    Args:
        store: the answers.
        out: path of the file; see `array_kind`. Of .pvd, the files that it names lie in a folder beside it.
        attrs: attributes of the file, where its format has any.
        main: the array that a .npy file holds.
    """
    kind = array_kind(out)
    if kind == ".zarr":
        with atomic_directory(out) as temporary:
            shutil.copytree(store.directory / STORE, temporary, dirs_exist_ok=True)
            group = zarr.open_group(str(temporary), mode="a", zarr_format=3)
            group.attrs.update(dict(attrs))
        return
    if kind == ".pvd":
        write_fields(out, _samples(store))
        return
    with atomic_path(out) as temporary:
        if kind in (".npz", ".npy", ".pvd"):
            _numpy(store, temporary, kind, main)
        else:
            _netcdf(store, temporary, attrs)


def _samples(store: AnswerStore) -> Iterator[xr.Dataset]:
    """Each sample as a Dataset with the coordinates of all, a chunk of samples in memory at a time."""
    coords = {a.name: (a.dims, a.values, dict(a.attrs)) for a in store.arrays if a.values is not None}
    sample_labels = coords.pop(SAMPLE, None)
    shared = {name: entry for name, entry in coords.items() if entry[0] == (name,)}
    numbers = {name: entry for name, entry in coords.items() if entry[0] == (SAMPLE,)}
    answers = [a for a in store.arrays if a.values is None]
    count = 0 if sample_labels is None or sample_labels[1] is None else len(sample_labels[1])
    start = 0
    for blocks in zip(*(store.blocks(a) for a in answers), strict=True):
        size = len(blocks[0])
        of_all = {a.name: (a.dims, block, dict(a.attrs)) for a, block in zip(answers, blocks, strict=True)}
        some = {n: (dims, values[start : start + size], attrs) for n, (dims, values, attrs) in numbers.items()}
        data = xr.Dataset({**some, **of_all}, coords=shared)
        for i in range(size):
            yield data.isel({SAMPLE: i}, drop=True)
        start += size
    assert start == count


def _numpy(store: AnswerStore, path: Path, kind: str, main: str) -> None:
    if kind == ".npy":
        (array,) = (a for a in store.arrays if a.name == main)
        with open(path, "wb") as file:
            _npy(store, array, file)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for array in store.arrays:
            with archive.open(f"{array.name}.npy", "w", force_zip64=True) as member:
                _npy(store, array, member)


def _npy(store: AnswerStore, array: AnswerArray, file: Any) -> None:
    header = {"descr": npy.dtype_to_descr(np.dtype(array.dtype)), "fortran_order": False, "shape": array.shape}
    head = io.BytesIO()
    npy.write_array_header_1_0(head, header)
    file.write(head.getvalue())
    for block in store.blocks(array):
        file.write(np.ascontiguousarray(block, array.dtype).tobytes())


def _netcdf(store: AnswerStore, path: Path, attrs: Mapping[str, str]) -> None:
    """NetCDF-4, which is HDF5 with named dims."""
    import h5netcdf  # type: ignore[import-untyped]

    # The path is locked by this process already, until the file takes its place.
    with h5netcdf.File(path, "w", locking=False) as file:
        file.attrs.update(dict(attrs))
        file.dimensions = {dim: n for a in store.arrays for dim, n in zip(a.dims, a.shape, strict=True)}
        for array in store.arrays:
            variable = file.create_variable(array.name, array.dims, np.dtype(array.dtype), chunks=None)
            variable.attrs.update(dict(array.attrs))
            start = 0
            for block in store.blocks(array):
                variable[start : start + len(block)] = block
                start += len(block)
