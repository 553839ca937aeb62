"""PaiNN: an equivariant message passing network over atoms in space (Schuett et al. 2021, arXiv:2102.03150).

Each atom carries scalar features s and vector features v. Messages (eqs. 7 and 8) and updates (eqs. 9
and 10) mix them so that s is invariant, and v rotates, with the molecule. Every message is weighted by
an envelope that vanishes smoothly at the cutoff, and all neighbours within it count: there is no cap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from data.plain import OMIT_DEFAULT
from data.structures.structures import MAX_ATOMIC_NUMBER
from surrogates.learning.nn import initial
from surrogates.learning.nn.initial import XAVIER
from surrogates.learning.nn.precision import Mixer, refuse_precision
from surrogates.potentials.networks.geometry import Pairs
from surrogates.potentials.networks.neighbour_sums import collect
from surrogates.potentials.networks.radial import BASES, expand

#: Added under the square root of a vector's squared length, so that its gradient exists at zero.
LENGTH_EPSILON = 1e-8


@dataclass(frozen=True)
class PaiNNConfig:
    """Hyperparameters of the network.

    Attributes:
        features: F, the length of the scalar features, and of each axis of the vector features.
        layers: number of rounds of message passing, each a message and an update.
        cutoff_angstrom: Angstrom; atoms farther apart than this exchange no messages.
        basis: functions in which distances are expanded, "bessel" or "gaussian".
        basis_size: number of basis functions.
        precision: precision of the products that mix channels; one of `surrogates.learning.nn.precision.PRECISIONS`.
    """

    features: int = 64
    layers: int = 3
    cutoff_angstrom: float = 5.0
    basis: str = "bessel"
    basis_size: int = 8
    #: Surrogates of earlier versions lack it, and must keep their fingerprint.
    precision: str = field(default="float32", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.features, self.layers) < 1 or self.basis_size < 2:
            raise ValueError(f"features and layers must be at least 1, and basis_size at least 2; got {self}")
        if self.cutoff_angstrom <= 0:
            raise ValueError(f"cutoff_angstrom must be above 0, got {self.cutoff_angstrom}")
        if self.basis not in BASES:
            raise ValueError(f"basis must be one of {BASES}, got {self.basis!r}")
        refuse_precision(self.precision)


class PaiNNEdges(NamedTuple):
    """Functions of the pairs of atoms that all messages share.

    Attributes:
        radial: basis functions of the distance, and the constant 1, all times the weight of the pair.
        vector: `radial` times each component of the direction of the pair.
        pairs: see `geometry.pairs`.
    """

    radial: Float[Array, "M N 1 B K"]
    vector: Float[Array, "M N 3 B K"]
    pairs: Pairs


class Message(nnx.Module):
    """Eqs. 7 and 8: an atom sums the features of its neighbours, filtered by their distance.

    The filter is linear in the basis functions, so the sum over neighbours is a matrix product; see `density`.
    """

    def __init__(self, config: PaiNNConfig, rngs: nnx.Rngs) -> None:
        f = config.features
        self.hidden = Mixer(f, f, config.precision, rngs, kernel_init=XAVIER)
        self.out = Mixer(f, 3 * f, config.precision, rngs, kernel_init=XAVIER)
        # The basis arrives weighted by the envelope, so the filter's bias is weighted by it too.
        self.filter = nnx.Param(XAVIER(rngs.params(), (config.basis_size + 1, 3 * f)))

    def __call__(
        self, s: Float[Array, "M N F"], v: Float[Array, "M N 3 F"] | None, edges: PaiNNEdges
    ) -> tuple[Float[Array, "M N F"], Float[Array, "M N 3 F"]]:
        """Changes of s and of v; `v` is None in the first round, where it is zero."""
        m, n, f = s.shape
        out_s, out_d, out_v = jnp.split(self.out(nnx.silu(self.hidden(s))), 3, axis=-1)
        w_s, w_d, w_v = jnp.split(self.filter[...].astype(s.dtype), 3, axis=-1)
        dv = collect(edges.vector, out_d, w_d, edges.pairs)
        if v is None:
            return collect(edges.radial, out_s, w_s, edges.pairs)[:, :, 0], dv
        carried = (v * out_v[:, :, None, :]).reshape(m, n, 3 * f)
        sent = jnp.concatenate([out_s, carried], axis=-1)
        received = collect(edges.radial, sent, jnp.concatenate([w_s, w_v, w_v, w_v], axis=-1), edges.pairs)
        return received[:, :, 0, :f], dv + received[:, :, 0, f:].reshape(m, n, 3, f)


class Update(nnx.Module):
    """Eqs. 9 and 10: an atom mixes its scalars with the lengths and products of its vectors."""

    def __init__(self, config: PaiNNConfig, rngs: nnx.Rngs) -> None:
        f = config.features
        self.mix = Mixer(f, 2 * f, config.precision, rngs, use_bias=False, kernel_init=XAVIER)
        self.hidden = Mixer(2 * f, f, config.precision, rngs, kernel_init=XAVIER)
        self.out = Mixer(f, 3 * f, config.precision, rngs, kernel_init=XAVIER)

    def __call__(
        self, s: Float[Array, "M N F"], v: Float[Array, "M N 3 F"]
    ) -> tuple[Float[Array, "M N F"], Float[Array, "M N 3 F"]]:
        """Changes of s and of v."""
        left, right = jnp.split(self.mix(v), 2, axis=-1)
        length = jnp.sqrt(jnp.sum(right * right, axis=2) + LENGTH_EPSILON)
        a = self.out(nnx.silu(self.hidden(jnp.concatenate([s, length], axis=-1))))
        a_ss, a_sv, a_vv = jnp.split(a, 3, axis=-1)
        return a_ss + a_sv * jnp.sum(left * right, axis=2), left * a_vv[:, :, None, :]


class PaiNN(nnx.Module):
    """Features of the atoms of molecules, invariant under rotation, reflection, translation and permutation."""

    def __init__(self, config: PaiNNConfig, rngs: nnx.Rngs) -> None:
        f = config.features
        self.config = config
        self.embedding = nnx.Embed(MAX_ATOMIC_NUMBER + 1, f, rngs=rngs, embedding_init=initial.normal(1.0))
        self.charge = nnx.Embed(MAX_ATOMIC_NUMBER + 1, f, rngs=rngs, embedding_init=initial.normal(0.5))
        self.messages = nnx.List([Message(config, rngs) for _ in range(config.layers)])
        self.updates = nnx.List([Update(config, rngs) for _ in range(config.layers)])
        self.width = f

    def __call__(self, numbers: Int[Array, "M N"], pairs: Pairs, charge: Float[Array, " M"]) -> Float[Array, "M N W"]:
        """Features of each atom, which a `Readout` maps to energies; those of padding are arbitrary.

        Args:
            numbers: atomic numbers; 0 marks padding.
            pairs: see `geometry.pairs`.
            charge: total charge of each molecule, e.
        """
        config = self.config
        basis = expand(config.basis, pairs.distance, config.cutoff_angstrom, config.basis_size)
        weighted = jnp.concatenate([basis, jnp.ones_like(basis[..., :1])], axis=-1) * pairs.weight[..., None]
        radial = jnp.swapaxes(weighted, -1, -2)[:, :, None]
        edges = PaiNNEdges(radial, radial * jnp.swapaxes(pairs.direction, -1, -2)[:, :, :, None], pairs)
        s = self.embedding(numbers).astype(pairs.weight.dtype)
        s += charge[:, None, None].astype(s.dtype) * self.charge(numbers).astype(s.dtype)
        v: Float[Array, "M N 3 F"] | None = None
        for message, update in zip(self.messages, self.updates_of(numbers), strict=True):
            ds, dv = message(s, v, edges)
            s = s + ds
            v = dv if v is None else v + dv
            ds, dv = update(s, v)
            s, v = s + ds, v + dv
        return s

    def updates_of(self, numbers: Int[Array, "M N"]) -> Iterable[Callable[..., tuple[Array, Array]]]:
        """The update of each round, for atoms of these numbers: here one and the same for all elements."""
        return self.updates
