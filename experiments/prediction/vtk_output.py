"""Samples of fields and of meshes as files of VTK, which ParaView opens: a collection NAME.pvd, and a folder beside it.

Each time of each sample is a file of its own (.vti, .vtr or .vtu). A collection has the times of a trajectory as its
times, and each sample as a part; samples without times are its times, by their number. Where a variable and its truth
are there (`u` and `u_true`), their difference is written too (`u_difference`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.fields.files import open_samples
from data.fields.sample_variables import SPACE
from data.files import atomic_directory, atomic_path
from data.formats.vtk_cells import LINE, TRIANGLE
from data.formats.vtk_file import (
    COLLECTION,
    LENGTH_UNITS,
    SAMPLE,
    TIME,
    TIME_UNITS,
    CellMesh,
    Grid,
    Numbers,
    write_collection,
    write_grid,
    write_mesh,
)
from data.meshes.mesh_samples import ELEMENTS, NODE, NODES
from data.store.records import RecordStore
from experiments.prediction.delivery import Delivered

TRUE, DIFFERENCE = "_true", "_difference"
#: Labels of the channels of a vector.
DIRECTIONS = ("x", "y", "z")


def is_collection(out: Path) -> bool:
    """Whether a file of answers is to be a collection of VTK."""
    return out.suffix.lower() == COLLECTION


def write_fields(out: Path, samples: Iterable[xr.Dataset]) -> None:
    """Write samples of fields on grids.

    Args:
        out: NAME.pvd; the files lie in the folder NAME.pvd.files, which is replaced.
        samples: one Dataset for each, without a dim `sample`; dims are [time], [channel], x, [y], [z], and other
            variables are numbers. Positions and times are coordinates with units.

    Raises:
        InputError: VTK is not installed.
    """
    _write(out, (_grids(with_differences(sample)) for sample in samples))


def write_meshes(out: Path, records: Iterable[xr.Dataset]) -> None:
    """Write samples on meshes.

    Args:
        out: as of `write_fields`.
        records: one Dataset for each, with `nodes` and `elements` (triangles, or pairs of neighbours), and variables
            along (node,) or (node, a dim of fixed length).

    Raises:
        InputError: VTK is not installed.
    """
    _write(out, (_meshes(with_differences(record)) for record in records))


def with_differences(sample: xr.Dataset) -> xr.Dataset:
    """The sample with `NAME_difference`, NAME minus NAME_true, for each variable whose truth is in it."""
    both = [n for n in map(str, sample.data_vars) if f"{n}{TRUE}" in sample]
    for name in both:
        difference = sample[name] - sample[f"{name}{TRUE}"]
        sample = sample.assign({f"{name}{DIFFERENCE}": difference.assign_attrs(sample[name].attrs)})
    return sample


def _write(out: Path, samples: Iterable[Iterator[tuple[float | None, Grid | CellMesh]]]) -> None:
    folder = out.with_name(f"{out.name}.files")
    parts: list[tuple[float, int, str]] = []
    with atomic_directory(folder) as temporary:
        for number, frames in enumerate(samples):
            for step, (time, frame) in enumerate(frames):
                name = f"sample_{number:06d}" + ("" if time is None else f"_time_{step:06d}")
                facts: dict[str, Numbers | str] = {SAMPLE: Numbers(np.array([number])), **frame.facts}
                if time is not None:
                    facts[TIME] = Numbers(np.array([time]), str(frame.facts.get(TIME_UNITS, "1")))
                if isinstance(frame, Grid):
                    whole = Grid(frame.axes, frame.at_points, frame.in_cells, facts)
                    path = write_grid(temporary / name, whole)
                else:
                    path = write_mesh(
                        temporary / name, CellMesh(frame.points, frame.cells, frame.at_points, frame.in_cells, facts)
                    )
                steady = time is None
                parts.append(
                    (
                        float(number) if steady else float(time or 0.0),
                        0 if steady else number,
                        f"{folder.name}/{path.name}",
                    )
                )
    with atomic_path(out) as temporary:
        write_collection(temporary, parts)


def _grids(sample: xr.Dataset) -> Iterator[tuple[float | None, Grid]]:
    axes = tuple(
        np.asarray(sample[d].values if d in sample.coords else np.arange(sample.sizes[d]), np.float64)
        if d in sample.dims
        else np.zeros(1)
        for d in SPACE
    )
    space = [d for d in SPACE if d in sample.dims]
    facts = _facts(sample)
    facts[LENGTH_UNITS] = ", ".join(_units(sample[d]) if d in sample.coords else "1" for d in space)
    evolves = "time" in sample.dims
    times = (
        np.asarray(sample["time"].values, float) if "time" in sample.coords else np.arange(sample.sizes.get("time", 1))
    )
    if evolves:
        facts[TIME_UNITS] = _units(sample["time"]) if "time" in sample.coords else "1"
    for step in range(sample.sizes["time"] if evolves else 1):
        now = sample.isel(time=step) if evolves else sample
        arrays: dict[str, Numbers] = {}
        for name, array in now.data_vars.items():
            if not set(space) <= set(array.dims) or array.dtype.kind not in "fiub":
                continue
            dims = [d for d in array.dims if d in SPACE]
            rest = [d for d in array.dims if d not in SPACE]
            values = array.transpose(*sorted(dims, reverse=True), *rest).values
            arrays |= _named(str(name), values.reshape(-1, *values.shape[len(dims) :]), array, rest)
        yield (float(times[step]) if evolves else None), Grid(axes, arrays, {}, facts)  # type: ignore[arg-type]


def _meshes(record: xr.Dataset) -> Iterator[tuple[float | None, CellMesh]]:
    nodes = np.asarray(record[NODES].values, np.float64)
    points = np.zeros((len(nodes), 3))
    points[:, : nodes.shape[1]] = nodes
    elements = np.asarray(record[ELEMENTS].values)
    arrays: dict[str, Numbers] = {}
    for name, array in record.data_vars.items():
        if array.dims[:1] == (NODE,) and name != NODES and array.dtype.kind in "fiub":
            arrays |= _named(str(name), np.asarray(array.values), array, [str(d) for d in array.dims[1:]])
    facts = {**_facts(record), LENGTH_UNITS: _units(record[NODES])}
    yield None, CellMesh(points, {TRIANGLE if elements.shape[1] == 3 else LINE: elements}, arrays, {}, facts)


def _named(name: str, values: np.ndarray, array: xr.DataArray, rest: list[Any]) -> dict[str, Numbers]:
    """A scalar as it is, a vector with three components, and other channels as one array each."""
    values = values.astype(np.int8) if values.dtype == bool else values
    if not rest:
        return {name: Numbers(values, _units(array))}
    if len(rest) > 1:
        return {}
    labels = (
        [str(v) for v in array[rest[0]].values] if rest[0] in array.coords else array.attrs.get("channels", "").split()
    )
    if len(labels) == values.shape[1] > 1 and set(labels) <= set(DIRECTIONS):
        vector = np.zeros((len(values), 3), values.dtype)
        vector[:, [DIRECTIONS.index(label) for label in labels]] = values
        return {name: Numbers(vector, _units(array))}
    if values.shape[1] == 1:
        return {name: Numbers(values[:, 0], _units(array))}
    labels = labels if len(labels) == values.shape[1] else [str(i) for i in range(values.shape[1])]
    return {f"{name}_{label}": Numbers(values[:, i], _units(array)) for i, label in enumerate(labels)}


def _facts(sample: xr.Dataset) -> dict[str, Numbers | str]:
    """Numbers of the whole."""
    facts: dict[str, Numbers | str] = {}
    for name, array in sample.data_vars.items():
        if not array.dims and array.dtype.kind in "fiub" and name not in (SAMPLE, TIME):
            facts[str(name)] = Numbers(np.atleast_1d(np.asarray(array.values, np.float64)), _units(array))
    return facts


def _units(array: xr.DataArray) -> str:
    return str(array.attrs.get("units", "1")) or "1"


def records_of(store: RecordStore) -> Iterator[xr.Dataset]:
    """The records with an answer of a store, as Datasets without a dim `sample`."""
    # A store calls ragged dims of outputs otherwise if inputs have them too; here they are those of one record.
    named = {
        name: tuple(d.removeprefix("output_") for d in store.dims(name) if d not in (SAMPLE, "record"))
        for name in store.attributes
    }
    coords = store.coords
    for _, record in store.records():
        variables = {
            name: (named[name], np.asarray(value), dict(store.attributes[name]))
            for name, value in record.items()
            if name in named and np.asarray(value).dtype.kind in "fiub"
        }
        used = {d for dims, _, _ in variables.values() for d in dims}
        yield xr.Dataset(variables, coords={d: c for d, c in coords.items() if d in used})


def export_vtk(source: Path, out: Path) -> Delivered:
    """Write a store of fields or of meshes, or a file of answers to fields, as files of VTK.

    Args:
        source: a store of `understudy simulate`, or answers of `understudy predict`, which are a file or such a store.
        out: NAME.pvd.

    Returns:
        What the command shows; records without an answer are left out.

    Raises:
        InputError: VTK is not installed, or the source holds neither fields nor meshes.
    """
    count = 0

    def counted(samples: Iterator[xr.Dataset]) -> Iterator[xr.Dataset]:
        nonlocal count
        for sample in samples:
            count += 1
            yield sample

    if (source / "store.json").is_file():
        with RecordStore.open(source) as store:
            meshes = {NODES, ELEMENTS} <= set(store.attributes)
            (write_meshes if meshes else write_fields)(out, counted(_with_grid(records_of(store), meshes, source)))
        return Delivered({"export/samples": float(count)}, {"samples": f"{count:,}"})
    opened = open_samples(source, None, None, [])
    data = opened.data
    status = np.asarray(data["status"].values) if "status" in data else np.zeros(data.sizes[SAMPLE])
    rows = (data.isel(sample=i, drop=True).load() for i in np.flatnonzero(status == 0))
    write_fields(out, counted(_with_grid(rows, False, source)))
    return Delivered({"export/samples": float(count)}, {"samples": f"{count:,}"})


def _with_grid(samples: Iterator[xr.Dataset], meshes: bool, source: Path) -> Iterator[xr.Dataset]:
    for sample in samples:
        if not meshes and not set(SPACE) & set(sample.dims):
            raise InputError(
                "holds neither fields on a grid nor meshes", where=str(source), remedy="Export it as a table"
            )
        yield sample
