"""Statistics of spherical harmonic coefficients by zonal and total wavenumber."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.sphere.window_store import WindowStore
from simulators.precision import jit_float32
from surrogates.forecasts.networks.harmonics import Harmonics

#: Least energy of a harmonic, as a share of the mean energy in its channel; fainter ones have no noticeable effect.
FAINTEST = 1e-3


def average_pairs(square: Any) -> Any:
    """Means of cosine and sine of squared coefficients (row, order, degree, channel), by zonal wavenumber."""
    whole: Any = jnp if isinstance(square, jax.Array) else np
    return whole.concatenate([square[:, :1], (square[:, 1::2] + square[:, 2::2]) / 2], axis=1)


def gain_energy(
    harmonics: Harmonics, store: WindowStore, part: tuple[int, int], unit: Float[np.ndarray, " channel"]
) -> Float[np.ndarray, "wavenumber degree channel"]:
    """Mean square of the increment of each coefficient in a step.

    Args:
        harmonics: transform of the grid.
        store: windows with the states.
        part: [start, stop) of the states of which the mean is taken.
        unit: unit of each channel, by which increments are divided.
    """

    @jit_float32
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

    They have four digits, because the note of each checkpoint holds them.
    """
    energy = gain_energy(harmonics, store, part, unit)
    units = np.sqrt(np.maximum(energy, FAINTEST * mean_energy(harmonics, energy)))
    return np.array([float(f"{v:.4g}") for v in units.ravel()]).reshape(units.shape)


def coefficient_mask(harmonics: Harmonics) -> Float[np.ndarray, "wavenumber degree 1"]:
    """A mask by zonal and total wavenumber: 1 where coefficients exist, else 0."""
    return average_pairs(harmonics.mask[None, ..., None].astype(float))[0]


def mean_energy(
    harmonics: Harmonics, energy: Float[np.ndarray, "wavenumber degree channel"]
) -> Float[np.ndarray, " channel"]:
    """Mean energy of each channel over the coefficients that exist."""
    exists = coefficient_mask(harmonics)
    return (energy * exists).sum(axis=(0, 1)) / exists.sum()
