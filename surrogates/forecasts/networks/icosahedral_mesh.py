"""A graph network on a refined icosahedral multi-mesh: encode to the mesh, process along its edges, decode to the grid.

The network follows GraphCast (Lam et al. 2023, arXiv:2212.12794): messages from grid points to vertices near them,
rounds of messages between vertices along the edges of all refinements at once, and messages from the three vertices
around each grid point back to it. Every function is an MLP, and every round is residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.errors import InputError
from surrogates.forecasts.networks.icosahedron import (
    edge_features,
    grid_points,
    grid_to_mesh,
    mesh_to_grid,
    multi_mesh_edges,
    refinements,
)
from surrogates.forecasts.networks.layers import ConditionalNorm, Constant, Decoder, Encoder, SphereConfig, SphereShape
from surrogates.learning.nn.layers import MLP, activate, linear


@dataclass(frozen=True)
class SphereMeshConfig(SphereConfig):
    """Sizes; see `SphereConfig`.

    Attributes:
        refinements: number of refinements of the icosahedron: 3 gives 642 vertices, each further one 4 times as many.
        reach: largest distance of messages from the grid, in units of the longest edge.
    """

    refinements: int = 3
    reach: float = 0.6


class Messages(nnx.Module):
    """Messages from senders to receivers: the sum over edges of an MLP of the edge and of both ends.

    Args:
        config: sizes.
        edges: (sender, receiver), sorted by receiver.
        places: points of senders and receivers on the unit sphere.
        rngs: random keys of the initial weights.
    """

    def __init__(
        self, config: SphereConfig, edges: np.ndarray, places: tuple[np.ndarray, np.ndarray], rngs: nnx.Rngs
    ) -> None:
        senders, receivers = edges.T
        self.senders, self.receivers = Constant(senders), Constant(receivers)
        self.count, self.activation = len(places[1]), config.activation
        features = edge_features(places[0][senders], places[1][receivers])
        self.features = Constant((features / np.maximum(features.std(axis=0), 1e-9)).astype(np.float32))
        precision, width = config.precision, config.width
        # The first layer is linear in its three parts; two of them are cheaper on nodes, of which there are fewer.
        self.edge = linear(features.shape[1], width, precision, rngs)
        self.sent = linear(width, width, precision, rngs, use_bias=False)
        self.received = linear(width, width, precision, rngs, use_bias=False)
        self.last = linear(width, width, precision, rngs)
        self.scale = float(np.sqrt(len(edges) / self.count))

    def __call__(
        self, senders: Float[Array, "batch sender width"], receivers: Float[Array, "batch receiver width"]
    ) -> Float[Array, "batch receiver width"]:
        """The sum of the messages to each receiver, divided by the root of the mean number of edges."""
        sent = self.sent(senders)[:, self.senders.values]
        received = self.received(receivers)[:, self.receivers.values]
        heard = activate(self.activation, self.edge(jnp.asarray(self.features.values)) + sent + received)

        def total(messages: Array) -> Array:
            return jax.ops.segment_sum(messages, self.receivers.values, self.count, indices_are_sorted=True)

        # The last layer is linear, so it acts on sums, of which there are fewer.
        return self.last(jax.vmap(total)(heard) / self.scale)


class SphereMeshBlock(nnx.Module):
    """A residual block: a round of messages between vertices, then an MLP of each vertex."""

    def __init__(
        self, config: SphereMeshConfig, shape: SphereShape, edges: np.ndarray, vertices: np.ndarray, rngs: nnx.Rngs
    ) -> None:
        self.norm = ConditionalNorm(config.width, shape.conditions, rngs)
        self.messages = Messages(config, edges, (vertices, vertices), rngs)
        hidden = int(config.hidden * config.width)
        self.mlp = MLP(2 * config.width, hidden, config.width, config.activation, config.precision, rngs, gain=0.1)

    def __call__(
        self, h: Float[Array, "batch vertex width"], conditions: Float[Array, "batch conditions"] | None
    ) -> Float[Array, "batch vertex width"]:
        """The features after the block."""
        normed = self.norm(h, conditions)
        return h + self.mlp(jnp.concatenate([normed, self.messages(normed, normed)], axis=-1))


class MeshNet(nnx.Module):
    """The mesh network that the docstring of the module describes.

    Args:
        config: settings of the network.
        shape: shape of inputs and outputs.
        rngs: random keys of the initial weights.

    Raises:
        InputError: the grid does not cover the sphere.
    """

    def __init__(self, config: SphereMeshConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        if not shape.grid.is_global:
            raise InputError(
                "a mesh of the sphere needs a global grid", where="model.network.architecture",
                remedy="Choose model=latlon_conv for a region",
            )  # fmt: skip
        self.config, self.shape = config, shape
        meshes = refinements(config.refinements)
        finest, points = meshes[-1], grid_points(shape.grid)
        edges = multi_mesh_edges(meshes)
        near = mesh_to_grid(shape.grid, finest)
        back = np.stack([near.ravel(), np.repeat(np.arange(len(points)), 3)], axis=1)
        latitude = finest.vertices[:, 2]
        place = np.stack([latitude, np.sqrt(np.maximum(0, 1 - latitude**2))], axis=1)
        self.place = Constant(place.astype(np.float32))
        self.encode = Encoder(config, shape, rngs)
        self.begin = linear(2, config.width, config.precision, rngs)
        self.inward = Messages(config, grid_to_mesh(shape.grid, finest, config.reach), (points, finest.vertices), rngs)
        self.blocks = nnx.List(
            [SphereMeshBlock(config, shape, edges, finest.vertices, rngs) for _ in range(config.blocks)]
        )
        self.outward = Messages(config, back, (finest.vertices, points), rngs)
        hidden = int(config.hidden * config.width)
        self.join = MLP(2 * config.width, hidden, config.width, config.activation, config.precision, rngs, gain=0.1)
        self.decode = Decoder(config, shape, rngs)

    def __call__(
        self,
        x: Float[Array, "batch latitude longitude inputs"],
        conditions: Float[Array, "batch conditions"] | None = None,
    ) -> Float[Array, "batch latitude longitude outputs"]:
        """The answer on the grid of x."""
        fine = self.encode(x)
        flat = fine.reshape(x.shape[0], -1, fine.shape[-1])
        vertices = jnp.broadcast_to(
            self.begin(jnp.asarray(self.place.values)), (x.shape[0], len(self.place.values), flat.shape[-1])
        )
        h = vertices + self.inward(flat, vertices)
        for block in self.blocks:
            step = nnx.remat(lambda b, h, c: b(h, c)) if self.config.remat else (lambda b, h, c: b(h, c))
            h = step(block, h, conditions)
        heard = self.outward(h, flat)
        flat = flat + self.join(jnp.concatenate([flat, heard], axis=-1))
        return self.decode(flat.reshape(fine.shape), conditions)
