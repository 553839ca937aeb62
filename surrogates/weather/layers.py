"""What the networks of weather share: settings, what is known of each point, and a conditioned residual step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.weather import WeatherGrid
from surrogates.operator.layers import ACTIVATIONS, DTYPES, MLP, Linear, scaled_normal


@dataclass(frozen=True)
class SphereConfig:
    """What the settings of all networks have in common.

    Attributes:
        width: channels inside.
        blocks: residual blocks.
        hidden: hidden channels of each block's MLP, in units of the width.
        activation: one of `surrogates.operator.layers.ACTIVATIONS`.
        dtype: of what acts on channels, "float32" or "bfloat16"; weights and spherical harmonics stay in float32.
        remat: compute each block again for its gradient instead of keeping what it made.

    Raises:
        ValueError: a name is unknown or a number out of range.
    """

    width: int = 64
    blocks: int = 4
    hidden: float = 2.0
    activation: str = "silu"
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ValueError(f"{field.name} must be above 0, got {value}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")


@dataclass(frozen=True)
class SphereShape:
    """What goes into a network and comes out.

    Attributes:
        grid: of both.
        inputs, outputs: channels.
        conditions: length of the vector that conditions every block; 0 for none.
    """

    grid: WeatherGrid
    inputs: int
    outputs: int
    conditions: int = 0


class Constant:
    """An array that belongs to the program: neither trained nor saved, and alike where its numbers are.

    Args:
        values: the numbers.
    """

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self._digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._digest == other._digest


class ConditionalNorm(nnx.Module):
    """A layer norm over the channels of each point, scaled and shifted by what conditions the network.

    Args:
        channels: of the features.
        conditions: length of the vector; 0 for none.
        rngs: for the first weights.
    """

    def __init__(self, channels: int, conditions: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(channels, use_fast_variance=False, rngs=rngs)
        # Small at first: an ensemble begins nearly as one, and learns how far to spread.
        self.map = (
            nnx.Linear(conditions, 2 * channels, kernel_init=scaled_normal(0.01), rngs=rngs) if conditions else None
        )

    def __call__(
        self,
        h: Float[Array, "*batch_and_space channels"],
        conditions: Float[Array, "batch conditions"] | None,
        axis: int = 0,
    ) -> Float[Array, "*batch_and_space channels"]:
        """The normalised features, whose statistics are taken in float32.

        Args:
            h: the features.
            conditions: of each of the batch.
            axis: of the batch in `h`.

        Raises:
            ValueError: the network is conditioned and no vector is given, or the other way round.
        """
        if (self.map is None) != (conditions is None):
            expected = f"a vector of {self.map.in_features} conditions" if self.map is not None else "no conditions"
            got = "none" if conditions is None else f"{conditions.shape[-1]}"
            raise ValueError(f"the network takes {expected}, got {got}")
        normalised = self.norm(h.astype(jnp.float32)).astype(h.dtype)
        if self.map is None or conditions is None:
            return normalised
        shape = [1] * (h.ndim - 1)
        shape[axis] = len(conditions)
        both = self.map(conditions).reshape(*shape, -1).astype(h.dtype)
        scale, shift = jnp.split(both, 2, axis=-1)
        return normalised * (1 + scale) + shift


def where_on_earth(grid: WeatherGrid) -> Float[np.ndarray, "latitude longitude 2"]:
    """What is told of a point: sine and cosine of its latitude, or in a region its place between the edges, -1 to 1.

    On a circle of longitudes nothing is told of the longitude, so that a network commutes with turns of the Earth.
    """
    rows, columns = grid.shape
    if grid.periodic:
        latitude = np.repeat(np.deg2rad(np.asarray(grid.latitude))[:, None], columns, axis=1)
        features = [np.sin(latitude), np.cos(latitude)]
    else:
        features = list(np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"))
    return np.stack(features, axis=-1).astype(np.float32)


class Encoder(nnx.Module):
    """The first features of each point, from the inputs and from where it lies."""

    def __init__(self, config: SphereConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        self.shape, self.dtype = shape, config.dtype
        self.place = Constant(where_on_earth(shape.grid))
        wide = shape.inputs + self.place.values.shape[-1]
        self.mlp = MLP(wide, config.width, config.width, config.activation, config.dtype, rngs)

    def __call__(
        self, x: Float[Array, "batch latitude longitude inputs"]
    ) -> Float[Array, "batch latitude longitude w"]:
        """The features.

        Raises:
            ValueError: x is of another shape.
        """
        expected = (*self.shape.grid.shape, self.shape.inputs)
        if x.shape[1:] != expected:
            raise ValueError(f"the network takes fields of shape {expected}, got {x.shape[1:]}")
        place = jnp.broadcast_to(jnp.asarray(self.place.values), (len(x), *self.place.values.shape))
        return self.mlp(jnp.concatenate([x, place], axis=-1).astype(DTYPES[self.dtype]))


class Decoder(nnx.Module):
    """The answer at each point; small at first, so that a forecast begins as persistence."""

    def __init__(self, config: SphereConfig, shape: SphereShape, rngs: nnx.Rngs) -> None:
        self.norm = ConditionalNorm(config.width, shape.conditions, rngs)
        self.last = Linear(
            config.width, shape.outputs, kernel_init=scaled_normal(0.01), dtype=DTYPES[config.dtype], rngs=rngs
        )

    def __call__(
        self, h: Float[Array, "batch latitude longitude width"], conditions: Float[Array, "batch conditions"] | None
    ) -> Float[Array, "batch latitude longitude outputs"]:
        """The answer, float32."""
        return self.last(self.norm(h, conditions)).astype(jnp.float32)
