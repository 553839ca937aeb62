"""Geometries with energies, forces and stresses as one flat table, isolated or periodic.

What is not known is NaN. Units are eV and Angstrom, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from data.errors import InputError
from data.structures.neighbours import BRUTE_FORCE_ATOMS, NeighbourTable, build_neighbours, periodic_pairs

#: Oganesson; the embedding of elements has this many rows and one for padding.
MAX_ATOMIC_NUMBER = 118
#: Atoms nearer than this, in Angstrom, are a mistake in the file rather than a geometry.
MIN_DISTANCE = 0.05

#: An atom whose nearest image is farther than this, Angstrom, is alone, as one in a box of plane waves is.
ALONE = 8.0

#: Entry of a frame that holds its weight in the loss; no file has such a name.
WEIGHT = "weight of the frame in the loss"

#: Distances between atoms of a crystal are looked for up to here, Angstrom.
_FAR = 3.0


class FrameRow(Protocol):
    """What `Structures.from_frames` reads; rows of `data.molecules.files.read` fit."""

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
        charge: total charge, e.
        lattice: rows are lattice vectors, Angstrom; a direction in which nothing repeats has a row of zeros.
        stress: eV/Angstrom^3, positive under tension (ASE's sign); NaN where it is not known.
        head: which of a potential's heads the labels belong to (see `surrogates.potentials.surrogate`).
        spin: number of unpaired electrons; -1 where none is named, see `spins`.
        fixed: coordinates that constraints hold; a label is of the free surface all the same.
        constrained: whether there are constraints of other kinds, which moving structures in batches cannot honour.
        weight: of the labels in the loss of a training; 1 unless the settings give others.
    """

    atom_start: Int[np.ndarray, " M_plus_1"]
    numbers: Int[np.ndarray, " A"]
    positions: Float[np.ndarray, "A 3"]
    energy: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "A 3"]
    charge: Int[np.ndarray, " M"]
    lattice: Float[np.ndarray, "M 3 3"]
    stress: Float[np.ndarray, "M 3 3"]
    head: Int[np.ndarray, " M"]
    spin: Int[np.ndarray, " M"]
    fixed: Bool[np.ndarray, "A 3"]
    constrained: Bool[np.ndarray, " M"]
    weight: Float[np.ndarray, " M"]
    _neighbours: dict[float, NeighbourTable] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def sizes(self) -> Int[np.ndarray, " M"]:
        """Atoms of each molecule."""
        return np.diff(self.atom_start)

    @property
    def periodic(self) -> Bool[np.ndarray, "M 3"]:
        """The directions in which each repeats."""
        return np.asarray(np.any(self.lattice != 0, axis=2))

    @property
    def lowest_spins(self) -> Int[np.ndarray, " M"]:
        """The fewest unpaired electrons that each can have; 0 where a cell repeats."""
        electrons = np.bincount(self.molecule, self.numbers, len(self)).astype(np.int64) - self.charge
        return np.where(self.periodic.any(axis=1), 0, electrons % 2)

    @property
    def spins(self) -> Int[np.ndarray, " M"]:
        """Unpaired electrons: those that are named, or else the fewest."""
        return np.where(self.spin < 0, self.lowest_spins, self.spin)

    @property
    def volume(self) -> Float[np.ndarray, " M"]:
        """Volume of the cell, Angstrom^3; 0 where it is not periodic in all three directions."""
        return np.abs(np.linalg.det(self.lattice))

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
        *,
        charge: Sequence[int] | None = None,
        lattice: Sequence[np.ndarray] | None = None,
        stress: Sequence[np.ndarray | None] | None = None,
        spin: Sequence[int | None] | None = None,
        fixed: Sequence[np.ndarray | None] | None = None,
        constrained: Sequence[bool] | None = None,
        weight: Sequence[float] | None = None,
    ) -> Structures:
        """A table from one array a molecule.

        Missing labels become NaN, missing charges and lattices zero, missing spins -1, missing weights 1.
        """
        sizes = np.array([len(z) for z in numbers], dtype=np.int64)
        m = len(sizes)
        masks = [
            np.zeros((n, 3), bool) if f is None else f
            for n, f in zip(sizes, [None] * m if fixed is None else fixed, strict=True)
        ]
        molecule_forces = [None] * m if forces is None else forces
        blocks = [np.full((n, 3), np.nan) if f is None else f for n, f in zip(sizes, molecule_forces, strict=True)]
        strains = [np.full((3, 3), np.nan) if s is None else s for s in ([None] * m if stress is None else stress)]
        return Structures(
            atom_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            numbers=_concatenate([np.asarray(z, np.int32) for z in numbers], (0,), np.int32),
            positions=_concatenate([np.asarray(x, np.float64).reshape(-1, 3) for x in positions], (0, 3), np.float64),
            energy=np.full(m, np.nan) if energy is None else np.asarray(energy, np.float64),
            forces=_concatenate([np.asarray(f, np.float64) for f in blocks], (0, 3), np.float64),
            charge=np.zeros(m, np.int32) if charge is None else np.asarray(charge, np.int32),
            lattice=np.zeros((m, 3, 3)) if lattice is None else np.asarray(lattice, np.float64).reshape(m, 3, 3),
            stress=np.asarray(strains, np.float64).reshape(m, 3, 3),
            head=np.zeros(m, np.int32),
            spin=np.array([-1 if s is None else s for s in ([None] * m if spin is None else spin)], np.int32),
            fixed=_concatenate([np.asarray(f, bool).reshape(-1, 3) for f in masks], (0, 3), bool),
            constrained=np.zeros(m, bool) if constrained is None else np.asarray(constrained, bool),
            weight=np.ones(m) if weight is None else np.asarray(weight, np.float64),
        )

    @staticmethod
    def concatenate(tables: Sequence[Structures]) -> Structures:
        """The molecules of all tables, in order; at least one table."""
        sizes = np.concatenate([table.sizes for table in tables])
        return Structures(
            atom_start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            **_columns(lambda name: np.concatenate([getattr(table, name) for table in tables])),
        )

    @staticmethod
    def from_frames(
        frames: Iterable[FrameRow], where: str, refused: Callable[[FrameRow, str], None] | None = None
    ) -> Structures:
        """A table of the frames of a file.

        Args:
            frames: with `properties` that may hold `energy` (eV), `forces` (eV/Angstrom), `charge` (e), `spin`
                (unpaired electrons), `pbc`, `cell` (Angstrom), `stress` (eV/Angstrom^3; 3 x 3, or Voigt's six as ASE
                orders them), `fixed` (coordinates) and `constraints` (names of other kinds).
            where: the file, for messages.
            refused: called with each frame that cannot be used, and why; without it the first one is an error.

        Raises:
            InputError: no frames; or, without `refused`, one without geometry, with a cell without extent, or with
                atoms on top of each other.
        """
        rows: list[FrameRow] = []
        lattices: list[np.ndarray] = []
        for row in frames:
            try:
                if row.numbers is None or row.positions is None:
                    raise InputError("no geometry", **_place(row, where), remedy="Give extxyz, SDF or ASE db")
                _forces(row, where), _stress(row, where)
                lattices.append(_lattice(row, where))
                rows.append(row)
            except InputError as error:
                if refused is None:
                    raise
                refused(row, error.problem)
        if not rows:
            raise InputError("no structures", where=where, remedy="Give an extxyz file with at least one frame")
        table = Structures.from_arrays(
            [np.asarray(row.numbers) for row in rows],
            [np.asarray(row.positions) for row in rows],
            [_number(row.properties.get("energy")) for row in rows],
            [_forces(row, where) for row in rows],
            charge=[_integer(row.properties.get("charge")) or 0 for row in rows],
            lattice=lattices,
            stress=[_stress(row, where) for row in rows],
            spin=[_integer(row.properties.get("spin")) for row in rows],
            fixed=[_fixed_mask(row) for row in rows],
            constrained=[bool(row.properties.get("constraints")) for row in rows],
            weight=[_number(row.properties.get(WEIGHT, 1.0)) for row in rows],
        )
        close = table.shortest_distances() < MIN_DISTANCE
        if not close.any():
            return table
        problem = f"two atoms are closer than {MIN_DISTANCE} Angstrom"
        for at in np.flatnonzero(close):
            if refused is None:
                raise InputError(problem, **_place(rows[at], where), remedy="Remove the frame")
            refused(rows[at], problem)
        if close.all():
            raise InputError("no structures", where=where, remedy="Give an extxyz file with at least one frame")
        return table.take(np.flatnonzero(~close))

    def take(self, index: Int[np.ndarray, " m"]) -> Structures:
        """The molecules at `index`, in that order."""
        index = np.asarray(index, dtype=np.int64)
        atoms = self.atoms_of(index)
        return Structures(
            atom_start=np.concatenate([[0], np.cumsum(self.sizes[index])]).astype(np.int64),
            **_columns(lambda name: getattr(self, name)[atoms if name in _BY_ATOM else index]),
        )

    def atoms_of(self, index: Int[np.ndarray, " m"]) -> Int[np.ndarray, " a"]:
        """Rows of `numbers`, `positions` and `forces` of the molecules at `index`, one after another."""
        sizes = self.sizes[index]
        ends = np.cumsum(sizes)
        return np.arange(sizes.sum()) + np.repeat(self.atom_start[index] - (ends - sizes), sizes)

    def with_energy(self, energy: Float[np.ndarray, " M"]) -> Structures:
        """The same molecules with other energies (eV), such as what is left after references."""
        return replace(self, energy=np.asarray(energy, np.float64))

    def unweighted(self) -> Structures:
        """The same molecules with a weight of 1."""
        return replace(self, weight=np.ones(len(self)))

    def with_head(self, head: int) -> Structures:
        """The same molecules, with labels for another head."""
        return replace(self, head=np.full(len(self), head, np.int32))

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
            self._neighbours[cutoff] = build_neighbours(self, cutoff)
        return self._neighbours[cutoff]

    def shortest_distances(self) -> Float[np.ndarray, " M"]:
        """The smallest distance between two atoms of each molecule, Angstrom; inf for single atoms.

        In a crystal images count too, and what is farther than 3 Angstrom counts as inf.
        """
        shortest = np.full(len(self), np.inf)
        for row in np.flatnonzero(self.periodic.any(axis=1)):
            atoms = slice(self.atom_start[row], self.atom_start[row + 1])
            distances = periodic_pairs(self.positions[atoms], self.lattice[row], _FAR).distance
            shortest[row] = distances.min(initial=np.inf)
        for rows, block in self.same_size_blocks():
            n = block.shape[1]
            if n == 1:
                continue
            if n <= BRUTE_FORCE_ATOMS:
                square = ((block[:, :, None] - block[:, None]) ** 2).sum(-1) + np.diag(np.full(n, np.inf))
                shortest[rows] = np.sqrt(square.min(axis=(1, 2)))
            else:
                # What knows no large molecule does not import SciPy.
                from scipy.spatial import cKDTree

                shortest[rows] = [cKDTree(x).query(x, k=2)[0][:, 1].min() for x in block]
        return shortest

    def alone(self) -> Bool[np.ndarray, " M"]:
        """Which are single atoms without neighbours: not the one-atom cell of a crystal, but that of a wide box."""
        single = self.sizes == 1
        for row in np.flatnonzero(single & self.periodic.any(axis=1)):
            atoms = slice(self.atom_start[row], self.atom_start[row + 1])
            single[row] = not len(periodic_pairs(self.positions[atoms], self.lattice[row], ALONE).distance)
        return np.asarray(single)

    def same_size_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Isolated molecules of equal size, a few megabytes of pairs at a time: rows, positions [m, n, 3]."""
        sizes = self.sizes
        isolated = ~self.periodic.any(axis=1)
        for n in np.unique(sizes[isolated]):
            if n == 0:
                continue
            rows = np.flatnonzero((sizes == n) & isolated)
            step = max(1, 2_000_000 // int(n * n))
            for part in np.split(rows, np.arange(step, len(rows), step)):
                atoms = self.atom_start[part][:, None] + np.arange(n)
                yield part, self.positions[atoms]


#: Columns with a row for each atom, and for each molecule.
_BY_ATOM = ("numbers", "positions", "forces", "fixed")
_BY_MOLECULE = ("energy", "charge", "lattice", "stress", "head", "spin", "constrained", "weight")


def _columns(make: Callable[[str], np.ndarray]) -> dict[str, Any]:
    return {name: make(name) for name in (*_BY_ATOM, *_BY_MOLECULE)}


def _concatenate(parts: Sequence[np.ndarray], empty: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.concatenate(parts) if len(parts) else np.zeros(empty, dtype)


def _number(value: object) -> float:
    return float("nan") if value is None else float(np.asarray(value, np.float64).reshape(()))


def _integer(value: object) -> int | None:
    return None if value is None else int(np.asarray(value).reshape(()))


def _fixed_mask(row: FrameRow) -> np.ndarray | None:
    value = row.properties.get("fixed")
    return None if value is None else np.asarray(value, bool).reshape(len(np.asarray(row.numbers)), 3)


def _place(row: FrameRow, where: str) -> dict[str, Any]:
    """Where a frame stands, as the arguments of an error."""
    return {"where": f"{where}:{row.line}", "file": where, "row": row.line}


def _forces(row: FrameRow, where: str) -> np.ndarray | None:
    value = row.properties.get("forces")
    if value is None:
        return None
    forces = np.asarray(value, np.float64)
    if forces.shape != np.asarray(row.positions).shape:
        raise InputError(
            f"forces have shape {forces.shape}, positions {np.asarray(row.positions).shape}",
            **_place(row, where),
        )
    return forces


def _lattice(row: FrameRow, where: str) -> np.ndarray:
    pbc = np.broadcast_to(np.asarray(row.properties.get("pbc", False), bool), (3,))
    if not pbc.any():
        return np.zeros((3, 3))
    cell = np.asarray(row.properties.get("cell", np.zeros((3, 3))), np.float64)
    lattice = np.where(pbc[:, None], cell, 0.0)
    if cell.shape != (3, 3) or np.linalg.matrix_rank(lattice[pbc]) < pbc.sum():
        raise InputError(
            f"it repeats along {int(pbc.sum())} directions, but its cell does not span them",
            **_place(row, where),
            remedy='Give Lattice="..." with a vector for each, or pbc="F F F"',
        )
    return lattice


def _stress(row: FrameRow, where: str) -> np.ndarray | None:
    value = row.properties.get("stress")
    if value is None:
        return None
    stress = np.asarray(value, np.float64)
    if stress.shape == (6,):
        xx, yy, zz, yz, xz, xy = stress
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if stress.size != 9:
        raise InputError(f"stress has shape {stress.shape}, not 3 x 3 or 6", **_place(row, where))
    return stress.reshape(3, 3)
