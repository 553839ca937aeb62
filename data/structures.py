"""Geometries with energies and forces as one flat table, and the neighbours of each atom within a cutoff.

Energies and forces that are not known are NaN. Units are eV and Angstrom, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from data.errors import InputError

#: Oganesson; the embedding of elements has this many rows and one for padding.
MAX_ATOMIC_NUMBER = 118
#: Atoms nearer than this, in Angstrom, are a mistake in the file rather than a geometry.
MIN_DISTANCE = 0.05
#: Molecules with at most this many atoms have their distances computed all at once.
_BRUTE_FORCE_ATOMS = 200


class Frame(Protocol):
    """What `Structures.from_frames` reads; rows of `data.molecules.read` fit."""

    @property
    def line(self) -> int: ...

    @property
    def numbers(self) -> np.ndarray | None: ...

    @property
    def positions(self) -> np.ndarray | None: ...

    @property
    def properties(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Structures:
    """A table of molecules: atoms of all of them in one array, with row offsets.

    Attributes:
        atom_start: offsets of each molecule's first atom, and the end of the last.
        numbers: atomic numbers.
        positions: Angstrom.
        energy: eV; NaN where it is not known.
        forces: eV/Angstrom; NaN where they are not known.
    """

    atom_start: Int[np.ndarray, " M_plus_1"]
    numbers: Int[np.ndarray, " A"]
    positions: Float[np.ndarray, "A 3"]
    energy: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "A 3"]
    _neighbours: dict[float, NeighbourTable] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def sizes(self) -> Int[np.ndarray, " M"]:
        """Atoms of each molecule."""
        return np.diff(self.atom_start)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    @property
    def molecule(self) -> Int[np.ndarray, " A"]:
        """The molecule that each atom belongs to."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @staticmethod
    def from_arrays(
        numbers: Sequence[np.ndarray],
        positions: Sequence[np.ndarray],
        energy: Sequence[float] | None = None,
        forces: Sequence[np.ndarray | None] | None = None,
    ) -> Structures:
        """A table from one array a molecule; missing energies and forces become NaN."""
        sizes = np.array([len(z) for z in numbers], dtype=np.int64)
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        if len(sizes) == 0:
            return Structures(start, np.zeros(0, np.int32), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))
        known = [None] * len(sizes) if forces is None else forces
        blocks = [np.full((n, 3), np.nan) if f is None else f for n, f in zip(sizes, known, strict=True)]
        return Structures(
            atom_start=start,
            numbers=np.concatenate([np.asarray(z, np.int32) for z in numbers]),
            positions=np.concatenate([np.asarray(x, np.float64).reshape(-1, 3) for x in positions]),
            energy=np.full(len(sizes), np.nan) if energy is None else np.asarray(energy, np.float64),
            forces=np.concatenate([np.asarray(f, np.float64) for f in blocks]),
        )

    @staticmethod
    def concatenate(tables: Sequence[Structures]) -> Structures:
        """The molecules of all tables, in order; at least one table."""
        sizes = np.concatenate([table.sizes for table in tables])
        return Structures(
            atom_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            numbers=np.concatenate([table.numbers for table in tables]),
            positions=np.concatenate([table.positions for table in tables]),
            energy=np.concatenate([table.energy for table in tables]),
            forces=np.concatenate([table.forces for table in tables]),
        )

    @staticmethod
    def from_frames(frames: Iterable[Frame], where: str) -> Structures:
        """A table of the frames of a file.

        Args:
            frames: with `properties` that may hold `energy` (eV) and `forces` (eV/Angstrom).
            where: the file, for messages.

        Raises:
            InputError: no frames, no geometry, a periodic cell, or atoms on top of each other.
        """
        rows = list(frames)
        if not rows:
            raise InputError("no structures", where=where, remedy="Give an extxyz file with at least one frame")
        for row in rows:
            if row.numbers is None or row.positions is None:
                raise InputError("no geometry", where=f"{where}:{row.line}", remedy="Give extxyz, SDF or ASE db")
            if np.any(np.asarray(row.properties.get("pbc", False))):
                raise InputError(
                    "periodic cells are not supported",
                    where=f"{where}:{row.line}",
                    remedy='Only isolated molecules can be used: pbc="F F F"',
                )
        table = Structures.from_arrays(
            [np.asarray(row.numbers) for row in rows],
            [np.asarray(row.positions) for row in rows],
            [_number(row.properties.get("energy")) for row in rows],
            [_forces(row, where) for row in rows],
        )
        close = np.flatnonzero(table.shortest_distances() < MIN_DISTANCE)
        if len(close):
            raise InputError(
                f"two atoms are closer than {MIN_DISTANCE} Angstrom",
                where=f"{where}:{rows[close[0]].line}",
                remedy="Remove the frame",
            )
        return table

    def take(self, index: Int[np.ndarray, " m"]) -> Structures:
        """The molecules at `index`, in that order."""
        index = np.asarray(index, dtype=np.int64)
        start = np.concatenate([[0], np.cumsum(self.sizes[index])]).astype(np.int64)
        atoms = self.atoms_of(index)
        return Structures(start, self.numbers[atoms], self.positions[atoms], self.energy[index], self.forces[atoms])

    def atoms_of(self, index: Int[np.ndarray, " m"]) -> Int[np.ndarray, " a"]:
        """Rows of `numbers`, `positions` and `forces` of the molecules at `index`, one after another."""
        sizes = self.sizes[index]
        ends = np.cumsum(sizes)
        return np.arange(sizes.sum()) + np.repeat(self.atom_start[index] - (ends - sizes), sizes)

    def with_energy(self, energy: Float[np.ndarray, " M"]) -> Structures:
        """The same molecules with other energies (eV), such as what is left after references."""
        return replace(self, energy=np.asarray(energy, np.float64))

    def centroids(self) -> Float[np.ndarray, "M 3"]:
        """The mean position of each molecule's atoms, Angstrom."""
        total = np.zeros((len(self), 3))
        np.add.at(total, self.molecule, self.positions)
        return total / np.maximum(self.sizes, 1)[:, None]

    def composition(self, elements: Sequence[int]) -> Float[np.ndarray, "M E"]:
        """How many atoms of each of `elements` each molecule has."""
        counts = np.zeros((len(self), len(elements)))
        for column, z in enumerate(elements):
            counts[:, column] = np.bincount(self.molecule[self.numbers == z], minlength=len(self))
        return counts

    def neighbours(self, cutoff: float) -> NeighbourTable:
        """Which atoms lie within `cutoff` (Angstrom) of each; computed once for each cutoff."""
        if cutoff not in self._neighbours:
            self._neighbours[cutoff] = NeighbourTable.build(self, cutoff)
        return self._neighbours[cutoff]

    def shortest_distances(self) -> Float[np.ndarray, " M"]:
        """The smallest distance between two atoms of each molecule, Angstrom; inf for single atoms."""
        shortest = np.full(len(self), np.inf)
        for rows, block in self._same_size_blocks():
            n = block.shape[1]
            if n == 1:
                continue
            if n <= _BRUTE_FORCE_ATOMS:
                square = ((block[:, :, None] - block[:, None]) ** 2).sum(-1) + np.diag(np.full(n, np.inf))
                shortest[rows] = np.sqrt(square.min(axis=(1, 2)))
            else:
                shortest[rows] = [cKDTree(x).query(x, k=2)[0][:, 1].min() for x in block]
        return shortest

    def _same_size_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Molecules of equal size together, a few megabytes of pairs at a time: rows, positions [m, n, 3]."""
        sizes = self.sizes
        for n in np.unique(sizes):
            if n == 0:
                continue
            rows = np.flatnonzero(sizes == n)
            step = max(1, 2_000_000 // int(n * n))
            for part in np.split(rows, np.arange(step, len(rows), step)):
                atoms = self.atom_start[part][:, None] + np.arange(n)
                yield part, self.positions[atoms]


@dataclass(frozen=True)
class NeighbourTable:
    """Neighbours of each atom within a cutoff, as indices within its own molecule.

    Attributes:
        start: offsets of each atom's first neighbour, and the end of the last.
        index: neighbours, ascending for each atom.
    """

    start: Int[np.ndarray, " A_plus_1"]
    index: Int[np.ndarray, " E"]

    @property
    def counts(self) -> Int[np.ndarray, " A"]:
        """Neighbours of each atom."""
        return np.diff(self.start)

    @staticmethod
    def build(structures: Structures, cutoff: float) -> NeighbourTable:
        """All ordered pairs closer than `cutoff` (Angstrom), without a Python loop over atoms."""
        centres: list[np.ndarray] = [np.zeros(0, np.int64)]
        others: list[np.ndarray] = [np.zeros(0, np.int64)]
        for rows, block in structures._same_size_blocks():
            first = structures.atom_start[rows]
            if block.shape[1] <= _BRUTE_FORCE_ATOMS:
                square = ((block[:, :, None] - block[:, None]) ** 2).sum(-1)
                m, i, j = np.nonzero((square < cutoff * cutoff) & ~np.eye(block.shape[1], dtype=bool))
                centres.append(first[m] + i)
                others.append(j)
                continue
            for offset, positions in zip(first, block, strict=True):
                pairs = cKDTree(positions).query_pairs(cutoff, output_type="ndarray")
                both = np.concatenate([pairs, pairs[:, ::-1]])
                centres.append(offset + both[:, 0])
                others.append(both[:, 1])
        centre, other = np.concatenate(centres), np.concatenate(others)
        order = np.lexsort((other, centre))
        counts = np.bincount(centre, minlength=len(structures.numbers))
        return NeighbourTable(np.concatenate([[0], np.cumsum(counts)]), other[order].astype(np.int32))


def _number(value: object) -> float:
    return float("nan") if value is None else float(np.asarray(value, np.float64).reshape(()))


def _forces(row: Frame, where: str) -> np.ndarray | None:
    value = row.properties.get("forces")
    if value is None:
        return None
    forces = np.asarray(value, np.float64)
    if forces.shape != np.asarray(row.positions).shape:
        raise InputError(
            f"forces have shape {forces.shape}, positions {np.asarray(row.positions).shape}",
            where=f"{where}:{row.line}",
        )
    return forces
