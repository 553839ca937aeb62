"""HDF5 files in the layouts of The Well and of PDEBench, whose axes are known from the layout.

The Well (Ohana et al. 2024, arXiv:2412.00568, "Data format"): groups t0_fields, t1_fields and t2_fields of scalars,
vectors and tensors along (trajectory, time, space); attributes say along which of these a field varies; `dimensions`
has the time and the grid, `scalars` numbers, and `boundary_conditions` their kinds.

PDEBench (Takamoto et al. 2022, arXiv:2210.07182): arrays along (sample, time, space) at the root beside `t-coordinate`,
`x-coordinate`, ...; the first of these may have one entry more than there are times.

Neither states units: all are "1", which is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.formats.array_files import StoredArray, is_hdf5, stored_arrays
from data.formats.damage import parsing

SPACE = ("x", "y", "z")
ORDERS = ("t0_fields", "t1_fields", "t2_fields")
#: Name of all fields that change in time, as channels of one variable.
STATE = "state"
NO_UNITS = "units are not stated, and taken to be 1"


@dataclass(frozen=True)
class Benchmark:
    """Samples of such a file.

    Attributes:
        data: variables along (sample, [time], [channel], space) that were asked for, with coordinates.
        format: name of the layout.
        output, inputs: what is learned from what where nothing else is said.
        assumed: sentences about what was assumed.
        unused: other variables that the file has.
    """

    data: xr.Dataset
    format: str
    output: str
    inputs: tuple[str, ...]
    assumed: tuple[str, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    """A variable of a file: its dims, the labels of its channels, and how it is read."""

    dims: tuple[str, ...]
    labels: tuple[str, ...]
    array: StoredArray
    varies: tuple[bool, ...] = ()


def open_benchmark(path: Path, output: str | None, inputs: Sequence[str]) -> Benchmark | None:
    """Open a file of The Well or of PDEBench; None if it is neither.

    Args:
        path: the file.
        output: variable to learn; `state` or None are all fields that change in time.
        inputs: variables that determine it; none for those that the layout has besides the fields.

    Raises:
        InputError: it is damaged, its arrays do not fit the layout, or it lacks what is asked for.
    """
    if path.is_dir() or not is_hdf5(path) or path.suffix.lower() == ".mat":
        return None
    with stored_arrays(path) as arrays:
        if any(name.startswith("dimensions_") for name in arrays) and any(n.startswith(ORDERS) for n in arrays):
            return _well(path, arrays, output, inputs)
        if "x-coordinate" in arrays:
            return _pdebench(path, arrays, output, inputs)
    return None


def _well(path: Path, arrays: Mapping[str, StoredArray], output: str | None, inputs: Sequence[str]) -> Benchmark:
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "r") as file, parsing(path):
        axes = [_text(name) for name in np.ravel(file["dimensions"].attrs["spatial_dims"])]
        count = int(file.attrs["n_trajectories"])
        kind = _text(file.attrs.get("grid_type", "cartesian"))
        parameters = {
            name: float(file.attrs[name])
            for name in map(_text, np.ravel(file.attrs.get("simulation_parameters", [])))
            if name in file.attrs and np.ndim(file.attrs[name]) == 0
        }
        conditions = file.get("boundary_conditions", {})
        kinds = {str(name): _text(conditions[name].attrs.get("bc_type", "")).lower() for name in conditions}
        varies = {
            f"{order}_{name}": (
                bool(field.attrs.get("sample_varying", True)),
                bool(field.attrs.get("time_varying", True)),
                *(bool(v) for v in np.ravel(field.attrs.get("dim_varying", [True] * len(axes)))),
            )
            for order in ORDERS
            for name, field in file.get(order, {}).items()
        }
    if not 1 <= len(axes) <= 3:
        raise InputError(f"has {len(axes)} dims of space", where=str(path))
    space = SPACE[: len(axes)]
    said = [NO_UNITS]
    if tuple(axes) != space:
        said.append(f"the axes {', '.join(axes)} ({kind}) are called {', '.join(space)}")
    coords = {d: _coordinate(arrays, f"dimensions_{name}", path) for d, name in zip(space, axes, strict=True)}
    coords["time"] = _coordinate(arrays, "dimensions_time", path)
    entries: dict[str, _Entry] = {}
    for rank, order in enumerate(ORDERS):
        labels = tuple("".join(label) for label in product(space, repeat=rank)) if rank else ()
        for name, varying in varies.items():
            if name.startswith(f"{order}_") and name in arrays:
                dims = tuple(d for d, v in zip(("sample", "time", *space), varying, strict=True) if v)
                entries[name.removeprefix(f"{order}_")] = _Entry(dims, labels, arrays[name], varying)
    for name, array in arrays.items():
        if name.startswith("scalars_"):
            bare_name = name.removeprefix("scalars_")
            if array.shape == (count,) or array.shape == ():
                entries[bare_name] = _Entry(("sample",) if array.shape else (), (), array)
    for name, value in parameters.items():
        entries.setdefault(name, _Entry((), (), StoredArray((), lambda value=value: np.asarray(value))))  # type: ignore[misc]
    bounds = (
        "periodic"
        if kinds and set(kinds.values()) == {"periodic"}
        else ", ".join(f"{name}: {kind}" for name, kind in sorted(kinds.items()))
    )
    attrs = {"boundary_conditions": bounds} if bounds else {}
    return _opened(path, "The Well", entries, coords, space, output, inputs, tuple(said), attrs)


def _pdebench(path: Path, arrays: Mapping[str, StoredArray], output: str | None, inputs: Sequence[str]) -> Benchmark:
    space = tuple(d for d in SPACE if f"{d}-coordinate" in arrays)
    coords = {d: _coordinate(arrays, f"{d}-coordinate", path) for d in space}
    sizes = tuple(len(coords[d]) for d in space)
    times = _coordinate(arrays, "t-coordinate", path) if "t-coordinate" in arrays else None
    said, entries = [NO_UNITS], {}
    for name, array in arrays.items():
        shape = array.shape
        if name.endswith("-coordinate"):
            continue
        evolves = times is not None and len(shape) == 2 + len(space) and shape[2:] == sizes
        if times is not None and evolves and len(times) - shape[1] in (0, 1):
            if len(times) > shape[1]:
                said.append("the last entry of t-coordinate is that of no state")
                times = times[: shape[1]]
            entries[name] = _Entry(("sample", "time", *space), (), array)
        elif len(shape) == 1 + len(space) and shape[1:] == sizes:
            entries[name] = _Entry(("sample", *space), (), array)
        elif times is None and shape[1:] == (1, *sizes):
            entries[name] = _Entry(("sample", "channel", *space), (name,), array)
    if times is not None:
        coords["time"] = times
    if not entries:
        raise InputError(
            f"no array of it lies along (sample, time, {', '.join(space)})", where=str(path),
            remedy="Say what each axis is: data.dims",
        )  # fmt: skip
    return _opened(path, "PDEBench", entries, coords, space, output, inputs, tuple(dict.fromkeys(said)), {})


def _opened(
    path: Path,
    kind: str,
    entries: Mapping[str, _Entry],
    coords: Mapping[str, np.ndarray],
    space: tuple[str, ...],
    output: str | None,
    inputs: Sequence[str],
    said: tuple[str, ...],
    attrs: Mapping[str, str],
) -> Benchmark:
    moving = [n for n, e in entries.items() if "time" in e.dims]
    steady = [n for n, e in entries.items() if "time" not in e.dims]
    if output is None:
        output = STATE if len(moving) > 1 else moving[0] if moving else "tensor"
    evolves = output == STATE or output in moving
    if not inputs:
        # A number of the whole file is the same in all of its samples.
        inputs = [*(["initial"] if evolves else []), *(n for n in steady if n != output and entries[n].dims)]
    readable = {*entries, "initial", STATE}
    # A vector that determines something is one field for each component.
    vectors = {n: e.labels for n, e in entries.items() if len(e.labels) > 1}
    parts = {f"{n}_{label}": (n, i) for n, labels in vectors.items() for i, label in enumerate(labels)}
    if lacking := [n for n in (output, *inputs) if n not in readable and n not in parts]:
        raise InputError(
            f"no variable {' and no '.join(lacking)} in it", where=str(path), remedy=f"It has {', '.join(entries)}"
        )
    variables: dict[str, xr.DataArray] = {}
    axes = {d: xr.Variable(d, v, {"units": "1"}) for d, v in coords.items() if d in space or evolves}
    if output == STATE:
        states = [(n, _read(entries[n], space, coords)) for n in moving]
        labels = [f"{n}_{label}" if label else n for n, _ in states for label in entries[n].labels or ("",)]
        columns = [a if "channel" in a.dims else a.expand_dims("channel") for _, a in states]
        variables[STATE] = xr.concat(columns, "channel")
        axes["channel"] = xr.Variable("channel", labels)
    else:
        variables[output] = _read(entries[output], space, coords)
        if len(entries[output].labels) > 1:
            axes["channel"] = xr.Variable("channel", list(entries[output].labels))
        elif "channel" in variables[output].dims:
            variables[output] = variables[output].isel(channel=0, drop=True)
    resolved: list[str] = []
    for name in inputs:
        if name == "initial":
            resolved.append(name)
        elif name in parts:
            base, i = parts[name]
            variables[name] = _read(entries[base], space, coords).isel(channel=i, drop=True)
            resolved.append(name)
        else:
            array = _read(entries[name], space, coords)
            for i, label in enumerate(entries[name].labels if "channel" in array.dims else ("",)):
                component = f"{name}_{label}" if len(entries[name].labels) > 1 else name
                variables[component] = array.isel(channel=i, drop=True) if "channel" in array.dims else array
                resolved.append(component)
    count = variables[output].sizes.get("sample", 1)
    order = ("sample", "time", "channel", *space)
    variables = {
        n: (a if "sample" in a.dims else a.expand_dims(sample=count)).transpose(*order, missing_dims="ignore")
        for n, a in variables.items()
    }
    used = {output, *inputs, *(moving if output == STATE else ())}
    data = xr.Dataset(variables, coords=axes, attrs=dict(attrs))
    return Benchmark(data, kind, output, tuple(resolved), said, tuple(n for n in entries if n not in used))


def _read(entry: _Entry, space: tuple[str, ...], coords: Mapping[str, np.ndarray]) -> xr.DataArray:
    """The array, with the axes of space along which it does not vary repeated, and one axis of channels."""
    values = np.asarray(entry.array.read())
    dims = tuple(d for d in entry.dims if d != "channel")
    rank = values.ndim - len(dims)
    if rank < 0 or (entry.varies and rank not in (0, 1, 2)):
        # Axes along which a field does not vary are kept with the length 1 in some files, and left out in others.
        raise InputError(f"an array of {values.ndim} axes lies along {', '.join(dims)}")
    if "channel" in entry.dims:
        array = xr.DataArray(values, dims=entry.dims)
    elif rank:
        array = xr.DataArray(values.reshape(*values.shape[: len(dims)], -1), dims=(*dims, "channel"))
    else:
        array = xr.DataArray(values, dims=dims)
    if entry.varies:
        lacking = [d for d in space if d not in dims]
        array = array.expand_dims({d: len(coords[d]) for d in lacking}) if lacking else array
    return array


def _coordinate(arrays: Mapping[str, StoredArray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise InputError(f"has no array {name.replace('dimensions_', 'dimensions/')}", where=str(path))
    values = np.asarray(arrays[name].read(), np.float64)
    if values.ndim == 2 and (values == values[0]).all():
        values = values[0]
    if values.ndim != 1:
        raise InputError(f"{name} differs between samples", where=str(path), remedy="Resample them to one grid")
    return values


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
