"""The mesh graph network: invariance under order, padding, translation and batch, and the reach of messages."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from scipy.sparse.csgraph import shortest_path
from scipy.spatial import Delaunay

from data.meshes.graphs import Mesh, mesh_edges, pad
from surrogates.meshes.network import MeshNetwork, MeshNetworkConfig, mesh_loss

BLOCKS = 2
KINDS = 3


def mesh(seed: int, count: int = 40) -> Mesh:
    random = np.random.default_rng(seed)
    nodes = random.uniform(size=(count, 2)) * [2.0, 1.0]
    flags = np.where(nodes[:, 0] < 0.3, 1, np.where(nodes[:, 0] > 1.7, 2, 0))
    return Mesh(nodes, Delaunay(nodes).simplices, flags, parameters=random.normal(size=1))


@pytest.fixture(scope="module")
def network():
    net = MeshNetwork(MeshNetworkConfig(16, BLOCKS), kinds=KINDS, parameters=1, fields=3, scalars=2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(net)
    return jax.jit(lambda batch: nnx.merge(graph, state)(batch))


def batched(*meshes: Mesh, **more):
    return pad(meshes, kinds=KINDS, length=0.2, **more)


def close(a, b) -> None:
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_the_order_of_nodes_and_elements_does_not_matter(network):
    original = mesh(0)
    order = np.random.default_rng(1).permutation(len(original.nodes))
    place = np.argsort(order)
    shuffled = Mesh(
        original.nodes[order],
        place[original.elements][::-1][:, [1, 2, 0]],
        original.flags[order],
        original.parameters,
    )
    (fields, scalars), (other, others) = network(batched(original)), network(batched(shuffled))
    assert np.ptp(fields[0, :40], axis=0).min() > 1e-2
    close(other[0, :40], fields[0, order])
    close(others, scalars)


def test_only_displacements_count(network):
    original = mesh(0)
    moved = replace(original, nodes=original.nodes + np.array([1e4, -3e3]))
    for a, b in zip(network(batched(original)), network(batched(moved)), strict=True):
        close(a, b)
    stretched = replace(original, nodes=original.nodes * [1.0, 1.5])
    assert np.abs(network(batched(stretched))[1] - network(batched(original))[1]).max() > 1e-3


def test_padding_changes_nothing_whatever_it_holds(network):
    original = mesh(0)
    fields, scalars = network(batched(original))
    wide = batched(original, nodes=112, batch_size=2)
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
    channel = mesh(5, 60)
    batch = batched(channel)
    changed = batched(channel)
    changed.node_features[0, 7, 3] += 1.0
    differs = np.abs(np.asarray(network(changed)[0] - network(batch)[0]))[0, :60].max(axis=1) > 1e-6
    ends = mesh_edges(channel.elements)
    adjacent = np.zeros((60, 60))
    adjacent[ends[0], ends[1]] = 1
    assert np.array_equal(differs, shortest_path(adjacent, unweighted=True)[7] <= BLOCKS)


def test_the_readout_tells_kinds_of_boundary_apart():
    module = MeshNetwork(MeshNetworkConfig(4, 1), kinds=KINDS, parameters=1, fields=1, scalars=1, rngs=nnx.Rngs(0))
    batch = batched(mesh(0))
    nodes = np.random.default_rng(0).normal(size=(1, batch.node_mask.shape[1], 4)).astype(np.float32)
    nodes[~batch.node_mask] = 0
    flags, vertices = mesh(0).flags, nodes[0, :40]
    expected = np.concatenate([vertices.mean(0), *(vertices[flags == k].mean(0) for k in range(KINDS))])
    pooled = nnx.jit(lambda network, values: network.pool(values, batch))(module, nodes)
    np.testing.assert_allclose(pooled[0], expected, rtol=1e-5, atol=1e-6)


def test_it_learns_a_field_and_a_scalar():
    def labelled(seed: int) -> Mesh:
        channel = mesh(seed, 30 + seed)
        # The distance along the channel, times the parameter; and the mean of that over the right boundary.
        field = channel.parameters[0] * channel.nodes[:, :1]
        return replace(channel, fields=field, scalars=field[channel.flags == 2].mean(0))

    module = MeshNetwork(MeshNetworkConfig(16, 2, 1), kinds=KINDS, parameters=1, fields=1, scalars=1, rngs=nnx.Rngs(1))
    optimiser = nnx.Optimizer(module, optax.adam(1e-2), wrt=nnx.Param)
    batch = batched(*[labelled(s) for s in range(4)], batch_size=5)

    @nnx.jit
    def step(network, optimiser, batch):
        loss, gradient = nnx.value_and_grad(lambda n: mesh_loss(*n(batch), batch))(network)
        optimiser.update(network, gradient)
        return loss

    losses = [float(step(module, optimiser, batch)) for _ in range(60)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.05 * losses[0]


def test_the_loss_counts_what_is_there():
    sample = replace(mesh(0), fields=np.ones((40, 2)), scalars=np.array([3.0]))
    batch = batched(sample, batch_size=3)
    fields, scalars = np.full(batch.fields.shape, 1.5), np.full(batch.scalars.shape, 5.0)
    assert float(jax.jit(mesh_loss)(fields, scalars, batch)) == pytest.approx(0.25 + 4.0)
