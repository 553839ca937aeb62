"""A many-body equivariant potential: message passing over atomic cluster expansions of the density of neighbours.

In each layer an atom expands what its neighbours carry in spherical harmonics and learned radial functions
(A of Drautz 2019, doi:10.1103/PhysRevB.99.014104, and of MACE, Batatia et al. 2022, arXiv:2206.07697, eq. 8), and
forms products of it with itself, which see three neighbours at once (four-body terms). The products are taken as
functions on the sphere, f(s) = sum_lm A_lm Y_lm(s), at the points of a Lebedev rule that integrates them
exactly: means over the sphere of f^2 and f^3 are invariant, and such products couple by Gaunt coefficients (Luo et
al. 2024, arXiv:2401.10216). Every invariant of up to three of these harmonics has even parity, so none is lost by that.

The density is a matrix product over neighbours, Y_lm(r_ij) R_lb(r_ij) times h_jc, with few radial functions b that
all channels c combine by weights of their own: no tensor over pairs and channels is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from data.structures import MAX_ATOMIC_NUMBER
from surrogates.graph.geometry import Pairs
from surrogates.graph.harmonics import harmonics, reference, sphere
from surrogates.graph.radial import BASES, expand


@dataclass(frozen=True)
class ACEConfig:
    """The size of the network.

    Attributes:
        features: C, the number of channels of an atom.
        layers: rounds of message passing.
        degree: largest l of the density.
        hidden_degree: largest l of what atoms send each other: 0 for scalars, 1 for vectors too.
        cutoff_angstrom: atoms farther apart than this do not see each other in one round.
        basis: functions in which distances are expanded.
        basis_size: number of them.
        radial: learned radial functions of each degree.
        radial_hidden: width of the network that makes them.
        neighbours: a typical number of neighbours; sums over neighbours are divided by its root.
    """

    features: int = 64
    layers: int = 2
    degree: int = 3
    hidden_degree: int = 0
    cutoff_angstrom: float = 5.0
    basis: str = "bessel"
    basis_size: int = 8
    radial: int = 6
    radial_hidden: int = 32
    neighbours: float = 12.0

    def __post_init__(self) -> None:
        if min(self.features, self.layers, self.radial, self.radial_hidden) < 1 or self.basis_size < 2:
            raise ValueError(f"sizes must be at least 1, and basis_size at least 2; got {self}")
        if not 1 <= self.degree <= 6:
            raise ValueError(f"degree must lie between 1 and 6, got {self.degree}")
        if self.hidden_degree not in (0, 1):
            raise ValueError(f"hidden_degree must be 0 or 1, got {self.hidden_degree}")
        if min(self.cutoff_angstrom, self.neighbours) <= 0:
            raise ValueError(f"cutoff_angstrom and neighbours must be above 0; got {self}")
        if self.basis not in BASES:
            raise ValueError(f"basis must be one of {BASES}, got {self.basis!r}")


class Radial(nnx.Module):
    """R_lb of a distance and the elements of the pair: a small network on the basis, times the envelope."""

    def __init__(self, config: ACEConfig, rngs: nnx.Rngs) -> None:
        hidden = config.radial_hidden
        self.centre = nnx.Embed(MAX_ATOMIC_NUMBER + 1, hidden, rngs=rngs, embedding_init=nnx.initializers.normal(0.5))
        self.other = nnx.Embed(MAX_ATOMIC_NUMBER + 1, hidden, rngs=rngs, embedding_init=nnx.initializers.normal(0.5))
        self.hidden = nnx.Param(LECUN(rngs.params(), (config.basis_size, hidden)))
        self.out = nnx.Param(LECUN(rngs.params(), (hidden, (config.degree + 1) * config.radial)))

    def __call__(
        self, basis: Float[Array, "B M N K"], numbers: Int[Array, "M N"], pairs: Pairs
    ) -> Float[Array, "R M N K"]:
        """R = (degree + 1) * radial functions, l before b."""
        dtype = basis.dtype
        centre = jnp.moveaxis(self.centre(numbers).astype(dtype), -1, 0)[..., None]
        other = jnp.moveaxis(pairs.gather(self.other(numbers).astype(dtype)), -1, 0)
        hidden = jnp.einsum("bmnk,bh->hmnk", basis, self.hidden[...]) + centre + other
        return jnp.einsum("hmnk,hr->rmnk", nnx.silu(hidden), self.out[...]) * pairs.weight


class Layer(nnx.Module):
    """One round: density, products, and the change of the atom's features."""

    def __init__(self, config: ACEConfig, rngs: nnx.Rngs) -> None:
        c, degrees = config.features, config.degree + 1
        self.config = config
        self.radial = Radial(config, rngs)
        self.send = nnx.Linear(c, c, use_bias=False, rngs=rngs, kernel_init=LECUN)
        scale = 1.0 / np.sqrt(config.radial * config.neighbours)
        self.weights = nnx.Param(scale * NORMAL(rngs.params(), (degrees, config.radial, c)))
        self.mix = nnx.Param(NORMAL(rngs.params(), (degrees, c, c)) / np.sqrt(c))
        self.factors = nnx.Param(NORMAL(rngs.params(), (2, degrees, c)) / np.sqrt(degrees**2))
        invariants = 1 + degrees + 4
        self.element = nnx.Embed(
            MAX_ATOMIC_NUMBER + 1, invariants * c, rngs=rngs, embedding_init=nnx.initializers.constant(1.0)
        )
        self.message = nnx.Linear(invariants * c, c, rngs=rngs, kernel_init=LECUN)
        self.hidden = nnx.Linear(2 * c, c, rngs=rngs, kernel_init=LECUN)
        self.out = nnx.Linear(c, c, rngs=rngs, kernel_init=LECUN)

    def __call__(
        self,
        s: Float[Array, "M N C"],
        numbers: Int[Array, "M N"],
        pairs: Pairs,
        angular: Float[Array, "S M N K"],
        basis: Float[Array, "B M N K"],
    ) -> Float[Array, "M N C"]:
        """The new features."""
        density = self.density(self.send(s), numbers, pairs, angular, basis)
        invariants = self.products(density) * self.element(numbers).astype(s.dtype)
        message = self.message(invariants)
        hidden = nnx.silu(self.hidden(jnp.concatenate([s, message], axis=-1)))
        return s + message + self.out(hidden)

    def density(
        self,
        sent: Float[Array, "M N C"],
        numbers: Int[Array, "M N"],
        pairs: Pairs,
        angular: Float[Array, "S M N K"],
        basis: Float[Array, "B M N K"],
    ) -> list[Float[Array, "D M N C"]]:
        """A_lmc of each atom with its channels mixed: for each l the 2 l + 1 harmonics."""
        b = self.config.radial
        radial = self.radial(basis, numbers, pairs)
        neighbours = sent if pairs.neighbours is None else pairs.gather(sent)
        made = []
        for degree, (start, stop) in enumerate(ranges(self.config.degree)):
            # The sum runs over neighbours and radial functions at once, so that it is one long matrix product.
            edge = angular[start:stop, None] * radial[None, degree * b : (degree + 1) * b]
            weighted = self.weights[degree][:, None] * neighbours[..., None, :, :]
            if pairs.neighbours is None:
                each = jnp.einsum("dbmnk,mbkc->mdnc", edge, weighted)
            else:
                each = jnp.einsum("dbmnk,mnbkc->mdnc", edge, weighted)
            made.append(jnp.moveaxis(each, 1, 0) @ self.mix[degree])
        return made

    def products(self, density: list[Float[Array, "D M N C"]]) -> Float[Array, "M N I"]:
        """Invariants of one, two and three factors, side by side."""
        config = self.config
        points, weights = sphere(3 * config.degree)
        # A third of each weight goes to each of three factors.
        values = reference(config.degree, points) * np.cbrt(weights)[:, None]
        matrix = jnp.asarray(values, density[0].dtype)
        spread = np.repeat(np.arange(config.degree + 1), [a.shape[0] for a in density])
        joined = jnp.concatenate(density)
        f, g = (jnp.einsum("gd,dmnc->gmnc", matrix, joined * w[spread][:, None, None]) for w in self.factors[...])
        found = [density[0][0], *(jnp.mean(a * a, axis=0) for a in density)]
        found += [jnp.sum(product, axis=0) for product in (f * f * f, f * f * g, f * g * g, g * g * g)]
        return jnp.concatenate(found, axis=-1)


