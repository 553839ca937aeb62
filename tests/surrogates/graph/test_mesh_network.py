"""The mesh graph network: order, padding, place and batch change nothing; messages reach as far as they may."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.sparse.csgraph import shortest_path
from scipy.spatial import Delaunay

from data.meshes import Mesh, mesh_edges, pad
from surrogates.graph.mesh_network import MeshNetwork, MeshNetworkConfig, mesh_loss

BLOCKS = 2
KINDS = 3


def mesh(seed: int, count: int = 40) -> Mesh:
    random = np.random.default_rng(seed)
    nodes = random.uniform(size=(count, 2)) * [2.0, 1.0]
    flags = np.where(nodes[:, 0] < 0.3, 1, np.where(nodes[:, 0] > 1.7, 2, 0))
    return Mesh(nodes, Delaunay(nodes).simplices, flags, parameters=random.normal(size=1))


@pytest.fixture(scope="module")
def network():
    made = MeshNetwork(MeshNetworkConfig(16, BLOCKS), kinds=KINDS, parameters=1, fields=3, scalars=2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(made)
    return jax.jit(lambda batch: nnx.merge(graph, state)(batch))


def batched(*meshes: Mesh, **more):
    return pad(meshes, kinds=KINDS, length=0.2, **more)


def close(a, b) -> None:
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_the_order_of_nodes_and_elements_does_not_matter(network):
    given = mesh(0)
    order = np.random.default_rng(1).permutation(len(given.nodes))
    place = np.argsort(order)
    shuffled = Mesh(
        given.nodes[order],
        place[given.elements][::-1][:, [1, 2, 0]],
        given.flags[order],
        given.parameters,
    )
    (fields, scalars), (other, others) = network(batched(given)), network(batched(shuffled))
    assert np.ptp(fields[0, :40], axis=0).min() > 1e-2
    close(other[0, :40], fields[0, order])
    close(others, scalars)


def test_only_displacements_count(network):
    given = mesh(0)
    moved = replace(given, nodes=given.nodes + np.array([1e4, -3e3]))
    for a, b in zip(network(batched(given)), network(batched(moved)), strict=True):
        close(a, b)
    stretched = replace(given, nodes=given.nodes * [1.0, 1.5])
    assert np.abs(network(batched(stretched))[1] - network(batched(given))[1]).max() > 1e-3


def test_padding_changes_nothing_whatever_it_holds(network):
    given = mesh(0)
    fields, scalars = network(batched(given))
    wide = batched(given, nodes=112, batch_size=2)
    nodes, edges = ~wide.node_mask, ~wide.edge_mask
    random = np.random.default_rng(2)
    wide.node_features[nodes] = 1e3 * random.normal(size=(nodes.sum(), wide.node_features.shape[2]))
    wide.edge_features[edges] = 1e3 * random.normal(size=(edges.sum(), 3))
    wide.senders[edges], wide.receivers[edges] = random.integers(0, 112, size=(2, edges.sum()))
    other, others = network(wide)
    close(other[0, :40], fields[0, :40])
    close(others[0], scalars[0])
    assert not np.asarray(other)[nodes].any()
    assert not np.asarray(others)[1].any()


def test_a_mesh_in_a_batch_is_answered_as_alone(network):
    meshes = [mesh(0), mesh(3, 55), mesh(4, 25)]
    fields, scalars = network(batched(*meshes))
    for row, one in enumerate(meshes):
        alone, others = network(batched(one))
        close(fields[row], alone[0])
        close(scalars[row], others[0])


def test_a_node_is_seen_as_many_edges_away_as_there_are_blocks(network):
    given = mesh(5, 60)
    batch = batched(given)
    changed = batched(given)
    changed.node_features[0, 7, 3] += 1.0
    differs = np.abs(np.asarray(network(changed)[0] - network(batch)[0]))[0, :60].max(axis=1) > 1e-6
    ends = mesh_edges(given.elements)
    adjacent = np.zeros((60, 60))
    adjacent[ends[0], ends[1]] = 1
    assert np.array_equal(differs, shortest_path(adjacent, unweighted=True)[7] <= BLOCKS)


def test_the_readout_tells_kinds_of_boundary_apart():
    made = MeshNetwork(MeshNetworkConfig(4, 1), kinds=KINDS, parameters=1, fields=1, scalars=1, rngs=nnx.Rngs(0))
    batch = batched(mesh(0))
    nodes = np.random.default_rng(0).normal(size=(1, batch.node_mask.shape[1], 4)).astype(np.float32)
    nodes[~batch.node_mask] = 0
    flags, there = mesh(0).flags, nodes[0, :40]
    expected = np.concatenate([there.mean(0), *(there[flags == k].mean(0) for k in range(KINDS))])
    np.testing.assert_allclose(made.pool(nodes, batch)[0], expected, rtol=1e-5, atol=1e-6)


def test_it_learns_a_field_and_a_scalar():
    def labelled(seed: int) -> Mesh:
        given = mesh(seed, 30 + seed)
        # The distance along the channel, times the parameter; and the mean of that over the right boundary.
        field = given.parameters[0] * given.nodes[:, :1]
        return replace(given, fields=field, scalars=field[given.flags == 2].mean(0))

    made = MeshNetwork(MeshNetworkConfig(16, 2, 1), kinds=KINDS, parameters=1, fields=1, scalars=1, rngs=nnx.Rngs(1))
    optimiser = nnx.Optimizer(made, optax.adam(1e-2), wrt=nnx.Param)
    batch = batched(*[labelled(s) for s in range(4)], batch_size=5)

    @nnx.jit
    def step(network, optimiser, batch):
        loss, gradient = nnx.value_and_grad(lambda n: mesh_loss(*n(batch), batch))(network)
        optimiser.update(network, gradient)
        return loss

    losses = [float(step(made, optimiser, batch)) for _ in range(60)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.05 * losses[0]


def test_the_loss_counts_what_is_there():
    given = replace(mesh(0), fields=np.ones((40, 2)), scalars=np.array([3.0]))
    batch = batched(given, batch_size=3)
    fields, scalars = np.full(batch.fields.shape, 1.5), np.full(batch.scalars.shape, 5.0)
    assert float(mesh_loss(fields, scalars, batch)) == pytest.approx(0.25 + 4.0)
