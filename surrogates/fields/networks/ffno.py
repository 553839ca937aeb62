"""The factorised Fourier neural operator (Tran et al. 2023, arXiv:2111.13802).

Its spectral convolutions act along one dim at a time and are summed, so that weights grow with the number of
dims and not exponentially. Blocks are residual, x' = x + FF(sum_d K_d x) (eq. 4), where FF is a network of the channels
of each point. All blocks may share their spectral weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jaxtyping import Array, Float

from surrogates.fields.networks.conditioning import Conditioning
from surrogates.learning.nn.fourier_layers import AxisSpectralConv, modes_per_dim
from surrogates.learning.nn.grid import EXTENSIONS, FieldShape, crop, extend, position_count, with_positions
from surrogates.learning.nn.layers import MLP, NetworkConfig, linear
from surrogates.learning.nn.precision import PRECISIONS


@dataclass(frozen=True)
class FFNOConfig(NetworkConfig):
    """Hyperparameters of the network, in addition to those of `NetworkConfig`.

    Attributes:
        layers: number of blocks.
        modes: the largest wave number that is kept: one number for all dims, or one for each.
        shared: whether all blocks share one set of spectral weights.
        feed_forward: hidden channels of a block's network, in units of the width.
        projection: hidden channels of the last network, in units of the width.
        padding: share of its length by which a dim that is not periodic is padded; see `domain.extend`.
        extension: values of the padding, "zero" or "reflect".
    """

    width: int = 48
    layers: int = 6
    modes: tuple[int, ...] = (16,)
    shared: bool = False
    feed_forward: float = 2.0
    projection: float = 2.0
    padding: float = 0.25
    extension: str = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.one_of("extension", EXTENSIONS)
        if not 0 <= self.padding <= 1:
            raise ValueError(f"padding must lie in [0, 1], got {self.padding}")
        if min(self.feed_forward, self.projection) <= 0:
            raise ValueError(f"feed_forward and projection must be above 0, got {self}")


class FFNO(nnx.Module):
    """A factorised Fourier neural operator; see the docstring of the module.

    Args:
        config: hyperparameters of the network.
        shape: dims and channels of inputs and outputs.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, config: FFNOConfig, shape: FieldShape, rngs: nnx.Rngs) -> None:
        width, precision = config.width, config.precision
        self.config, self.shape = config, shape
        modes = modes_per_dim(config.modes, shape.dims)
        self.lift = linear(shape.inputs + position_count(config.positions, shape.dims), width, precision, rngs)
        sets = 1 if config.shared else config.layers
        self.spectral = nnx.List([AxisSpectralConv(width, modes, rngs) for _ in range(sets)])
        hidden = round(config.feed_forward * width)
        self.forwards = nnx.List(
            [
                MLP(width, hidden, width, config.activation, precision, rngs, gain=1 / config.layers)
                for _ in range(config.layers)
            ]
        )
        self.project = MLP(width, round(config.projection * width), shape.outputs, config.activation, precision, rngs)
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
        for index, forward in enumerate(self.forwards):
            mixed = self.spectral[index % len(self.spectral)](h).astype(PRECISIONS[config.precision].dtype)
            h = h + forward(self.conditioning(index, mixed, conditions))
        h = crop(h, x.shape[1:-1], config.padding, shape.periodic)
        return self.project(h).astype(x.dtype)
