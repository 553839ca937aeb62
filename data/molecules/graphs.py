"""Molecular graphs as batches of a few fixed shapes: dense within a molecule, the molecule as first axis.

No index reaches across molecules, so a batch splits over devices by its first axis alone, and the sums
over neighbours become small batched matrix products, which are faster than scatter on every backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float, Int, UInt, UInt8

from data.batch_rows import WHOLE, BatchRows
from data.molecules.graph_tables import ATOM_COLUMNS, BOND_COLUMNS, MAX_ATOMS, MAX_BONDS, GraphTable

#: Local index of no atom: the ends of a padding bond.
NO_ATOM = 255


@dataclass(frozen=True, order=True)
class GraphSize:
    """A padded size: `atoms` and `bonds` a molecule."""

    atoms: int
    bonds: int

    @property
    def cost(self) -> float:
        """Work of one molecule in this shape, relative to one atom; a bond costs half as much."""
        return self.atoms + 0.5 * self.bonds


@dataclass(frozen=True)
class GraphBatch:
    """A padded batch; a pytree whose every leaf has the molecule as its first axis.

    Attributes:
        atoms: bytes named by `ATOM_COLUMNS`; 0 where there is no atom.
        bonds: bytes named by `BOND_COLUMNS`.
        bond_atoms: the two ends of each bond, `NO_ATOM` for padding.
        atom_counts: atoms of each molecule; 0 for a padding molecule.
        mask: True for a molecule, False for padding.
        labels: NaN where missing; width 0 for prediction.
        extra: further inputs of each molecule, 0 for padding; None where a network takes none.
    """

    atoms: UInt8[Any, "molecule atom 8"]
    bonds: UInt8[Any, "molecule bond 4"]
    bond_atoms: UInt8[Any, "molecule bond 2"]
    atom_counts: Int[Any, " molecule"]
    mask: Bool[Any, " molecule"]
    labels: Float[Any, "molecule target"]
    extra: Float[Any, "molecule extra"] | None = None


register_dataclass(
    GraphBatch,
    data_fields=["atoms", "bonds", "bond_atoms", "atom_counts", "mask", "labels", "extra"],
    meta_fields=[],
)


def choose_buckets(
    atom_counts: Int[np.ndarray, " molecule"], bond_counts: Int[np.ndarray, " molecule"], n: int
) -> tuple[GraphSize, ...]:
    """At most `n` shapes that hold every molecule with the least padded work.

    Dynamic programming over the distinct sizes in order of atoms, then bonds: each bucket takes a run of
    them, and has room for the most bonds found in its run.

    Args:
        atom_counts, bond_counts: sizes of the molecules; at least one.
        n: at least 1. A shape is compiled once, so few are better.
    """
    if n < 1 or not len(atom_counts):
        raise ValueError("choose_buckets needs n >= 1 and at least one molecule")
    pairs = np.stack([np.asarray(atom_counts, np.int64), np.asarray(bond_counts, np.int64)], axis=1)
    distinct, many = np.unique(pairs, axis=0, return_counts=True)
    sizes, most_bonds = distinct.T
    count = len(sizes)
    total = np.concatenate([[0], np.cumsum(many)])
    best = np.full((min(n, count) + 1, count + 1), np.inf)
    best[0, 0] = 0.0
    cut = np.zeros(best.shape, np.int64)
    for used in range(1, len(best)):
        for last in range(1, count + 1):
            bonds = 0
            for first in range(last - 1, -1, -1):
                bonds = max(bonds, int(most_bonds[first]))
                cost = GraphSize(int(sizes[last - 1]), bonds).cost * (total[last] - total[first])
                if best[used - 1, first] + cost < best[used, last]:
                    best[used, last], cut[used, last] = best[used - 1, first] + cost, first
    used = int(np.argmin(best[:, count]))
    buckets: list[GraphSize] = []
    last = count
    while last:
        first = int(cut[used, last])
        buckets.append(GraphSize(int(sizes[last - 1]), max(1, int(most_bonds[first:last].max()))))
        used, last = used - 1, first
    return _monotonic(buckets[::-1])


def with_room(buckets: Sequence[GraphSize]) -> tuple[GraphSize, ...]:
    """The buckets, followed by ever larger ones up to the largest molecule that `encode` accepts.

    The additional ones are compiled only if a molecule needs one.
    """
    extended = list(buckets)
    while extended[-1] < GraphSize(MAX_ATOMS, MAX_BONDS):
        atoms = min(MAX_ATOMS, max(extended[-1].atoms + 4, extended[-1].atoms * 5 // 4))
        extended.append(GraphSize(atoms, min(MAX_BONDS, max(extended[-1].bonds, atoms * 5 // 4 + 1))))
        if atoms == MAX_ATOMS:
            extended[-1] = GraphSize(MAX_ATOMS, MAX_BONDS)
    return tuple(extended)


def _monotonic(buckets: list[GraphSize]) -> tuple[GraphSize, ...]:
    # A larger bucket holds whatever a smaller one holds, so that the first that fits is the cheapest.
    bonds = 0
    increasing = []
    for bucket in buckets:
        bonds = max(bonds, bucket.bonds)
        increasing.append(GraphSize(bucket.atoms, bonds))
    return tuple(increasing)


def assign(table: GraphTable, buckets: Sequence[GraphSize]) -> Int[np.ndarray, " molecule"]:
    """The first bucket that holds each molecule; `len(buckets)` if none does."""
    atoms = np.array([b.atoms for b in buckets])
    bonds = np.array([b.bonds for b in buckets])
    return np.maximum(np.searchsorted(atoms, table.atom_counts), np.searchsorted(bonds, table.bond_counts))


def pad(
    table: GraphTable, rows: Int[np.ndarray, " row"], bucket: GraphSize, batch_size: int, *, targets: int = 0
) -> GraphBatch:
    """Some molecules as a batch of shape (batch_size, bucket).

    Args:
        table: holds the molecules.
        rows: which of them; at most `batch_size`, the rest is padding.
        bucket: large enough for each.
        batch_size: molecules of the batch, padding included.
        targets: width of `labels`, which are left missing.
    """
    rows = np.asarray(rows, np.int64)
    if len(rows) > batch_size:
        raise ValueError(f"{len(rows)} molecules do not fit a batch of {batch_size}")
    atom_counts = np.zeros(batch_size, np.int32)
    atom_counts[: len(rows)] = table.atom_start[rows + 1] - table.atom_start[rows]
    bond_counts = np.zeros(batch_size, np.int32)
    bond_counts[: len(rows)] = table.bond_start[rows + 1] - table.bond_start[rows]
    if len(rows) and (atom_counts.max() > bucket.atoms or bond_counts.max() > bucket.bonds):
        raise ValueError(f"a molecule is larger than {bucket}")
    mask = np.zeros(batch_size, bool)
    mask[: len(rows)] = True
    atoms = np.zeros((batch_size, bucket.atoms), np.uint64)
    bonds = np.zeros((batch_size, bucket.bonds), np.uint32)
    ends = np.full((batch_size, bucket.bonds), 0x0101 * NO_ATOM, np.uint16)
    # A row of bytes moves as one integer.
    _scatter(atoms, atom_counts, _whole(table.atoms, np.uint64), table.atom_start, rows)
    _scatter(bonds, bond_counts, _whole(table.bonds, np.uint32), table.bond_start, rows)
    _scatter(ends, bond_counts, _whole(table.bond_atoms, np.uint16), table.bond_start, rows)
    return GraphBatch(
        atoms.view(np.uint8).reshape(batch_size, bucket.atoms, len(ATOM_COLUMNS)),
        bonds.view(np.uint8).reshape(batch_size, bucket.bonds, len(BOND_COLUMNS)),
        ends.view(np.uint8).reshape(batch_size, bucket.bonds, 2),
        atom_counts,
        mask,
        np.full((batch_size, targets), np.nan, np.float32),
    )


def filled(extra: Float[np.ndarray, "row extra"], batch_size: int) -> Float[np.ndarray, "molecule extra"]:
    """Further inputs of the molecules of a batch, float32, with rows of 0 for padding."""
    whole = np.zeros((batch_size, extra.shape[1]), np.float32)
    whole[: len(extra)] = extra
    return whole


def _whole(rows: UInt8[np.ndarray, "item width"], dtype: type) -> UInt[np.ndarray, " item"]:
    return np.ascontiguousarray(rows).view(dtype).reshape(len(rows))


def _scatter(
    out: UInt[np.ndarray, "molecule item"],
    counts: Int[np.ndarray, " molecule"],
    flat: UInt[np.ndarray, " source"],
    start: Int[np.ndarray, " molecule_plus_one"],
    rows: Int[np.ndarray, " row"],
) -> None:
    if not len(rows):
        return
    width = out.shape[1]
    used = counts[: len(rows)]
    filled = np.arange(width) < used[:, None]
    if (np.diff(rows) == 1).all():
        out[: len(rows)][filled] = flat[start[rows[0]] : start[rows[-1] + 1]]
        return
    # Places beyond a molecule's end read some other item, which the mask drops.
    places = start[rows][:, None] + np.arange(width)
    out[: len(rows)][filled] = flat[places[filled]]


@dataclass(frozen=True)
class GraphSource:
    """Batches of labelled molecules for `surrogates.learning.loop.fit`; the same epoch always gives the same ones.

    Attributes:
        table: the molecules.
        rows: rows of the table to draw from.
        labels: one row for each of `rows`; normalised, NaN where missing.
        buckets: shapes, ascending; they hold every one of `rows`.
        batch_size: molecules of each batch; a multiple of the number of devices.
        seed: seed of the order.
        shuffle: a new order each epoch; else the order of size, for validation.
        extra: further inputs, one row for each of `rows`; None where the network takes none.
    """

    table: GraphTable
    rows: Int[np.ndarray, " row"]
    labels: Float[np.ndarray, "row target"]
    buckets: tuple[GraphSize, ...]
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    extra: Float[np.ndarray, "row extra"] | None = None
    _members: Mapping[int, Int[np.ndarray, " row"]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.labels):
            raise ValueError(f"{len(self.rows)} rows and {len(self.labels)} labels")
        if self.extra is not None and len(self.extra) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows and {len(self.extra)} rows of further inputs")
        bucket = assign(self.table.take(self.rows), self.buckets)
        if len(bucket) and bucket.max() >= len(self.buckets):
            raise ValueError("a molecule fits no bucket")
        members = {int(b): np.flatnonzero(bucket == b) for b in np.unique(bucket)}
        object.__setattr__(self, "_members", members)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch; a molecule is in exactly one of them."""
        return len(self._plan(self._members))

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[GraphBatch]:
        """The batches of one epoch, in an order that depends on the seed and the epoch alone.

        Args:
            index: number of the epoch.
            part: rows of each batch that are built.
        """
        members = self._members
        if self.shuffle:
            random = np.random.default_rng([self.seed, index])
            members = {bucket: random.permutation(rows) for bucket, rows in members.items()}
        plan = self._plan(members)
        if self.shuffle:
            plan = [plan[i] for i in random.permutation(len(plan))]
        here = part.of(self.batch_size)
        size = here.stop - here.start
        for bucket, planned in plan:
            rows = planned[here]
            batch = pad(self.table, self.rows[rows], self.buckets[bucket], size)
            labels = np.full((size, self.labels.shape[1]), np.nan, np.float32)
            labels[: len(rows)] = self.labels[rows]
            extra = None if self.extra is None else filled(self.extra[rows], size)
            yield replace(batch, labels=labels, extra=extra)

    def _plan(self, members: Mapping[int, Int[np.ndarray, " row"]]) -> list[tuple[int, Int[np.ndarray, " row"]]]:
        return plan_batches(members, self.buckets, self.batch_size)


def plan_batches(
    members: Mapping[int, Int[np.ndarray, " row"]], buckets: Sequence[GraphSize], batch_size: int
) -> list[tuple[int, Int[np.ndarray, " row"]]]:
    """Which rows go together, in which bucket.

    What is left of a bucket joins the next larger one where that costs less than a batch of padding.

    Args:
        members: rows of each bucket, in the order in which they are to be taken.
        buckets: ascending shapes.
        batch_size: most rows of a batch.
    """
    plan: list[tuple[int, Int[np.ndarray, " row"]]] = []
    over = np.zeros(0, np.int64)
    used = sorted(members)
    for place, bucket in enumerate(used):
        rows = np.concatenate([over, members[bucket]])
        whole = len(rows) // batch_size * batch_size
        plan += [(bucket, rows[i : i + batch_size]) for i in range(0, whole, batch_size)]
        over = rows[whole:]
        if not len(over):
            continue
        last = place + 1 == len(used)
        if last or len(over) * buckets[used[place + 1]].cost > batch_size * buckets[bucket].cost:
            plan.append((bucket, over))
            over = over[:0]
    return plan
