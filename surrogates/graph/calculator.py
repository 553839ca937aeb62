"""A potential as an ASE calculator, for dynamics, relaxation and whatever else works on ASE's atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes

from data.structure_batches import DENSE_ATOMS, Shape, pad, round_up
from data.structures import Structures
from surrogates.graph.potential import Potential


class PotentialCalculator(Calculator):
    """Energy (eV) and forces (eV/Angstrom) of isolated molecules; `results` also holds the ensemble's
    standard deviations as `energy_std` and `forces_std`, where there is one.

    A trajectory keeps one padded shape, so that it is compiled once: room for neighbours is left over, and
    only when an atom has more of them than ever before does the shape grow.

    Args:
        potential: trained, or the directory that it was saved to.
    """

    def __init__(self, potential: Potential | Path | str) -> None:
        super().__init__()
        self.potential = potential if isinstance(potential, Potential) else Potential.load(Path(potential))
        self.implemented_properties = [v.name for v in self.potential.spec.outputs]
        self._shape: Shape | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Answer for `atoms`, as ASE calls it.

        Raises:
            CalculatorSetupError: the cell is periodic.
            SimulationError: `invalid_input`, as `Potential.simulate`.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        if self.atoms.pbc.any():
            raise CalculatorSetupError("periodic cells are not supported: set atoms.pbc = False")
        one = Structures.from_arrays([self.atoms.numbers], [self.atoms.positions])
        self.potential.refuse_unknown(one)
        self._shape = self._fitting(one)
        batch = pad(one, np.arange(1), self._shape, self.potential.cutoff_angstrom)
        answer = self.potential.predict(batch)
        self.results = {
            name: float(answer[name][0]) if name.startswith("energy") else answer[name][0]
            for name in self.implemented_properties
        }
        if "energy" in self.results:
            self.results["free_energy"] = self.results["energy"]

    def _fitting(self, one: Structures) -> Shape:
        n = len(one.numbers)
        if n <= DENSE_ATOMS:
            return Shape(1, n, None)
        most = int(one.neighbours(self.potential.cutoff_angstrom).counts.max(initial=1))
        old = self._shape
        if old is not None and old.atoms == n and old.neighbours is not None and most <= old.neighbours:
            return old
        # A quarter more than now, so that a fluctuation seldom changes the shape.
        return Shape(1, n, round_up(most + most // 4))
