"""A closed set of padded shapes for predictions that must never compile again, such as those of a server.

Without it, a potential chooses shapes that suit the structures that it is asked about, and compiles those that are new.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int

from data.spec import SimulationError
from data.structures.batches import Shape, pad, round_up
from data.structures.structures import Structures
from surrogates.potentials.padding import pairs_budget

#: The smallest padded size, and the factor between the numbers of molecules of batches of a size.
SMALLEST, FACTOR = 4, 16


@dataclass(frozen=True)
class FixedShapes:
    """Shapes of batches for structures of up to a size.

    Isolated structures have a slot for each pair of atoms, and periodic ones as many for each atom as `neighbours`.

    Attributes:
        sizes: padded numbers of atoms, ascending.
        neighbours: most neighbours of an atom of a periodic structure; None where periodic structures are refused.
        most: most structures of a batch.
    """

    sizes: tuple[int, ...]
    neighbours: int | None
    most: int

    @staticmethod
    def up_to(atoms: int, neighbours: int | None, most: int) -> FixedShapes:
        """The shapes for structures of up to `atoms` atoms, in batches of up to `most`."""
        last = round_up(max(atoms, SMALLEST))
        sizes = tuple(sorted({round_up(n) for n in range(SMALLEST, last + 1)}))
        return FixedShapes(sizes, None if neighbours is None else round_up(neighbours), most)

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes."""
        return tuple(
            Shape(molecules, n, self.neighbours if periodic else None, periodic)
            for n in self.sizes
            for periodic in ((False,) if self.neighbours is None else (False, True))
            for molecules in self._molecules(n, periodic=periodic)
        )

    def _molecules(self, atoms: int, *, periodic: bool) -> tuple[int, ...]:
        slots = self.neighbours if periodic else atoms
        assert slots is not None
        full = max(1, min(self.most, pairs_budget() // (atoms * slots)))
        fewer, n = [], 1
        while n < full:
            fewer.append(n)
            n *= FACTOR
        return (*fewer, full)

    def choose(self, structures: Structures) -> tuple[tuple[Shape, ...], Int[np.ndarray, " M"]]:
        """All shapes, and for each structure the number of its shape: the smallest batch that holds all of its size.

        Raises:
            SimulationError: `invalid_input`: a structure is larger, or periodic where these are refused.
        """
        repeats = np.asarray(structures.periodic.any(axis=1))
        if structures.sizes.max(initial=0) > self.sizes[-1]:
            raise SimulationError("invalid_input", f"a structure has more than {self.sizes[-1]} atoms")
        if repeats.any() and self.neighbours is None:
            raise SimulationError("invalid_input", "a structure is periodic")
        size = np.asarray(self.sizes)[np.searchsorted(self.sizes, structures.sizes)]
        which = np.zeros(len(structures), np.int64)
        for atoms in np.unique(size).tolist():
            for periodic in (False, True):
                rows = np.flatnonzero((size == atoms) & (repeats == periodic))
                if len(rows):
                    counts = self._molecules(atoms, periodic=periodic)
                    count = next((n for n in counts if n >= len(rows)), counts[-1])
                    which[rows] = self.shapes.index(
                        Shape(count, atoms, self.neighbours if periodic else None, periodic)
                    )
        return self.shapes, which

    def refuse_crowded(self, structures: Structures, cutoff: float) -> None:
        """Refuse periodic structures with more neighbours than the shapes have slots.

        Raises:
            SimulationError: `invalid_input`.
        """
        repeats = np.asarray(structures.periodic.any(axis=1))
        if self.neighbours is None or not repeats.any():
            return
        counts = structures.neighbours(cutoff).counts[repeats[structures.molecule]]
        if (most := int(counts.max(initial=0))) > self.neighbours:
            raise SimulationError(
                "invalid_input",
                f"an atom has {most} neighbours within {cutoff:g} Angstrom, {self.neighbours} are taken",
            )


def compile_shapes(potential: Any, shapes: FixedShapes) -> None:
    """Let a potential use these shapes alone from now on, and compile its programs for all of them.

    Args:
        potential: a `surrogates.potentials.surrogate.PotentialSurrogate`.
        shapes: the shapes.
    """
    potential.fixed_shapes = shapes
    element = potential.facts.references.elements[0]
    one = Structures.from_arrays([np.array([element], np.int32)], [np.zeros((1, 3))])
    for shape in shapes.shapes:
        batch = pad(one, np.zeros(1, np.int64), shape, potential.cutoff_angstrom)
        potential.predict(batch)
        potential.novelty(batch)
