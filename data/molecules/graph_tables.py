"""Compact molecular graphs: bytes for each atom and each bond, and many molecules in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Int, Integer, UInt8

from data.formats.rows import MAX_ATOMS as MAX_ATOMS

#: Most bonds of one molecule; like `MAX_ATOMS` it is that of a byte.
MAX_BONDS = 255
#: Formal charge c is stored as c + CHARGE_ZERO.
CHARGE_ZERO = 128
#: Columns of `GraphTable.atoms`.
ATOM_COLUMNS = (
    "atomic_number",
    "hydrogens",  # attached hydrogens that are not atoms of the graph
    "charge",  # formal charge + CHARGE_ZERO
    "chirality",  # 0 unspecified, 1 R, 2 S
    "aromatic",
    "ring",  # smallest ring through the atom, 0 for none
    "degree",  # bonds in the graph
    "ring_bonds",  # bonds that are in a ring
)
#: Columns of `GraphTable.bonds`.
BOND_COLUMNS = (
    "order",  # index into BOND_ORDERS
    "ring",  # smallest ring through the bond, 0 for none
    "stereo",  # 0 unspecified, 1 E, 2 Z
    "conjugated",  # both ends have a multiple or aromatic bond
)
#: Bond order in RDKit's sense -> its code; any other order has code 0.
BOND_ORDERS = (0.0, 1.0, 2.0, 3.0, 1.5, 4.0)


@dataclass(frozen=True)
class GraphTable:
    """Many molecular graphs; row m owns `atoms[atom_start[m]:atom_start[m + 1]]`, likewise for bonds.

    Attributes:
        atom_start: first atom of each molecule, and the end.
        bond_start: first bond of each molecule, and the end.
        atoms: bytes named by `ATOM_COLUMNS`.
        bonds: bytes named by `BOND_COLUMNS`; each bond once.
        bond_atoms: the two atoms of a bond, counted within the molecule, the lower first.
        source_index: where each molecule stood in the sequence that was encoded.
    """

    atom_start: Int[np.ndarray, " molecule_plus_one"]
    bond_start: Int[np.ndarray, " molecule_plus_one"]
    atoms: UInt8[np.ndarray, "atom 8"]
    bonds: UInt8[np.ndarray, "bond 4"]
    bond_atoms: UInt8[np.ndarray, "bond 2"]
    source_index: Int[np.ndarray, " molecule"]

    def __len__(self) -> int:
        return len(self.atom_start) - 1

    @property
    def atom_counts(self) -> Int[np.ndarray, " molecule"]:
        """Atoms of each molecule; hydrogens that RDKit keeps implicit are not atoms."""
        return np.diff(self.atom_start)

    @property
    def bond_counts(self) -> Int[np.ndarray, " molecule"]:
        """Bonds of each molecule."""
        return np.diff(self.bond_start)

    @property
    def bond_molecule(self) -> Int[np.ndarray, " bond"]:
        """The row that owns each bond."""
        return np.repeat(np.arange(len(self)), self.bond_counts)

    def take(self, rows: Int[np.ndarray, " row"] | Sequence[int] | slice) -> GraphTable:
        """Some of the molecules, in the order given, repeats allowed; a step-1 slice copies nothing."""
        if isinstance(rows, slice):
            first, last, step = rows.indices(len(self))
            if step == 1:
                return self._view(first, max(first, last))
            rows = np.arange(first, last, step)
        rows = np.asarray(rows, np.int64)
        atoms, atom_start = ragged_rows(self.atom_start, rows)
        bonds, bond_start = ragged_rows(self.bond_start, rows)
        return GraphTable(
            atom_start,
            bond_start,
            self.atoms[atoms],
            self.bonds[bonds],
            self.bond_atoms[bonds],
            self.source_index[rows],
        )

    def _view(self, first: int, last: int) -> GraphTable:
        atom_start, bond_start = self.atom_start[first : last + 1], self.bond_start[first : last + 1]
        atoms, bonds = slice(atom_start[0], atom_start[-1]), slice(bond_start[0], bond_start[-1])
        return GraphTable(
            atom_start - atom_start[0],
            bond_start - bond_start[0],
            self.atoms[atoms],
            self.bonds[bonds],
            self.bond_atoms[bonds],
            self.source_index[first:last],
        )

    @staticmethod
    def concat(tables: Sequence[GraphTable]) -> GraphTable:
        """The molecules of several tables, one after the other; `source_index` is kept as it stands."""
        if not tables:
            return empty_table()
        joined = {
            f.name: np.concatenate([getattr(t, f.name) for t in tables])
            for f in fields(GraphTable)
            if not f.name.endswith("_start")
        }
        return GraphTable(
            atom_start=row_starts(np.concatenate([t.atom_counts for t in tables])),
            bond_start=row_starts(np.concatenate([t.bond_counts for t in tables])),
            **joined,
        )


def empty_table() -> GraphTable:
    """A table without molecules."""
    start, none = np.zeros(1, np.int64), np.zeros(0, np.int64)
    atoms, bonds = np.zeros((0, len(ATOM_COLUMNS)), np.uint8), np.zeros((0, len(BOND_COLUMNS)), np.uint8)
    return GraphTable(start, start.copy(), atoms, bonds, np.zeros((0, 2), np.uint8), none)


def ragged_rows(
    start: Int[np.ndarray, " row_plus_one"], rows: Int[np.ndarray, " taken"]
) -> tuple[Int[np.ndarray, " item"], Int[np.ndarray, " taken_plus_one"]]:
    """Indices of the items of some rows of a ragged array, and the starts of the rows so taken."""
    counts = start[rows + 1] - start[rows]
    taken = row_starts(counts)
    return np.repeat(start[rows] - taken[:-1], counts) + np.arange(taken[-1]), taken


def row_starts(counts: Integer[np.ndarray, " row"]) -> Int[np.ndarray, " row_plus_one"]:
    """Where each row of a ragged array begins, and the end of the last, from the number of entries in each row."""
    start = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=start[1:])
    return start
