"""Statistics of spherical harmonic coefficients by zonal and total wavenumber."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.windows import WindowStore
from surrogates.weather.harmonics import Harmonics

#: Energy that a harmonic counts as having at least, as a share of the mean one of its channel: what is fainter neither
#: shows nor feeds back.
FAINTEST = 1e-3


def average_pairs(square: Any) -> Any:
    """Squares of coefficients (row, order, degree, channel) by zonal wavenumber: the mean of cosine and sine."""
    whole: Any = jnp if isinstance(square, jax.Array) else np
    return whole.concatenate([square[:, :1], (square[:, 1::2] + square[:, 2::2]) / 2], axis=1)


def gain_energy(
    harmonics: Harmonics, store: WindowStore, part: tuple[int, int], unit: Float[np.ndarray, " channel"]
) -> Float[np.ndarray, "wavenumber degree channel"]:
    """Mean square of what a step adds to a coefficient.

    Args:
        harmonics: of the grid.
        store: of the states.
        part: [start, stop) of those that are looked at.
        unit: of each channel.
    """

    @jax.jit
    def squares(gains: Array) -> Array:
        return average_pairs(harmonics.forward(gains) ** 2).sum(axis=0)

    begins = {a for a, _ in store.segments}
    total, count = np.zeros(()), 0
    last: np.ndarray | None = None
    for rows, states in store.blocks(part):
        if rows.start not in begins and last is not None:
            states = np.concatenate([last, states])
        last = states[-1:]
        gains = np.diff(states, axis=0) / unit
        if len(gains):
            total = total + np.asarray(squares(jnp.asarray(gains, jnp.float32)), np.float64)
            count += len(gains)
    return total / max(count, 1)


def gain_units(
    harmonics: Harmonics, store: WindowStore, part: tuple[int, int], unit: Float[np.ndarray, " channel"]
) -> Float[np.ndarray, "wavenumber degree channel"]:
    """Root of `gain_energy`, at least the root of `FAINTEST` of its mean over the coefficients of a channel.

    Four digits, because each checkpoint notes them.
    """
    energy = gain_energy(harmonics, store, part, unit)
    units = np.sqrt(np.maximum(energy, FAINTEST * mean_energy(harmonics, energy)))
    return np.array([float(f"{v:.4g}") for v in units.ravel()]).reshape(units.shape)


def coefficient_mask(harmonics: Harmonics) -> Float[np.ndarray, "wavenumber degree 1"]:
    """1 where a coefficient exists."""
    return average_pairs(harmonics.mask[None, ..., None].astype(float))[0]


def mean_energy(
    harmonics: Harmonics, energy: Float[np.ndarray, "wavenumber degree channel"]
) -> Float[np.ndarray, " channel"]:
    """Over the wavenumbers that exist."""
    exists = coefficient_mask(harmonics)
    return (energy * exists).sum(axis=(0, 1)) / exists.sum()
