"""Products of harmonics by way of functions on the sphere, which need no Clebsch-Gordan coefficients.

The density of an atom is a function f(s) = sum_lm A_lm Y_lm(s) of the direction s. The mean over the sphere of a
product of such functions is invariant, and that of a product with Y_lm turns as Y_lm does; both couple by Gaunt
coefficients (Luo et al. 2024, arXiv:2401.10216). Values at the points of a Lebedev rule give these means exactly. f is
the sum of an even part e (even l) and an odd part o, and only even products have a mean: half of the points, one of
each opposite pair, therefore suffice, and e^3 and e o^2 are invariants of their own.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.graph.harmonics import half_sphere, reference

#: Products of three factors that `Products` gives for each channel, and products for each l that is sent.
INVARIANTS, TENSORS = 4, 2


class Products(nnx.Module):
    """Invariants of three factors, and what turns as Y_lm from two and three factors.

    With e, o the parts of f, and g a second even part with other weights of each l: the means of e^3, e o^2, g e^2,
    g o^2; for odd l those of Y e o and Y e^2 o, for even l those of Y (e^2 + o^2) and Y e^3.

    Args:
        channels: C.
        degree: largest l of the density.
        sends: the l for which products are asked for.
        rngs: for the weights.
    """

    def __init__(self, channels: int, degree: int, sends: tuple[int, ...], rngs: nnx.Rngs) -> None:
        self.degree = degree
        self.sends = sends
        normal = nnx.initializers.normal(1.0 / (degree + 1))
        self.factors = nnx.Param(normal(rngs.params(), (2, degree + 1, channels)))

    def __call__(
        self, density: list[Float[Array, "M N _ C"]]
    ) -> tuple[list[Float[Array, "M N C"]], list[list[Float[Array, "M N _ C"]]]]:
        """The invariants; and for each l that is sent the two products, of 2 l + 1 rows."""
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
        """The degree to which the means have to be exact."""
        even, odd = self.degree - self.degree % 2, self.degree - 1 + self.degree % 2
        needed = [3 * even, even + 2 * odd]
        for ell in self.sends:
            needed += [ell + 2 * even + odd] if ell % 2 else [ell + 2 * odd, ell + 3 * even]
        return max(needed)

    def values(
        self, density: list[Float[Array, "M N _ C"]], factors: Float[Array, "L C"], parity: int
    ) -> Float[Array, "M N G C"]:
        """The even (0) or odd (1) part at the points, times the cube root of each point's weight."""
        points, weights = half_sphere(self.exact)
        degrees = range(parity, self.degree + 1, 2)
        every = reference(self.degree, points) * np.cbrt(weights)[:, None]
        matrix = np.concatenate([every[:, ell * ell : (ell + 1) ** 2] for ell in degrees], axis=1)
        joined = jnp.concatenate([density[ell] * factors[ell].astype(density[ell].dtype) for ell in degrees], axis=2)
        return _times(matrix, joined)

    def project(self, product: Float[Array, "M N G C"], ell: int, factors: int) -> Float[Array, "M N D C"]:
        """The mean of a product with Y_lm; each of its factors holds the cube root of the points' weights."""
        points, weights = half_sphere(self.exact)
        return _times((reference(ell, points)[:, ell * ell :] * np.cbrt(weights)[:, None] ** (3 - factors)).T, product)


def _times(matrix: Float[np.ndarray, "P Q"], values: Float[Array, "M N Q C"]) -> Float[Array, "M N P C"]:
    """One small product for each atom, so that no operand or result is transposed."""
    constant = jnp.broadcast_to(jnp.asarray(matrix, values.dtype), (*values.shape[:2], *matrix.shape))
    return constant @ values
