"""A U-Net of residual blocks (Gupta and Brandstetter 2022, arXiv:2209.15616, section 3; Ronneberger et al. 2015).

Down a pyramid of grids by convolutions of stride 2, up again by repeating points, and at each level what went down
beside what comes up. A grid of n points has ceil(n / 2) below it, so any size will do; where n is odd
on a periodic dim the last coarse cell is a half one, and only sizes that are multiples of `stride` commute with shifts
by it. It learns stencils, so it holds at the spacing of its training and not at others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from surrogates.operator.conditioning import Conditioning
from surrogates.operator.domain import FieldShape, position_count, with_positions
from surrogates.operator.layers import BOUNDARIES, NORMS, GridConv, NetworkConfig, Norm, activate, linear


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """The size of the network; see `NetworkConfig` for what all have.

    Attributes:
        multipliers: channels at each level in units of the width, from the finest; their number is that of the levels.
        blocks: residual blocks at each level, down and up.
        norm: "none", "layer" or "group"; see `layers.Norm`.
        groups: most groups of "group".
        attention: every point of the coarsest grid looks at every other.
        boundary: what lies beyond the ends of dims that are not periodic, "zero" or "edge".
    """

    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 1
    norm: str = "group"
    groups: int = 8
    attention: bool = False
    boundary: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of("norm", NORMS)
        self.one_of("boundary", BOUNDARIES)
        if not self.multipliers:
            raise ValueError("multipliers must name at least one level")

    @property
    def stride(self) -> int:
        """Points of the finest grid between two of the coarsest."""
        return int(2 ** (len(self.multipliers) - 1))


class ResidualBlock(nnx.Module):
    """Two convolutions after norm and activation, added to the input; the parameters act between them.

    Args:
        inputs, outputs: channels.
        config: of the network.
        shape: of what goes into it.
        rngs: for the first weights.
    """

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        around = (shape.periodic, config.boundary, config.dtype, rngs)
        self.activation = config.activation
        self.norm1 = Norm(config.norm, inputs, config.groups, rngs)
        self.conv1 = GridConv(inputs, outputs, *around, gain=2.0)
        self.norm2 = Norm(config.norm, outputs, config.groups, rngs)
        self.conv2 = GridConv(outputs, outputs, *around)
        self.conditioning = Conditioning(shape.parameters, 1, outputs, config, rngs)
        if inputs != outputs:
            self.short = linear(inputs, outputs, config.dtype, rngs)
        self.changes = inputs != outputs

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None
    ) -> Float[Array, "batch *space outputs"]:
        """The new features."""
        h = self.conv1(activate(self.activation, self.norm1(x)))
        h = self.conditioning(0, self.norm2(h), self.conditioning.features(parameters))
        return (self.short(x) if self.changes else x) + self.conv2(activate(self.activation, h))


class Attention(nnx.Module):
    """Every point looks at every other, in heads of 16 to 31 channels; added to the input.

    Args:
        channels: of a point.
        config: of the network.
        rngs: for the first weights.
    """

    def __init__(self, channels: int, config: UNetConfig, rngs: nnx.Rngs) -> None:
        self.heads = max(h for h in range(1, max(1, channels // 16) + 1) if channels % h == 0)
        self.norm = Norm("layer", channels, 1, rngs)
        self.ask = linear(channels, 3 * channels, config.dtype, rngs)
        self.answer = linear(channels, channels, config.dtype, rngs)

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """The new features."""
        points = self.norm(x).reshape(x.shape[0], -1, x.shape[-1])
        q, k, v = jnp.split(self.ask(points).reshape(*points.shape[:2], self.heads, -1), 3, axis=-1)
        seen = jax.nn.dot_product_attention(q, k, v)
        return x + self.answer(seen.reshape(points.shape)).reshape(x.shape)


class UNet(nnx.Module):
    """See the module.

    Args:
        config: its size.
        shape: of what goes in and comes out.
        rngs: for the first weights.
    """

    def __init__(self, config: UNetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        around = (shape.periodic, config.boundary, config.dtype, rngs)
        channels = [m * config.width for m in config.multipliers]

        def level(first: int, c: int) -> nnx.List:
            return nnx.List(
                [ResidualBlock(first if i == 0 else c, c, config, shape, rngs) for i in range(config.blocks)]
            )

        inputs = shape.inputs + position_count(config.positions, shape.dims)
        self.encode = GridConv(inputs, channels[0], *around)
        self.down = nnx.List([level(c, c) for c in channels[:-1]])
        pairs = list(pairwise(channels))
        self.coarsen = nnx.List([GridConv(fine, coarse, *around, stride=2) for fine, coarse in pairs])
        self.middle = level(channels[-1], channels[-1])
        if config.attention:
            self.attention = Attention(channels[-1], config, rngs)
        self.refine = nnx.List([GridConv(coarse, fine, *around) for fine, coarse in pairs])
        self.up = nnx.List([level(2 * c, c) for c in channels[:-1]])
        self.norm = Norm(config.norm, channels[0], config.groups, rngs)
        self.decode = GridConv(channels[0], shape.outputs, *around)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The answer on the grid of x.

        Raises:
            ValueError: x or the parameters are of another shape.
        """
        config, shape = self.config, self.shape
        shape.check(x)
        h = self.encode(with_positions(x, config.positions, shape.periodic, config.grid))
        passed = []
        for blocks, coarsen in zip(self.down, self.coarsen, strict=True):
            for block in blocks:
                h = block(h, parameters)
            passed.append(h)
            h = coarsen(h)
        for block in self.middle:
            h = block(h, parameters)
        if config.attention:
            h = self.attention(h)
        for blocks, refine, beside in zip(reversed(self.up), reversed(self.refine), reversed(passed), strict=True):
            h = jnp.concatenate([refine(upsample(h, beside.shape[1:-1])), beside], axis=-1)
            for block in blocks:
                h = block(h, parameters)
        return self.decode(activate(config.activation, self.norm(h))).astype(x.dtype)


def upsample(x: Float[Array, "batch *coarse channel"], space: tuple[int, ...]) -> Float[Array, "batch *space channel"]:
    """Each point of a coarse grid twice along each dim, as many as the finer grid has."""
    for axis, n in enumerate(space, start=1):
        x = jax.lax.slice_in_dim(jnp.repeat(x, 2, axis), 0, n, axis=axis)
    return x
