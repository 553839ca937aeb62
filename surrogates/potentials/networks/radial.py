"""Radial functions: a smooth cutoff envelope, and bases in which distances are expanded.

The polynomial envelope is eq. 8 of DimeNet (Gasteiger et al. 2020, arXiv:2003.03123), whose first
two derivatives vanish at the cutoff; the Bessel basis is eq. 7 there.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: Names of the bases of `expand`.
BASES = ("bessel", "gaussian")


def envelope(distance: Float[Array, " *pairs"], cutoff: float, power: int = 6) -> Float[Array, " *pairs"]:
    """1 at distance 0, falling to 0 at the cutoff with two continuous derivatives, and 0 beyond.

    u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2) with x = distance / cutoff.
    Energies weighted by it are twice continuously differentiable, and forces once.

    Args:
        distance: Angstrom.
        cutoff: Angstrom.
        power: p; a larger power keeps the envelope near 1 up to larger distances.
    """
    x = jnp.minimum(distance / cutoff, 1.0)
    p = power
    factor = (p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x * x
    return jnp.where(distance < cutoff, 1.0 - x**p * factor, 0.0)


def bessel(distance: Float[Array, " *pairs"], cutoff: float, n: int) -> Float[Array, "*pairs n"]:
    """sqrt(2/c) sin(k pi r / c) / r for k = 1..n: a complete basis of functions that vanish at the cutoff.

    Args:
        distance: Angstrom; above 0.
        cutoff: c, Angstrom.
        n: number of basis functions.
    """
    k = jnp.arange(1, n + 1, dtype=distance.dtype) * (np.pi / cutoff)
    return np.sqrt(2.0 / cutoff) * jnp.sin(k * distance[..., None]) / distance[..., None]


def gaussian(distance: Float[Array, " *pairs"], cutoff: float, n: int) -> Float[Array, "*pairs n"]:
    """exp(-(r - m_k)^2 / (2 s^2)), with centres m_k evenly spaced on [0, cutoff] and s their spacing.

    Args:
        distance: Angstrom.
        cutoff: Angstrom.
        n: number of basis functions; at least 2.
    """
    centres = jnp.linspace(0.0, cutoff, n, dtype=distance.dtype)
    width = cutoff / (n - 1)
    return jnp.exp(-0.5 * ((distance[..., None] - centres) / width) ** 2)


def expand(kind: str, distance: Float[Array, " *pairs"], cutoff: float, n: int) -> Float[Array, "*pairs n"]:
    """Expand distances (Angstrom) in the n functions of the basis `kind`.

    Raises:
        ValueError: `kind` is not one of `BASES`.
    """
    if kind == "bessel":
        return bessel(distance, cutoff, n)
    if kind == "gaussian":
        return gaussian(distance, cutoff, n)
    raise ValueError(f"basis must be one of {BASES}, got {kind!r}")
