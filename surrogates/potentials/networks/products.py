"""Products of spherical harmonics, computed on points of the sphere without Clebsch-Gordan coefficients.

The density of an atom is a function f(s) = sum_lm A_lm Y_lm(s) of the direction s. The mean over the sphere of a
product of such functions is invariant, and that of a product with Y_lm rotates as Y_lm does; both couple by Gaunt
coefficients (Luo et al. 2024, arXiv:2401.10216). Values at the points of a Lebedev rule give these means exactly. f is
the sum of an even part e (even l) and an odd part o, and the mean of an odd product is 0. Half of the points, one of
each opposite pair, therefore suffice, and e^3 and e o^2 are separate invariants.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.learning.nn import initial
from surrogates.potentials.networks.harmonics import half_sphere, reference

#: Number of invariants for each channel, and of equivariant products for each channel and l, of `Products`.
INVARIANTS, TENSORS = 4, 2


class Products(nnx.Module):
    """Invariant products of three factors, and equivariant products of two and three factors.

    e and o are the even and odd part of f, and g is a second even part with other weights of each l. The invariants are
    the means of e^3, e o^2, g e^2 and g o^2. The equivariant products are the means of Y e o and Y e^2 o for odd l, and
    of Y (e^2 + o^2) and Y e^3 for even l.

    Args:
        channels: C, the number of channels.
        degree: largest l of the density.
        sends: degrees l of the equivariant products.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, channels: int, degree: int, sends: tuple[int, ...], rngs: nnx.Rngs) -> None:
        self.degree = degree
        self.sends = sends
        normal = initial.normal(1.0 / (degree + 1))
        self.factors = nnx.Param(normal(rngs.params(), (2, degree + 1, channels)))

    def __call__(
        self, density: list[Float[Array, "M N _ C"]]
    ) -> tuple[list[Float[Array, "M N C"]], list[list[Float[Array, "M N _ C"]]]]:
        """The invariants; and for each l of `sends` the two equivariant products, with 2 l + 1 rows."""
        first, second = self.factors[...]
        e, o, g = self.values(density, first, 0), self.values(density, first, 1), self.values(density, second, 0)
        ee, oo = e * e, o * o
        invariants = [jnp.sum(each, axis=2) for each in (ee * e, oo * e, ee * g, oo * g)]
        tensors = []
        for ell in self.sends:
            pair, triple = (e * o, ee * o) if ell % 2 else (ee + oo, ee * e)
            tensors.append([self.project(pair, ell, 2), self.project(triple, ell, 3)])
        return invariants, tensors

    @property
    def exact(self) -> int:
        """The polynomial degree to which the quadrature must be exact."""
        even, odd = self.degree - self.degree % 2, self.degree - 1 + self.degree % 2
        needed = [3 * even, even + 2 * odd]
        for ell in self.sends:
            needed += [ell + 2 * even + odd] if ell % 2 else [ell + 2 * odd, ell + 3 * even]
        return max(needed)

    def values(
        self, density: list[Float[Array, "M N _ C"]], factors: Float[Array, "L C"], parity: int
    ) -> Float[Array, "M N G C"]:
        """The even (parity 0) or odd (1) part of f at the points, times the cube root of the weight of each point."""
        points, weights = half_sphere(self.exact)
        degrees = range(parity, self.degree + 1, 2)
        every = reference(self.degree, points) * np.cbrt(weights)[:, None]
        matrix = np.concatenate([every[:, ell * ell : (ell + 1) ** 2] for ell in degrees], axis=1)
        joined = jnp.concatenate([density[ell] * factors[ell].astype(density[ell].dtype) for ell in degrees], axis=2)
        return apply_constant(matrix, joined)

    def project(self, product: Float[Array, "M N G C"], ell: int, factors: int) -> Float[Array, "M N D C"]:
        """The mean of a product times Y_lm; each factor of the product contains the cube root of the weights."""
        points, weights = half_sphere(self.exact)
        return apply_constant(
            (reference(ell, points)[:, ell * ell :] * np.cbrt(weights)[:, None] ** (3 - factors)).T, product
        )


def apply_constant(matrix: Float[np.ndarray, "P Q"], values: Float[Array, "M N Q C"]) -> Float[Array, "M N P C"]:
    """The product of a constant matrix with the array of each atom, without transposing operands or results."""
    constant = jnp.broadcast_to(jnp.asarray(matrix, values.dtype), (*values.shape[:2], *matrix.shape))
    return constant @ values
