"""Geometry of the domain of a network: boundaries, coordinates and padding, for grids of any size.

Coordinates are shares of the length of the domain, so that they do not depend on the resolution. Points of a periodic
dim lie at i / n of its length. For the other dims the grid says where the points lie, so that fields on two grids are
aligned: "cells" in the middle of n cells, "left" at the left end of each cell, "ends" from one end to the other.
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
    """Dims and channels of the inputs and outputs of a network.

    Attributes:
        dims: number of dims of space: 1, 2 or 3.
        inputs: input channels: those of the state, times the length of its history, and those of static fields.
        outputs: output channels.
        parameters: number of normalised parameters that condition the output.
        periodic: for each dim of space, whether it is periodic; empty if no dim is.

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
            raise ValueError(f"periodic must have one entry for each of {self.dims} dims, got {self.periodic}")

    def check(self, x: Float[Array, "batch *space inputs"]) -> None:
        """Refuse a field of the wrong shape.

        Raises:
            ValueError: the number of dims or of channels is wrong.
        """
        if x.ndim != self.dims + 2 or x.shape[-1] != self.inputs:
            raise ValueError(
                f"a field of shape (batch, {self.dims} dims of space, {self.inputs} channels) is needed, got {x.shape}"
            )


def coordinates(space: tuple[int, ...], periodic: tuple[bool, ...], grid: str = "cells") -> Float[Array, "*space dims"]:
    """Coordinates of the points of a grid, as shares of the domain.

    Args:
        space: number of points along each dim.
        periodic: whether each dim is periodic.
        grid: placement of points along the other dims, one of `GRIDS`.
    """

    def along(n: int, closed: bool) -> Float[np.ndarray, " n"]:
        if closed or grid == "left":
            return np.arange(n) / n
        return np.linspace(0, 1, n) if grid == "ends" else (np.arange(n) + 0.5) / n

    axes = [along(n, closed) for n, closed in zip(space, periodic, strict=True)]
    return jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), jnp.float32)


def position_features(kind: str, where: Float[Array, "*points dims"]) -> Float[Array, "*points features"]:
    """Features of positions, as inputs of a network.

    Args:
        kind: "none" for no features; "linear" for coordinates from -1 to 1; "periodic" for the sine and cosine with
            the period of each dim, which are equal at both ends.
        where: coordinates as shares of the domain.
    """
    if kind == "linear":
        return 2 * where - 1
    if kind == "periodic":
        return jnp.concatenate([jnp.sin(2 * np.pi * where), jnp.cos(2 * np.pi * where)], axis=-1)
    return where[..., :0]


def position_count(kind: str, dims: int) -> int:
    """Number of features that `position_features` returns."""
    return {"none": 0, "linear": dims, "periodic": 2 * dims}[kind]


def with_positions(
    x: Float[Array, "batch *space channel"], kind: str, periodic: tuple[bool, ...], grid: str
) -> Float[Array, "batch *space more"]:
    """A field with the position features of each point as further channels."""
    if kind == "none":
        return x
    features = position_features(kind, coordinates(x.shape[1:-1], periodic, grid)).astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(features, (x.shape[0], *features.shape))], axis=-1)


def extend(
    x: Float[Array, "batch *space channel"], fraction: float, periodic: tuple[bool, ...], kind: str = "zero"
) -> Float[Array, "batch *larger channel"]:
    """Extend a field to a larger domain, by half of the addition on each side; periodic dims are not extended.

    A Fourier series treats every dim as periodic. After the extension it joins the additions instead of the two ends.

    Args:
        x: the field.
        fraction: share of the length of each dim that is added.
        periodic: whether each dim is periodic.
        kind: values of the additions, "zero", or "reflect" for the field mirrored at its ends.
    """
    widths = [_additions(n, fraction, closed) for n, closed in zip(x.shape[1:-1], periodic, strict=True)]
    if not any(a + b for a, b in widths):
        return x
    # Points lie in the middle of cells, so the mirror plane lies between points and repeats the outermost.
    mode = {"zero": "constant", "reflect": "symmetric"}[kind]
    return jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=mode)


def crop(
    x: Float[Array, "batch *larger channel"], space: tuple[int, ...], fraction: float, periodic: tuple[bool, ...]
) -> Float[Array, "batch *space channel"]:
    """Cut an extended field back to the `space` points of the domain."""
    for axis, (n, closed) in enumerate(zip(space, periodic, strict=True), start=1):
        before, _ = _additions(n, fraction, closed)
        x = jax.lax.slice_in_dim(x, before, before + n, axis=axis)
    return x


def pad_boundary(
    x: Float[Array, "batch *space channel"], width: int, periodic: tuple[bool, ...], boundary: str
) -> Float[Array, "batch *larger channel"]:
    """Pad a field by the points beyond its ends that a convolution needs.

    Args:
        x: the field.
        width: number of points to add on each side.
        periodic: whether each dim is periodic, and is therefore padded from its other end.
        boundary: padding of the other dims: "zero", or "edge" for the outermost value.
    """
    for closed, mode in ((True, "wrap"), (False, {"zero": "constant", "edge": "edge"}[boundary])):
        widths = [(width, width) if p == closed else (0, 0) for p in periodic]
        if width and any(a for a, _ in widths):
            x = jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=mode)
    return x


def _additions(points: int, fraction: float, closed: bool) -> tuple[int, int]:
    """Number of points to add before and after."""
    whole = 0 if closed else round(fraction * points)
    return whole // 2, whole - whole // 2
