"""The cells of an OpenFOAM mesh as a mesh that surrogates learn on: centres, neighbours, kinds of boundary, volumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import InputError
from data.meshes.mesh_samples import ELEMENTS, FLAGS, NODE, NODES, VOLUMES
from data.spec import Coordinate, Variable
from simulators.fluids.openfoam.files import times
from simulators.fluids.openfoam.poly_mesh import PolyMesh, read_poly_mesh

AXES = ("x", "y", "z")
#: Dims of the coordinates of a cell, of the components of a vector, and of the cells of a face.
PLANE, COMPONENT, SIDE = "plane", "component", "side"
#: Largest spread of the centres along an axis without cells side by side, over the size of the mesh.
FLAT = 1e-6


def cell_outputs(patches: Sequence[str]) -> tuple[Variable, ...]:
    """The mesh as outputs of a simulator; `patches` are the kinds of boundary 1, 2, ..."""
    kinds = ", ".join(f"{k} {name}" for k, name in enumerate(("inside", *patches)))
    return (
        Variable(NODES, (NODE, PLANE), "m", "float64", "centres of the cells"),
        Variable(ELEMENTS, ("element", SIDE), "1", "int32", "cells on the sides of each inner face, from 0"),
        Variable(FLAGS, (NODE,), "1", "int32", f"{kinds} (patches that the cells touch)"),
        Variable(VOLUMES, (NODE,), "m3", "float64", "volumes of the cells"),
    )


def cell_coords(axes: Sequence[str]) -> tuple[Coordinate, ...]:
    """The dims of fixed length of `cell_outputs` and of vectors."""
    return (
        Coordinate(PLANE, tuple(axes), "1", "coordinate"),
        Coordinate(COMPONENT, tuple(axes), "1", "component of a vector"),
        Coordinate(SIDE, ("owner", "neighbour"), "1", "side of a face"),
    )


def check_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """The axes of a flow: two or three of x, y and z, in this order.

    Raises:
        InputError: they are others.
    """
    if list(axes) != [a for a in AXES if a in axes] or len(axes) < 2:
        raise InputError(
            f"must be two or three of x, y and z, in this order, got {list(axes)}",
            where="simulator.case.mesh",
            remedy="Write mesh: [x, y] for a flow in the plane, [x, y, z] for one in space",
        )
    return tuple(axes)


def mesh_folder(case: Path, time: float | None) -> Path:
    """The folder `polyMesh` of a case that holds at a time: that of the last time with a mesh, or of `constant`.

    Raises:
        InputError: the mesh moves, so that results lie on another mesh at each time.
    """
    mesh = case / "constant" / "polyMesh"
    for written, path in times(case).items():
        if time is not None and written > time * (1 + 1e-9):
            continue
        files = {p.name.removesuffix(".gz") for p in (path / "polyMesh").glob("*")}
        if "owner" in files:
            mesh = path / "polyMesh"
        elif "points" in files:
            raise InputError("the mesh moves, which is not read", where=str(path / "polyMesh"))
    return mesh


def read_cells(folder: Path, axes: Sequence[str], patches: Sequence[str]) -> dict[str, Any]:
    """The cells of a mesh, as `cell_outputs` names them.

    A cell that touches several patches is of the kind of the last of them; patches of type `empty` are no boundary.

    Args:
        folder: folder `polyMesh`.
        axes: axes of the flow; along the other one there is one layer of cells.
        patches: names of the patches, in the order of their kinds.

    Raises:
        InputError: the mesh cannot be read, has a patch of another name, or is not flat along the axis left out.
    """
    mesh = read_poly_mesh(folder)
    flags = np.zeros(mesh.cells, np.int32)
    unknown = [n for n, p in mesh.patches.items() if p.kind != "empty" and p.count and n not in patches]
    if unknown:
        raise InputError(
            f"a patch {unknown[0]} among {', '.join(mesh.patches)}, which is no kind of boundary",
            where=str(folder / "boundary"),
            remedy=f"Name all of them: simulator.case.patches=[{','.join([*patches, *unknown])}]",
        )
    for kind, name in enumerate(patches, 1):
        patch = mesh.patches.get(name)
        if patch is not None and patch.kind != "empty":
            flags[mesh.owner[patch.start : patch.start + patch.count]] = kind
    places = _columns(mesh, axes, folder)
    pairs = np.unique(np.sort(np.stack([mesh.owner[: len(mesh.neighbour)], mesh.neighbour], axis=1), axis=1), axis=0)
    return {NODES: places, ELEMENTS: pairs.astype(np.int32), FLAGS: flags, VOLUMES: mesh.cell_volumes}


def _columns(mesh: PolyMesh, axes: Sequence[str], folder: Path) -> np.ndarray:
    """Centres of the cells along the axes of the flow."""
    centres = mesh.cell_centres
    spread = np.ptp(centres, axis=0)
    for k, axis in enumerate(AXES):
        if axis not in axes and spread[k] > FLAT * max(spread.max(), np.ptp(mesh.points, axis=0).max()):
            raise InputError(
                f"several layers of cells along {axis}, from {centres[:, k].min():g} to {centres[:, k].max():g} m",
                where=str(folder),
                remedy="Write simulator.case.mesh=[x,y,z]",
            )
    return centres[:, [AXES.index(axis) for axis in axes]]


def patches_of_field(text: str) -> tuple[str, ...] | None:
    """Names of the patches in the boundaryField of a field, without those of type `empty`.

    Args:
        text: content of the file without comments, which may have placeholders.

    Returns:
        The names in their order; None if patterns, groups or included files do not let them be told.
    """
    text = re.sub(r"\{\{\s*\w+\s*\}\}", "0", text)
    start = re.search(r"\bboundaryField\s*\{", text)
    if start is None:
        return None
    names, position = [], start.end()
    while (match := re.compile(r"\s*([^\s{}]+)\s*\{").match(text, position)) is not None:
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        if not re.fullmatch(r"[\w.:-]+", match[1]):
            return None
        if not re.search(r"\btype\s+empty\s*;", text[match.end() : end]):
            names.append(match[1])
        position = end
    return tuple(names) if names and re.match(r"\s*\}", text[position:]) else None
