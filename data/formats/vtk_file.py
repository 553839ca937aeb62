"""VTK's XML files: regular grids, unstructured meshes, and collections of them in time, with units in the array names.

The formats are those of the VTK user's guide, "VTK XML file formats": .vti (a uniform grid), .vtr (a grid with uneven
axes), .vts (a grid of points, read where it is one with axes), .vtu (a mesh), .vtp (a surface, read where it is a mesh)
and .pvd (a collection, of ParaView).
VTK's own writers and readers are used. An array in metres per second is called "velocity [m s-1]"; one without a unit,
or with the unit "1", has its name alone. VTK has no place for the units of positions, so they are in the field data.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from data.errors import DAMAGED, InputError
from data.extras import MissingExtraError
from data.formats.damage import parsing
from data.formats.vtk_cells import cells_by_type, triangulated
from data.processes.probe import refuse_deadly

GRIDS = (".vti", ".vtr", ".vts")
MESHES = (".vtu", ".vtp")
COLLECTION = ".pvd"
#: VTK's format before XML, whose suffix does not tell grids from meshes.
LEGACY = ".vtk"
SUFFIXES = (*GRIDS, *MESHES, COLLECTION)
#: Entries of the field data that say which sample and time a file holds, and the units of positions and of times.
SAMPLE, TIME, LENGTH_UNITS, TIME_UNITS = "sample", "time", "position_units", "time_units"
#: Suffix -> class of VTK that reads such files.
READERS: Mapping[str, str] = {
    ".vti": "vtkXMLImageDataReader",
    ".vtr": "vtkXMLRectilinearGridReader",
    ".vts": "vtkXMLStructuredGridReader",
    ".vtu": "vtkXMLUnstructuredGridReader",
    ".vtp": "vtkXMLPolyDataReader",
}
#: Largest difference of a step from the first one at which a grid is uniform, in steps.
UNEVEN = 1e-6

_NAMED = re.compile(r"(?P<name>.*\S)\s*\[(?P<units>[^\[\]]*)\]", re.S)


@dataclass(frozen=True)
class Numbers:
    """An array of a file.

    Attributes:
        values: of shape (entries,) or (entries, components); of a grid, x varies fastest among the entries.
        units: its unit; "1" where none is known.
    """

    values: np.ndarray
    units: str = "1"


@dataclass(frozen=True)
class Grid:
    """A grid with axes.

    Attributes:
        axes: positions along x, y and z; an axis along which nothing extends has one.
        at_points: name -> values at the points.
        in_cells: name -> values in the cells.
        facts: name -> numbers or text of the whole (the field data).
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    at_points: Mapping[str, Numbers] = field(default_factory=dict)
    in_cells: Mapping[str, Numbers] = field(default_factory=dict)
    facts: Mapping[str, Numbers | str] = field(default_factory=dict)


@dataclass(frozen=True)
class CellMesh:
    """A mesh of cells of one kind or several.

    Attributes:
        points: positions, of shape (points, 3).
        cells: type of VTK -> points of each cell of this type, of shape (cells, points of a cell); rows of polygons are
            filled up with `data.formats.vtk_cells.NONE`.
        at_points, in_cells, facts: as of `Grid`.
    """

    points: np.ndarray
    cells: Mapping[int, np.ndarray]
    at_points: Mapping[str, Numbers] = field(default_factory=dict)
    in_cells: Mapping[str, Numbers] = field(default_factory=dict)
    facts: Mapping[str, Numbers | str] = field(default_factory=dict)


def _vtk(module: str) -> Any:
    """A module of VTK.

    Raises:
        InputError: VTK is not installed; the message has the command that installs it.
    """
    try:
        # VTK's modules take a second to load, which only those who use them wait for.
        from importlib import import_module

        return import_module(f"vtkmodules.{module}")
    except ImportError as error:
        raise MissingExtraError("files of VTK need the extra `vtk`", "vtk") from error


