"""Conditioning of networks on parameters, which scale and shift the features of each block (FiLM).

Perez et al. 2018 (arXiv:1709.07871, eq. 2); for operators, Gupta and Brandstetter 2022 (arXiv:2209.15616, section 4).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.learning.nn.initial import LECUN
from surrogates.learning.nn.layers import HE, NetworkConfig, scaled_normal

#: Frequencies in radians per standard deviation of a parameter: their periods are 25 to 0.8 standard deviations.
FREQUENCIES = tuple(float(f) for f in 2.0 ** np.arange(-2, 4))


class Embedding(nnx.Module):
    """A small network that computes features of the parameters.

    Args:
        parameters: number of parameters.
        config: settings, of which `embedding` and `width` are used.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, parameters: int, config: NetworkConfig, rngs: nnx.Rngs) -> None:
        self.kind, self.parameters = config.embedding, parameters
        inputs = parameters * (1 + 2 * len(FREQUENCIES) * (config.embedding == "sinusoidal"))
        self.first = nnx.Linear(inputs, config.width, kernel_init=HE, rngs=rngs)
        self.second = nnx.Linear(config.width, config.width, kernel_init=LECUN, rngs=rngs)

    def __call__(self, parameters: Float[Array, "batch parameters"] | None) -> Float[Array, "batch width"]:
        """The features of normalised parameters.

        Raises:
            ValueError: parameters are missing, or their number is wrong.
        """
        if parameters is None or parameters.shape[-1] != self.parameters:
            shape = None if parameters is None else parameters.shape
            raise ValueError(f"the network is conditioned on {self.parameters} parameters, got {shape}")
        if self.kind == "sinusoidal":
            angles = parameters[..., None] * jnp.asarray(FREQUENCIES, parameters.dtype)
            angles = angles.reshape(parameters.shape[0], -1)
            parameters = jnp.concatenate([parameters, jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return self.second(nnx.silu(self.first(parameters)))


class FiLM(nnx.Module):
    """h (1 + a) + b, where a and b are linear in the features of the parameters and are small initially.

    Args:
        width: number of features of the parameters.
        channels: number of channels of h.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, width: int, channels: int, rngs: nnx.Rngs) -> None:
        self.map = nnx.Linear(width, 2 * channels, kernel_init=scaled_normal(0.01), rngs=rngs)

    def __call__(
        self, h: Float[Array, "batch *space channels"], features: Float[Array, "batch width"]
    ) -> Float[Array, "batch *space channels"]:
        """The scaled and shifted h."""
        both = self.map(features).reshape(features.shape[0], *(1,) * (h.ndim - 2), -1).astype(h.dtype)
        scale, shift = jnp.split(both, 2, axis=-1)
        return h * (1 + scale) + shift


class Conditioning(nnx.Module):
    """The embedding of the parameters with a FiLM layer for each block; the identity without parameters.

    Args:
        parameters: number of parameters; may be 0.
        blocks: number of blocks that are conditioned.
        channels: channels of each block; a tuple where they differ.
        config: settings; see `Embedding`.
        rngs: random numbers for the initial weights.
    """

    def __init__(
        self, parameters: int, blocks: int, channels: int | tuple[int, ...], config: NetworkConfig, rngs: nnx.Rngs
    ) -> None:
        self.parameters = parameters
        if parameters:
            each = (channels,) * blocks if isinstance(channels, int) else channels
            self.embed = Embedding(parameters, config, rngs)
            self.films = nnx.List([FiLM(config.width, c, rngs) for c in each])

    def features(self, parameters: Float[Array, "batch parameters"] | None) -> Float[Array, "batch width"] | None:
        """The features of the parameters; None for a network without parameters.

        Raises:
            ValueError: a network without parameters gets some, or one with parameters gets none.
        """
        if self.parameters:
            return self.embed(parameters)
        if parameters is not None and parameters.shape[-1]:
            raise ValueError(f"the network takes no parameters, got {parameters.shape[-1]}")
        return None

    def __call__(
        self, block: int, h: Float[Array, "batch *space channels"], features: Float[Array, "batch width"] | None
    ) -> Float[Array, "batch *space channels"]:
        """The features h of a block, conditioned."""
        return h if features is None else self.films[block](h, features)
