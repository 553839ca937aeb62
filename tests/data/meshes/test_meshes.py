"""Meshes as graphs: edges counted by Euler's formula, distances by hand, padding, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from data.errors import InputError
from data.meshes.graphs import EDGES_PER_NODE, GROWTH, SMALLEST, Mesh, boundary_distances, mesh_edges, pad, padded_nodes


def square(**more) -> Mesh:
    """Two triangles; the left side is a wall, the right one an outlet."""
    nodes = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0], [0.0, 4.0]])
    return Mesh(nodes, np.array([[0, 1, 2], [0, 2, 3]]), np.array([1, 2, 2, 1]), **more)


def scattered(seed: int, count: int) -> Mesh:
    nodes = np.random.default_rng(seed).normal(size=(count, 2))
    return Mesh(nodes, Delaunay(nodes).simplices, np.zeros(count, int))


def test_each_side_is_an_edge_in_both_directions():
    ends = {tuple(e) for e in mesh_edges(square().elements).T.tolist()}
    once = {(0, 1), (1, 2), (0, 2), (2, 3), (0, 3)}
    assert ends == once | {(b, a) for a, b in once}


@given(st.integers(0, 10**6), st.integers(4, 80))
@settings(max_examples=25, deadline=None)
def test_edges_obey_euler_and_fit_the_padding(seed, count):
    mesh = scattered(seed, count)
    edges = mesh_edges(mesh.elements)
    # Nodes - edges + triangles = 1 for a mesh without holes.
    assert count - edges.shape[1] // 2 + len(mesh.elements) == 1
    assert edges.shape[1] < EDGES_PER_NODE * count
    assert edges.shape[1] == len({tuple(e) for e in edges.T.tolist()})


def test_distances_and_features_by_hand():
    assert boundary_distances(square(), 4).tolist() == [[0, 3, 5], [3, 0, 5], [3, 0, 5], [0, 3, 5]]
    mesh = square(parameters=np.array([7.0]), fields=np.arange(8.0).reshape(4, 2), scalars=np.array([9.0]))
    batch = pad([mesh], kinds=3, length=2.0, batch_size=2)
    assert batch.node_features[0, 1].tolist() == [0, 0, 1, 1.5, 0, 7]
    to = [k for k in range(10) if (batch.senders[0, k], batch.receivers[0, k]) == (0, 2)]
    assert batch.edge_features[0, to[0]].tolist() == [1.5, 2.0, 2.5]
    assert batch.mask.tolist() == [True, False]
    assert (batch.node_mask.sum(), batch.edge_mask.sum()) == (4, 10)
    assert batch.fields[0, 3].tolist() == [6.0, 7.0]
    assert np.isnan(batch.fields[0, 4:]).all()
    assert np.isnan(batch.scalars[1]).all()


@given(st.integers(1, 200_000))
def test_sizes_are_few_and_waste_little(count):
    size = padded_nodes(count)
    assert size >= count
    assert size == SMALLEST or size < count * GROWTH + 16
    assert len({padded_nodes(n) for n in range(1, 20_000, 97)}) < 30


def test_bad_meshes_are_refused():
    good = square()
    with pytest.raises(InputError, match=r"outside 0 to 3.*Count nodes from 0"):
        Mesh(good.nodes, good.elements + 1, good.flags)
    with pytest.raises(InputError, match="names a node twice"):
        Mesh(good.nodes, np.array([[0, 1, 1], [0, 2, 3]]), good.flags)
    with pytest.raises(InputError, match="node 3 is in no triangle"):
        Mesh(good.nodes, good.elements[:1], good.flags)
    with pytest.raises(InputError, match="not finite"):
        Mesh(good.nodes * np.nan, good.elements, good.flags)
    with pytest.raises(InputError, match=r"flags have shape \(3,\)"):
        Mesh(good.nodes, good.elements, good.flags[:3])
    with pytest.raises(InputError, match="beyond 2 kinds"):
        pad([good], kinds=2, length=1.0)
    with pytest.raises(InputError, match="at the same place"):
        pad([Mesh(good.nodes * 0, good.elements, good.flags)], kinds=3, length=1.0)
    with pytest.raises(InputError, match="differ"):
        pad([good, square(scalars=np.ones(1))], kinds=3, length=1.0)