def write_grid(path: Path, grid: Grid) -> Path:
    """Write a grid as .vti if it is uniform, else as .vtr, whatever the suffix of `path`; returns the path written."""
    model = _vtk("vtkCommonDataModel")
    steps = [np.diff(axis) for axis in grid.axes]
    even = all(not len(s) or np.abs(s - s[0]).max() <= UNEVEN * abs(s[0]) for s in steps)
    dims = tuple(len(axis) for axis in grid.axes)
    if even:
        data = model.vtkImageData()
        data.SetOrigin(*(float(axis[0]) for axis in grid.axes))
        # The spacing of an axis with one point is not used, and may not be 0.
        data.SetSpacing(*(float((a[-1] - a[0]) / (len(a) - 1)) if len(a) > 1 else 1.0 for a in grid.axes))
    else:
        data = model.vtkRectilinearGrid()
        for put, axis in zip(
            (data.SetXCoordinates, data.SetYCoordinates, data.SetZCoordinates), grid.axes, strict=True
        ):
            put(_array("", np.asarray(axis, np.float64)))
    data.SetDimensions(*dims)
    path = path.with_suffix(".vti" if even else ".vtr")
    _put(data, grid)
    _save("vtkXMLImageDataWriter" if even else "vtkXMLRectilinearGridWriter", data, path)
    return path


def write_mesh(path: Path, mesh: CellMesh) -> Path:
    """Write a mesh as .vtu; returns the path written. Values of cells are in the order of `mesh.cells`."""
    model, core = _vtk("vtkCommonDataModel"), _vtk("vtkCommonCore")
    data = model.vtkUnstructuredGrid()
    points = core.vtkPoints()
    points.SetData(_array("", np.ascontiguousarray(mesh.points, np.float64)))
    data.SetPoints(points)
    ends = np.cumsum([0, *(n for cells in mesh.cells.values() for n in [cells.shape[1]] * len(cells))])
    corners = np.concatenate([np.asarray(cells, np.int64).ravel() for cells in mesh.cells.values()])
    cells = model.vtkCellArray()
    cells.SetData(_array("", ends.astype(np.int64)), _array("", corners))
    kinds = np.concatenate([np.full(len(cells), kind, np.uint8) for kind, cells in mesh.cells.items()])
    data.SetCells(_array("", kinds), cells)
    path = path.with_suffix(".vtu")
    _put(data, mesh)
    _save("vtkXMLUnstructuredGridWriter", data, path)
    return path


def write_collection(path: Path, parts: Sequence[tuple[float, int, str]]) -> None:
    """Write a collection.

    Args:
        path: .pvd.
        parts: time, number of the part, and path of each file relative to the folder of `path`.
    """
    lines = "\n".join(
        f'    <DataSet timestep="{time!r}" part="{part}" file={quoteattr(name)}/>' for time, part, name in parts
    )
    head = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1" byte_order="LittleEndian">\n  <Collection>'
    path.write_text(f"{head}\n{lines}\n  </Collection>\n</VTKFile>\n", encoding="utf-8")


def read_collection(path: Path) -> list[tuple[float, int, Path]]:
    """Time, number of the part and path of each file of a collection, in their order.

    Raises:
        InputError: it is no collection, or names a file that does not exist or lies outside of its folder.
    """
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise InputError("declares entities, which no collection needs", where=str(path), remedy="Write it again")
    with parsing(path, remedy=DAMAGED):
        entries = list(ElementTree.fromstring(content).iter("DataSet"))
        parts = [(float(e.get("timestep", "0")), int(e.get("part", "0")), str(e.get("file", ""))) for e in entries]
    if not parts:
        raise InputError("names no files", where=str(path))
    folder = path.parent.resolve()
    for _, _, name in parts:
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            raise InputError(f"names {name}, which lies outside of its folder", where=str(path))
        if not file.is_file():
            raise InputError(f"names {name}, which does not exist", where=str(path), remedy="Give its folder with it")
    return [(time, part, path.parent / name) for time, part, name in parts]


