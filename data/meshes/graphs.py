"""Meshes as graphs, in padded batches of a few fixed shapes: triangles in the plane, or cells and their neighbours.

A mesh of triangles has its vertices as nodes. A mesh of cells of any shape, in two or three dimensions, has the centres
of its cells as nodes, and an edge for each face between two cells.

Nothing in a batch tells where the mesh lies: edges carry displacements, nodes carry what they are, how far it is to
each boundary, and the parameters of the problem. The mesh is the first axis and no index reaches across it, so that
a batch splits over devices by that axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from data.errors import InputError

#: Directed edges a node: a triangulation of n nodes in the plane, with holes or without, has fewer than 3 n edges, and
#: n hexahedra have fewer than 3 n inner faces. Other cells get as many more as they need, a multiple of 2.
EDGES_PER_NODE = 6
#: Smallest padded number of nodes, and the factor between sizes: at most a fifth of a batch is padding.
SMALLEST, GROWTH = 64, 1.25


def _nothing() -> np.ndarray:
    return np.zeros(0, np.float32)


@dataclass(frozen=True)
class Mesh:
    """One mesh, and what is known about the flow on it.

    Attributes:
        nodes: positions in the plane or in space, in the units of the problem.
        elements: the three nodes of each triangle, or the two cells on the sides of each inner face.
        flags: kind of each node: 0 inside, 1 and above for kinds of boundary.
        parameters: numbers that hold for the whole mesh, scaled.
        fields: targets at the nodes, such as velocity and pressure, scaled; width 0 for prediction.
        scalars: targets of the whole, such as drag and lift, scaled; width 0 for prediction.
        volumes: volume of each cell, the weight of a node in integrals; None for triangles, and where it is not known.
        extra: further inputs at the nodes, such as the answer of a cheaper method; None for none.

    Raises:
        InputError: an array has the wrong shape, a value is not finite, a triangle or face names a node that is not
            there or one twice, or a node is in no triangle and beside no face.
    """

    nodes: Float[np.ndarray, "node axis"]
    elements: Int[np.ndarray, "element corner"]
    flags: Int[np.ndarray, " node"]
    parameters: Float[np.ndarray, " parameter"] = field(default_factory=_nothing)
    fields: Float[np.ndarray, "node field"] | None = None
    scalars: Float[np.ndarray, " scalar"] = field(default_factory=_nothing)
    volumes: Float[np.ndarray, " node"] | None = None
    extra: Float[np.ndarray, "node extra"] | None = None

    def __post_init__(self) -> None:
        count = len(self.nodes)
        # Triangles lie in the plane; neighbouring cells may also lie in space.
        corners = 2 if self.elements.shape[1:] == (2,) else 3
        axes = 3 if corners == 2 and self.nodes.shape[1:] == (3,) else 2
        shapes = {"nodes": (count, axes), "elements": (len(self.elements), corners), "flags": (count,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise InputError(f"{name} have shape {getattr(self, name).shape}, not {shape}", where="mesh")
        face = "pair of neighbours" if corners == 2 else "triangle"
        if self.volumes is not None and not (
            self.volumes.shape == (count,) and np.isfinite(self.volumes).all() and (self.volumes > 0).all()
        ):
            raise InputError("volumes are not above 0, one for each cell", where="mesh")
        if self.fields is not None and len(self.fields) != count:
            raise InputError(f"fields at {len(self.fields)} nodes of {count}", where="mesh")
        if not (np.isfinite(self.nodes).all() and np.isfinite(self.parameters).all()):
            raise InputError("a position or parameter is not finite", where="mesh")
        ordered = np.sort(self.elements, axis=1)
        if not len(ordered) or ordered.min() < 0 or ordered.max() >= count:
            raise InputError(
                f"elements name nodes outside 0 to {count - 1}", where="mesh", remedy="Count nodes from 0, not from 1"
            )
        if (np.diff(ordered, axis=1) == 0).any():
            raise InputError(f"a {face} names a node twice", where="mesh")
        alone = np.setdiff1d(np.arange(count), self.elements)
        if len(alone):
            raise InputError(
                f"node {alone[0]} is in no {face}", where="mesh", remedy=f"Leave out nodes that no {face} uses"
            )
        if self.flags.min() < 0:
            raise InputError("flags are 0 or more", where="mesh")


def mesh_edges(elements: Int[np.ndarray, "element corner"]) -> Int[np.ndarray, "2 edge"]:
    """Every side of every triangle, or every pair of neighbours, once in each direction: senders and receivers."""
    pairs = elements.shape[1] == 2
    sides = elements if pairs else np.concatenate([elements[:, [0, 1]], elements[:, [1, 2]], elements[:, [2, 0]]])
    once = np.unique(np.sort(sides, axis=1), axis=0).T
    return np.concatenate([once, once[::-1]], axis=1).astype(np.int32)


def node_areas(mesh: Mesh) -> Float[np.ndarray, " node"]:
    """Weights of an integral over the mesh: a third of the area of the triangles around a node, or the cell's volume.

    Cells whose volumes are not known count alike.
    """
    if mesh.elements.shape[1] == 2:
        return np.ones(len(mesh.nodes)) if mesh.volumes is None else np.asarray(mesh.volumes, np.float64)
    corners = np.asarray(mesh.nodes, np.float64)[mesh.elements]
    (ax, ay), (bx, by) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    area = np.abs(ax * by - ay * bx) / 2
    return np.bincount(mesh.elements.ravel(), np.repeat(area / 3, 3), len(mesh.nodes))


def boundary_distances(mesh: Mesh, kinds: int) -> Float[np.ndarray, "node boundary"]:
    """Distance of each node to the nearest one of flags 1 to `kinds` - 1; the mesh's extent where there is none."""
    extent = float(np.linalg.norm(np.ptp(mesh.nodes, axis=0)))
    distances = np.full((len(mesh.nodes), kinds - 1), extent)
    for kind in range(1, kinds):
        boundary_nodes = mesh.nodes[mesh.flags == kind]
        if len(boundary_nodes):
            distances[:, kind - 1] = cKDTree(boundary_nodes).query(mesh.nodes)[0]
    return distances


