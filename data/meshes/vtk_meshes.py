"""Meshes from files of VTK (.vtu, .vtp): one file, a folder of them, or a collection, as a store of meshes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.fields.vtk_fields import vtk_files
from data.formats.vtk_cells import LINE, POLYGON, QUAD, TRIANGLE, VERTEX, refused_cells
from data.formats.vtk_file import LENGTH_UNITS, MESHES, SAMPLE, TIME, CellMesh, Numbers, read_vtk, triangles_of
from data.meshes.mesh_samples import ELEMENTS, FLAGS, NODES, MeshSamples, read_meshes
from data.reading_summary import Reading
from data.spec import Coordinate, Variable
from data.store.records import RecordStore

DIRECTIONS = ("x", "y", "z")


@contextmanager
def mesh_store(path: Path) -> Iterator[Path]:
    """The path itself, or that of a temporary store of the meshes if it names files of VTK.

    Raises:
        InputError: a mesh is not one of polygons in the plane or of lines between nodes, has no values at its nodes, or
            has other arrays than the first one.
    """
    with _opened(path) as (store, _):
        yield store


@dataclass
class _Notes:
    """What the table of the input says of files of VTK.

    Attributes:
        cut: how many polygons were cut into triangles, in all files.
        in_cells: arrays in cells, which are not used.
    """

    cut: int = 0
    in_cells: set[str] = field(default_factory=set)

    def of(self, reading: Reading, path: Path) -> Reading:
        """The reading of the temporary store, as one of the files."""
        said = (f"{self.cut:,} polygons of the files were cut into triangles",) if self.cut else ()
        unused = dict.fromkeys(
            sorted(self.in_cells), "lies in the cells; ParaView's Cell Data To Point Data moves it to the nodes"
        )
        return replace(
            reading, source=str(path), format="VTK meshes", assumed=(*reading.assumed, *said),
            unused={**reading.unused, **unused},
        )  # fmt: skip


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Path, _Notes]]:
    notes = _Notes()
    files = None if (path / "store.json").is_file() else vtk_files(path, MESHES)
    if files is None:
        yield path, notes
        return
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        yield _written(Path(folder) / "meshes.zarr", [file for _, _, file in files], notes), notes


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
    with _opened(path) as (store, notes):
        try:
            samples, bad = read_meshes(store, fields, scalars, parameters)
        except InputError as error:
            if store == path:
                raise
            raise InputError(error.problem, where=str(path), remedy=error.remedy) from error
    if store != path and samples.reading is not None:
        samples = replace(samples, reading=notes.of(samples.reading, path))
    return samples, bad


def _written(path: Path, files: list[Path], notes: _Notes) -> Path:
    records: list[dict[str, Any]] = []
    variables: dict[str, Variable] = {}
    facts: dict[str, Variable] = {}
    for number, file in enumerate(files):
        mesh = read_vtk(file)
        assert isinstance(mesh, CellMesh)
        values, quantities = _record(mesh, file, notes)
        numbers = {
            n: f
            for n, f in mesh.facts.items()
            if isinstance(f, Numbers) and f.values.size == 1 and n not in (SAMPLE, TIME) and n not in values
        }
        described = {n: Variable(n, (), f.units, "float64", n) for n, f in numbers.items()}
        if number == 0:
            variables, facts = quantities, described
        if quantities != variables or described != facts:
            unlike = sorted({*quantities.items(), *described.items()} ^ {*variables.items(), *facts.items()}, key=str)
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


def _record(mesh: CellMesh, file: Path, notes: _Notes) -> tuple[dict[str, np.ndarray], dict[str, Variable]]:
    """The variables of a mesh, and what they are."""
    where = str(file)
    for kind in mesh.cells:
        if kind not in (VERTEX, LINE, TRIANGLE, QUAD, POLYGON):
            raise refused_cells(kind, where)
    plane = [kind for kind in mesh.cells if kind in (TRIANGLE, QUAD, POLYGON)]
    if not plane and LINE not in mesh.cells:
        raise InputError("holds points without cells", where=where, remedy="Use ParaView's Delaunay 2D")
    if mesh.in_cells and not mesh.at_points:
        raise InputError("has values in its cells alone", where=where, remedy="Use ParaView's Cell Data To Point Data")
    notes.in_cells |= set(mesh.in_cells)
    flat = bool(plane) or not np.ptp(mesh.points[:, 2])
    if flat and not np.ptp(mesh.points[:, 2]) <= 1e-9 * np.ptp(mesh.points):
        raise InputError("its cells do not lie in a plane of constant z", where=where, remedy="Give a plane mesh")
    # Files of mesh generators hold the lines of the boundary beside the triangles.
    elements = mesh.cells[LINE] if not plane else np.concatenate([_triangles(mesh, kind, file) for kind in plane])
    notes.cut += sum(len(mesh.cells[kind]) for kind in plane if kind != TRIANGLE)
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
        ELEMENTS: Variable(ELEMENTS, ("element", "corner"), "1", "int32", "triangles" if plane else "pairs"),
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


def _triangles(mesh: CellMesh, kind: int, file: Path) -> np.ndarray:
    return mesh.cells[kind] if kind == TRIANGLE else triangles_of(mesh, kind, file)


def _boundary(elements: np.ndarray, count: int) -> np.ndarray:
    """1 at nodes of edges that one triangle has, else 0; 0 everywhere for pairs, which show no boundary."""
    flags = np.zeros(count, np.int32)
    if elements.shape[1] == 3:
        edges = np.sort(np.concatenate([elements[:, [0, 1]], elements[:, [1, 2]], elements[:, [2, 0]]]), axis=1)
        unique, times = np.unique(edges, axis=0, return_counts=True)
        flags[unique[times == 1].ravel()] = 1
    return flags
