"""Attention between slices of a domain (Transolver: Wu et al. 2024, arXiv:2402.02366, section 3).

Each point belongs to learned slices by shares that sum to 1 (eq. 1); a slice is the average of its points (eq. 2);
slices attend to one another (eq. 3), and each point gets back the slices in its shares (eq. 4). The cost grows
with the number of points and not with its square, and nothing but a point's own features tells where it is: the answer
permutes with the points, on a grid or on none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from surrogates.operator.conditioning import Conditioning
from surrogates.operator.domain import FieldShape, coordinates, position_count, position_features
from surrogates.operator.layers import DTYPES, MLP, NetworkConfig, Norm, linear

#: Share of one point, below which a slice counts as empty.
EMPTY = 1e-6


@dataclass(frozen=True)
class TransolverConfig(NetworkConfig):
    """The size of the network; see `NetworkConfig` for what all have.

    Attributes:
        layers: blocks of attention and MLP.
        heads: of attention; they divide the width.
        slices: of each head.
        mlp: hidden channels of a block's MLP, in units of the width.
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
    """Eqs. 1 to 4, in heads.

    Args:
        config: of the network.
        rngs: for the first weights.
    """

    def __init__(self, config: TransolverConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        width, each = config.width, config.width // config.heads
        self.shares = linear(width, width, config.dtype, rngs)
        self.values = linear(width, width, config.dtype, rngs)
        # Orthogonal rows pull the slices apart at first, or all of them would be the average of everything.
        self.slices = nnx.Linear(each, config.slices, kernel_init=nnx.initializers.orthogonal(), rngs=rngs)
        # The softmax divides by a temperature, which begins at 0.5 (section 3.1); this is its logarithm.
        self.scale = nnx.Param(jnp.full((config.heads, 1), jnp.log(0.5)))
        self.ask = linear(each, 3 * each, config.dtype, rngs, use_bias=False)
        self.answer = linear(width, width, config.dtype, rngs)

    def __call__(
        self, x: Float[Array, "batch point width"], mask: Bool[Array, "batch point"] | None
    ) -> Float[Array, "batch point width"]:
        """What is added to the features of each point."""
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
    """Attention and MLP, each after a norm over the channels of a point and added to its input.

    Args:
        config: of the network.
        rngs: for the first weights.
    """

    def __init__(self, config: TransolverConfig, rngs: nnx.Rngs) -> None:
        width = config.width
        self.norm1, self.norm2 = Norm("layer", width, 1, rngs), Norm("layer", width, 1, rngs)
        self.attention = SliceAttention(config, rngs)
        self.mlp = MLP(width, max(1, round(config.mlp * width)), width, config.activation, config.dtype, rngs)


class Transolver(nnx.Module):
    """See the module.

    Args:
        config: its size.
        shape: of what goes in and comes out.
        rngs: for the first weights.
    """

    def __init__(self, config: TransolverConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        width, dtype = config.width, config.dtype
        self.config, self.shape = config, shape
        inputs = shape.inputs + position_count(config.positions, shape.dims)
        self.lift = MLP(inputs, 2 * width, width, config.activation, dtype, rngs)
        self.blocks = nnx.List([TransolverBlock(config, rngs) for _ in range(config.layers)])
        self.norm = Norm("layer", width, 1, rngs)
        self.project = linear(width, shape.outputs, dtype, rngs)
        self.conditioning = Conditioning(shape.parameters, config.layers, width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The answer on the grid of x, whatever its size.

        Raises:
            ValueError: x or the parameters are of another shape.
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
        """The answer at points that lie anywhere.

        Args:
            x: the fields there.
            where: their coordinates, as shares of the domain.
            parameters: numbers that condition the answer.
            mask: False for padding, whose answers mean nothing; None where there is none.

        Raises:
            ValueError: the parameters are of another shape.
        """
        features = position_features(self.config.positions, where).astype(x.dtype)
        conditions = self.conditioning.features(parameters)
        h = self.lift(jnp.concatenate([x, features], axis=-1)).astype(DTYPES[self.config.dtype])
        for index, block in enumerate(self.blocks):
            h = h + block.attention(self.conditioning(index, block.norm1(h), conditions), mask)
            h = h + block.mlp(block.norm2(h))
        return self.project(self.norm(h)).astype(x.dtype)
