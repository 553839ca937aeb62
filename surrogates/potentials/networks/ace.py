"""A many-body equivariant potential: message passing over atomic cluster expansions of the density of neighbours.

In each layer an atom expands what its neighbours carry in spherical harmonics and learned radial functions
(A of Drautz 2019, doi:10.1103/PhysRevB.99.014104, and of MACE, Batatia et al. 2022, arXiv:2206.07697, eq. 8), and
forms products of it with itself, which couple three neighbours at once (four-body terms); see `products`. The messages
that atoms exchange hold scalars, and equivariant vectors or tensors of l up to `hidden_degree`. Vectors and tensors
enter the density by radial weights, and coupled with the direction of the neighbour; see `coupling`.

The radial functions are few and shared by all layers, so that Y_lm(r_ij) R_lb(r_ij) is computed once for each pair.
Each layer combines them into its channels with its own weights in one matrix product (see `density`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from data.plain import OMIT_DEFAULT
from data.structures.structures import MAX_ATOMIC_NUMBER
from surrogates.learning.nn import initial
from surrogates.learning.nn.initial import LECUN
from surrogates.learning.nn.precision import Mixer, multiply, refuse_precision
from surrogates.potentials.networks.coupling import COUPLINGS, Coupling, paths
from surrogates.potentials.networks.geometry import Pairs
from surrogates.potentials.networks.harmonics import harmonics
from surrogates.potentials.networks.neighbour_sums import collect
from surrogates.potentials.networks.products import INVARIANTS, TENSORS, Products
from surrogates.potentials.networks.radial import BASES, expand


@dataclass(frozen=True)
class ACEConfig:
    """Hyperparameters of the network.

    Attributes:
        features: C, the number of channels of an atom.
        layers: number of rounds of message passing.
        degree: largest l of the spherical harmonics of the density.
        hidden_degree: largest l of the messages: 0 for scalars, 1 for vectors too, 2 for tensors of second order too.
        tensor_features: T, the number of channels of the messages with l > 0.
        cutoff_angstrom: Angstrom; atoms farther apart than this exchange no messages.
        basis: functions in which distances are expanded, "bessel" or "gaussian".
        basis_size: number of basis functions.
        radial: B, the number of learned radial functions of each degree.
        radial_hidden: hidden width of the network that computes the radial functions.
        neighbours: typical number of neighbours; sums over neighbours are divided by its square root.
        precision: precision of the products that mix channels; one of `surrogates.learning.nn.precision.PRECISIONS`.
        coupling: how vectors and tensors that arrive are coupled with the direction of the neighbour: "none", "scalar"
            for the invariants Y_l(r_ij) . h_j,l, or "all" for all paths of natural parity (see `coupling`).
    """

    features: int = 64
    layers: int = 2
    degree: int = 3
    hidden_degree: int = 1
    tensor_features: int = 32
    cutoff_angstrom: float = 5.0
    basis: str = "bessel"
    basis_size: int = 8
    radial: int = 6
    radial_hidden: int = 32
    neighbours: float = 12.0
    #: Surrogates of earlier versions lack it, and must keep their fingerprint.
    precision: str = field(default="float32", metadata=OMIT_DEFAULT)
    coupling: str = field(default="none", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        sizes = (self.features, self.layers, self.tensor_features, self.radial, self.radial_hidden)
        if min(sizes) < 1 or self.basis_size < 2:
            raise ValueError(f"sizes must be at least 1, and basis_size at least 2; got {self}")
        if not 1 <= self.degree <= 6:
            raise ValueError(f"degree must lie between 1 and 6, got {self.degree}")
        if not 0 <= self.hidden_degree <= min(2, self.degree):
            raise ValueError(f"hidden_degree must be 0, 1 or 2, and at most degree; got {self.hidden_degree}")
        if min(self.cutoff_angstrom, self.neighbours) <= 0:
            raise ValueError(f"cutoff_angstrom and neighbours must be above 0; got {self}")
        if self.basis not in BASES:
            raise ValueError(f"basis must be one of {BASES}, got {self.basis!r}")
        refuse_precision(self.precision)
        if self.coupling not in COUPLINGS:
            raise ValueError(f"coupling must be one of {', '.join(COUPLINGS)}, got {self.coupling!r}")

    @property
    def message_degrees(self) -> range:
        """Degrees l above 0 of the messages."""
        return range(1, self.hidden_degree + 1)


class AceEdges(NamedTuple):
    """Functions of the pairs of atoms that all layers share.

    Attributes:
        functions: Y_lm R_lb of each pair, S = (degree + 1)^2.
        radial: R'_lb of each pair, for each l > 0 of the messages.
        pairs: see `geometry.pairs`.
    """

    functions: Float[Array, "M N S B K"]
    radial: list[Float[Array, "M N 1 B K"]]
    pairs: Pairs


class Radial(nnx.Module):
    """Radial functions R_lb of a distance and two elements: a small network on the basis, times the envelope."""

    def __init__(self, config: ACEConfig, rngs: nnx.Rngs) -> None:
        hidden = config.radial_hidden
        self.config = config
        self.centre = nnx.Embed(MAX_ATOMIC_NUMBER + 1, hidden, rngs=rngs, embedding_init=initial.normal(0.5))
        self.other = nnx.Embed(MAX_ATOMIC_NUMBER + 1, hidden, rngs=rngs, embedding_init=initial.normal(0.5))
        self.hidden = nnx.Param(LECUN(rngs.params(), (config.basis_size, hidden)))
        sets = config.degree + 1 + config.hidden_degree
        self.out = nnx.Param(LECUN(rngs.params(), (hidden, sets * config.radial)))

    def __call__(self, numbers: Int[Array, "M N"], pairs: Pairs) -> list[Float[Array, "M N 1 B K"]]:
        """R_lb for each l of the density, then R'_lb for each l > 0 of the messages."""
        config = self.config
        basis = expand(config.basis, pairs.distance, config.cutoff_angstrom, config.basis_size)
        dtype = basis.dtype
        centre = jnp.moveaxis(self.centre(numbers).astype(dtype), -1, 0)[..., None]
        other = jnp.moveaxis(pairs.gather(self.other(numbers).astype(dtype)), -1, 0)
        hidden = jnp.einsum("mnkb,bh->hmnk", basis, self.hidden[...]) + centre + other
        functions = jnp.einsum("hmnk,hr->rmnk", nnx.silu(hidden), self.out[...]) * pairs.weight
        sets = functions.reshape(-1, config.radial, *functions.shape[1:])
        return [jnp.moveaxis(each, 0, 2)[:, :, None] for each in sets]


