"""Reference energies of atoms: the part of an energy that depends on composition alone, in float64.

In float32, a total energy of thousands of eV has no digits left for chemistry, so the network learns E - sum_a t[z_a].
The t[z] are a least-squares fit to the training energies. Where energies of isolated atoms are known, the model returns
exactly these for an atom without neighbours, and the contribution t[z] for an atom with neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.structures.structures import MAX_ATOMIC_NUMBER, Structures
from surrogates.learning.normalise import refuse_unlike


@dataclass(frozen=True)
class References:
    """Reference energies of atoms, by element.

    Attributes:
        elements: atomic numbers, ascending.
        bonded: t[z], eV: the mean contribution of an element to the energy of a molecule.
        isolated: energy of an atom without neighbours, eV; equal to `bonded` where it is unknown.
    """

    elements: tuple[int, ...]
    bonded: tuple[float, ...]
    isolated: tuple[float, ...]

    def __post_init__(self) -> None:
        refuse_unlike(elements=self.elements, bonded=self.bonded, isolated=self.isolated)
        ascending = all(a < b for a, b in zip(self.elements, self.elements[1:], strict=False))
        if not self.elements or not ascending or not 0 < self.elements[0] <= self.elements[-1] <= MAX_ATOMIC_NUMBER:
            raise ValueError(f"elements must be atomic numbers in ascending order, got {self.elements}")

    @staticmethod
    def fit(structures: Structures, isolated: Mapping[int, float] | None = None) -> References:
        """Fit `bonded` to the molecules with known energy by least squares, of least norm if it is not unique.

        Args:
            structures: training molecules and crystals. Single atoms with known energy give isolated energies; see
                `isolated_energies`.
            isolated: isolated energies, eV by atomic number; they take precedence over single atoms.

        Raises:
            InputError: every structure is an atom without neighbours.
        """
        bound = structures.take(np.flatnonzero(~structures.alone()))
        if len(bound) == 0:
            raise InputError("no structure has two atoms or more", remedy="Add molecules to the training file")
        elements = bound.elements
        free = isolated_energies(structures) | dict(isolated or {})
        baseline = np.array([free.get(z, 0.0) for z in elements])
        labelled = np.isfinite(bound.energy)
        bonded = baseline
        if labelled.any():
            counts = bound.composition(elements)[labelled]
            bonded = baseline + np.linalg.lstsq(counts, bound.energy[labelled] - counts @ baseline, rcond=None)[0]
        free_energies = [free.get(z, float(t)) for z, t in zip(elements, bonded, strict=True)]
        return References(elements, tuple(map(float, bonded)), tuple(map(float, free_energies)))

    def energy(self, structures: Structures) -> Float[np.ndarray, " M"]:
        """sum_a t[z_a] of each molecule, eV, in float64."""
        return structures.composition(self.elements) @ np.array(self.bonded)

    def release(self) -> dict[int, float]:
        """t[z] - isolated[z], eV, by atomic number: the energy that is released when the last neighbour leaves."""
        return {z: t - e for z, t, e in zip(self.elements, self.bonded, self.isolated, strict=True) if t != e}


def isolated_energies(structures: Structures) -> dict[int, float]:
    """Energies (eV) of the neutral single atoms in a table, by atomic number; the lowest of each element.

    Ions do not count, because reference energies do not depend on the charge; neither does the one atom in the cell
    of a crystal (see `Structures.alone`).
    """
    lowest: dict[int, float] = {}
    for molecule in np.flatnonzero(structures.alone() & np.isfinite(structures.energy) & (structures.charge == 0)):
        z = int(structures.numbers[structures.atom_start[molecule]])
        lowest[z] = min(lowest.get(z, np.inf), float(structures.energy[molecule]))
    return lowest
