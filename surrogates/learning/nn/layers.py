"""Components that networks share: common settings, activations, and layers on the channels of points or on grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from data.plain import written_as
from surrogates.learning.nn import initial
from surrogates.learning.nn.convolution import conv_general_dilated
from surrogates.learning.nn.grid import GRIDS, POSITIONS, pad_boundary
from surrogates.learning.nn.precision import arithmetic, refuse_precision

#: "identity" makes a network linear, for tests.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "identity": lambda x: x,
}
EMBEDDINGS = ("mlp", "sinusoidal")
NORMS = ("none", "group", "layer")
BOUNDARIES = ("zero", "edge")


def scaled_normal(gain: float) -> initial.Initialiser:
    """An initialiser of a linear map whose output has `gain` times the variance of its input."""
    return initial.variance_scaling(gain, "fan_in", "normal")


#: Initialiser for layers before an activation like ReLU, which halves the variance (He et al. 2015, arXiv:1502.01852).
HE = scaled_normal(2.0)


@dataclass(frozen=True)
class NetworkConfig:
    """Hyperparameters that all networks share.

    Attributes:
        width: number of hidden channels.
        activation: one of `ACTIVATIONS`.
        positions: position features of the input: "none" (a network on a periodic domain is then equivariant under
            shifts), "linear" or "periodic"; see `domain.position_features`.
        grid: where the points of dims that are not periodic lie: "cells", "left" or "ends"; see `domain`.
        embedding: inputs of the MLP that embeds the parameters: "mlp" for their values alone, or "sinusoidal" for their
            sines and cosines too.
        precision: precision of operations on the channels of points; one of `precision.PRECISIONS`. Weights, Fourier
            transforms and their coefficients are always in float32.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    width: int = 32
    activation: str = "gelu"
    positions: str = "none"
    grid: str = "cells"
    embedding: str = "mlp"
    #: Saved settings and fingerprints keep the key of the first version.
    precision: str = field(default="float32", metadata=written_as("dtype"))

    def __post_init__(self) -> None:
        for member in fields(self):
            value = getattr(self, member.name)
            if isinstance(value, list):
                object.__setattr__(self, member.name, tuple(value))
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, int) and not isinstance(item, bool) and item < 1:
                    raise ValueError(f"{member.name} must be at least 1, got {value}")
        self.one_of("activation", ACTIVATIONS)
        self.one_of("positions", POSITIONS)
        self.one_of("grid", GRIDS)
        self.one_of("embedding", EMBEDDINGS)
        refuse_precision(self.precision)

    def one_of(self, name: str, choices: Any) -> None:
        """Refuse a value of the field `name` that is not one of `choices`.

        Raises:
            ValueError: the value is unknown; the message lists the choices.
        """
        if getattr(self, name) not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")


def activate(name: str, x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """The activation called `name`."""
    return ACTIVATIONS[name](x)


class Linear(nnx.Linear):
    """A linear map of the channels of each point, as one matrix product.

    On CPUs, XLA computes one matrix product in half the time of a product over several axes of points.
    """

    def __call__(self, inputs: Float[Array, "*points inputs"], out_sharding: Any = None) -> Float[Array, "*points out"]:
        """The new channels of each point."""
        flat = super().__call__(inputs.reshape(-1, inputs.shape[-1]), out_sharding)
        return flat.reshape(*inputs.shape[:-1], -1)


def linear(inputs: int, outputs: int, precision: str, rngs: nnx.Rngs, **more: Any) -> Linear:
    """A linear map of channels, computed at `precision`."""
    return Linear(inputs, outputs, **{"kernel_init": initial.LECUN, **arithmetic(precision), **more}, rngs=rngs)


class MLP(nnx.Module):
    """Two linear maps of the channels of each point, with an activation in between.

    Args:
        inputs, hidden, outputs: number of channels.
        activation: one of `ACTIVATIONS`.
        precision: one of `precision.PRECISIONS`.
        rngs: random numbers for the initial weights.
        gain: approximate initial variance of the output over that of the input.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        activation: str,
        precision: str,
        rngs: nnx.Rngs,
        *,
        gain: float = 1.0,
    ) -> None:
        self.activation = activation
        self.first = linear(inputs, hidden, precision, rngs, kernel_init=HE)
        self.second = linear(hidden, outputs, precision, rngs, kernel_init=scaled_normal(gain))

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        """The new channels of each point."""
        return self.second(activate(self.activation, self.first(x)))


class GridConv(nnx.Module):
    """A convolution on a grid of any size, with periodic padding of periodic dims.

    Args:
        inputs, outputs: number of channels.
        periodic: whether each dim is periodic.
        boundary: padding of the other dims; see `domain.pad_boundary`.
        precision: one of `precision.PRECISIONS`.
        rngs: random numbers for the initial weights.
        size: number of points of the kernel along each dim; odd.
        stride: distance between points of the output, in points of the input.
        dilation: distance between points of the kernel, in points.
        gain: initial variance of the output over that of the input.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        periodic: tuple[bool, ...],
        boundary: str,
        precision: str,
        rngs: nnx.Rngs,
        *,
        size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        gain: float = 1.0,
    ) -> None:
        dims = len(periodic)
        self.periodic, self.boundary = periodic, boundary
        self.reach = dilation * (size // 2)
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (size,) * dims,
            (stride,) * dims,
            padding="VALID",
            kernel_dilation=(dilation,) * dims,
            **arithmetic(precision),
            kernel_init=scaled_normal(gain),
            conv_general_dilated=conv_general_dilated,
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "batch *space inputs"]) -> Float[Array, "batch *coarser outputs"]:
        """The convolved field; ceil(n / stride) points along each dim."""
        return self.conv(pad_boundary(x, self.reach, self.periodic, self.boundary))


class Norm(nnx.Module):
    """A normalisation of features, which may be the identity.

    Args:
        kind: "none" for the identity; "layer" normalises the channels of each point; "group" normalises over all points
            and groups of channels, so that each point depends on averages over the whole domain.
        channels: number of channels.
        groups: largest number of groups; it is reduced to a divisor of the number of channels.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, kind: str, channels: int, groups: int, rngs: nnx.Rngs) -> None:
        self.kind = kind
        if kind == "layer":
            self.layer: Any = nnx.LayerNorm(channels, use_fast_variance=False, rngs=rngs)
        elif kind == "group":
            fitting = max(g for g in range(1, min(groups, channels) + 1) if channels % g == 0)
            self.layer = nnx.GroupNorm(channels, fitting, use_fast_variance=False, rngs=rngs)

    def __call__(self, x: Float[Array, "batch *space channel"]) -> Float[Array, "batch *space channel"]:
        """The normalised features; statistics are computed in float32."""
        if self.kind == "none":
            return x
        return self.layer(x.astype(jnp.float32)).astype(x.dtype)