@dataclass(frozen=True)
class MeshBatch:
    """A padded batch; a pytree whose every leaf has the mesh as its first axis.

    Attributes:
        node_features: one-hot kind, distances to the kinds of boundary, parameters, and `Mesh.extra`; see
            `feature_width`.
        edge_features: displacement from sender to receiver and its length, in units of the length scale.
        senders, receivers: local indices; 0 for padding.
        node_mask, edge_mask, mask: whether there is a node, an edge, a mesh.
        fields, scalars: targets; NaN where there is none.
    """

    node_features: Float[Any, "mesh node feature"]
    edge_features: Float[Any, "mesh edge step"]
    senders: Int[Any, "mesh edge"]
    receivers: Int[Any, "mesh edge"]
    node_mask: Bool[Any, "mesh node"]
    edge_mask: Bool[Any, "mesh edge"]
    mask: Bool[Any, " mesh"]
    fields: Float[Any, "mesh node field"]
    scalars: Float[Any, "mesh scalar"]


register_dataclass(
    MeshBatch,
    data_fields=[
        "node_features",
        "edge_features",
        "senders",
        "receivers",
        "node_mask",
        "edge_mask",
        "mask",
        "fields",
        "scalars",
    ],
    meta_fields=[],
)


def feature_width(kinds: int, parameters: int) -> int:
    """Features of a node: `kinds` one-hot, `kinds` - 1 distances, and the parameters."""
    return 2 * kinds - 1 + parameters


def padded_nodes(count: int) -> int:
    """The padded size for `count` nodes: one of a geometric series, so that few shapes are ever compiled."""
    size = SMALLEST
    while size < count:
        size = math.ceil(size * GROWTH / 16) * 16
    return size


