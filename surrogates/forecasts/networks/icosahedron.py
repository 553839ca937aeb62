"""The refined icosahedron, and the edges between it and a latitude-longitude grid.

A multi-mesh has the vertices of the finest refinement and the edges of all of them (Lam et al. 2023,
arXiv:2212.12794, section 3.4 of the supplement), so that a message crosses the globe in few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull, cKDTree

from data.sphere.weather_layout import WeatherGrid

Points = Float[np.ndarray, "point xyz"]
Edges = Int[np.ndarray, "edge 2"]


@dataclass(frozen=True)
class Icosphere:
    """A triangulation of the unit sphere.

    Attributes:
        vertices: of unit length; those of each refinement begin with those of the one before.
        faces: vertices of each triangle, anticlockwise from outside.
    """

    vertices: Points
    faces: Int[np.ndarray, "face 3"]

    @property
    def edges(self) -> Edges:
        """Each edge in both directions, sorted by receiver, then by sender; (sender, receiver)."""
        around = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        both = np.unique(np.concatenate([around, around[:, ::-1]]), axis=0)
        return both[np.lexsort((both[:, 0], both[:, 1]))]

    @property
    def areas(self) -> Float[np.ndarray, " vertex"]:
        """Area of each vertex on the unit sphere: a third of each spherical triangle around it; the sum is 4 pi.

        The area of a triangle follows Van Oosterom and Strackee 1983 (IEEE Trans. Biomed. Eng. 30, 125).
        """
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        volume = np.einsum("ij,ij->i", a, np.cross(b, c))
        below = 1 + (a * b).sum(1) + (b * c).sum(1) + (c * a).sum(1)
        triangle = 2 * np.arctan2(volume, below)
        areas = np.zeros(len(self.vertices))
        np.add.at(areas, self.faces.ravel(), np.repeat(triangle / 3, 3))
        return areas


def icosahedron() -> Icosphere:
    """The regular icosahedron, whose first vertex is a pole."""
    lower = np.arctan(0.5)
    ring = [(s * lower, np.deg2rad(72 * k + (0 if s > 0 else 36))) for s in (1, -1) for k in range(5)]
    upper = [(0.0, 0.0, 1.0)] + [(np.cos(p) * np.cos(t), np.cos(p) * np.sin(t), np.sin(p)) for p, t in ring]
    vertices = np.array([*upper, (0.0, 0.0, -1.0)])
    faces = ConvexHull(vertices).simplices
    return Icosphere(vertices, _outward(vertices, faces))


def refine(mesh: Icosphere) -> Icosphere:
    """The mesh with each triangle split into four at the midpoints of its edges, projected onto the sphere."""
    pairs = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    middle = mesh.vertices[unique].sum(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    ab, bc, ca = np.split(len(mesh.vertices) + inverse.ravel(), 3)
    a, b, c = mesh.faces.T
    faces = np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return Icosphere(np.concatenate([mesh.vertices, middle]), faces)


def refinements(count: int) -> list[Icosphere]:
    """The icosahedron and its refinements, coarsest first."""
    meshes = [icosahedron()]
    for _ in range(count):
        meshes.append(refine(meshes[-1]))
    return meshes


def multi_mesh_edges(meshes: list[Icosphere]) -> Edges:
    """The edges of all refinements, each once, sorted by receiver."""
    both = np.unique(np.concatenate([m.edges for m in meshes]), axis=0)
    return both[np.lexsort((both[:, 0], both[:, 1]))]


def grid_points(grid: WeatherGrid) -> Points:
    """Points of a grid on the unit sphere, row by row."""
    latitude, longitude = (np.deg2rad(np.asarray(v)) for v in (grid.latitude, grid.longitude))
    p, t = (a.ravel() for a in np.meshgrid(latitude, longitude, indexing="ij"))
    return np.stack([np.cos(p) * np.cos(t), np.cos(p) * np.sin(t), np.sin(p)], axis=1)


def grid_to_mesh(grid: WeatherGrid, mesh: Icosphere, reach: float = 0.6) -> Edges:
    """Edges from each grid point to the vertices within `reach` times the longest edge of the mesh, and to the nearest.

    A vertex without a point within that distance gets its nearest point, so that every vertex receives a message. Edges
    are sorted by receiver.
    """
    points, ends = grid_points(grid), mesh.edges
    longest = np.linalg.norm(mesh.vertices[ends[:, 0]] - mesh.vertices[ends[:, 1]], axis=1).max()
    tree = cKDTree(points)
    near = tree.query_ball_point(mesh.vertices, reach * longest)
    pairs = [(p, v) for v, group in enumerate(near) for p in group]
    pairs += [(int(p), v) for v, p in enumerate(tree.query(mesh.vertices)[1])]
    pairs += [(p, int(v)) for p, v in enumerate(cKDTree(mesh.vertices).query(points)[1])]
    both = np.unique(np.array(pairs), axis=0)
    return both[np.lexsort((both[:, 0], both[:, 1]))]


def mesh_to_grid(grid: WeatherGrid, mesh: Icosphere) -> Int[np.ndarray, "point 3"]:
    """The three vertices of the triangle in which each point of the grid lies.

    Raises:
        ValueError: a point lies in no triangle, because the mesh does not cover the sphere.
    """
    points = grid_points(grid)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    centre = a + b + c
    centre /= np.linalg.norm(centre, axis=1, keepdims=True)
    _, candidates = cKDTree(centre).query(points, k=min(8, len(centre)))
    walls = np.stack([np.cross(a, b), np.cross(b, c), np.cross(c, a)], axis=1)
    inside = np.einsum("pkwx,px->pkw", walls[candidates], points).min(axis=2)
    best = inside.argmax(axis=1)
    if (inside[np.arange(len(points)), best] < -1e-9).any():
        raise ValueError("a point of the grid lies in no triangle of the mesh")
    return mesh.faces[candidates[np.arange(len(points)), best]]


def edge_features(sender: Points, receiver: Points) -> Float[np.ndarray, "edge 4"]:
    """Length of each edge, and the position of the sender in the receiver's frame of east, north and up.

    In that frame the features of an edge do not depend on where on the sphere it lies.
    """
    up = receiver
    east = np.stack([-receiver[:, 1], receiver[:, 0], np.zeros(len(receiver))], axis=1)
    size = np.linalg.norm(east, axis=1, keepdims=True)
    # At a pole the direction of east is not defined; one is chosen.
    east = np.where(size > 1e-9, east / np.maximum(size, 1e-9), np.array([0.0, 1.0, 0.0]))
    north = np.cross(up, east)
    step = sender - receiver
    local = np.stack([(step * axis).sum(axis=1) for axis in (east, north, up)], axis=1)
    return np.concatenate([np.linalg.norm(step, axis=1, keepdims=True), local], axis=1)


def _outward(vertices: Points, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    turned = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    return np.where(turned[:, None], faces[:, [0, 2, 1]], faces)