def read_vtk(path: Path) -> Grid | CellMesh:
    """Read a .vti, .vtr, .vts, .vtu or .vtp file.

    Raises:
        InputError: it is damaged, of another kind, a .vts file whose points lie on no axes, or has cells that no mesh
            can have, such as polyhedra.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(f"a {suffix} file is not read", where=str(path), remedy=f"Give one of {' '.join(READERS)}")
    _vtk("vtkIOXML")
    refuse_deadly("vtk", path)
    data = load(READERS[suffix], path)
    if suffix in MESHES:
        return _mesh(data, path)
    ends = data.GetExtent()
    dims = tuple(high - low + 1 for low, high in zip(ends[::2], ends[1::2], strict=True))
    if suffix == ".vti":
        # The points of a uniform grid may be counted from any number, as those of a part of a grid are.
        axes = tuple(
            start + step * (low + np.arange(n))
            for start, step, low, n in zip(data.GetOrigin(), data.GetSpacing(), ends[::2], dims, strict=True)
        )
    elif suffix == ".vtr":
        coordinates = (data.GetXCoordinates(), data.GetYCoordinates(), data.GetZCoordinates())
        axes = tuple(_numpy(a, path).astype(np.float64) for a in coordinates)
    else:
        axes = _axes_of_points(_numpy(data.GetPoints().GetData(), path), dims, path)
    return Grid(axes, *_taken(data, path))  # type: ignore[arg-type]


def refuse_legacy(paths: Sequence[Path]) -> None:
    """Refuse files in VTK's legacy format, which are not read.

    Raises:
        InputError: the first of them, with what turns it into a file that is read.
    """
    for path in paths:
        if path.suffix.lower() == LEGACY:
            raise InputError(
                "is in VTK's legacy format, which is not read",
                where=str(path),
                remedy=f"Save it in ParaView (Save Data), or by pyvista.read({path.name!r}).save(...), "
                f"as {', '.join(GRIDS)} if it is a grid, or as {' or '.join(MESHES)} if it is a mesh",
            )


def load(reader: str, path: Path) -> Any:
    """What one of VTK's readers reads.

    Raises:
        InputError: it reports an error, or reads nothing.
    """
    core = _vtk("vtkCommonCore")
    one = getattr(_vtk("vtkIOXML"), reader)()
    said: list[str] = []
    one.AddObserver("ErrorEvent", lambda *_: said.append("error"))
    shown = core.vtkObject.GetGlobalWarningDisplay()
    core.vtkObject.GlobalWarningDisplayOff()
    try:
        one.SetFileName(str(path))
        one.Update()
    finally:
        core.vtkObject.SetGlobalWarningDisplay(shown)
    data = one.GetOutput()
    if said or one.GetErrorCode() or data is None or not data.GetNumberOfPoints():
        raise InputError("cannot be read, or holds no points", where=str(path), remedy=DAMAGED)
    return data


def _array(name: str, values: np.ndarray) -> Any:
    array = _vtk("util.numpy_support").numpy_to_vtk(np.ascontiguousarray(values), deep=True)
    array.SetName(name)
    return array


def _put(data: Any, source: Grid | CellMesh) -> None:
    core = _vtk("vtkCommonCore")
    for place, arrays in ((data.GetPointData(), source.at_points), (data.GetCellData(), source.in_cells)):
        for name, array in arrays.items():
            place.AddArray(_array(_labelled(name, array.units), array.values))
    for name, fact in source.facts.items():
        if isinstance(fact, str):
            text = core.vtkStringArray()
            text.SetName(name)
            text.InsertNextValue(fact)
            data.GetFieldData().AddArray(text)
        else:
            data.GetFieldData().AddArray(_array(_labelled(name, fact.units), np.atleast_1d(fact.values)))


def _save(writer: str, data: Any, path: Path) -> None:
    one = getattr(_vtk("vtkIOXML"), writer)()
    one.SetFileName(str(path))
    one.SetInputData(data)
    if not one.Write():
        raise OSError(f"{path} cannot be written")


def _labelled(name: str, units: str) -> str:
    return name if units in ("", "1") else f"{name} [{units}]"


def _numpy(array: Any, path: Path) -> np.ndarray:
    """The values of an array of VTK; a damaged file may give it a negative size."""
    with parsing(path, remedy=DAMAGED):
        return np.asarray(_vtk("util.numpy_support").vtk_to_numpy(array))


def _taken(data: Any, path: Path) -> tuple[dict[str, Numbers], dict[str, Numbers], dict[str, Numbers | str]]:
    """Values at points, in cells, and of the whole."""
    places: list[dict[str, Any]] = []
    for place in (data.GetPointData(), data.GetCellData(), data.GetFieldData()):
        arrays: dict[str, Any] = {}
        for i in range(place.GetNumberOfArrays()):
            array = place.GetAbstractArray(i)
            if array is None or not array.GetName():
                continue
            named = _NAMED.fullmatch(array.GetName())
            name, units = (named["name"], named["units"] or "1") if named else (array.GetName(), "1")
            if array.IsA("vtkStringArray"):
                arrays[name] = array.GetValue(0) if array.GetNumberOfValues() else ""
            elif array.IsNumeric():
                arrays[name] = Numbers(_numpy(array, path).copy(), units)
        places.append(arrays)
    points, cells, facts = places
    numbers = [{name: a for name, a in place.items() if isinstance(a, Numbers)} for place in (points, cells)]
    return numbers[0], numbers[1], facts


def triangles_of(mesh: CellMesh, kind: int, path: Path) -> np.ndarray:
    """The polygons of a mesh that have a type, cut into triangles: (triangles, 3)."""
    return triangulated(mesh.points, mesh.cells[kind], _vtk, str(path))


def _mesh(data: Any, path: Path) -> CellMesh:
    kinds = np.array([data.GetCellType(i) for i in range(data.GetNumberOfCells())], np.uint8)
    lists = [data.GetCells()] if path.suffix.lower() == ".vtu" else _cell_lists(data)
    both = [[x.GetOffsetsArray(), x.GetConnectivityArray()] for x in lists]
    parts = [[_numpy(array, path).astype(np.int64) for array in arrays] for arrays in both]
    corners = np.concatenate([part[1] for part in parts])
    shifts = np.cumsum([0, *(len(part[1]) for part in parts)])
    ends = np.concatenate([np.zeros(1, np.int64), *(p[0][1:] + s for p, s in zip(parts, shifts, strict=False))])
    cells, order = {}, []
    for kind, of_kind, rows in cells_by_type(kinds, ends, corners, data.GetNumberOfPoints(), str(path)):
        cells[kind] = of_kind
        order.append(rows)
    points, in_cells, facts = _taken(data, path)
    rows = np.concatenate(order) if order else np.zeros(0, np.int64)
    if any(len(array.values) < len(kinds) for array in in_cells.values()):
        raise InputError("has fewer values than cells", where=str(path), remedy=DAMAGED)
    in_cells = {name: Numbers(array.values[rows], array.units) for name, array in in_cells.items()}
    return CellMesh(_numpy(data.GetPoints().GetData(), path).copy(), cells, points, in_cells, facts)


def _cell_lists(data: Any) -> list[Any]:
    """The lists of cells of a surface, in the order in which VTK numbers their cells."""
    return [data.GetVerts(), data.GetLines(), data.GetPolys(), data.GetStrips()]


def _axes_of_points(points: np.ndarray, dims: Sequence[int], path: Path) -> tuple[np.ndarray, ...]:
    """The axes of a grid of points.

    Raises:
        InputError: the points are not those of a grid with axes.
    """
    if points.shape != (int(np.prod(dims)), 3):
        raise InputError(f"has {len(points)} points, not those of its extent", where=str(path), remedy=DAMAGED)
    places = points.reshape(*dims[::-1], 3).transpose(2, 1, 0, 3).astype(np.float64)
    axes = tuple(places[(*(slice(None) if d == axis else 0 for d in range(3)), axis)] for axis in range(3))
    extent = max(float(np.ptp(axis)) for axis in axes)
    if np.abs(np.stack(np.meshgrid(*axes, indexing="ij"), -1) - places).max() > UNEVEN * extent:
        raise InputError(
            "its grid is curved", where=str(path), remedy="Resample it to an image with ParaView, or save it as .vtu"
        )
    return axes
