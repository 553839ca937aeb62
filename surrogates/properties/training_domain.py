"""The domain of a surrogate of molecules: the atomic neighbourhoods and the sizes that occurred in training.

Two atoms have the same neighbourhood if they and their bonded neighbours are alike, the circular fingerprint
of radius 1 (Rogers and Hahn 2010, https://doi.org/10.1021/ci100050t). A molecule is in the domain if each of
its neighbourhoods occurs in training and its size lies in the range of training. This is a warning, not a
guarantee: a prediction within the domain can be wrong too.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from ase.data import chemical_symbols
from jaxtyping import Bool, Int, UInt64

from data.molecules.graph_tables import ATOM_COLUMNS, GraphTable
from data.plain import Form, written_as

#: A neighbour's stereo labels and ring bonds are left out: with them almost every molecule would be outside.
_CENTRE = [ATOM_COLUMNS.index(name) for name in ("atomic_number", "hydrogens", "charge", "aromatic", "ring_bonds")]
_NEIGHBOUR = [ATOM_COLUMNS.index(name) for name in ("atomic_number", "charge", "aromatic")]


def environments(table: GraphTable) -> UInt64[np.ndarray, " atom"]:
    """A hash of the neighbourhood of each atom; it is the same on every machine."""
    centres = _mix(_pack(table.atoms, _CENTRE))
    ends = table.bond_atoms.astype(np.int64) + table.atom_start[table.bond_molecule][:, None]
    orders = table.bonds[:, 0].astype(np.uint64)
    plain = _pack(table.atoms, _NEIGHBOUR)
    # Contributions are summed, so the order of neighbours does not matter; 40 bits keep float64 sums exact.
    seen = np.zeros(len(table.atoms), np.float64)
    for end, other in ((0, 1), (1, 0)):
        part = _mix(plain[ends[:, other]] * np.uint64(8) + orders) >> np.uint64(24)
        seen += np.bincount(ends[:, end], weights=part.astype(np.float64), minlength=len(seen))
    return _mix(centres ^ seen.astype(np.uint64))


def _pack(atoms: np.ndarray, columns: list[int]) -> UInt64[np.ndarray, " atom"]:
    codes = np.zeros(len(atoms), np.uint64)
    for column in columns:
        codes = codes * np.uint64(256) + atoms[:, column]
    return codes


def _mix(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _read_hashes(text: str) -> UInt64[np.ndarray, " environment"]:
    hashes = np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)
    if not len(hashes) or (hashes[1:] <= hashes[:-1]).any():
        raise ValueError("must be hashes in ascending order")
    return hashes


#: Hashes are written as base64 of their little-endian bytes.
HASHES = Form(str, lambda hashes: base64.b64encode(hashes.astype("<u8").tobytes()).decode(), _read_hashes)


@dataclass(frozen=True)
class Domain:
    """Neighbourhoods and sizes of the training molecules.

    Attributes:
        hashes: of neighbourhoods, ascending.
        fewest, most: number of heavy atoms of the smallest and of the largest molecule.
    """

    hashes: Annotated[UInt64[np.ndarray, " environment"], HASHES] = field(metadata=written_as("known"))
    fewest: int
    most: int

    @staticmethod
    def of(table: GraphTable) -> Domain:
        """The domain of the molecules of a table, which has at least one."""
        counts = table.atom_counts
        return Domain(np.unique(environments(table)), int(counts.min()), int(counts.max()))

    def join(self, other: Domain) -> Domain:
        """The smallest domain that contains both."""
        return Domain(np.union1d(self.hashes, other.hashes), min(self.fewest, other.fewest), max(self.most, other.most))

    def counts(self, table: GraphTable) -> dict[str, int]:
        """What of a table lies in the domain and what does not; counts of several tables add up.

        Returns:
            `in_domain`; the number of molecules that are smaller and larger than those of the training; and for each
            element the number of atoms, and of those whose neighbourhood does not occur in the training.
        """
        sizes = table.atom_counts
        counts = {
            "in_domain": int(self.holds(table).sum()),
            f"molecules_with_fewer_than_{self.fewest}_heavy_atoms": int((sizes < self.fewest).sum()),
            f"molecules_with_more_than_{self.most}_heavy_atoms": int((sizes > self.most).sum()),
        }
        if not len(table.atoms):
            return counts
        hashes = environments(table)
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        unlike = self.hashes[place] != hashes
        numbers = table.atoms[:, ATOM_COLUMNS.index("atomic_number")]
        for number in np.unique(numbers).tolist():
            of_element = numbers == number
            name = f"atoms_of_{chemical_symbols[number]}"
            counts[name] = int(of_element.sum())
            counts[f"{name}_in_unknown_neighbourhoods"] = int(unlike[of_element].sum())
        return counts

    def holds(self, table: GraphTable) -> Bool[np.ndarray, " molecule"]:
        """Whether each molecule lies in the domain."""
        counts: Int[np.ndarray, " molecule"] = table.atom_counts
        inside = (counts >= self.fewest) & (counts <= self.most)
        if not len(table.atoms):
            return inside
        hashes = environments(table)
        place = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        unknown = np.add.reduceat(self.hashes[place] != hashes, np.minimum(table.atom_start[:-1], len(hashes) - 1))
        return inside & (unknown == 0)
