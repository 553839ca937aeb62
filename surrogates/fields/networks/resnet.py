"""The dilated residual network of Stachenfeld et al. 2022 (arXiv:2112.15275, section 3).

Each block applies convolutions with dilations 1, 2, 4, 8, 4, 2, 1 one after the other and adds the result to its
input, so its receptive field is large at full resolution, without coarser grids. The network learns a stencil, so it is
valid at the grid spacing of training alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.grid import FieldShape, position_count, with_positions
from surrogates.learning.nn.layers import BOUNDARIES, NORMS, GridConv, NetworkConfig, Norm, activate


@dataclass(frozen=True)
class DilatedResNetConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        blocks: number of residual blocks.
        dilations: dilations of the convolutions of each block, in points.
        norm: normalisation of the input of each block: "none", "layer" or "group"; see `layers.Norm`.
        groups: largest number of groups of "group".
        boundary: padding of dims that are not periodic, "zero" or "edge".
    """

    width: int = 48
    blocks: int = 4
    dilations: tuple[int, ...] = (1, 2, 4, 8, 4, 2, 1)
    norm: str = "none"
    groups: int = 8
    boundary: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of("norm", NORMS)
        self.one_of("boundary", BOUNDARIES)
        if not self.dilations:
            raise ValueError("dilations must name at least one")


class DilatedBlock(nnx.Module):
    """Dilated convolutions, each after an activation.

    Args:
        config: hyperparameters of the network.
        shape: dims of the inputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: DilatedResNetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.activation = config.activation
        self.norm = Norm(config.norm, config.width, config.groups, rngs)
        self.convs = nnx.List(
            [
                GridConv(
                    config.width,
                    config.width,
                    shape.periodic,
                    config.boundary,
                    config.precision,
                    rngs,
                    dilation=d,
                    gain=2.0,
                )
                for d in config.dilations
            ]
        )

    def __call__(self, x: Float[Array, "batch *space width"]) -> Float[Array, "batch *space width"]:
        """The change of the features x."""
        for conv in self.convs:
            x = conv(activate(self.activation, x))
        return x


class DilatedResNet(nnx.Module):
    """A dilated residual network; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: DilatedResNetConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        inputs = shape.inputs + position_count(config.positions, shape.dims)
        around = (shape.periodic, config.boundary, config.precision, rngs)
        self.encode = GridConv(inputs, config.width, *around)
        self.blocks = nnx.List([DilatedBlock(config, shape, rngs) for _ in range(config.blocks)])
        self.decode = GridConv(config.width, shape.outputs, *around)
        self.conditioning = Conditioning(shape.parameters, config.blocks, config.width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of x.

        Raises:
            ValueError: x or the parameters have the wrong shape.
        """
        self.shape.check(x)
        conditions = self.conditioning.features(parameters)
        h = self.encode(with_positions(x, self.config.positions, self.shape.periodic, self.config.grid))
        for index, block in enumerate(self.blocks):
            h = h + block(self.conditioning(index, block.norm(h), conditions))
        return self.decode(h).astype(x.dtype)
