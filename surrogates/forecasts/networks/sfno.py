"""The spherical Fourier neural operator of Bonev et al. 2023 (arXiv:2306.03838).

Each block multiplies the channels of a field's spherical harmonics by a matrix that depends on the total wavenumber
alone, which is a convolution with kernels that are symmetric about their centre (Driscoll and Healy 1994), and acts on
the channels of each point by an MLP. The network commutes with rotations about the axis by whole grid steps.

Inside, points are the first axes and the batch follows, because the transforms are then products of matrices as stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from surrogates.forecasts.networks.harmonics import Harmonics
from surrogates.forecasts.networks.layers import ConditionalNorm, Decoder, Encoder, SphereConfig, SphereShape
from surrogates.learning.nn import initial
from surrogates.learning.nn.fourier_layers import EXACT, FACTORISATIONS
from surrogates.learning.nn.layers import MLP, linear


@dataclass(frozen=True)
class SFNOConfig(SphereConfig):
    """Sizes; see `SphereConfig`.

    Attributes:
        truncation: largest total wavenumber of the filters; None for two thirds of the number of latitudes, as far as
            the longitudes allow. The transform is exact there on Gaussian latitudes, and on even ones up to a half; see
            `Harmonics.is_exact`.
        factorisation: factorisation of the weights of a filter; see `SphericalFilter`.
        rank: rank of a Tucker factorisation, as a share of the size of each axis.
    """

    truncation: int | None = None
    factorisation: str = "dense"
    rank: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factorisation not in FACTORISATIONS:
            raise ValueError(f"factorisation must be one of {', '.join(FACTORISATIONS)}, got {self.factorisation!r}")
        if self.rank > 1:
            raise ValueError(f"rank must lie in (0, 1], got {self.rank}")


class SphericalFilter(nnx.Module):
    """A filter with a matrix of channels for each total wavenumber; initially it keeps the variance of a field.

    Args:
        harmonics: the transform.
        channels: number of channels of the field.
        rngs: random keys of the initial weights.
        factorisation: "dense" for full matrices; "tucker" for a core times a matrix for the wavenumbers and one for
            each side of the channels (Kossaifi et al. 2023, arXiv:2310.00120); "separable" to filter each channel by
            itself.
        rank: rank of a Tucker factorisation, as a share of the size of each axis.
    """

    def __init__(
        self,
        harmonics: Harmonics,
        channels: int,
        rngs: nnx.Rngs,
        *,
        factorisation: str = "dense",
        rank: float = 0.5,
    ) -> None:
        self.harmonics, self.factorisation = harmonics, factorisation
        shape: tuple[int, ...] = (len(harmonics.degrees), channels, channels)
        if factorisation == "separable":
            # The last axis, of length 1, keeps Muon from treating wavenumbers and channels as a matrix.
            self.weight = nnx.Param(initial.standard_normal(rngs.params(), (*shape[:2], 1)))
            return
        if factorisation == "tucker":
            core = tuple(max(1, round(rank * n)) for n in shape)
            self.factors = nnx.List(
                [nnx.Param(initial.normal(r**-0.5)(rngs.params(), (n, r))) for n, r in zip(shape, core, strict=True)]
            )
            shape = core
        self.weight = nnx.Param(initial.normal(channels**-0.5)(rngs.params(), shape))

    def weights(self) -> Float[Array, "degree c out"]:
        """The matrix of each total wavenumber; its last axis has length 1 where channels do not mix."""
        core = self.weight[...]
        if self.factorisation != "tucker":
            return core
        degrees, inputs, outputs = (f[...] for f in self.factors)
        return jnp.einsum("abc,la,ib,oc->lio", core, degrees, inputs, outputs, precision=EXACT)

    def __call__(self, x: Float[Array, "longitude latitude batch c"]) -> Float[Array, "longitude latitude batch c"]:
        """The filtered field, computed in float32."""
        waves, weights = self.harmonics.analyse(x.astype(jnp.float32)), self.weights()
        if self.factorisation == "separable":
            filtered = waves * weights[:, None, :, 0]
        else:
            filtered = jnp.einsum("mlbc,lcd->mlbd", waves, weights, precision=EXACT)
        return self.harmonics.synthesise(filtered).astype(x.dtype)


class SFNOBlock(nnx.Module):
    """A residual block: a filter with a linear skip, then an MLP."""

    def __init__(self, config: SFNOConfig, shape: SphereShape, harmonics: Harmonics, rngs: nnx.Rngs) -> None:
        width = config.width
        self.norm = ConditionalNorm(width, shape.conditions, rngs)
        self.filter = SphericalFilter(harmonics, width, rngs, factorisation=config.factorisation, rank=config.rank)
        self.skip = linear(width, width, config.precision, rngs)
        hidden = int(config.hidden * width)
        self.mlp = MLP(width, hidden, width, config.activation, config.precision, rngs, gain=0.1)

    def __call__(
        self, h: Float[Array, "longitude latitude batch width"], conditions: Float[Array, "batch conditions"] | None
    ) -> Float[Array, "longitude latitude batch width"]:
        """The features after the block."""
        normed = self.norm(h, conditions, axis=2)
        return h + self.mlp(self.filter(normed) + self.skip(normed))


class SFNO(nnx.Module):
    """The spherical Fourier neural operator.

    Args:
        config: settings of the network.
        shape: shape of inputs and outputs.
        rngs: random keys of the initial weights.

    Raises:
        InputError: there is no spherical harmonic transform for the grid.
    """

    def __init__(self, config: SFNOConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        self.config, self.shape = config, shape
        usual = max(1, min(2 * shape.grid.shape[0] // 3, shape.grid.shape[1] // 2 - 1))
        harmonics = Harmonics(shape.grid, usual if config.truncation is None else config.truncation)
        self.encode = Encoder(config, shape, rngs)
        self.blocks = nnx.List([SFNOBlock(config, shape, harmonics, rngs) for _ in range(config.blocks)])
        self.decode = Decoder(config, shape, rngs)

    def __call__(
        self,
        x: Float[Array, "batch latitude longitude inputs"],
        conditions: Float[Array, "batch conditions"] | None = None,
    ) -> Float[Array, "batch latitude longitude outputs"]:
        """The answer on the grid of x."""
        h = jnp.moveaxis(self.encode(x), (2, 1), (0, 1))
        for block in self.blocks:
            step = nnx.remat(lambda b, h, c: b(h, c)) if self.config.remat else (lambda b, h, c: b(h, c))
            h = step(block, h, conditions)
        return self.decode(jnp.moveaxis(h, (0, 1), (2, 1)), conditions)
