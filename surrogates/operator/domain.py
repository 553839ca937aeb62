"""The domain that a network works on: its boundaries, its coordinates, and grids of whatever size.

Coordinates are shares of the domain, so that they mean the same at every resolution. Points of a periodic dim lie at
i / n of its length. Where those of any other dim lie, a grid has to tell, or fields on two grids would not be at one
place: "cells" has them in the middle of n cells, "left" at the left end of each, "ends" from one end to the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

POSITIONS = ("none", "linear", "periodic")
EXTENSIONS = ("zero", "reflect")
GRIDS = ("cells", "left", "ends")


@dataclass(frozen=True)
class FieldShape:
    """What goes into a network and what comes out.

    Attributes:
        dims: of space: 1, 2 or 3.
        inputs: channels in: those of the state, times the length of its history, and static fields.
        outputs: channels out.
        parameters: numbers that condition the answer, normalised.
        periodic: for each dim of space, whether its ends meet; none given means that none do.

    Raises:
        ValueError: a number is out of range.
    """

    dims: int
    inputs: int
    outputs: int
    parameters: int = 0
    periodic: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "periodic", tuple(bool(p) for p in self.periodic) or (False,) * self.dims)
        if self.dims not in (1, 2, 3):
            raise ValueError(f"dims must be 1, 2 or 3, got {self.dims}")
        if min(self.inputs, self.outputs) < 1 or self.parameters < 0:
            raise ValueError(f"inputs and outputs must be at least 1 and parameters at least 0, got {self}")
        if len(self.periodic) != self.dims:
            raise ValueError(f"periodic must tell of each of {self.dims} dims, got {self.periodic}")

    def check(self, x: Float[Array, "batch *space inputs"]) -> None:
        """Refuse a field of another shape.

        Raises:
            ValueError: the number of dims or of channels is another.
        """
        if x.ndim != self.dims + 2 or x.shape[-1] != self.inputs:
            raise ValueError(
                f"a field of shape (batch, {self.dims} dims of space, {self.inputs} channels) is needed, got {x.shape}"
            )


def coordinates(space: tuple[int, ...], periodic: tuple[bool, ...], grid: str = "cells") -> Float[Array, "*space dims"]:
    """Where the points of a grid lie, as shares of the domain.

    Args:
        space: points along each dim.
        periodic: whether the ends of each meet.
        grid: of the other dims, one of `GRIDS`.
    """

    def along(n: int, closed: bool) -> Float[np.ndarray, " n"]:
        if closed or grid == "left":
            return np.arange(n) / n
        return np.linspace(0, 1, n) if grid == "ends" else (np.arange(n) + 0.5) / n

    axes = [along(n, closed) for n, closed in zip(space, periodic, strict=True)]
    return jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), jnp.float32)


def position_features(kind: str, where: Float[Array, "*points dims"]) -> Float[Array, "*points features"]:
    """What a network is told of where it is.

    Args:
        kind: "none": nothing; "linear": the coordinates from -1 to 1; "periodic": sine and cosine of once around
            each dim, equal at both ends.
        where: shares of the domain.
    """
    if kind == "linear":
        return 2 * where - 1
    if kind == "periodic":
        return jnp.concatenate([jnp.sin(2 * np.pi * where), jnp.cos(2 * np.pi * where)], axis=-1)
    return where[..., :0]


def position_count(kind: str, dims: int) -> int:
    """How many features `position_features` gives."""
    return {"none": 0, "linear": dims, "periodic": 2 * dims}[kind]


def with_positions(
    x: Float[Array, "batch *space channel"], kind: str, periodic: tuple[bool, ...], grid: str
) -> Float[Array, "batch *space more"]:
    """A field with the features of each point's position as further channels."""
    if kind == "none":
        return x
    features = position_features(kind, coordinates(x.shape[1:-1], periodic, grid)).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(features, (x.shape[0], *features.shape))], axis=-1)


def extend(
    x: Float[Array, "batch *space channel"], fraction: float, periodic: tuple[bool, ...], kind: str = "zero"
) -> Float[Array, "batch *larger channel"]:
    """A field on a larger domain, half of the addition on each side; periodic dims stay as they are.

    A Fourier series closes every dim. On the larger one what it joins are the additions, not the two ends.

    Args:
        x: the field.
        fraction: of the length of each dim, to add.
        periodic: whether the ends of each dim meet.
        kind: "zero", or "reflect": the field mirrored at its ends.
    """
    widths = [_additions(n, fraction, closed) for n, closed in zip(x.shape[1:-1], periodic, strict=True)]
    if not any(a + b for a, b in widths):
        return x
    # Points lie in the middle of cells, so the mirror stands between points and repeats the outermost.
    mode = {"zero": "constant", "reflect": "symmetric"}[kind]
    return jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=mode)


def crop(
    x: Float[Array, "batch *larger channel"], space: tuple[int, ...], fraction: float, periodic: tuple[bool, ...]
) -> Float[Array, "batch *space channel"]:
    """The part of an extended field that lies on the domain, of `space` points."""
    for axis, (n, closed) in enumerate(zip(space, periodic, strict=True), start=1):
        before, _ = _additions(n, fraction, closed)
        x = jax.lax.slice_in_dim(x, before, before + n, axis=axis)
    return x


def pad_boundary(
    x: Float[Array, "batch *space channel"], width: int, periodic: tuple[bool, ...], boundary: str
) -> Float[Array, "batch *larger channel"]:
    """A field with the points beyond its ends that a convolution of reach `width` looks at.

    Args:
        x: the field.
        width: points to add on each side.
        periodic: dims that go on at the other end.
        boundary: what lies beyond the ends of other dims: "zero", or "edge": the outermost value.
    """
    for closed, mode in ((True, "wrap"), (False, {"zero": "constant", "edge": "edge"}[boundary])):
        widths = [(width, width) if p == closed else (0, 0) for p in periodic]
        if width and any(a for a, _ in widths):
            x = jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=mode)
    return x


def _additions(points: int, fraction: float, closed: bool) -> tuple[int, int]:
    """Points to add before and after."""
    whole = 0 if closed else round(fraction * points)
    return whole // 2, whole - whole // 2
