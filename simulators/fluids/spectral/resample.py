"""Resampling of fields between periodic grids by Fourier series; exact for band-limited fields."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

#: A numpy or jax array of floats; the result has the type of the input.
Fields = TypeVar("Fields", np.ndarray, jax.Array)


def resample(fields: Fields, points: int, *, dim: int) -> Fields:
    """Resample fields to `points` points along each of the `dim` trailing axes, which have equal lengths.

    Wavenumbers that both grids resolve are kept, and others are dropped. The Nyquist wavenumber of an even coarser grid
    is dropped too, because that grid cannot represent its phase.

    Args:
        fields: array with any leading axes (samples, times, channels), then the space axes.
        points: grid points of the result along each space axis.
        dim: number of space axes.

    Returns:
        An array of the input's type and dtype; differentiable for jax arrays.

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
