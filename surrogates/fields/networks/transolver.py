"""Attention between slices of a domain (Transolver: Wu et al. 2024, arXiv:2402.02366, section 3).

Each point belongs to learned slices with weights that sum to 1 (eq. 1); the token of a slice is the average of its
points (eq. 2); tokens attend to one another (eq. 3), and each point gets the weighted sum of the tokens (eq. 4). The
cost is linear in the number of points. The network is equivariant under permutations of the points, because positions
enter as features only, so the points need not lie on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.grid import FieldShape, coordinates, position_count, position_features
from surrogates.learning.nn.layers import MLP, NetworkConfig, Norm, linear
from surrogates.learning.nn.precision import PRECISIONS

#: Added to the weight of a slice, so that an empty slice has a token of 0.
EMPTY = 1e-6


@dataclass(frozen=True)
class TransolverConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        layers: number of blocks of attention and MLP.
        heads: number of heads of attention; a divisor of the width.
        slices: number of slices of each head.
        mlp: hidden channels of the MLP of a block, in units of the width.
    """

    width: int = 64
    positions: str = "linear"
    layers: int = 4
    heads: int = 4
    slices: int = 32
    mlp: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"heads must divide the width, got {self.heads} and {self.width}")
        if self.mlp <= 0:
            raise ValueError(f"mlp must be above 0, got {self.mlp}")


class SliceAttention(nnx.Module):
    """Attention between slices (eqs. 1 to 4) in several heads.

    Args:
        config: hyperparameters of the network.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: TransolverConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        width, each = config.width, config.width // config.heads
        self.shares = linear(width, width, config.precision, rngs)
        self.values = linear(width, width, config.precision, rngs)
        # Orthogonal initial weights make the slices differ; otherwise all tokens would be the average of all points.
        self.slices = nnx.Linear(each, config.slices, kernel_init=nnx.initializers.orthogonal(), rngs=rngs)
        # Logarithm of the temperature of the softmax, which is initially 0.5 (section 3.1).
        self.scale = nnx.Param(jnp.full((config.heads, 1), jnp.log(0.5)))
        self.ask = linear(each, 3 * each, config.precision, rngs, use_bias=False)
        self.answer = linear(width, width, config.precision, rngs)

    def __call__(
        self, x: Float[Array, "batch point width"], mask: Bool[Array, "batch point"] | None
    ) -> Float[Array, "batch point width"]:
        """The change of the features of each point."""
        batch, points, width = x.shape
        heads = (batch, points, self.config.heads, width // self.config.heads)
        scores = self.slices(self.shares(x).reshape(heads).astype(jnp.float32))
        shares = jax.nn.softmax(scores / jnp.exp(self.scale[...]), axis=-1)
        counted = shares if mask is None else shares * mask[..., None, None]
        sums = jnp.einsum("bnhg,bnhc->bghc", counted, self.values(x).reshape(heads).astype(jnp.float32))
        tokens = sums / (counted.sum(axis=1).swapaxes(1, 2)[..., None] + EMPTY)
        q, k, v = jnp.split(self.ask(tokens), 3, axis=-1)
        seen = jax.nn.dot_product_attention(q, k, v)
        back = jnp.einsum("bnhg,bghc->bnhc", shares.astype(seen.dtype), seen)
        return self.answer(back.reshape(x.shape))


class TransolverBlock(nnx.Module):
    """Attention and MLP, both residual and after a normalisation of the channels of each point.

    Args:
        config: hyperparameters of the network.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: TransolverConfig, rngs: nnx.Rngs) -> None:
        width = config.width
        self.norm1, self.norm2 = Norm("layer", width, 1, rngs), Norm("layer", width, 1, rngs)
        self.attention = SliceAttention(config, rngs)
        self.mlp = MLP(width, max(1, round(config.mlp * width)), width, config.activation, config.precision, rngs)


class Transolver(nnx.Module):
    """A Transolver; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: TransolverConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        width, precision = config.width, config.precision
        self.config, self.shape = config, shape
        inputs = shape.inputs + position_count(config.positions, shape.dims)
        self.lift = MLP(inputs, 2 * width, width, config.activation, precision, rngs)
        self.blocks = nnx.List([TransolverBlock(config, rngs) for _ in range(config.layers)])
        self.norm = Norm("layer", width, 1, rngs)
        self.project = linear(width, shape.outputs, precision, rngs)
        self.conditioning = Conditioning(shape.parameters, config.layers, width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of x, which may have any size.

        Raises:
            ValueError: x or the parameters have the wrong shape.
        """
        self.shape.check(x)
        batch, space, points = x.shape[0], x.shape[1:-1], prod(x.shape[1:-1])
        where = coordinates(space, self.shape.periodic, self.config.grid).reshape(1, points, self.shape.dims)
        flat = x.reshape(batch, points, x.shape[-1])
        answer = self.at_points(flat, jnp.broadcast_to(where, (batch, *where.shape[1:])), parameters)
        return answer.reshape(batch, *space, self.shape.outputs)

    def at_points(
        self,
        x: Float[Array, "batch point inputs"],
        where: Float[Array, "batch point dims"],
        parameters: Float[Array, "batch parameters"] | None = None,
        mask: Bool[Array, "batch point"] | None = None,
    ) -> Float[Array, "batch point outputs"]:
        """The output fields at arbitrary points.

        Args:
            x: the input fields at the points.
            where: coordinates of the points, as shares of the domain.
            parameters: parameters that condition the output.
            mask: False for padding, whose outputs are meaningless; None for no padding.

        Raises:
            ValueError: the parameters have the wrong shape.
        """
        features = position_features(self.config.positions, where).astype(x.dtype)
        conditions = self.conditioning.features(parameters)
        h = self.lift(jnp.concatenate([x, features], axis=-1)).astype(PRECISIONS[self.config.precision].dtype)
        for index, block in enumerate(self.blocks):
            h = h + block.attention(self.conditioning(index, block.norm1(h), conditions), mask)
            h = h + block.mlp(block.norm2(h))
        return self.project(self.norm(h)).astype(x.dtype)
