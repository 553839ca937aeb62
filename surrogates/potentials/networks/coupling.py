"""The coupling of what neighbours send with the direction in which they are seen: Y_l1(r_ij) x h_j,l2 -> l3.

A neighbour's vector tells an atom the angle at that neighbour only together with the direction of their bond, as in
tensor field networks (Thomas et al. 2018, arXiv:1802.08219, section 4.1), NequIP and MACE:
A_i,l3,m3,c = sum_j sum_b R_l1,b(r_ij) w_bc sum_m1,m2 C(m3; m1, m2) Y_l1,m1(r_ij) h_j,l2,m2,c.
The sum over neighbours comes first, for all m1 and m2, as one matrix product (see `neighbour_sums`); the coefficients
then act once on each atom and not on each pair.

All paths have natural parity: what has degree l changes its sign under inversion as Y_l does, so that l1 + l2 + l3 is
even. Their coefficients are the integrals of three harmonics up to a factor, because the map of two degrees to a third
that commutes with rotations is unique up to a factor. A quadrature of the sphere gives them exactly.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from surrogates.learning.nn import initial
from surrogates.learning.nn.precision import multiply
from surrogates.potentials.networks.geometry import Pairs
from surrogates.potentials.networks.harmonics import reference, sphere
from surrogates.potentials.networks.neighbour_sums import collect
from surrogates.potentials.networks.products import apply_constant

#: No coupling, the invariants Y_l(r_ij) . h_j,l alone, or all paths of natural parity.
COUPLINGS = ("none", "scalar", "all")


class CouplingPath(NamedTuple):
    """Degrees l1 of the harmonic of the pair, l2 of what the neighbour sends, and l3 of what arrives."""

    edge: int
    sent: int
    arrives: int


def paths(coupling: str, degree: int, sent: int) -> tuple[CouplingPath, ...]:
    """The paths of a coupling of `COUPLINGS` for tensors of degree `sent`, with l1 from 1 and l3 up to `degree`.

    Those with l1 = 0 are the sums with radial weights alone, which every network has.
    """
    if coupling == "none":
        return ()
    if coupling == "scalar":
        return (CouplingPath(sent, sent, 0),)
    return tuple(
        CouplingPath(edge, sent, arrives)
        for edge in range(1, degree + 1)
        for arrives in range(abs(edge - sent), min(edge + sent, degree) + 1, 2)
    )


@cache
def coefficients(path: CouplingPath) -> Float[np.ndarray, "M3 M1 M2"]:
    """C(m3; m1, m2) of a path, of which the squares for each m3 have the sum 1.

    Independent components of mean square 1 are thus coupled to components of mean square 1.
    """
    points, weights = sphere(sum(path))
    edge, sent, arrives = (reference(ell, points)[:, ell * ell :] for ell in path)
    integrals = np.einsum("p,pc,pa,pb->cab", weights, arrives, edge, sent)
    integrals[np.abs(integrals) < 1e-12] = 0.0
    return integrals / np.sqrt(np.sum(integrals**2, axis=(1, 2), keepdims=True))


class Coupling(nnx.Module):
    """The coupled sums over neighbours of the tensors of one degree, mixed into the channels of the density.

    Args:
        ways: the paths, all from the same l2.
        sizes: B, the number of radial functions of each l1; T, that of channels of the tensors; C, of the density.
        scale: standard deviation of the initial weights of the radial functions.
        precision: of the products that mix channels.
        rngs: random numbers for the initial weights.
    """

    def __init__(
        self, ways: tuple[CouplingPath, ...], sizes: tuple[int, int, int], scale: float, precision: str, rngs: nnx.Rngs
    ) -> None:
        radial, t, c = sizes
        self.ways, self.precision = ways, precision
        self.weigh = nnx.Param(initial.normal(scale)(rngs.params(), (radial, t)))
        mix = initial.normal(t**-0.5)(rngs.params(), (len(ways), t, c))
        # What arrives by all paths to a degree together begins as large as what arrives by one.
        into = np.array([sum(way.arrives == other.arrives for other in ways) for way in ways], np.float32)
        self.mix = nnx.Param(mix / np.sqrt(into)[:, None, None])

    def __call__(
        self, functions: Float[Array, "M N S B K"], tensors: Float[Array, "M N D T"], pairs: Pairs
    ) -> list[tuple[int, Float[Array, "M N _ C"]]]:
        """For each path the degree l3 and what arrives, with 2 l3 + 1 rows.

        Args:
            functions: Y_lm R_lb of each pair, for all l up to the degree of the density.
            tensors: h, the tensors of each atom, with D = 2 l2 + 1 rows.
            pairs: the atom in each slot.
        """
        m, n, d, t = tensors.shape
        weights = jnp.tile(self.weigh[...].astype(tensors.dtype), d)
        outer = collect(functions[:, :, self.rows()], tensors.reshape(m, n, d * t), weights, pairs)
        arrived = apply_constant(self.matrix(), outer.reshape(m, n, -1, t))
        coupled, start = [], 0
        for i, way in enumerate(self.ways):
            stop = start + 2 * way.arrives + 1
            coupled.append((way.arrives, multiply(arrived[:, :, start:stop], self.mix[i], self.precision)))
            start = stop
        return coupled

    def rows(self) -> slice:
        """The harmonics of all l1 of the paths."""
        return slice(min(way.edge for way in self.ways) ** 2, (max(way.edge for way in self.ways) + 1) ** 2)

    def matrix(self) -> Float[np.ndarray, "P Q"]:
        """The map from all products of components, (l1, m1) by m2, to the components that arrive, path by path."""
        rows = self.rows()
        blocks = []
        for way in self.ways:
            block = np.zeros((2 * way.arrives + 1, rows.stop - rows.start, 2 * way.sent + 1))
            start = way.edge**2 - rows.start
            block[:, start : start + 2 * way.edge + 1] = coefficients(way)
            blocks.append(block.reshape(len(block), -1))
        return np.concatenate(blocks)
