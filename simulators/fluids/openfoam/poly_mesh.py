"""The mesh of an OpenFOAM case: points, faces, and the cells on both sides of each face.

The format is that of the OpenFOAM user guide, "Mesh description"; centres and volumes are those of its class
`primitiveMesh`: a face is cut into triangles around the mean of its points, and a cell into pyramids around the mean of
the centres of its faces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from data.errors import InputError
from simulators.fluids.openfoam.contents import Contents, read_contents, read_text

_HEADER = re.compile(r'FoamFile\s*\{[^"}]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^"}]*)*\}', re.S)
_LIST = re.compile(r"\s*(\d{1,12})\s*([({])", re.ASCII)
_PATCH = re.compile(r"([^\s{}()]+|\"[^\"]*\")\s*\{([^{}]*)\}")


@dataclass(frozen=True)
class Patch:
    """Faces of one boundary patch, which are numbered consecutively.

    Attributes:
        kind: such as "wall", "patch" or "empty".
        start: number of its first face.
        count: number of its faces.
    """

    kind: str
    start: int
    count: int


@dataclass(frozen=True)
class PolyMesh:
    """A mesh of polyhedra.

    Attributes:
        points: positions of the points, m.
        face_starts: index into `face_points` at which each face begins, and its length at the end.
        face_points: points of the faces, one face after the other; their order is that of the normal out of the owner.
        owner: cell that each face belongs to.
        neighbour: cell on the other side of each inner face; these come first.
        patches: name -> boundary patch.
    """

    points: Float64[np.ndarray, "points 3"]
    face_starts: Int64[np.ndarray, " faces_and_one"]
    face_points: Int64[np.ndarray, " corners"]
    owner: Int64[np.ndarray, " faces"]
    neighbour: Int64[np.ndarray, " inner_faces"]
    patches: Mapping[str, Patch]

    @property
    def cells(self) -> int:
        """Number of cells."""
        return int(self.owner.max()) + 1

    @cached_property
    def face_areas(self) -> Float64[np.ndarray, "faces 3"]:
        """Area of each face times its normal, which leads out of the owner, m2."""
        return self._faces[0]

    @cached_property
    def face_centres(self) -> Float64[np.ndarray, "faces 3"]:
        """Centroid of each face, m."""
        return self._faces[1]

    @cached_property
    def cell_centres(self) -> Float64[np.ndarray, "cells 3"]:
        """Centroid of each cell, m."""
        return self._cells[1]

    @cached_property
    def cell_volumes(self) -> Float64[np.ndarray, " cells"]:
        """Volume of each cell, m3."""
        return self._cells[0]

    @cached_property
    def _faces(self) -> tuple[Float64[np.ndarray, "faces 3"], Float64[np.ndarray, "faces 3"]]:
        counts = np.diff(self.face_starts)
        face = np.repeat(np.arange(len(counts)), counts)
        here = self.points[self.face_points]
        following = np.arange(len(face)) + 1
        following[self.face_starts[1:] - 1] = self.face_starts[:-1]
        end = here[following]
        middle = _summed(here, face, len(counts)) / counts[:, None]
        normals = np.cross(end - here, middle[face] - here) / 2
        areas = _summed(normals, face, len(counts))
        # Triangles count by their area along the normal of the face, so that folds cancel.
        unit = areas / np.maximum(np.linalg.norm(areas, axis=1), 1e-300)[:, None]
        weights = np.einsum("ij,ij->i", normals, unit[face])
        moments = _summed(weights[:, None] * (here + end + middle[face]) / 3, face, len(counts))
        total = _summed(weights[:, None], face, len(counts))
        return areas, np.where(total > 1e-300, moments / np.where(total > 1e-300, total, 1), middle)

    @cached_property
    def _cells(self) -> tuple[Float64[np.ndarray, " cells"], Float64[np.ndarray, "cells 3"]]:
        areas, centres = self._faces
        inner = len(self.neighbour)
        cell = np.concatenate([self.owner, self.neighbour])
        outward = np.concatenate([areas, -areas[:inner]])
        on = np.concatenate([centres, centres[:inner]])
        guess = _summed(on, cell, self.cells) / np.bincount(cell, minlength=self.cells)[:, None]
        pyramid = np.einsum("ij,ij->i", outward, on - guess[cell]) / 3
        volume = np.bincount(cell, pyramid, self.cells)
        moment = _summed(pyramid[:, None] * (0.75 * on + 0.25 * guess[cell]), cell, self.cells)
        return volume, np.where(volume[:, None] > 1e-300, moment / np.where(volume > 1e-300, volume, 1)[:, None], guess)


def read_poly_mesh(folder: Path) -> PolyMesh:
    """Read a mesh whose files may be ASCII or binary, plain or compressed.

    Args:
        folder: such as `case/constant/polyMesh`.

    Raises:
        InputError: a file is missing, damaged or cut short, or the files do not fit each other.
    """
    points = _numbers(folder / "points", read_contents(folder / "points"), 3, np.dtype(np.float64))
    owner, neighbour = (
        _numbers(folder / name, read_contents(folder / name), 1, np.dtype(np.int64))[:, 0]
        for name in ("owner", "neighbour")
    )
    starts, corners = _read_faces(folder / "faces")
    patches = _read_patches(folder / "boundary")
    faces = len(starts) - 1
    if faces < 1 or len(owner) != faces or len(neighbour) > faces:
        raise InputError(
            f"{faces} faces, {len(owner)} owners and {len(neighbour)} neighbours do not fit", where=str(folder)
        )
    for name, values, below in (
        ("faces", corners, len(points)),
        ("owner", owner, faces),
        ("neighbour", neighbour, int(owner.max()) + 1),
    ):
        if len(values) and (values.min() < 0 or values.max() >= below):
            raise InputError(f"a number outside of 0 to {below - 1}", where=str(folder / name))
    if (np.diff(starts) < 3).any():
        raise InputError("a face of fewer than three points", where=str(folder / "faces"))
    if not np.isfinite(points).all():
        raise InputError("a position that is not finite", where=str(folder / "points"))
    for name, patch in patches.items():
        if patch.start < len(neighbour) or patch.start + patch.count > faces:
            raise InputError(f"patch {name} has faces that do not exist", where=str(folder / "boundary"))
    return PolyMesh(points, starts, corners, owner, neighbour, patches)


def _summed(values: Float64[np.ndarray, "items k"], index: Int64[np.ndarray, " items"], count: int) -> np.ndarray:
    """Sums of the rows of `values` that have the same index, of shape (count, k)."""
    return np.stack([np.bincount(index, column, count) for column in values.T], axis=1)


def _body(path: Path, text: str) -> str:
    header = _HEADER.search(text)
    if header is None:
        raise InputError("no entry `FoamFile`, so not an OpenFOAM file", where=str(path))
    return text[header.end() :]


def _numbers(path: Path, contents: Contents, components: int, dtype: np.dtype) -> np.ndarray:
    """The list of a file, of shape (items, components)."""
    body = _body(path, contents.text)
    if contents.lists:
        values = contents.lists[0]
        if len(contents.lists) != 1 or values.shape[1] != components or values.dtype != dtype:
            raise InputError(f"not one list of {components} numbers each", where=str(path))
        return values
    listing = _LIST.match(body)
    if listing is None:
        # A mesh of a single cell has no neighbours; releases write an empty list as its length alone.
        if re.match(r"\s*0\s*(?:\(\s*\)\s*)?\Z", body):
            return np.empty((0, components), dtype)
        raise InputError("no list", where=str(path))
    count = int(listing[1])
    end = body.rfind(")" if listing[2] == "(" else "}")
    words = body[listing.end() : max(end, 0)].translate(str.maketrans("()", "  ")).split()
    expected = components * (count if listing[2] == "(" else 1)
    if end < 0 or len(words) != expected:
        raise InputError(f"{expected} numbers expected, {len(words)} found", where=str(path))
    try:
        values = np.array(words, dtype).reshape(-1, components)
    except ValueError as error:
        raise InputError(f"not a number: {error}", where=str(path)) from error
    return values if listing[2] == "(" else np.broadcast_to(values, (count, components))


def _read_faces(path: Path) -> tuple[Int64[np.ndarray, " faces_and_one"], Int64[np.ndarray, " corners"]]:
    contents = read_contents(path)
    if contents.lists:
        if len(contents.lists) != 2:
            raise InputError("not a compact list of faces", where=str(path))
        starts, corners = (values[:, 0] for values in contents.lists)
        if len(starts) < 1 or starts[0] != 0 or starts[-1] != len(corners) or (np.diff(starts) < 0).any():
            raise InputError("its faces do not begin where they say", where=str(path))
        return starts, corners
    body = _body(path, contents.text)
    listing = _LIST.match(body)
    if listing is None:
        raise InputError("no list", where=str(path))
    faces = re.findall(r"(\d+)\s*\(([\d\s]*)\)", body[listing.end() :])
    if len(faces) != int(listing[1]):
        raise InputError(f"{listing[1]} faces expected, {len(faces)} found", where=str(path))
    counts = np.array([n for n, _ in faces], np.int64)
    flat = np.array(" ".join(inner for _, inner in faces).split(), np.int64)
    if counts.sum() != len(flat):
        raise InputError("a face that does not have the number of points that it states", where=str(path))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), flat


def _read_patches(path: Path) -> dict[str, Patch]:
    patches: dict[str, Patch] = {}
    for match in _PATCH.finditer(_body(path, read_text(path))):
        entries = dict(re.findall(r"(\w+)\s+([^;]+);", match[2]))
        try:
            patches[match[1].strip('"')] = Patch(
                entries["type"].strip(), int(entries["startFace"]), int(entries["nFaces"])
            )
        except (KeyError, ValueError) as error:
            raise InputError(f"patch {match[1]} without type, startFace or nFaces", where=str(path)) from error
    return patches
