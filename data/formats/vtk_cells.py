"""Cells of VTK by their types: what they are called, which of them a mesh may have, and polygons cut into triangles.

The numbers of the types are those of `vtkCellType.h`. Polygons have any number of points, so that rows of them are
filled up with `NONE`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from data.errors import DAMAGED, InputError

VERTEX, LINE, TRIANGLE, STRIP, POLYGON, PIXEL, QUAD, POLYHEDRON = 1, 3, 5, 6, 7, 8, 9, 42
#: Types with a fixed number of points -> that number.
CELL_POINTS: Mapping[int, int] = {VERTEX: 1, LINE: 2, TRIANGLE: 3, PIXEL: 4, QUAD: 4, 10: 4, 11: 8, 12: 8, 13: 6, 14: 5}
#: Fills rows of polygons up.
NONE = -1

_NAMES: Mapping[int, str] = {
    VERTEX: "vertices", 2: "poly-vertices", LINE: "lines", 4: "poly-lines", TRIANGLE: "triangles",
    STRIP: "triangle strips", POLYGON: "polygons", PIXEL: "pixels", QUAD: "quadrilaterals", 10: "tetrahedra",
    11: "voxels", 12: "hexahedra", 13: "wedges", 14: "pyramids", 21: "quadratic edges", 22: "quadratic triangles",
    23: "quadratic quadrilaterals", 24: "quadratic tetrahedra", 25: "quadratic hexahedra", 26: "quadratic wedges",
    27: "quadratic pyramids", POLYHEDRON: "polyhedra",
}  # fmt: skip
_VOLUMES = frozenset({10, 11, 12, 13, 14, 24, 25, 26, 27, POLYHEDRON})
_SPLIT = frozenset({2, 4, STRIP})


def refused_cells(kind: int, where: str) -> InputError:
    """The error for a file with cells that no mesh can have, with what makes others of them."""
    if kind in _VOLUMES:
        remedy = (
            "Cut a plane out of it with ParaView's Slice and Triangulate; flows in the cells of OpenFOAM are read from "
            "their cases, by understudy simulate simulator=openfoam_finished"
        )
    elif kind in _SPLIT:
        remedy = "Use ParaView's Triangulate"
    else:
        remedy = "Use ParaView's Tessellate and Triangulate"
    return InputError(
        f"has cells of VTK's type {kind} ({_NAMES.get(kind, 'which has no name here')}); a mesh has triangles, "
        "quadrilaterals or polygons in a plane, or lines between nodes",
        where=where,
        remedy=remedy,
    )


def cells_by_type(
    kinds: UInt8[np.ndarray, " cell"],
    ends: Int[np.ndarray, " end"],
    corners: Int[np.ndarray, " corner"],
    points: int,
    where: str,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The cells of each type, as VTK lists them.

    Args:
        kinds: type of each cell.
        ends: where each cell begins among the corners, and where the last one ends.
        corners: points of the cells, one after the other.
        points: number of points.
        where: path of the file.

    Yields:
        Type; points of its cells, of shape (cells, points of a cell), filled up with `NONE`; numbers of these cells. Of
        pixels, quadrilaterals are made.

    Raises:
        InputError: cells have a type with any number of points that are no polygons, or points that do not exist.
    """
    sizes = np.diff(ends)
    whole = len(sizes) == len(kinds) and (sizes > 0).all() and ends[0] == 0 and ends[-1] <= len(corners)
    if len(kinds) and not (whole and corners.min() >= 0 and corners.max() < points):
        raise InputError("its cells name points that do not exist", where=where, remedy=DAMAGED)
    rows_of: dict[int, list[np.ndarray]] = {}
    for kind in dict.fromkeys(kinds.tolist()):
        if kind not in CELL_POINTS and kind != POLYGON:
            raise refused_cells(kind, where)
        rows = np.flatnonzero(kinds == kind)
        wrong = sizes[rows] < 3 if kind == POLYGON else sizes[rows] != CELL_POINTS[kind]
        if wrong.any():
            raise InputError(f"its {_NAMES[kind]} have another number of points", where=where, remedy=DAMAGED)
        rows_of.setdefault(QUAD if kind == PIXEL else kind, []).append(rows)
    for kind, parts in rows_of.items():
        rows = np.concatenate(parts)
        width = np.arange(sizes[rows].max())
        inside = width < sizes[rows][:, None]
        cells = np.where(inside, corners[np.where(inside, ends[rows][:, None] + width, 0)], NONE).astype(np.int64)
        pixels = kinds[rows] == PIXEL
        if pixels.any():
            cells[pixels] = cells[pixels][:, [0, 1, 3, 2]]
        yield kind, cells, rows


def triangulated(
    points: Float[np.ndarray, "point 3"], cells: Int[np.ndarray, "cell corner"], vtk: Any, where: str
) -> Int[np.ndarray, "triangle 3"]:
    """Plane polygons, concave ones too, cut into triangles by VTK's own filter; the points stay as they are.

    Args:
        points: positions of all points.
        cells: points of each polygon in order, filled up with `NONE`.
        vtk: gives a module of VTK by its name.
        where: path of the file.

    Raises:
        InputError: a polygon crosses itself, so that the triangles have another area.
    """
    core, model, support = vtk("vtkCommonCore"), vtk("vtkCommonDataModel"), vtk("util.numpy_support")
    data, places, polygons = model.vtkPolyData(), core.vtkPoints(), model.vtkCellArray()

    def array(values: np.ndarray) -> Any:
        return support.numpy_to_vtk(np.ascontiguousarray(values), deep=True)

    sizes = (cells != NONE).sum(axis=1)
    places.SetData(array(points.astype(np.float64)))
    polygons.SetData(array(np.cumsum([0, *sizes]).astype(np.int64)), array(cells[cells != NONE].astype(np.int64)))
    data.SetPoints(places)
    data.SetPolys(polygons)
    cut = vtk("vtkFiltersCore").vtkTriangleFilter()
    cut.SetInputData(data)
    shown = core.vtkObject.GetGlobalWarningDisplay()
    core.vtkObject.GlobalWarningDisplayOff()
    try:
        cut.Update()
    finally:
        core.vtkObject.SetGlobalWarningDisplay(shown)
    triangles = support.vtk_to_numpy(cut.GetOutput().GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    area, whole = float(_areas(points, triangles).sum()), float(_areas(points, cells).sum())
    if not abs(area - whole) <= 1e-6 * whole:
        raise InputError(
            "has polygons that cross themselves or have no area",
            where=where,
            remedy="Use ParaView's Clean and Triangulate",
        )
    return triangles


def _areas(points: np.ndarray, cells: np.ndarray) -> Float[np.ndarray, " cell"]:
    """Area of each plane polygon by the shoelace formula."""
    corners = points[cells] - points[cells[:, :1]]
    # What fills a row up is the first point again, which adds nothing.
    corners[cells == NONE] = 0.0
    around = np.cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1)
    return 0.5 * np.linalg.norm(around, axis=-1)