class Layer(nnx.Module):
    """One round of message passing: it computes the density, its products, and the update of the atoms' features."""

    def __init__(self, config: ACEConfig, rngs: nnx.Rngs, *, first: bool, last: bool) -> None:
        c, t, degrees = config.features, config.tensor_features, config.degree + 1
        self.config = config
        # In the first round no atom has vectors or tensors to send yet, and after the last round none are needed.
        self.receives = () if first else tuple(config.message_degrees)
        self.sends = () if last else tuple(config.message_degrees)
        scale = 1.0 / np.sqrt(config.radial * config.neighbours)
        self.send = Mixer(c, c, config.precision, rngs, use_bias=False, kernel_init=LECUN)
        self.weights = nnx.Param(initial.normal(scale)(rngs.params(), (config.radial, c)))
        self.mix = nnx.Param(initial.normal(c**-0.5)(rngs.params(), (degrees, c, c)))
        if self.receives:
            n = len(self.receives)
            self.send_tensors = nnx.Param(initial.normal(c**-0.5)(rngs.params(), (n, c, t)))
            self.weigh_tensors = nnx.Param(initial.normal(scale)(rngs.params(), (n, config.radial, t)))
            self.mix_tensors = nnx.Param(initial.normal(t**-0.5)(rngs.params(), (n, t, c)))
        if self.receives and config.coupling != "none":
            self.couplings = nnx.List(
                [
                    Coupling(
                        paths(config.coupling, config.degree, ell),
                        (config.radial, t, c),
                        scale,
                        config.precision,
                        rngs,
                    )
                    for ell in self.receives
                ]
            )
        self.products = Products(c, config.degree, self.sends, rngs)
        if self.sends:
            shape = (len(self.sends), (1 + TENSORS) * c, c)
            self.tensors = nnx.Param(initial.normal(shape[1] ** -0.5)(rngs.params(), shape))
        self.message = Mixer((1 + degrees + INVARIANTS) * c, c, config.precision, rngs, kernel_init=LECUN)
        self.hidden = Mixer(2 * c, c, config.precision, rngs, kernel_init=LECUN)
        self.out = Mixer(c, c, config.precision, rngs, kernel_init=LECUN)

    def __call__(
        self, s: Float[Array, "M N C"], tensors: list[Float[Array, "M N _ C"]], edges: AceEdges
    ) -> tuple[Float[Array, "M N C"], list[Float[Array, "M N _ C"]]]:
        """The new scalar features, and the tensors that the atom sends, with 2 l + 1 rows for each l."""
        density = self.density(s, tensors, edges)
        invariants, products = self.products(density)
        powers = [jnp.mean(a * a, axis=2) for a in density]
        message = self.message(jnp.concatenate([density[0][:, :, 0], *powers, *invariants], axis=-1))
        hidden = nnx.silu(self.hidden(jnp.concatenate([s, message], axis=-1)))
        joined = [
            jnp.concatenate([density[ell], *each], axis=-1) for ell, each in zip(self.sends, products, strict=True)
        ]
        sent = [multiply(each, self.tensors[i], self.config.precision) for i, each in enumerate(joined)]
        return s + message + self.out(hidden), sent

    def density(
        self, s: Float[Array, "M N C"], tensors: list[Float[Array, "M N _ C"]], edges: AceEdges
    ) -> list[Float[Array, "M N _ C"]]:
        """The density A_lmc of each atom with its channels mixed; one array with 2 l + 1 rows for each l."""
        a = collect(edges.functions, self.send(s), self.weights[...].astype(s.dtype), edges.pairs)
        precision = self.config.precision
        rows = [a[:, :, ell * ell : (ell + 1) ** 2] for ell in range(self.config.degree + 1)]
        mixed = [multiply(each, self.mix[ell], precision) for ell, each in enumerate(rows)]
        for i, ell in enumerate(self.receives):
            each = multiply(tensors[i], self.send_tensors[i], precision)
            weights = jnp.tile(self.weigh_tensors[i].astype(s.dtype), 2 * ell + 1)
            received = collect(edges.radial[i], each.reshape(*each.shape[:2], -1), weights, edges.pairs)
            mixed[ell] += multiply(received.reshape(each.shape), self.mix_tensors[i], precision)
            if self.config.coupling != "none":
                for arrives, coupled in self.couplings[i](edges.functions, each, edges.pairs):
                    mixed[arrives] += coupled
        return mixed


