"""A small convolutional network that corrects a cheap step.

The points of each small block of the grid become channels (a space-to-depth rearrangement: Shi et al. 2016,
arXiv:1609.05158), so that the convolutions work on the coarse grid of the solver, and what the fine grid holds beyond
it stays in the channels. Each convolution adds to its input. The last map has small weights at the start, so that
training begins near the uncorrected solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.grid import FieldShape, position_count, with_positions
from surrogates.learning.nn.layers import BOUNDARIES, GridConv, NetworkConfig, activate, linear, scaled_normal

#: Approximate variance of the first corrections, in units of the solver's own error.
FIRST = 0.1


@dataclass(frozen=True)
class CorrectorConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        width: number of hidden channels.
        fold: points along each side of a block that become channels; best the points of the grid over those of the
            solver's, so that convolutions work on as many points as the solver.
        kernel: points of the kernel of each convolution along each dim; odd.
        dilations: distance between the points of the kernel of each convolution after the first.
        boundary: padding of dims that are not periodic, "zero" or "edge".
    """

    width: int = 24
    fold: int = 2
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 1)
    boundary: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of("boundary", BOUNDARIES)
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")


class Corrector(nnx.Module):
    """A folded convolutional network; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: CorrectorConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        block = config.fold**shape.dims
        inputs = (shape.inputs + position_count(config.positions, shape.dims)) * block
        around = (shape.periodic, config.boundary, config.precision, rngs)
        self.encode = GridConv(inputs, config.width, *around, size=config.kernel)
        self.convs = nnx.List(
            [
                GridConv(config.width, config.width, *around, size=config.kernel, dilation=d, gain=2.0)
                for d in config.dilations
            ]
        )
        self.decode = linear(
            config.width, shape.outputs * block, config.precision, rngs, kernel_init=scaled_normal(FIRST)
        )
        self.conditioning = Conditioning(shape.parameters, 1 + len(config.dilations), config.width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of x; where blocks do not fill it, its outermost points are repeated.

        Raises:
            ValueError: x or the parameters have the wrong shape.
        """
        self.shape.check(x)
        conditions = self.conditioning.features(parameters)
        seen = with_positions(x, self.config.positions, self.shape.periodic, self.config.grid)
        if any(n % self.config.fold for n in x.shape[1:-1]):
            seen = jnp.pad(seen, [(0, 0), *((0, -n % self.config.fold) for n in x.shape[1:-1]), (0, 0)], mode="edge")
        h = self.conditioning(0, self.encode(fold(seen, self.config.fold)), conditions)
        for index, conv in enumerate(self.convs, start=1):
            h = h + conv(activate(self.config.activation, self.conditioning(index, h, conditions)))
        answer = unfold(self.decode(activate(self.config.activation, h)), self.config.fold).astype(x.dtype)
        return answer[:, *(slice(n) for n in x.shape[1:-1])]


def fold(x: Float[Array, "batch *space channel"], side: int) -> Float[Array, "batch *coarse more"]:
    """The points of each block of `side` points along each dim as channels.

    Raises:
        ValueError: blocks do not fill the grid.
    """
    if any(n % side for n in x.shape[1:-1]):
        raise ValueError(f"blocks of {side} points do not fill a grid of {x.shape[1:-1]}")
    if side == 1:
        return x
    dims = x.ndim - 2
    split = x.reshape(x.shape[0], *(m for n in x.shape[1:-1] for m in (n // side, side)), x.shape[-1])
    outer, inner = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
    moved = split.transpose(0, *outer, *inner, 2 * dims + 1)
    return moved.reshape(*moved.shape[: dims + 1], prod(moved.shape[dims + 1 :]))


def unfold(x: Float[Array, "batch *coarse more"], side: int) -> Float[Array, "batch *space channel"]:
    """The inverse of `fold`."""
    if side == 1:
        return x
    dims = x.ndim - 2
    channels = x.shape[-1] // side**dims
    split = x.reshape(*x.shape[:-1], *(side,) * dims, channels)
    order = (0, *(axis for d in range(dims) for axis in (1 + d, 1 + dims + d)), 2 * dims + 1)
    moved = jnp.transpose(split, order)
    return moved.reshape(x.shape[0], *(n * side for n in x.shape[1:-1]), channels)
