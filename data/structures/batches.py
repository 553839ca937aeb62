"""Geometries as padded batches of fixed shape: M molecules of N atoms.

Each atom has a slot for every other atom (small molecules), or K slots for its neighbours within the
cutoff, so that time and memory grow with the number of atoms and not its square. K is what the data needs:
no neighbour is ever dropped. Sums over slots are plain reductions, which are quicker than scatter-adds
over a flat list of edges, and the molecule is the first axis of every array, which shards over devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data.batch_rows import WHOLE, BatchRows
from data.structures.structures import Structures

#: Up to this many atoms every pair is computed, above it neighbour lists. On CPU, with all of an aspirin's
#: 21 atoms within reach of each other, a row gather costs as much as the slots that lists would save.
DENSE_ATOMS = 32


class Shape(NamedTuple):
    """The fixed shape of a batch.

    Attributes:
        molecules: M.
        atoms: N.
        neighbours: K; None where every pair of atoms is computed.
        periodic: whether neighbours can be images, so that each slot has an offset.
    """

    molecules: int
    atoms: int
    neighbours: int | None
    periodic: bool = False


class System(NamedTuple):
    """What a model reads, on the host or a device: M molecules padded to N atoms, each with K neighbour slots.

    Attributes:
        numbers: atomic numbers; 0 is padding.
        positions: Angstrom.
        charge: total charge, e.
        head: which head answers.
        neighbours: indices of neighbours, padded by the atom's own index; None for every pair.
        offsets: added to a neighbour's position to reach the image that is meant, Angstrom; None where
            nothing is periodic. An atom's own index with an offset of zero is an empty slot.
    """

    numbers: Int[Any, "M N"]
    positions: Float[Any, "M N 3"]
    charge: Float[Any, " M"]
    head: Int[Any, " M"]
    neighbours: Int[Any, "M N K"] | None
    offsets: Float[Any, "M N K 3"] | None


class StructureBatch(NamedTuple):
    """M molecules padded to N atoms: a pytree whose leaves all have M first.

    Attributes:
        numbers: atomic numbers; 0 is padding.
        positions: Angstrom, from each molecule's centroid, which float32 resolves best.
        charge, head, neighbours, offsets: see `System`.
        volume: of the cell, Angstrom^3; 1 where nothing is periodic in all directions.
        energy: eV; 0 where not known.
        energy_known: 1 where `energy` is known.
        forces: eV/Angstrom; 0 where not known.
        forces_known: 1 for each atom whose forces are known.
        stress: eV/Angstrom^3; 0 where not known.
        stress_known: 1 where `stress` is known.
        weight: of each molecule in the loss; 0 for padding.
    """

    numbers: Int[np.ndarray, "M N"]
    positions: Float[np.ndarray, "M N 3"]
    charge: Float[np.ndarray, " M"]
    head: Int[np.ndarray, " M"]
    neighbours: Int[np.ndarray, "M N K"] | None
    offsets: Float[np.ndarray, "M N K 3"] | None
    volume: Float[np.ndarray, " M"]
    energy: Float[np.ndarray, " M"]
    energy_known: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "M N 3"]
    forces_known: Float[np.ndarray, "M N"]
    stress: Float[np.ndarray, "M 3 3"]
    stress_known: Float[np.ndarray, " M"]
    weight: Float[np.ndarray, " M"]

    @property
    def system(self) -> System:
        """The part without labels."""
        return System(self.numbers, self.positions, self.charge, self.head, self.neighbours, self.offsets)


def pad(
    structures: Structures,
    index: Int[np.ndarray, " m"],
    shape: Shape,
    cutoff: float,
    dtype: np.dtype | type = np.float32,
) -> StructureBatch:
    """The molecules at `index` as a batch of `shape`; rows beyond them are empty.

    Raises:
        ValueError: the shape is too small for them.
    """
    index = np.asarray(index, dtype=np.int64)
    sizes = structures.sizes[index]
    if len(index) > shape.molecules or (len(sizes) and sizes.max() > shape.atoms):
        raise ValueError(f"{len(index)} molecules of up to {sizes.max(initial=0)} atoms do not fit {shape}")
    row = np.repeat(np.arange(len(index)), sizes)
    column = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    atoms = structures.atoms_of(index)

    numbers = np.zeros(shape[:2], np.int32)
    numbers[row, column] = structures.numbers[atoms]
    x = structures.positions[atoms]
    total = np.zeros((len(index), 3))
    np.add.at(total, row, x)
    positions = np.zeros((*shape[:2], 3), dtype)
    positions[row, column] = x - (total / np.maximum(sizes, 1)[:, None])[row]
    forces = np.zeros((*shape[:2], 3), dtype)
    forces_known = np.zeros(shape[:2], dtype)
    labelled = np.isfinite(structures.forces[atoms]).all(axis=1)
    forces[row, column] = np.where(labelled[:, None], structures.forces[atoms], 0.0)
    forces_known[row, column] = labelled

    def column_of(values: np.ndarray, empty: float, kind: np.dtype | type) -> np.ndarray:
        padded = np.full((shape.molecules, *values.shape[1:]), empty, kind)
        padded[: len(index)] = values
        return padded

    neighbours, offsets = _slots(structures, atoms, row, column, shape, cutoff, dtype)
    energy, stress = structures.energy[index], structures.stress[index]
    volume = np.abs(np.linalg.det(structures.lattice[index]))
    stress_known = np.isfinite(stress).all(axis=(1, 2)) & (volume > 0)
    return StructureBatch(
        numbers=numbers,
        positions=positions,
        charge=column_of(structures.charge[index], 0.0, dtype),
        head=column_of(structures.head[index], 0, np.int32),
        neighbours=neighbours,
        offsets=offsets,
        volume=column_of(np.where(volume > 0, volume, 1.0), 1.0, dtype),
        energy=column_of(np.nan_to_num(energy, nan=0.0), 0.0, dtype),
        energy_known=column_of(np.isfinite(energy), 0.0, dtype),
        forces=forces,
        forces_known=forces_known,
        stress=column_of(np.where(stress_known[:, None, None], stress, 0.0), 0.0, dtype),
        stress_known=column_of(stress_known, 0.0, dtype),
        weight=column_of(structures.weight[index], 0.0, dtype),
    )


def _slots(
    structures: Structures,
    atoms: Int[np.ndarray, " a"],
    row: Int[np.ndarray, " a"],
    column: Int[np.ndarray, " a"],
    shape: Shape,
    cutoff: float,
    dtype: np.dtype | type,
) -> tuple[Int[np.ndarray, "M N K"] | None, Float[np.ndarray, "M N K 3"] | None]:
    """Neighbours and offsets of a batch whose atoms lie at `row` and `column`."""
    if shape.neighbours is None:
        return None, None
    table = structures.neighbours(cutoff)
    counts = table.counts[atoms]
    if len(counts) and counts.max() > shape.neighbours:
        raise ValueError(f"an atom has {counts.max()} neighbours, more than the shape's {shape.neighbours}")
    self_index = np.arange(shape.atoms, dtype=np.int32)[None, :, None]
    neighbours = np.broadcast_to(self_index, (shape.molecules, shape.atoms, shape.neighbours)).copy()
    slot = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    entry = np.repeat(table.start[atoms], counts) + slot
    place = np.repeat(row, counts), np.repeat(column, counts), slot
    neighbours[place] = table.index[entry]
    if not shape.periodic:
        return neighbours, None
    offsets = np.zeros((*neighbours.shape, 3), dtype)
    if table.offset is not None:
        offsets[place] = table.offset[entry]
    return neighbours, offsets


def round_up(n: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, ...: shapes a third apart, so that few are compiled."""
    power = 1
    while True:
        for size in (power, power + power // 2):
            if size >= n:
                return size
        power *= 2


def choose_sizes(sizes: Int[np.ndarray, " M"], n: int, *, candidates: int = 64) -> tuple[int, ...]:
    """At most `n` sizes to pad molecules to, so that the pairs of atoms computed for all are fewest.

    Args:
        sizes: atoms of each molecule.
        n: how many sizes; each is compiled once.
        candidates: considered; above this many distinct sizes, quantiles of them.

    Returns:
        Ascending; the last is the largest molecule. By dynamic programming over the candidates.
    """
    distinct = np.unique(sizes)
    if len(distinct) > candidates:
        distinct = np.unique(np.quantile(sizes, np.linspace(0, 1, candidates), method="higher"))
    # below[k]: molecules that fit candidate k. cost[i, k]: pairs if candidates i..k all pad to k.
    below = np.concatenate([[0], np.searchsorted(np.sort(sizes), distinct, side="right")])
    cost = (below[None, 1:] - below[:-1, None]) * distinct.astype(np.float64) ** 2
    best = cost[0]
    choice: list[np.ndarray] = []
    for _ in range(min(n, len(distinct)) - 1):
        # total[i, k]: candidates before i at their best, i..k padded to k; i = 0 is one size fewer.
        total = np.where(np.tri(len(distinct)).T > 0, np.concatenate([[0.0], best[:-1]])[:, None] + cost, np.inf)
        choice.append(total.argmin(axis=0))
        best = total.min(axis=0)
    chosen, k = [int(distinct[-1])], len(distinct) - 1
    for first in reversed(choice):
        k = int(first[k]) - 1
        if k < 0:
            break
        chosen.append(int(distinct[k]))
    return tuple(reversed(chosen))


def shapes(
    structures: Structures,
    cutoff: float,
    sizes: Sequence[int],
    *,
    molecules: int | None,
    pairs: int,
    multiple: int = 1,
) -> tuple[list[Shape], Int[np.ndarray, " M"]]:
    """Batch shapes for molecules of up to each of `sizes` atoms.

    Args:
        structures: what is to fit.
        cutoff: Angstrom.
        sizes: ascending; the last at least the largest molecule.
        molecules: molecules of a batch; None to hold about `pairs` atom slots times neighbour slots.
        pairs: bounds the memory of one batch where `molecules` is None.
        multiple: molecules of a batch are a multiple of this (the number of devices).

    Returns:
        The shapes, and for each molecule the shape that it belongs to.
    """
    which = np.searchsorted(np.asarray(sizes), structures.sizes)
    periodic = np.asarray(np.any(structures.periodic, axis=1))
    batch_shapes: list[Shape] = []
    for position, n in enumerate(sizes):
        k: int | None = None
        here = which == position
        repeats = bool(periodic[here].any())
        if n > DENSE_ATOMS or repeats:
            counts = structures.neighbours(cutoff).counts[here[structures.molecule]]
            k = round_up(int(counts.max(initial=1)))
            k = None if k >= n and not repeats else k
        m = molecules or max(1, pairs // (n * (k or n)))
        batch_shapes.append(Shape(-(-m // multiple) * multiple, int(n), k, repeats))
    return batch_shapes, which


@dataclass(frozen=True)
class StructureBatches:
    """Batches of a table, epoch after epoch: shuffled by seed and epoch, of the few given shapes.

    Attributes:
        structures: what the batches hold.
        shapes: their shapes.
        which: for each molecule the shape that it belongs to.
        cutoff: of the neighbour lists, Angstrom.
        seed: None to keep the order of the table and every molecule; otherwise each epoch is shuffled, and
            molecules that do not fill a batch wait for another epoch, where their shape has a full one.
    """

    structures: Structures
    shapes: tuple[Shape, ...]
    which: Int[np.ndarray, " M"]
    cutoff: float
    seed: int | None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return sum(self._steps(k, int(n)) for k, n in enumerate(self._counts()))

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[StructureBatch]:
        """The batches of epoch `index`, the same each time it is asked for; `part`: rows of each that are built."""
        return (self.pad(k, rows, part) for k, rows in self.plan(index))

    def plan(self, index: int) -> list[tuple[int, Int[np.ndarray, " m"]]]:
        """For each batch of epoch `index`, its shape (an index) and its molecules."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, index])
        plan: list[tuple[int, np.ndarray]] = []
        for k, shape in enumerate(self.shapes):
            rows = np.flatnonzero(self.which == k)
            if rng is not None:
                rows = rng.permutation(rows)
            m = shape.molecules
            plan += [(k, rows[j * m : (j + 1) * m]) for j in range(self._steps(k, len(rows)))]
        if rng is not None:
            plan = [plan[j] for j in rng.permutation(len(plan))]
        return plan

    def _counts(self) -> np.ndarray:
        return np.bincount(self.which, minlength=len(self.shapes))

    def _steps(self, k: int, n: int) -> int:
        m = self.shapes[k].molecules
        return n // m if self.seed is not None and n >= m else -(-n // m)

    def pad(self, k: int, rows: Int[np.ndarray, " m"], part: BatchRows = WHOLE) -> StructureBatch:
        """Some molecules in the shape of number `k`, or those of them that are in a part of the rows."""
        shape, here = self.shapes[k], part.of(self.shapes[k].molecules)
        return pad(self.structures, rows[here], shape._replace(molecules=here.stop - here.start), self.cutoff)
