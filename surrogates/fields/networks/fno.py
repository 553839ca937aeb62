"""The Fourier neural operator in any number of dims (Li et al. 2021, arXiv:2010.08895), dense or factorised (TFNO).

The network is a lifting MLP on the channels of each point, a sequence of blocks, and a projection MLP. A block computes
h = act(K x + W x), where K is a spectral convolution and W is linear in the channels, and then x' = MLP(h) + g x, where
g is a gain for each channel (the layout of Kossaifi et al. 2023, arXiv:2310.00120). Blocks do not normalise their
features, so only the aliasing of the activations depends on the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.fourier_layers import FACTORISATIONS, SpectralConv, modes_per_dim
from surrogates.learning.nn.grid import EXTENSIONS, FieldShape, crop, extend, position_count, with_positions
from surrogates.learning.nn.layers import MLP, NetworkConfig, activate, linear, scaled_normal
from surrogates.learning.nn.precision import PRECISIONS


@dataclass(frozen=True)
class FNOConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        layers: number of blocks.
        modes: the largest wave number that is kept: one number for all dims, or one for each.
        factorisation: factorisation of the spectral weights; see `SpectralConv`.
        rank: rank of a Tucker factorisation, as a share of the size of each axis.
        lifting, projection: hidden channels of the lifting and of the projection MLP, in units of the width.
        channel_mlp: hidden channels of a block's MLP, in units of the width.
        padding: share of its length by which a dim that is not periodic is padded; see `domain.extend`.
        extension: values of the padding, "zero" or "reflect".
    """

    layers: int = 4
    modes: tuple[int, ...] = (12,)
    factorisation: str = "dense"
    rank: float = 0.5
    lifting: float = 2.0
    projection: float = 2.0
    channel_mlp: float = 0.5
    padding: float = 0.25
    extension: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of("factorisation", FACTORISATIONS)
        self.one_of("extension", EXTENSIONS)
        if not 0 < self.rank <= 1:
            raise ValueError(f"rank must lie in (0, 1], got {self.rank}")
        if not 0 <= self.padding <= 1:
            raise ValueError(f"padding must lie in [0, 1], got {self.padding}")
        if min(self.lifting, self.projection, self.channel_mlp) <= 0:
            raise ValueError(f"lifting, projection and channel_mlp must be above 0, got {self}")


class FNOBlock(nnx.Module):
    """One block, whose two parts `FNO` calls with the conditioning in between.

    Args:
        config: hyperparameters of the network.
        modes: the largest wave number that is kept along each dim.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: FNOConfig, modes: tuple[int, ...], rngs: nnx.Rngs) -> None:
        width = config.width
        self.dtype = PRECISIONS[config.precision].dtype
        self.spectral = SpectralConv(
            width, width, modes, rngs, factorisation=config.factorisation, rank=config.rank, gain=0.5
        )
        self.local = linear(width, width, config.precision, rngs, kernel_init=scaled_normal(0.5))
        hidden = max(1, round(config.channel_mlp * width))
        self.mlp = MLP(width, hidden, width, config.activation, config.precision, rngs, gain=1 / config.layers)
        self.scale = nnx.Param(jnp.ones((width,)))

    def mix(self, x: Float[Array, "batch *space width"]) -> Float[Array, "batch *space width"]:
        """K x + W x."""
        return self.spectral(x).astype(self.dtype) + self.local(x)

    def finish(
        self, h: Float[Array, "batch *space width"], x: Float[Array, "batch *space width"]
    ) -> Float[Array, "batch *space width"]:
        """MLP(h) + g x."""
        return self.mlp(h) + self.scale[...].astype(h.dtype) * x


class FNO(nnx.Module):
    """A Fourier neural operator; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: FNOConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        width = config.width
        self.config, self.shape = config, shape
        modes = modes_per_dim(config.modes, shape.dims)
        inputs = shape.inputs + position_count(config.positions, shape.dims)
        self.lift = MLP(inputs, round(config.lifting * width), width, config.activation, config.precision, rngs)
        self.blocks = nnx.List([FNOBlock(config, modes, rngs) for _ in range(config.layers)])
        self.project = MLP(
            width, round(config.projection * width), shape.outputs, config.activation, config.precision, rngs
        )
        self.conditioning = Conditioning(shape.parameters, config.layers, width, config, rngs)

    def __call__(
        self, x: Float[Array, "batch *space inputs"], parameters: Float[Array, "batch parameters"] | None = None
    ) -> Float[Array, "batch *space outputs"]:
        """The output fields on the grid of x, which may have any size.

        Raises:
            ValueError: x or the parameters have the wrong shape.
        """
        config, shape = self.config, self.shape
        shape.check(x)
        conditions = self.conditioning.features(parameters)
        h = self.lift(with_positions(x, config.positions, shape.periodic, config.grid))
        h = extend(h, config.padding, shape.periodic, config.extension)
        for index, block in enumerate(self.blocks):
            mixed = self.conditioning(index, block.mix(h), conditions)
            h = block.finish(activate(config.activation, mixed), h)
        h = crop(h, x.shape[1:-1], config.padding, shape.periodic)
        return self.project(h).astype(x.dtype)
