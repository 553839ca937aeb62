"""A mesh graph network: encode, process by message passing along the edges of a mesh, decode.

Pfaff et al. 2021 (arXiv:2010.03409), section 3: with node states v and edge states e, each block takes
e_ij <- e_ij + f_E(e_ij, v_i, v_j) and v_i <- v_i + f_V(v_i, sum_j e_ij), every f an MLP with a layer norm at its end.
Positions enter only as displacements along edges, so the outputs do not change when a mesh is translated. Global
scalars (drag, lift) are read from means over the nodes of each kind, because a force acts on one boundary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from data.meshes.graphs import MeshBatch, feature_width
from data.plain import OMIT_DEFAULT
from surrogates.learning.nn.precision import Mixer, refuse_precision


@dataclass(frozen=True)
class MeshNetworkConfig:
    """Hyperparameters of the network.

    Attributes:
        features: width of the states of nodes and edges, and of hidden layers.
        blocks: number of rounds of message passing; a node sees nodes up to as many edges away.
        layers: number of hidden layers of each MLP.
        precision: precision of the products that mix channels; one of `surrogates.learning.nn.precision.PRECISIONS`.

    Raises:
        ValueError: a size is below 1.
    """

    features: int = 128
    blocks: int = 15
    layers: int = 2
    #: Surrogates of earlier versions lack it, and must keep their fingerprint.
    precision: str = field(default="float32", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.features, self.blocks, self.layers) < 1:
            raise ValueError(f"sizes must be at least 1; got {self}")
        refuse_precision(self.precision)


class ReluMLP(nnx.Module):
    """Linear layers with ReLU between them, and optionally a layer norm at the end.

    `first` and `last` are precisions of the first and last layer, where they differ from that of the network.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: MeshNetworkConfig,
        rngs: nnx.Rngs,
        *,
        norm: bool,
        first: str = "",
        last: str = "",
    ) -> None:
        widths = [inputs, *[config.features] * config.layers, outputs]
        each = [first or config.precision, *[config.precision] * (config.layers - 1), last or config.precision]
        self.linear = nnx.List([Mixer(a, b, c, rngs) for (a, b), c in zip(pairwise(widths), each, strict=True)])
        self.norm = nnx.LayerNorm(outputs, rngs=rngs) if norm else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The output of every row."""
        return self.rest(self.linear[0](x))

    def rest(self, x: Float[Array, "*batch hidden"]) -> Float[Array, "*batch outputs"]:
        """The layers after the first linear one."""
        for layer in list(self.linear)[1:]:
            x = layer(nnx.relu(x))
        return x if self.norm is None else self.norm(x)


class MeshBlock(nnx.Module):
    """One round of message passing along the edges."""

    def __init__(self, config: MeshNetworkConfig, rngs: nnx.Rngs) -> None:
        width = config.features
        self.edge = ReluMLP(width, width, config, rngs, norm=True)
        self.ends = Mixer(width, 2 * width, config.precision, rngs, use_bias=False)
        self.node = ReluMLP(2 * width, width, config, rngs, norm=True)

    def __call__(
        self, nodes: Float[Array, "mesh node feature"], edges: Float[Array, "mesh edge feature"], batch: MeshBatch
    ) -> tuple[Float[Array, "mesh node feature"], Float[Array, "mesh edge feature"]]:
        """The next states of nodes and edges."""
        # The first layer of f_E is linear in (e, v_i, v_j); the parts of v are computed on nodes, fewer than edges.
        sent, received = jnp.split(self.ends(nodes), 2, axis=-1)
        joined = self.edge.linear[0](edges) + _gather(sent, batch.senders) + _gather(received, batch.receivers)
        edges = edges + self.edge.rest(joined)
        present = jnp.where(batch.edge_mask[..., None], edges, 0.0)
        total = jax.vmap(lambda e, r: jax.ops.segment_sum(e, r, nodes.shape[1]))(present, batch.receivers)
        return nodes + self.node(jnp.concatenate([nodes, total], axis=-1)), edges


def _gather(nodes: Float[Array, "mesh node feature"], index: Array) -> Float[Array, "mesh edge feature"]:
    return jnp.take_along_axis(nodes, index[..., None], axis=1, mode="promise_in_bounds")


class MeshNetwork(nnx.Module):
    """A network from a batch of meshes to standardised fields at the nodes and standardised global scalars."""

    def __init__(
        self,
        config: MeshNetworkConfig,
        *,
        kinds: int,
        parameters: int,
        fields: int,
        scalars: int,
        rngs: nnx.Rngs,
        axes: int = 2,
    ) -> None:
        width = config.features
        self.kinds = kinds
        self.encode_nodes = ReluMLP(feature_width(kinds, parameters), width, config, rngs, norm=True, first="float32")
        # The displacement along each axis, and its length.
        self.encode_edges = ReluMLP(axes + 1, width, config, rngs, norm=True, first="float32")
        self.blocks = nnx.List([MeshBlock(config, rngs) for _ in range(config.blocks)])
        self.decode = ReluMLP(width, fields, config, rngs, norm=False, last="float32")
        # Means over nodes are exact, and so are the layers that read scalars from them.
        exact = replace(config, precision="float32")
        self.readout = ReluMLP((kinds + 1) * width, scalars, exact, rngs, norm=False) if scalars else None

    def __call__(self, batch: MeshBatch) -> tuple[Float[Array, "mesh node field"], Float[Array, "mesh scalar"]]:
        """Standardised fields and scalars; those of padding are 0."""
        nodes, edges = self.encode_nodes(batch.node_features), self.encode_edges(batch.edge_features)
        for block in self.blocks:
            nodes, edges = block(nodes, edges, batch)
        present = jnp.asarray(batch.node_mask)[..., None]
        fields = jnp.where(present, self.decode(nodes), 0.0)
        if self.readout is None:
            return fields, jnp.zeros((nodes.shape[0], 0))
        pooled = self.pool(jnp.where(present, nodes, 0.0), batch)
        return fields, jnp.where(jnp.asarray(batch.mask)[:, None], self.readout(pooled), 0.0)

    def pool(self, nodes: Float[Array, "mesh node feature"], batch: MeshBatch) -> Float[Array, "mesh pooled"]:
        """Means over all nodes and over those of each kind (0 for a missing kind); padding nodes must be 0."""
        present = jnp.asarray(batch.node_mask)[..., None]
        member = jnp.concatenate(
            [jnp.ones_like(batch.node_features[..., :1]), batch.node_features[..., : self.kinds]], -1
        )
        member = jnp.where(present, member, 0.0)
        count = jnp.maximum(member.sum(1), 1.0)
        means = jnp.einsum("mnk,mnf->mkf", member, nodes) / count[..., None]
        return means.reshape(means.shape[0], -1)


def mesh_loss(
    fields: Float[Array, "mesh node field"], scalars: Float[Array, "mesh scalar"], batch: MeshBatch
) -> Float[Array, ""]:
    """Mean square error over the nodes plus that over the scalars; targets that are NaN do not contribute."""
    total = jnp.zeros(())
    for predicted, target in ((fields, batch.fields), (scalars, batch.scalars)):
        labelled = jnp.isfinite(target)
        # NaN targets are replaced before the difference is squared, so that no gradient is NaN either.
        error = predicted - jnp.where(labelled, target, 0.0)
        total += jnp.square(jnp.where(labelled, error, 0.0)).sum() / jnp.maximum(labelled.sum(), 1)
    return total
