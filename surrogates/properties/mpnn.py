"""A message-passing network on molecular graphs, with bond features in the messages and a virtual atom.

Messages are those of GINE, relu(h_j + e_ij) summed over neighbours (Hu et al. 2020, arXiv:1905.12265), updates
are pre-normalised residual blocks, and a virtual atom joins all others (Gilmer et al. 2017,
arXiv:1704.01212). Arrays are dense within a molecule; see `data.molecules.graphs`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from data.molecules.graph_tables import ATOM_COLUMNS, BOND_COLUMNS, CHARGE_ZERO
from data.molecules.graphs import GraphBatch
from data.plain import OMIT_DEFAULT
from surrogates.learning.nn import initial
from surrogates.learning.nn.precision import Mixer, refuse_precision
from surrogates.properties.head_spread import HeadSpread

#: Atomic numbers of the elements with their own feature; all other elements share one.
ELEMENTS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)
#: Values of each column that have their own one-hot feature.
ATOM_LEVELS = {
    "hydrogens": (0, 1, 2, 3, 4),
    "charge": (CHARGE_ZERO - 1, CHARGE_ZERO, CHARGE_ZERO + 1),
    "chirality": (1, 2),
    "aromatic": (1,),
    "ring": (3, 4, 5, 6, 7, 8),
    "degree": (1, 2, 3, 4),
    "ring_bonds": (2, 3, 4),
}
BOND_LEVELS = {
    "order": (0, 1, 2, 3, 4, 5),
    "ring": (3, 4, 5, 6, 7, 8),
    "stereo": (1, 2),
    "conjugated": (1,),
}
#: Columns whose larger values count as the last level.
SATURATING = ("hydrogens", "ring", "degree", "ring_bonds")


@dataclass(frozen=True)
class MPNNConfig:
    """Hyperparameters of one network.

    Attributes:
        features: width of an atom's state.
        layers: number of rounds of message passing.
        expansion: hidden width of an update, in units of `features`.
        readout: hidden width of the head.
        dropout: probability with which training drops a hidden unit of the head.
        precision: precision of the products that mix channels; one of `surrogates.learning.nn.precision.PRECISIONS`.

    Raises:
        ValueError: a size is below 1, or `dropout` outside [0, 1).
    """

    features: int = 128
    layers: int = 4
    expansion: int = 2
    readout: int = 128
    dropout: float = 0.0
    #: Surrogates of earlier versions lack it, and must keep their fingerprint.
    precision: str = field(default="float32", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.features, self.layers, self.expansion, self.readout) < 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"sizes must be at least 1 and dropout in [0, 1); got {self}")
        refuse_precision(self.precision)


def _levels(
    columns: tuple[str, ...], levels: dict[str, tuple[int, ...]], values: UInt8[Array, "*batch column"]
) -> Float[Array, "*batch feature"]:
    parts = []
    for name, classes in levels.items():
        column = values[..., columns.index(name), None]
        if name in SATURATING:
            column = jnp.minimum(column, classes[-1])
        parts.append(column == jnp.array(classes, jnp.uint8))
    return jnp.concatenate(parts, axis=-1).astype(jnp.float32)


def atom_features(atoms: UInt8[Array, "*batch 8"]) -> Float[Array, "*batch feature"]:
    """One-hot features of atoms; all zero for padding."""
    number = atoms[..., :1]
    elements = number == jnp.array(ELEMENTS, jnp.uint8)
    other = (number > 0) & ~elements.any(axis=-1, keepdims=True)
    rest = _levels(ATOM_COLUMNS, ATOM_LEVELS, atoms)
    return jnp.concatenate([elements.astype(jnp.float32), other.astype(jnp.float32), rest * (number > 0)], axis=-1)


def bond_features(bonds: UInt8[Array, "*batch 4"]) -> Float[Array, "*batch feature"]:
    """One-hot features of bonds."""
    return _levels(BOND_COLUMNS, BOND_LEVELS, bonds)


#: Number of values of each column of a bond in `data.molecules.featurise`; a ring of over eight atoms counts as eight.
BOND_VALUES = (6, 9, 3, 2)
#: The columns of every kind of bond, in the order of `bond_kind`.
BOND_KINDS = np.stack([c.ravel() for c in np.indices(BOND_VALUES)], axis=1).astype(np.uint8)


def bond_kind(bonds: UInt8[Array, "*batch 4"]) -> Int[Array, "*batch"]:
    """The row of `BOND_KINDS` that equals each bond."""
    kind = jnp.zeros(bonds.shape[:-1], jnp.int32)
    for column, count in enumerate(BOND_VALUES):
        kind = kind * count + jnp.minimum(bonds[..., column], count - 1)
    return kind


ATOM_FEATURES = len(ELEMENTS) + 1 + sum(map(len, ATOM_LEVELS.values()))
BOND_FEATURES = sum(map(len, BOND_LEVELS.values()))


@dataclass(frozen=True)
class Inputs:
    """Inputs of a network, computed once for all members of an ensemble.

    Attributes:
        atoms: features of atoms.
        bonds: features of each bond; with `kinds`, features of each kind of bond.
        kinds: the row of `bonds` for each bond; None where each bond has its own row.
        from_atom: index of the atom at which each directed bond begins; every bond has both directions.
        to_atom: incidence matrix, 1 for the atom at which a directed bond ends.
        present: 1 for an atom, 0 for padding.
        inverse_count: 1 over the number of atoms of each molecule.
        extra: further inputs of each molecule, which join the readout; None for a network without any.
    """

    atoms: Float[Array, "molecule atom feature"]
    bonds: Float[Array, "molecule bond bond_feature"] | Float[Array, "kind bond_feature"]
    kinds: Int[Array, "molecule bond"] | None
    from_atom: Int[Array, "molecule directed"]
    to_atom: Float[Array, "molecule atom directed"]
    present: Float[Array, "molecule atom 1"]
    inverse_count: Float[Array, "molecule 1"]
    extra: Float[Array, "molecule extra"] | None = None


jax.tree_util.register_dataclass(
    Inputs,
    data_fields=["atoms", "bonds", "kinds", "from_atom", "to_atom", "present", "inverse_count", "extra"],
    meta_fields=[],
)


def read(batch: GraphBatch, *, lookup: bool = False) -> Inputs:
    """Compute features and incidence matrices from the bytes of a batch.

    Args:
        batch: the molecules.
        lookup: whether the features of bonds are looked up among those of all kinds of bond. This makes predictions
            faster, but gradients slower.
    """
    size = batch.atoms.shape[1]
    places = jnp.arange(size, dtype=jnp.uint8)
    # A padding bond ends at no atom, so its rows are zero.
    ends = batch.bond_atoms[..., None] == places
    first, second = ends[:, :, 0], ends[:, :, 1]
    # A padding bond may begin anywhere, because it ends nowhere.
    begins = jnp.minimum(batch.bond_atoms, size - 1).astype(jnp.int32)
    counts = jnp.asarray(batch.atom_counts, jnp.int32)
    present = (jnp.arange(size) < counts[:, None])[..., None]
    return Inputs(
        atom_features(batch.atoms),
        bond_features(jnp.asarray(BOND_KINDS) if lookup else batch.bonds),
        bond_kind(batch.bonds) if lookup else None,
        jnp.concatenate([begins[..., 0], begins[..., 1]], axis=1),
        jnp.concatenate([second, first], axis=1).swapaxes(1, 2).astype(jnp.float32),
        present.astype(jnp.float32),
        1.0 / jnp.maximum(counts, 1)[:, None].astype(jnp.float32),
        None if batch.extra is None else jnp.asarray(batch.extra, jnp.float32),
    )


class Block(nnx.Module):
    """One round of message passing along bonds and through the virtual atom, then an update of each atom."""

    def __init__(self, config: MPNNConfig, rngs: nnx.Rngs) -> None:
        width, hidden = config.features, config.features * config.expansion
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.bond = Mixer(BOND_FEATURES, width, config.precision, rngs)
        self.whole = Mixer(width, width, config.precision, rngs)
        self.mix = Mixer(2 * width, hidden, config.precision, rngs)
        small = initial.normal(0.1 / hidden**0.5)
        self.out = Mixer(hidden, width, config.precision, rngs, kernel_init=small)

    def __call__(
        self, state: Float[Array, "molecule atom feature"], inputs: Inputs
    ) -> Float[Array, "molecule atom feature"]:
        """The next state of every atom."""
        normal = self.norm(state) * inputs.present
        bond = self.bond(inputs.bonds)
        if inputs.kinds is not None:
            bond = bond.at[inputs.kinds].get(mode="promise_in_bounds")
        # The barriers keep XLA on the CPU from fusing cheap sums into the matrix products, which makes those slow.
        normal, bond = jax.lax.optimization_barrier((normal, bond))
        # Gathering by index costs less than a product with an incidence matrix; scattering, below, costs more.
        begun = jnp.take_along_axis(normal, inputs.from_atom[..., None], axis=1, mode="promise_in_bounds")
        # Both directions of a bond share its features.
        both = begun.reshape(begun.shape[0], 2, -1, begun.shape[-1]) + bond[:, None]
        message = jax.lax.optimization_barrier(nnx.relu(both).reshape(begun.shape))
        received = inputs.to_atom @ message
        whole = self.whole(normal.sum(axis=1) * inputs.inverse_count)
        joined = jnp.concatenate([normal + whole[:, None], received], axis=-1)
        flat = jax.lax.optimization_barrier(joined.reshape(-1, joined.shape[-1]))
        update = self.out(nnx.relu(self.mix(flat)))
        return state + update.reshape(state.shape)


class MPNN(nnx.Module):
    """A network that predicts standardised targets of molecules from their graphs.

    Args:
        config: sizes.
        targets: number of targets.
        rngs: seeds of the initial weights.
        extra: number of further inputs of each molecule.
        spread: whether the head has a spread, which is fitted after the training.
    """

    def __init__(
        self, config: MPNNConfig, targets: int, rngs: nnx.Rngs, extra: int = 0, *, spread: bool = False
    ) -> None:
        width = config.features
        self.embed = Mixer(ATOM_FEATURES, width, config.precision, rngs)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.mix = nnx.Linear(3 * width + extra, config.readout, kernel_init=initial.LECUN, rngs=rngs)
        self.head = nnx.Linear(config.readout, targets, kernel_init=initial.LECUN, rngs=rngs)
        self.dropout = config.dropout
        self.spread = HeadSpread(config.readout, targets) if spread else None

    def __call__(self, inputs: Inputs, key: Array | None = None) -> Float[Array, "molecule target"]:
        """Standardised targets; those of padding molecules are finite but meaningless.

        Args:
            inputs: the inputs of a batch; see `read`.
            key: random key of dropout; None for no dropout.
        """
        return self.head(self.hidden(inputs, key))

    def answers(self, inputs: Inputs) -> Float[Array, "molecule answer"]:
        """Standardised targets, and behind them their standard deviations where the head has a spread."""
        hidden = self.hidden(inputs)
        targets = self.head(hidden)
        return targets if self.spread is None else jnp.concatenate([targets, self.spread(hidden)], axis=-1)

    def hidden(self, inputs: Inputs, key: Array | None = None) -> Float[Array, "molecule readout"]:
        """The input of the head: mean, maximum and scaled sum over atoms, after a hidden layer."""
        state = self.embed(inputs.atoms)
        for block in self.blocks:
            state = block(state, inputs)
        state = self.norm(state)
        total = (state * inputs.present).sum(axis=1)
        largest = jnp.where(inputs.present > 0, state, -1e4).max(axis=1)
        # A molecule without atoms is padding; its maximum is clipped, so that it stays small.
        largest = jnp.maximum(largest, -1e3)
        more = [] if inputs.extra is None else [inputs.extra]
        pooled = jnp.concatenate([total * inputs.inverse_count, largest, 0.1 * total, *more], axis=-1)
        hidden = nnx.relu(self.mix(pooled))
        if key is not None and self.dropout > 0:
            keep = jax.random.bernoulli(key, 1 - self.dropout, hidden.shape)
            hidden = jnp.where(keep, hidden / (1 - self.dropout), 0.0)
        return hidden


class Ensemble(nnx.Module):
    """An ensemble of networks that differ in their initial weights and share the inputs of a batch."""

    def __init__(
        self, config: MPNNConfig, targets: int, members: int, rngs: nnx.Rngs, extra: int = 0, *, spread: bool = False
    ) -> None:
        self.members = nnx.List([MPNN(config, targets, rngs, extra, spread=spread) for _ in range(members)])

    def __call__(self, batch: GraphBatch, key: Array | None = None) -> Float[Array, "member molecule target"]:
        """Standardised targets from every member.

        Members are evaluated one by one: stacked along a leading axis they would be half as fast on the CPU, because
        XLA's batched products of this shape are slow.
        """
        inputs = read(batch)
        keys = [None] * len(self.members) if key is None else list(jax.random.split(key, len(self.members)))
        return jnp.stack([member(inputs, k) for member, k in zip(self.members, keys, strict=True)])

    def readouts(
        self, batch: GraphBatch
    ) -> list[tuple[Float[Array, "molecule readout"], Float[Array, "molecule target"]]]:
        """The input and the output of the head of every member."""
        inputs = read(batch)
        hidden = [member.hidden(inputs) for member in self.members]
        return [(state, member.head(state)) for state, member in zip(hidden, self.members, strict=True)]
