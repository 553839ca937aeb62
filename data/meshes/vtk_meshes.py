"""Meshes from files of VTK (.vtu): one file, a folder of them, or a collection, as a store of meshes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.fields.vtk_fields import vtk_files
from data.formats.vtk_file import LENGTH_UNITS, LINE, MESHES, SAMPLE, TIME, TRIANGLE, CellMesh, Numbers, read_vtk
from data.meshes.mesh_samples import ELEMENTS, FLAGS, NODES, MeshSamples, read_meshes
from data.spec import Coordinate, Variable
from data.store.records import RecordStore

DIRECTIONS = ("x", "y", "z")


@contextmanager
def mesh_store(path: Path) -> Iterator[Path]:
    """The path itself, or that of a temporary store of the meshes if it names files of VTK.

    Raises:
        InputError: a mesh is not one of triangles in the plane or of lines between nodes, or has other arrays than the
            first one.
    """
    files = None if (path / "store.json").is_file() else vtk_files(path, MESHES)
    if files is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        yield _written(Path(folder) / "meshes.zarr", [file for _, _, file in files])


def read_mesh_files(
    path: Path,
    fields: Sequence[str] | None = None,
    scalars: Sequence[str] = (),
    parameters: Sequence[str] | None = (),
) -> tuple[MeshSamples, list[tuple[int, str]]]:
    """Samples from a store, or from files of VTK; see `data.meshes.mesh_samples.read_meshes`.

    Raises:
        InputError: as of `read_meshes` and `mesh_store`.
    """
    with mesh_store(path) as store:
        try:
            samples, bad = read_meshes(store, fields, scalars, parameters)
        except InputError as error:
            if store == path:
                raise
            raise InputError(error.problem, where=str(path), remedy=error.remedy) from error
    if store != path and samples.reading is not None:
        samples = replace(samples, reading=replace(samples.reading, source=str(path), format="VTK meshes"))
    return samples, bad


def _written(path: Path, files: list[Path]) -> Path:
    records: list[dict[str, Any]] = []
    variables: dict[str, Variable] = {}
    facts: dict[str, Variable] = {}
    for number, file in enumerate(files):
        mesh = read_vtk(file)
        assert isinstance(mesh, CellMesh)
        values, found = _record(mesh, file)
        numbers = {
            n: f
            for n, f in mesh.facts.items()
            if isinstance(f, Numbers) and f.values.size == 1 and n not in (SAMPLE, TIME) and n not in values
        }
        described = {n: Variable(n, (), f.units, "float64", n) for n, f in numbers.items()}
        if number == 0:
            variables, facts = found, described
        if found != variables or described != facts:
            unlike = sorted({*found.items(), *described.items()} ^ {*variables.items(), *facts.items()}, key=str)
            raise InputError(f"has another {unlike[0][0]} than {files[0].name}", where=str(file))
        records.append(values | {n: float(np.ravel(f.values)[0]) for n, f in numbers.items()})
    axes = (
        Coordinate("plane", DIRECTIONS[: records[0][NODES].shape[1]], "1", "coordinate"),
        Coordinate("corner", tuple(map(str, range(records[0][ELEMENTS].shape[1]))), "1", "corner"),
        Coordinate("component", DIRECTIONS[: records[0][NODES].shape[1]], "1", "direction"),
    )
    used = {d for v in variables.values() for d in v.dims}
    with RecordStore.create(
        path, tuple(facts.values()), tuple(variables.values()), coords=[a for a in axes if a.name in used],
        provenance={"fingerprint": ""}, sync=False,
    ) as store:  # fmt: skip
        for number, values in enumerate(records):
            store.append(str(number), values)
    return path


def _record(mesh: CellMesh, file: Path) -> tuple[dict[str, np.ndarray], dict[str, Variable]]:
    """The variables of a mesh, and what they are."""
    where = str(file)
    # Files of mesh generators hold the lines of the boundary beside the triangles.
    kind = TRIANGLE if TRIANGLE in mesh.cells else LINE
    if kind not in mesh.cells or set(mesh.cells) - {TRIANGLE, LINE, 1}:
        raise InputError(
            "is no mesh of triangles, nor of lines between nodes", where=where, remedy="Use ParaView's Triangulate"
        )
    elements = mesh.cells[kind]
    flat = kind == TRIANGLE or not np.ptp(mesh.points[:, 2])
    if flat and np.ptp(mesh.points[:, 2]) > 1e-9 * np.ptp(mesh.points):
        raise InputError("its triangles do not lie in a plane of constant z", where=where, remedy="Give a plane mesh")
    width = 2 if flat else 3
    units = mesh.facts.get(LENGTH_UNITS)
    lengths = (units if isinstance(units, str) else "1").split(",")[0]
    values: dict[str, np.ndarray] = {
        NODES: mesh.points[:, :width].astype(np.float64), ELEMENTS: elements.astype(np.int32),
    }  # fmt: skip
    flags = mesh.at_points.get(FLAGS)
    values[FLAGS] = _boundary(elements, len(mesh.points)) if flags is None else np.ravel(flags.values).astype(np.int32)
    about = "kinds of nodes" if flags is not None else "1 at nodes of edges with one triangle, 0 at others"
    variables = {
        NODES: Variable(NODES, ("node", "plane"), lengths, "float64", "nodes"),
        ELEMENTS: Variable(ELEMENTS, ("element", "corner"), "1", "int32", "triangles" if kind == TRIANGLE else "pairs"),
        FLAGS: Variable(FLAGS, ("node",), "1", "int32", about),
    }
    for name, array in mesh.at_points.items():
        if name in values or array.values.dtype.kind not in "fiu":
            continue
        dtype = "float64" if array.values.dtype == np.float64 else "float32"
        if array.values.ndim == 1:
            values[name] = array.values.astype(dtype)
            dims: tuple[str, ...] = ("node",)
        elif array.values.shape[1] == 3 and not (width == 2 and array.values[:, 2].any()):
            values[name], dims = array.values[:, :width].astype(dtype), ("node", "component")
        else:
            raise InputError(
                f"{name} has {array.values.shape[1]} components on a mesh in {width} dimensions", where=where,
                remedy="Save each component as an array of its own",
            )  # fmt: skip
        variables[name] = Variable(name, dims, array.units, dtype, name)
    return values, variables


def _boundary(elements: np.ndarray, count: int) -> np.ndarray:
    """1 at nodes of edges that one triangle has, else 0; 0 everywhere for pairs, which show no boundary."""
    flags = np.zeros(count, np.int32)
    if elements.shape[1] == 3:
        edges = np.sort(np.concatenate([elements[:, [0, 1]], elements[:, [1, 2]], elements[:, [2, 0]]]), axis=1)
        unique, times = np.unique(edges, axis=0, return_counts=True)
        flags[unique[times == 1].ravel()] = 1
    return flags