def pad(
    meshes: Sequence[Mesh],
    *,
    kinds: int,
    length: float,
    batch_size: int | None = None,
    nodes: int | None = None,
) -> MeshBatch:
    """Meshes as one batch.

    Args:
        meshes: one or more, with as many parameters, fields and scalars each.
        kinds: number of kinds of nodes, the inside among them.
        length: unit in which displacements and distances are given, such as the mean length of an edge.
        batch_size: meshes of the batch, padding included; as many as there are if None.
        nodes: padded number of nodes; that of the largest mesh if None. Edges are `EDGES_PER_NODE` times as many, or
            more where the cells of a mesh have more faces.

    Raises:
        InputError: the meshes do not fit each other, the batch or `kinds`, or an edge has no length.
    """
    size = len(meshes) if batch_size is None else batch_size
    most = max(len(m.nodes) for m in meshes)
    nodes = padded_nodes(most) if nodes is None else nodes
    if len(meshes) > size or most > nodes:
        raise InputError(f"{len(meshes)} meshes of up to {most} nodes in a batch of {size} x {nodes}", where="pad")
    widths = {
        (
            len(m.parameters),
            0 if m.fields is None else m.fields.shape[1],
            len(m.scalars),
            m.nodes.shape[1],
            0 if m.extra is None else m.extra.shape[1],
        )
        for m in meshes
    }
    if len(widths) > 1:
        raise InputError(f"(parameters, fields, scalars, axes, extra) differ: {sorted(widths)}", where="pad")
    if max(int(m.flags.max()) for m in meshes) >= kinds or not length > 0:
        raise InputError(f"flags reach beyond {kinds} kinds, or the length {length} is not positive", where="pad")
    parameters, fields, scalars, axes, extra = widths.pop()
    ends_of = [mesh_edges(mesh.elements) for mesh in meshes]
    per_node = max(EDGES_PER_NODE, 2 * math.ceil(max(ends.shape[1] for ends in ends_of) / nodes / 2))
    edges = per_node * nodes
    batch = MeshBatch(
        np.zeros((size, nodes, feature_width(kinds, parameters + extra)), np.float32),
        np.zeros((size, edges, axes + 1), np.float32),
        np.zeros((size, edges), np.int32),
        np.zeros((size, edges), np.int32),
        np.zeros((size, nodes), bool),
        np.zeros((size, edges), bool),
        np.arange(size) < len(meshes),
        np.full((size, nodes, fields), np.nan, np.float32),
        np.full((size, scalars), np.nan, np.float32),
    )
    for row, (mesh, ends) in enumerate(zip(meshes, ends_of, strict=True)):
        count = len(mesh.nodes)
        # In float64, because the difference of two large positions has few digits.
        step = np.asarray(mesh.nodes, np.float64)[ends[1]] - np.asarray(mesh.nodes, np.float64)[ends[0]]
        reach = np.linalg.norm(step, axis=1)
        if not (reach > 0).all():
            raise InputError("two neighbouring nodes are at the same place", where="pad")
        if mesh.elements.shape[1] == 3 and len(reach) > EDGES_PER_NODE * nodes:
            raise InputError("its triangles are no mesh in a plane", where="pad")
        batch.node_features[row, :count] = np.concatenate(
            [
                np.eye(kinds)[mesh.flags],
                boundary_distances(mesh, kinds) / length,
                np.broadcast_to(mesh.parameters, (count, parameters)),
                *(() if mesh.extra is None else (mesh.extra,)),
            ],
            axis=1,
        )
        batch.edge_features[row, : len(reach)] = np.concatenate([step, reach[:, None]], axis=1) / length
        batch.senders[row, : len(reach)], batch.receivers[row, : len(reach)] = ends
        batch.node_mask[row, :count], batch.edge_mask[row, : len(reach)] = True, True
        if mesh.fields is not None:
            batch.fields[row, :count] = mesh.fields
        batch.scalars[row] = mesh.scalars
    return batch
