"""The arrays of a store: how a value of each record is laid in them, and how they are described and summed.

Dims that differ between records (atoms, orbitals) are contiguous ragged arrays after the CF conventions 1.11,
section 9.3.3: see `data.store.records`.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr

from data.errors import InputError
from data.spec import FIXED_DIMS

#: Most records, and bytes where they are large, of one chunk of an array.
CHUNK = 4096
CHUNK_BYTES = 16_000_000


#: What every record holds besides the simulator's own variables: name -> (dtype, units, long name).
FACTS: Mapping[str, tuple[str, str, str]] = {
    "key": ("str", "1", "identity of the request"),
    "status": ("str", "1", "ok, or the kind of failure"),
    "message": ("str", "1", "what happened"),
    "log": ("str", "1", "how the answer was reached (JSON)"),
    "seconds": ("float64", "s", "wall time of the simulation"),
    "threads": ("int32", "1", "threads that it was given"),
    "attempts": ("int32", "1", "tries that it took"),
    "core_seconds": ("float64", "s", "processor time of the simulation and of every program that it started"),
}
#: Facts of stores of earlier versions, which do not list theirs.
FIRST_FACTS = ("key", "status", "message", "log", "seconds", "threads", "attempts")
#: Facts that every store has.
KEPT = ("key", "status")


def _missing(dtype: str) -> Any:
    """What stands for a value that a failed simulation did not give."""
    return "" if dtype == "str" else np.nan if np.dtype(dtype).kind == "f" else 0


class Column:
    """One Zarr array: its rows so far and how a record's value is laid in it."""

    def __init__(
        self,
        name: str,
        dims: tuple[str, ...],
        dtype: str,
        units: str,
        long_name: str,
        record: str = "sample",
        sizes: Mapping[str, int] = FIXED_DIMS,
    ) -> None:
        self.name, self.dtype = name, dtype
        self.attrs = {"units": units, "long_name": long_name}
        self.ragged = dims[0] if dims and dims[0] not in sizes else None
        self.inner = dims[1:] if self.ragged else dims
        unknown = [d for d in self.inner if d not in sizes]
        if unknown:
            raise InputError(f"{name}: dims {unknown} must come first, or have a fixed length ({sorted(sizes)})")
        self.dims = (self.ragged or record, *self.inner)
        self.shape = tuple(sizes[d] for d in self.inner)
        row = 8 if dtype == "str" else int(np.dtype(dtype).itemsize * np.prod(self.shape, dtype=np.int64))
        # The same for every store of these variables: checksums are by chunk.
        self.chunk = CHUNK if not self.shape else max(1, min(CHUNK, CHUNK_BYTES // max(1, row)))

    def rows(self, value: Any) -> np.ndarray:
        """The rows that a record adds: one, or as many as its ragged dim is long."""
        if self.dtype == "str":
            array: np.ndarray = np.empty(1, object)
            array[0] = str(value if value is not None else "")
            return array
        if value is None:
            count = 0 if self.ragged else 1
            return np.full((count, *self.shape), _missing(self.dtype), self.dtype)
        array = np.asarray(value, self.dtype)
        self.refuse_other_shape(array)
        return array if self.ragged else array[None]

    def refuse_other_shape(self, value: np.ndarray) -> None:
        """Raise an `InputError` if the value of a record does not fit."""
        shape = value.shape[1:] if self.ragged else value.shape
        if shape != self.shape or (self.ragged and not value.ndim):
            raise InputError(f"{self.name} must have shape (.., {self.shape}), got {value.shape}")


def crc_of(array: np.ndarray) -> int:
    """CRC-32 of values, the same for the same values whatever their encoding on disk."""
    if array.dtype.kind in "OUT":
        return zlib.crc32(json.dumps([str(v) for v in array.tolist()]).encode())
    return zlib.crc32(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())


def layout(meta: Mapping[str, Any]) -> tuple[dict[str, xr.Variable], dict[str, Column]]:
    """The coordinates and the columns that a card describes, by name."""
    columns: dict[str, Column] = {}

    def add(column: Column) -> None:
        columns[column.name] = column

    record = meta.get("record", "sample")
    coords = {c["name"]: coordinate(c) for c in meta.get("coords", ())}
    sizes = {**FIXED_DIMS, **{name: len(variable) for name, variable in coords.items()}}
    for name in meta.get("facts", FIRST_FACTS):
        add(Column(name, (), *FACTS[name], record))
    for v in meta["inputs"]:
        add(Column(v["name"], tuple(v["dims"]), v["dtype"], v["units"], v["long_name"], record, sizes))
    taken = {c.ragged for c in columns.values()}
    for v in meta["outputs"]:
        dims = tuple(v["dims"])
        # A failed simulation has inputs along atoms but no outputs, so the two lengths are kept apart.
        if dims and dims[0] in taken:
            dims = (f"output_{dims[0]}", *dims[1:])
        add(Column(v["name"], dims, v["dtype"], v["units"], v["long_name"], record, sizes))
    for dim in dict.fromkeys(c.ragged for c in list(columns.values()) if c.ragged):
        column = Column(f"{dim}_count", (), "int64", "1", f"length of {dim} in each {record}", record)
        column.attrs["sample_dimension"] = dim
        add(column)
    return coords, columns


def plain_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that Zarr and xarray take: nested values as JSON text."""
    return {k: v if isinstance(v, str | int | float | bool) else json.dumps(v) for k, v in attrs.items()}


def coordinate(meta: Mapping[str, Any]) -> xr.Variable:
    """A coordinate as `store.json` describes it."""
    attrs = {"units": meta["units"], "long_name": meta["long_name"]}
    return xr.Variable((meta["name"],), np.array(meta["values"]), attrs)


def write_coordinate(group: zarr.Group, name: str, coordinate: xr.Variable) -> None:
    """Write a coordinate for other readers of the Zarr group; the store itself reads `store.json`."""
    values = coordinate.values.astype(object) if coordinate.dtype.kind == "U" else coordinate.values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=str if values.dtype == object else values.dtype,
            dimension_names=[name],
            attributes=dict(coordinate.attrs),
        )
        array[:] = values


def array_of(group: zarr.Group, column: Column) -> zarr.Array:
    """The array of a column, made when it is first written."""
    if column.name in group:
        return group[column.name]  # type: ignore[return-value]
    dims = column.dims
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return group.create_array(
            column.name,
            shape=(0, *column.shape),
            chunks=(column.chunk, *column.shape),
            dtype=str if column.dtype == "str" else column.dtype,
            dimension_names=list(dims),
            attributes=dict(column.attrs),
        )
