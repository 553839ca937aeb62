"""The training domain of a surrogate of meshes: ranges of parameters, of domain shapes and of edge lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from data.meshes.graphs import Mesh, mesh_edges, node_areas
from data.meshes.mesh_samples import MeshLayout, MeshSamples
from surrogates.learning.box import Box

#: A geometry may lie outside the range of training by these shares of the range and of the size of the domain.
MARGIN, SMALL = 0.25, 0.01
#: Factor by which a mesh may be finer or coarser than the meshes of training.
FINER = 2.0


def domain_of(samples: MeshSamples) -> Box:
    """The box around training samples: exact for parameters, with a margin for geometry and edge lengths."""
    layout = samples.layout
    numbers = np.stack([m.parameters for m in samples.meshes])
    shapes = geometry(samples.meshes, layout.kinds)
    edges = edge_lengths(samples.meshes)
    size = np.abs(shapes).max(axis=0)
    # Positions and lengths scale with the size of the domain; its area, behind its extents, with itself.
    axes = layout.plane
    size[[*range(axes), *range(axes + 1, shapes.shape[1])]] = shapes[:, :axes].max()
    margin = MARGIN * np.ptp(shapes, axis=0) + SMALL * size
    box = Box.of([v.name for v in layout.parameters], numbers).join(Box.of(_names(layout), shapes, margin))
    return box.join(Box(("mean edge",), (float(edges.min()) / FINER,), (float(edges.max()) * FINER,)))


def domain_columns(meshes: Sequence[Mesh], kinds: int) -> Float[np.ndarray, "mesh column"]:
    """The columns of `domain_of`, one row for each mesh."""
    numbers = np.stack([np.asarray(m.parameters, np.float64) for m in meshes])
    return np.concatenate([numbers, geometry(meshes, kinds), edge_lengths(meshes)[:, None]], axis=1)


def geometry(meshes: Sequence[Mesh], kinds: int) -> Float[np.ndarray, "mesh column"]:
    """Extents and area of each domain, and size and position of each kind of boundary (0 for a missing one).

    The area of a mesh of cells is 0, because their centres do not show it.
    """
    rows = []
    for mesh in meshes:
        nodes = np.asarray(mesh.nodes, np.float64)
        corner = nodes.min(axis=0)
        row = [*np.ptp(nodes, axis=0), float(node_areas(mesh).sum()) if mesh.elements.shape[1] == 3 else 0.0]
        for kind in range(1, kinds):
            boundary = nodes[mesh.flags == kind]
            here = [*np.ptp(boundary, axis=0), *(boundary.mean(axis=0) - corner)] if len(boundary) else []
            row += here or [0.0] * (2 * nodes.shape[1])
        rows.append(row)
    return np.array(rows)


def edge_lengths(meshes: Sequence[Mesh]) -> Float[np.ndarray, " mesh"]:
    """The mean length of the edges of each mesh."""
    pairs = [(np.asarray(m.nodes, np.float64), mesh_edges(m.elements)) for m in meshes]
    return np.array([np.linalg.norm(nodes[e[0]] - nodes[e[1]], axis=1).mean() for nodes, e in pairs])


def _names(layout: MeshLayout) -> list[str]:
    axes = layout.plane
    extents = ("width", "height", "depth")[:axes]
    names = [*(f"{extent} of the domain" for extent in extents), "area of the domain"]
    for kind in range(1, layout.kinds):
        names += [f"{what} of boundary {kind}" for what in (*extents, *"xyz"[:axes])]
    return names
