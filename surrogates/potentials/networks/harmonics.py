"""Real spherical harmonics of unit vectors as polynomials, and sphere quadratures that integrate their products.

The coefficients come from SciPy's harmonics by a fit that is exact up to rounding, since a harmonic of degree l
is a homogeneous polynomial of degree l on the sphere. Each harmonic is normalised so that the mean of its square over
the sphere is 1 (the `component` normalisation of e3nn); m runs from -l to l.
"""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import lebedev_rule
from scipy.special import sph_harm_y

#: Degrees to which SciPy has Lebedev rules.
LEBEDEV = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)


def harmonics(degree: int, direction: Float[Array, " 3 *shape"]) -> list[Float[Array, " *shape"]]:
    """Y_lm for l = 0..degree, ordered by l and then m: (degree + 1)^2 arrays.

    Args:
        degree: the largest l.
        direction: unit vectors, with their components along the first axis.
    """
    x, y, z = direction
    one = jnp.ones_like(x)
    powers = [[one, axis] for axis in (x, y, z)]
    for row in powers:
        for _ in range(degree - 1):
            row.append(row[-1] * row[1])
    functions = []
    for l in range(degree + 1):  # noqa: E741
        exponents, matrix = _polynomials(l)
        terms = [powers[0][a] * powers[1][b] * powers[2][c] for a, b, c in exponents]
        for column in matrix.T:
            functions.append(sum(float(w) * term for w, term in zip(column, terms, strict=True) if w != 0.0))
    return functions


def reference(degree: int, direction: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P S"]:
    """The same harmonics by SciPy's `sph_harm_y`, for constants and tests."""
    x, y, z = np.asarray(direction, np.float64).T
    polar, azimuth = np.arccos(np.clip(z / np.linalg.norm(direction, axis=1), -1, 1)), np.arctan2(y, x)
    columns = []
    for l in range(degree + 1):  # noqa: E741
        for m in range(-l, l + 1):
            value = sph_harm_y(l, abs(m), polar, azimuth)
            part = value.imag if m < 0 else value.real
            columns.append((-1) ** m * np.sqrt(4 * np.pi) * part * (np.sqrt(2.0) if m else 1.0))
    return np.stack(columns, axis=1)


@cache
def sphere(degree: int) -> tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, " G"]]:
    """Points and weights (of sum 1) of a Lebedev rule that is exact for polynomials up to `degree`.

    Raises:
        ValueError: there is no rule of that degree.
    """
    fitting = [rule for rule in LEBEDEV if rule >= degree]
    if not fitting:
        raise ValueError(f"no quadrature of the sphere is exact to degree {degree}; at most {LEBEDEV[-1]}")
    points, weights = lebedev_rule(fitting[0])
    return points.T.copy(), weights / weights.sum()


@cache
def half_sphere(degree: int) -> tuple[Float[np.ndarray, "H 3"], Float[np.ndarray, " H"]]:
    """One of each pair of opposite points of `sphere`, with weights (of sum 1) for functions with f(-s) = f(s)."""
    points, weights = sphere(degree)
    kept = [i for i, point in enumerate(np.round(points, 9) + 0.0) if tuple(point) > tuple(-point + 0.0)]
    return points[kept], 2.0 * weights[kept]


@cache
def _polynomials(l: int) -> tuple[list[tuple[int, int, int]], Float[np.ndarray, "T S"]]:  # noqa: E741
    """Exponents of the monomials of degree l, and the coefficient of each monomial in each Y_lm."""
    exponents = [(a, b, l - a - b) for a in range(l + 1) for b in range(l + 1 - a)]
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20 * len(exponents), 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    terms = np.stack([np.prod(points ** np.array(e), axis=1) for e in exponents], axis=1)
    matrix = np.linalg.lstsq(terms, reference(l, points)[:, l * l :], rcond=None)[0]
    matrix[np.abs(matrix) < 1e-10] = 0.0
    return exponents, matrix