class ACE(nnx.Module):
    """Features of the atoms of molecules, invariant under rotation, reflection, translation and permutation."""

    def __init__(self, config: ACEConfig, rngs: nnx.Rngs) -> None:
        c = config.features
        self.config = config
        self.embedding = nnx.Embed(MAX_ATOMIC_NUMBER + 1, c, rngs=rngs, embedding_init=nnx.initializers.normal(1.0))
        self.charge = nnx.Embed(MAX_ATOMIC_NUMBER + 1, c, rngs=rngs, embedding_init=nnx.initializers.normal(0.5))
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.layers)])
        self.width = config.layers * c

    def __call__(self, numbers: Int[Array, "M N"], pairs: Pairs, charge: Float[Array, " M"]) -> Float[Array, "M N W"]:
        """Features of each atom, for a `Readout`; whatever they are for padding.

        Args:
            numbers: atomic numbers; 0 marks padding.
            pairs: see `geometry.pairs`.
            charge: total charge of each molecule, e.
        """
        config = self.config
        angular = jnp.stack(harmonics(config.degree, jnp.moveaxis(pairs.direction, -1, 0)))
        basis = expand(config.basis, pairs.distance, config.cutoff_angstrom, config.basis_size)
        basis = jnp.moveaxis(basis, -1, 0)
        s = self.embedding(numbers).astype(pairs.weight.dtype)
        s += charge[:, None, None].astype(s.dtype) * self.charge(numbers).astype(s.dtype)
        states = []
        for layer in self.layers:
            s = layer(s, numbers, pairs, angular, basis)
            states.append(s)
        return jnp.concatenate(states, axis=-1)


def ranges(degree: int) -> list[tuple[int, int]]:
    """Where the harmonics of each l lie."""
    return [(n * n, (n + 1) * (n + 1)) for n in range(degree + 1)]


LECUN: Callable[..., Array] = nnx.initializers.lecun_normal()
NORMAL: Callable[..., Array] = nnx.initializers.normal(1.0)
