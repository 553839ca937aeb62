"""Common parts of the weather networks: settings, features of the location, a conditioned norm, encoder and decoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.plain import written_as
from data.sphere.weather_layout import WeatherGrid
from surrogates.learning.nn.layers import ACTIVATIONS, MLP, linear, scaled_normal
from surrogates.learning.nn.precision import PRECISIONS, refuse_precision


@dataclass(frozen=True)
class SphereConfig:
    """Settings that all weather networks have.

    Attributes:
        width: number of channels inside.
        blocks: number of residual blocks.
        hidden: hidden channels of the MLP of each block, in units of the width.
        activation: one of `surrogates.learning.nn.layers.ACTIVATIONS`.
        precision: precision of operations on channels; one of `surrogates.learning.nn.precision.PRECISIONS`. Weights
            and spherical harmonics stay in float32.
        remat: whether to recompute each block for its gradient instead of keeping its activations.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    width: int = 64
    blocks: int = 4
    hidden: float = 2.0
    activation: str = "silu"
    #: Saved settings and fingerprints keep the key of the first version.
    precision: str = field(default="float32", metadata=written_as("dtype"))
    remat: bool = False

    def __post_init__(self) -> None:
        for member in fields(self):
            value = getattr(self, member.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"{member.name} must be above 0, got {value}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        refuse_precision(self.precision)


@dataclass(frozen=True)
class SphereShape:
    """Shape of the inputs and outputs of a network.

    Attributes:
        grid: grid of both.
        inputs, outputs: number of channels.
        conditions: length of the vector that conditions every block; 0 for none.
    """

    grid: WeatherGrid
    inputs: int
    outputs: int
    conditions: int = 0


class Usual(nnx.Variable[Array]):
    """Arrays that are saved with the weights and not trained, such as usual states and static fields."""


class Constant:
    """An array that is a constant of the program: neither trained nor saved; two are equal if their values are.

    Args:
        values: the array.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self._digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._digest == other._digest


class ConditionalNorm(nnx.Module):
    """A layer norm over the channels of each point, with scale and shift from a conditioning vector such as noise.

    Args:
        channels: number of channels of the features.
        conditions: length of the conditioning vector; 0 for none.
        rngs: random keys of the initial weights.
    """

    def __init__(self, channels: int, conditions: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(channels, use_fast_variance=False, rngs=rngs)
        # Small initial weights: the members of an ensemble begin almost equal, and training sets their spread.
        self.map = (
            nnx.Linear(conditions, 2 * channels, kernel_init=scaled_normal(0.01), rngs=rngs) if conditions else None
        )

    def __call__(
        self,
        h: Float[Array, "*batch_and_space channels"],
        conditions: Float[Array, "batch conditions"] | None,
        axis: int = 0,
    ) -> Float[Array, "*batch_and_space channels"]:
        """The normalised features; mean and variance are computed in float32.

        Args:
            h: the features.
            conditions: one vector for each row of the batch.
            axis: axis of the batch in `h`.

        Raises:
            ValueError: the network is conditioned and no vector is given, or the other way round.
        """
        if (self.map is None) != (conditions is None):
            expected = f"a vector of {self.map.in_features} conditions" if self.map is not None else "no conditions"
            received = "none" if conditions is None else f"{conditions.shape[-1]}"
            raise ValueError(f"the network takes {expected}, got {received}")
        normalised = self.norm(h.astype(jnp.float32)).astype(h.dtype)
        if self.map is None or conditions is None:
            return normalised
        shape = [1] * (h.ndim - 1)
        shape[axis] = len(conditions)
        both = self.map(conditions).reshape(*shape, -1).astype(h.dtype)
        scale, shift = jnp.split(both, 2, axis=-1)
        return normalised * (1 + scale) + shift


def where_on_earth(grid: WeatherGrid) -> Float[np.ndarray, "latitude longitude 2"]:
    """Features of the location of each point: sine and cosine of latitude, or for a region its coordinates, -1 to 1.

    On a full circle of longitudes the longitude is left out, so that a network commutes with rotations of the Earth.
    """
    rows, columns = grid.shape
    if grid.periodic:
        latitude = np.repeat(np.deg2rad(np.asarray(grid.latitude))[:, None], columns, axis=1)
        features = [np.sin(latitude), np.cos(latitude)]
    else:
        features = list(np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"))
    return np.stack(features, axis=-1).astype(np.float32)


class Encoder(nnx.Module):
    """An MLP from the inputs and the location of each point to its first features."""

    def __init__(self, config: SphereConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        self.shape, self.dtype = shape, PRECISIONS[config.precision].dtype
        self.place = Constant(where_on_earth(shape.grid))
        wide = shape.inputs + self.place.values.shape[-1]
        self.mlp = MLP(wide, config.width, config.width, config.activation, config.precision, rngs)

    def __call__(
        self, x: Float[Array, "batch latitude longitude inputs"]
    ) -> Float[Array, "batch latitude longitude w"]:
        """The first features.

        Raises:
            ValueError: the shape of x differs from that of the network.
        """
        expected = (*self.shape.grid.shape, self.shape.inputs)
        if x.shape[1:] != expected:
            raise ValueError(f"the network takes fields of shape {expected}, got {x.shape[1:]}")
        place = jnp.broadcast_to(jnp.asarray(self.place.values), (x.shape[0], *self.place.values.shape))
        return self.mlp(jnp.concatenate([x, place], axis=-1).astype(self.dtype))


class Decoder(nnx.Module):
    """A linear map to the outputs at each point, small initially, so that a forecast begins as persistence."""

    def __init__(self, config: SphereConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        self.norm = ConditionalNorm(config.width, shape.conditions, rngs)
        self.last = linear(config.width, shape.outputs, config.precision, rngs, kernel_init=scaled_normal(0.01))

    def __call__(
        self, h: Float[Array, "batch latitude longitude width"], conditions: Float[Array, "batch conditions"] | None
    ) -> Float[Array, "batch latitude longitude outputs"]:
        """The outputs, in float32."""
        return self.last(self.norm(h, conditions)).astype(jnp.float32)
