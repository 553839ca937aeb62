"""A U-Net of residual blocks (Gupta and Brandstetter 2022, arXiv:2209.15616, section 3; Ronneberger et al. 2015).

The network coarsens the grid by convolutions of stride 2 and refines it again by repeating points; at each level the
features from the way down are concatenated to those on the way up. A grid of n points is coarsened to ceil(n / 2)
points, so any size is allowed. If n is odd on a periodic dim, the last coarse cell covers one point; only for sizes
that are multiples of `stride` is the network equivariant under shifts by `stride`. It learns stencils, so it is valid
at the grid spacing of training alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.grid import FieldShape, position_count, with_positions
from surrogates.learning.nn.layers import BOUNDARIES, NORMS, GridConv, NetworkConfig, Norm, activate, linear


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        multipliers: channels of each level in units of the width, from the finest level.
        blocks: number of residual blocks at each level, both down and up.
        norm: normalisation, "none", "layer" or "group"; see `layers.Norm`.
        groups: largest number of groups of "group".
        attention: whether the coarsest level has self-attention between all points.
        boundary: padding of dims that are not periodic, "zero" or "edge".
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
        """Distance between points of the coarsest grid, in points of the finest grid."""
        return int(2 ** (len(self.multipliers) - 1))


class ResidualBlock(nnx.Module):
    """A residual block of two convolutions, each after norm and activation, with the conditioning between them.

    Args:
        inputs, outputs: number of channels.
        config: hyperparameters of the network.
        shape: dims and parameters of the inputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        around = (shape.periodic, config.boundary, config.precision, rngs)
        self.activation = config.activation
        self.norm1 = Norm(config.norm, inputs, config.groups, rngs)
        self.conv1 = GridConv(inputs, outputs, *around, gain=2.0)
        self.norm2 = Norm(config.norm, outputs, config.groups, rngs)
        self.conv2 = GridConv(outputs, outputs, *around)
        self.conditioning = Conditioning(shape.parameters, 1, outputs, config, rngs)
        if inputs != outputs:
            self.short = linear(inputs, outputs, config.precision, rngs)
        self.changes = inputs != outputs

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None
    ) -> Float[Array, "batch *space outputs"]:
        """The new features."""
        h = self.conv1(activate(self.activation, self.norm1(x)))
        h = self.conditioning(0, self.norm2(h), self.conditioning.features(parameters))
        return (self.short(x) if self.changes else x) + self.conv2(activate(self.activation, h))


class Attention(nnx.Module):
    """Residual self-attention between all points, in heads of 16 or more channels.

    Args:
        channels: number of channels.
        config: hyperparameters of the network.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, channels: int, config: UNetConfig, rngs: nnx.Rngs) -> None:
        self.heads = max(h for h in range(1, max(1, channels // 16) + 1) if channels % h == 0)
        self.norm = Norm("layer", channels, 1, rngs)
        self.ask = linear(channels, 3 * channels, config.precision, rngs)
        self.answer = linear(channels, channels, config.precision, rngs)

    def __call__(self, x: Float[Array, "batch *space channels"]) -> Float[Array, "batch *space channels"]:
        """The new features."""
        points = self.norm(x).reshape(x.shape[0], -1, x.shape[-1])
        q, k, v = jnp.split(self.ask(points).reshape(*points.shape[:2], self.heads, -1), 3, axis=-1)
        seen = jax.nn.dot_product_attention(q, k, v)
        return x + self.answer(seen.reshape(points.shape)).reshape(x.shape)


class UNet(nnx.Module):
    """A U-Net; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: UNetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        around = (shape.periodic, config.boundary, config.precision, rngs)
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
        """The output fields on the grid of x.

        Raises:
            ValueError: x or the parameters have the wrong shape.
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
    """Repeat each point of a coarse grid along each dim, up to the number of points of the finer grid."""
    for axis, n in enumerate(space, start=1):
        x = jax.lax.slice_in_dim(jnp.repeat(x, 2, axis), 0, n, axis=axis)
    return x
