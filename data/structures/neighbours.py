"""Neighbours of each atom within a cutoff, through periodic boundaries too, without a Python loop over atoms.

Small isolated molecules have all their distances computed at once, many molecules at a time; what is large or
periodic goes through the cell lists of vesin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

#: Isolated molecules with at most this many atoms have their distances computed all at once.
BRUTE_FORCE_ATOMS = 200


class AtomTable(Protocol):
    """What `build_neighbours` reads of a table of structures."""

    @property
    def atom_start(self) -> np.ndarray: ...

    @property
    def numbers(self) -> np.ndarray: ...

    @property
    def positions(self) -> np.ndarray: ...

    @property
    def lattice(self) -> np.ndarray: ...

    @property
    def periodic(self) -> np.ndarray: ...

    def same_size_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Isolated molecules of equal size: their rows, and their positions [molecule, atom, 3] in Angstrom."""
        ...


class PairList(NamedTuple):
    """Ordered pairs of one structure: centre, other, how many cells the other is shifted by, distance in Angstrom."""

    centre: Int[np.ndarray, " E"]
    other: Int[np.ndarray, " E"]
    shift: Int[np.ndarray, "E 3"]
    distance: Float[np.ndarray, " E"]


@dataclass(frozen=True)
class NeighbourTable:
    """Neighbours of each atom within a cutoff, as indices within its own molecule.

    Attributes:
        start: offsets of each atom's first neighbour, and the end of the last.
        index: neighbours, ascending for each atom; an atom can be its own neighbour's image.
        offset: what is added to the neighbour's position to reach the image that is meant, Angstrom; None
            where nothing is periodic.
    """

    start: Int[np.ndarray, " A_plus_1"]
    index: Int[np.ndarray, " E"]
    offset: Float[np.ndarray, "E 3"] | None

    @property
    def counts(self) -> Int[np.ndarray, " A"]:
        """Neighbours of each atom."""
        return np.diff(self.start)


def periodic_pairs(positions: Float[np.ndarray, "n 3"], lattice: Float[np.ndarray, "3 3"], cutoff: float) -> PairList:
    """All ordered pairs of a structure closer than `cutoff` (Angstrom), images included.

    Args:
        positions: Angstrom, inside the cell or not.
        lattice: as in `Structures`; zeros for an isolated molecule.
        cutoff: Angstrom; it may be larger than the cell.
    """
    periodic: Bool[np.ndarray, " 3"] = np.any(lattice != 0, axis=1)
    box = lattice.copy()
    if not periodic.all():
        # vesin wants a box of full rank; what it is along a direction that does not repeat has no effect.
        _, _, axes = np.linalg.svd(lattice)
        box[~periodic] = axes[int(periodic.sum()) :]
    # It imports ASE, which small molecules alone do not need.
    from vesin import NeighborList

    finder = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    i, j, shift, distance = finder.compute(
        np.ascontiguousarray(positions, np.float64), box, periodic, quantities="ijSd"
    )
    near = distance < cutoff
    return PairList(i[near].astype(np.int64), j[near].astype(np.int64), shift[near].astype(np.int64), distance[near])


def build_neighbours(structures: AtomTable, cutoff: float) -> NeighbourTable:
    """All ordered pairs closer than `cutoff` (Angstrom) of every structure of a table."""
    centres: list[np.ndarray] = [np.zeros(0, np.int64)]
    others: list[np.ndarray] = [np.zeros(0, np.int64)]
    offsets: list[np.ndarray] = [np.zeros((0, 3))]
    periodic = np.any(structures.periodic, axis=1)
    for rows, block in structures.same_size_blocks():
        first = structures.atom_start[rows]
        if block.shape[1] <= BRUTE_FORCE_ATOMS:
            square = ((block[:, :, None] - block[:, None]) ** 2).sum(-1)
            m, i, j = np.nonzero((square < cutoff * cutoff) & ~np.eye(block.shape[1], dtype=bool))
            centres.append(first[m] + i)
            others.append(j)
            offsets.append(np.zeros((len(i), 3)))
            continue
        for start, positions in zip(first, block, strict=True):
            pairs = periodic_pairs(positions, np.zeros((3, 3)), cutoff)
            centres.append(start + pairs.centre)
            others.append(pairs.other)
            offsets.append(np.zeros((len(pairs.other), 3)))
    for row in np.flatnonzero(periodic):
        start, stop = structures.atom_start[row], structures.atom_start[row + 1]
        pairs = periodic_pairs(structures.positions[start:stop], structures.lattice[row], cutoff)
        centres.append(start + pairs.centre)
        others.append(pairs.other)
        offsets.append(pairs.shift @ structures.lattice[row])
    centre, other, offset = np.concatenate(centres), np.concatenate(others), np.concatenate(offsets)
    order = np.lexsort((*offset.T[::-1], other, centre)) if periodic.any() else np.lexsort((other, centre))
    counts = np.bincount(centre, minlength=len(structures.numbers))
    start = np.concatenate([[0], np.cumsum(counts)])
    return NeighbourTable(start, other[order].astype(np.int32), offset[order] if periodic.any() else None)
