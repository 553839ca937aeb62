"""A small convolutional network on a latitude-longitude grid, global or regional: the baseline.

It has residual blocks of one dense convolution and an MLP (after Liu et al. 2022, arXiv:2201.03545, whose convolutions
by channel are slow on a CPU), on a coarser grid of patches where `patch` is above 1. Padding continues longitudes
around the circle; beyond a pole it continues the grid on the other side, half a circle away (rounded to a whole point;
components of vectors keep their sign); beyond the edge of a region it repeats the last value.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from data.errors import InputError
from surrogates.forecasts.networks.layers import ConditionalNorm, Decoder, Encoder, SphereConfig, SphereShape
from surrogates.learning.nn.convolution import conv_general_dilated
from surrogates.learning.nn.layers import HE, MLP, linear, scaled_normal
from surrogates.learning.nn.precision import arithmetic

#: Degrees from a pole within which a row lies on it.
ON_POLE = 1e-3


@dataclass(frozen=True)
class ConvConfig(SphereConfig):
    """Sizes; see `SphereConfig`.

    Attributes:
        size: points of a kernel along each dim, an odd number.
        patch: points of the grid, along each dim, that make one point of the coarser grid on which the blocks work. The
            network commutes with rotations of the Earth by this many points.
        dilations: dilations of the kernels of the blocks, used in turn.
    """

    size: int = 3
    patch: int = 1
    dilations: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dilations", tuple(int(d) for d in self.dilations))
        super().__post_init__()
        if self.size % 2 == 0 or not self.dilations or min(self.dilations) < 1:
            raise ValueError("size must be odd, and dilations 1 or more")


def pad_sphere(
    x: Float[Array, "batch latitude longitude channel"],
    reach: int,
    *,
    circle: bool,
    poles: bool,
    on_pole: tuple[bool, bool] = (False, False),
) -> Float[Array, "batch rows columns channel"]:
    """Pad a field by `reach` points beyond each edge, as the docstring of the module describes.

    Args:
        x: the field.
        reach: number of points, at most the rows of the field, or one fewer where a row lies on a pole.
        circle: whether longitudes close a circle.
        poles: whether the first and last row are next to the poles.
        on_pole: whether the first and the last row lie on a pole, and so are not repeated beyond it.
    """
    if circle and poles:
        (first, last), half = on_pole, x.shape[2] // 2
        south = x[:, first : first + reach][:, ::-1]
        north = x[:, x.shape[1] - reach - last : x.shape[1] - last][:, ::-1]
        x = jnp.concatenate([jnp.roll(south, half, 2), x, jnp.roll(north, half, 2)], axis=1)
    else:
        x = jnp.pad(x, ((0, 0), (reach, reach), (0, 0), (0, 0)), mode="edge")
    return jnp.pad(x, ((0, 0), (0, 0), (reach, reach), (0, 0)), mode="wrap" if circle else "edge")


class ConvBlock(nnx.Module):
    """A residual block: a convolution, then an MLP of the channels of each point."""

    def __init__(self, config: ConvConfig, shape: SphereShape, dilation: int, rngs: nnx.Rngs) -> None:
        grid = shape.grid
        self.circle, self.poles = grid.periodic, grid.is_global
        # A patch that includes a row on a pole also covers points away from it.
        south, north = (bool(config.patch == 1 and 90 - abs(grid.latitude[k]) < ON_POLE) for k in (0, -1))
        self.on_pole = (south, north)
        self.reach = dilation * (config.size // 2)
        self.norm = ConditionalNorm(config.width, shape.conditions, rngs)
        self.conv = nnx.Conv(
            config.width, config.width, (config.size,) * 2, padding="VALID", kernel_dilation=dilation,
            **arithmetic(config.precision), kernel_init=HE, conv_general_dilated=conv_general_dilated, rngs=rngs,
        )  # fmt: skip
        hidden = int(config.hidden * config.width)
        self.mlp = MLP(config.width, hidden, config.width, config.activation, config.precision, rngs, gain=0.1)

    def __call__(
        self, h: Float[Array, "batch rows columns width"], conditions: Float[Array, "batch conditions"] | None
    ) -> Float[Array, "batch rows columns width"]:
        """The features after the block."""
        normed = self.norm(h, conditions)
        wide = pad_sphere(normed, self.reach, circle=self.circle, poles=self.poles, on_pole=self.on_pole)
        return h + self.mlp(self.conv(wide))


class ConvNet(nnx.Module):
    """The convolutional network that the docstring of the module describes.

    Args:
        config: settings of the network.
        shape: shape of inputs and outputs.
        rngs: random keys of the initial weights.

    Raises:
        InputError: patches do not fit the circle of longitudes, or kernels reach over a pole beyond the last row.
    """

    def __init__(self, config: ConvConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        rows, columns = shape.grid.shape
        # A grid that patches do not divide is padded, and the answer is cropped.
        self.fill = (-rows % config.patch, -columns % config.patch)
        if shape.grid.periodic and self.fill[1]:
            raise InputError(
                f"patches of {config.patch} points do not divide the {columns} longitudes of the circle",
                where="model.network.patch", remedy="Give a divisor, or 1",
            )  # fmt: skip
        self.encode = Encoder(config, shape, rngs)
        each = [config.dilations[i % len(config.dilations)] for i in range(config.blocks)]
        self.blocks = nnx.List([ConvBlock(config, shape, d, rngs) for d in each])
        self.decode = Decoder(config, shape, rngs)
        coarse, reach = -(-rows // config.patch), max(b.reach for b in self.blocks)
        most = coarse - max(max(b.on_pole) for b in self.blocks)
        if shape.grid.is_global and reach > most:
            raise InputError(
                f"kernels reach {reach} points, and {most} rows lie beyond a pole",
                where="model.network.dilations", remedy="Lower them, or size or patch",
            )  # fmt: skip
        if config.patch > 1:
            inside = config.patch**2 * config.width
            precision = config.precision
            self.down = linear(inside, config.width, precision, rngs)
            self.up = linear(config.width, inside, precision, rngs, kernel_init=scaled_normal(1.0))

    def __call__(
        self,
        x: Float[Array, "batch latitude longitude inputs"],
        conditions: Float[Array, "batch conditions"] | None = None,
    ) -> Float[Array, "batch latitude longitude outputs"]:
        """The answer on the grid of x."""
        fine = self.encode(x)
        h = self._coarse(fine) if self.config.patch > 1 else fine
        for block in self.blocks:
            step = nnx.remat(lambda b, h, c: b(h, c)) if self.config.remat else (lambda b, h, c: b(h, c))
            h = step(block, h, conditions)
        if self.config.patch > 1:
            h = fine + self._fine(h)
        return self.decode(h, conditions)

    def _coarse(self, h: Array) -> Array:
        p, (below, beside) = self.config.patch, self.fill
        h = jnp.pad(h, ((0, 0), (0, below), (0, beside), (0, 0)), mode="edge")
        batch, rows, columns, width = h.shape
        split = h.reshape(batch, rows // p, p, columns // p, p, width)
        return self.down(jnp.moveaxis(split, 2, 3).reshape(batch, rows // p, columns // p, -1))

    def _fine(self, h: Array) -> Array:
        p, (rows, columns) = self.config.patch, self.shape.grid.shape
        batch, coarse_rows, coarse_columns, width = h.shape
        split = self.up(h).reshape(batch, coarse_rows, coarse_columns, p, p, width)
        return jnp.moveaxis(split, 3, 2).reshape(batch, coarse_rows * p, coarse_columns * p, width)[:, :rows, :columns]
