"""Fields from one periodic grid to another through their Fourier series: exact where they are band-limited."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

#: A numpy or a jax array of floats; what comes in is what goes out.
Fields = TypeVar("Fields", np.ndarray, jax.Array)


def resample(fields: Fields, points: int, *, dim: int) -> Fields:
    """Fields on a grid of `points` along each of the `dim` trailing axes, which have equal lengths.

    Wavenumbers that both grids resolve are kept, others are dropped. So is the Nyquist wavenumber of the coarser
    grid where that is even, because that grid cannot hold its phase.

    Args:
        fields: any leading axes (samples, times, channels), then space.
        points: of the new grid, along each axis.
        dim: number of space axes.

    Returns:
        Of the kind and dtype that came in; differentiable for jax arrays.

    Raises:
        ValueError: the space axes differ in length, or `points` is below 1.
    """
    space = fields.shape[fields.ndim - dim :]
    if fields.ndim < dim or len(set(space)) != 1 or points < 1:
        raise ValueError(
            f"resample needs {dim} trailing axes of one length and points >= 1, got {fields.shape}, {points}"
        )
    if points == space[0]:
        return fields
    xp: Any = jnp if isinstance(fields, jax.Array) else np
    axes = tuple(range(fields.ndim - dim, fields.ndim))
    kept = (min(points, space[0]) - 1) // 2
    hat: Any = xp.fft.rfftn(fields, axes=axes, norm="forward")[..., : kept + 1]
    low, high = np.arange(kept + 1), np.arange(space[0] - kept, space[0])
    axis: int
    for axis in axes[:-1]:
        gap = (*hat.shape[:axis], points - 2 * kept - 1, *hat.shape[axis + 1 :])
        hat = xp.concatenate([xp.take(hat, low, axis), xp.zeros(gap, hat.dtype), xp.take(hat, high, axis)], axis)
    hat = xp.concatenate([hat, xp.zeros((*hat.shape[:-1], points // 2 - kept), hat.dtype)], -1)
    return xp.fft.irfftn(hat, s=(points,) * dim, axes=axes, norm="forward").astype(fields.dtype)