class ACE(nnx.Module):
    """Features of the atoms of molecules, invariant under rotation, reflection, translation and permutation."""

    def __init__(self, config: ACEConfig, rngs: nnx.Rngs) -> None:
        c = config.features
        self.config = config
        self.embedding = nnx.Embed(MAX_ATOMIC_NUMBER + 1, c, rngs=rngs, embedding_init=initial.normal(1.0))
        self.charge = nnx.Embed(MAX_ATOMIC_NUMBER + 1, c, rngs=rngs, embedding_init=initial.normal(0.5))
        self.radial = Radial(config, rngs)
        last = config.layers - 1
        self.layers = nnx.List([Layer(config, rngs, first=i == 0, last=i == last) for i in range(config.layers)])
        self.width = config.layers * c

    def __call__(self, numbers: Int[Array, "M N"], pairs: Pairs, charge: Float[Array, " M"]) -> Float[Array, "M N W"]:
        """Features of each atom, which a `Readout` maps to energies; those of padding are arbitrary.

        Args:
            numbers: atomic numbers; 0 marks padding.
            pairs: see `geometry.pairs`.
            charge: total charge of each molecule, e.
        """
        s = self.embedding(numbers).astype(pairs.weight.dtype)
        s += charge[:, None, None].astype(s.dtype) * self.charge(numbers).astype(s.dtype)
        edges = self.edges(numbers, pairs)
        tensors: list[Float[Array, "M N _ C"]] = []
        states = []
        for layer in self.layers:
            s, tensors = layer(s, tensors, edges)
            states.append(s)
        return jnp.concatenate(states, axis=-1)

    def edges(self, numbers: Int[Array, "M N"], pairs: Pairs) -> AceEdges:
        """The angular and radial functions of each pair."""
        degree = self.config.degree
        angular = jnp.stack(harmonics(degree, jnp.moveaxis(pairs.direction, -1, 0)), axis=2)[:, :, :, None]
        radial = self.radial(numbers, pairs)
        functions = [angular[:, :, ell * ell : (ell + 1) ** 2] * radial[ell] for ell in range(degree + 1)]
        return AceEdges(jnp.concatenate(functions, axis=2), radial[degree + 1 :], pairs)
