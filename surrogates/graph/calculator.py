"""A potential as an ASE calculator, for dynamics, relaxation and whatever else works on ASE's atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from data.structure_batches import DENSE_ATOMS, Shape, pad, round_up
from data.structures import Structures
from simulators.base import Simulator
from surrogates.graph.potential import OUTPUTS, Potential


class PotentialCalculator(Calculator):
    """Energy (eV), forces (eV/Angstrom) and, of crystals, stress (eV/Angstrom^3, Voigt) by a potential.

    `results` also holds the standard deviations `energy_std` and `forces_std`, bounds and `in_domain`, where the
    potential has them. The total charge is `atoms.info["charge"]`, 0 where absent.

    A trajectory keeps one padded shape, so that it is compiled once: room for neighbours is left over, and
    only when an atom has more of them than ever before does the shape grow.

    Args:
        potential: trained, or the directory that it was saved to.
        baseline: the simulator that its labels were differences to, if they were.
    """

    def __init__(self, potential: Potential | Path | str, baseline: Simulator | None = None) -> None:
        super().__init__()
        self.potential = potential if isinstance(potential, Potential) else Potential.load(Path(potential))
        if baseline is not None:
            self.potential = self.potential.with_baseline(baseline)
        self.implemented_properties = [*(v.name for v in self.potential.spec.outputs), "free_energy", "stress"]
        self._shape: Shape | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Answer for `atoms`, as ASE calls it.

        Raises:
            PropertyNotImplementedError: the stress of what is not periodic in three directions.
            SimulationError: as `Potential.simulate`.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        now = self.atoms
        one = Structures.from_arrays(
            [now.numbers],
            [now.positions],
            charge=[int(now.info.get("charge", 0))],
            lattice=[np.where(np.asarray(now.pbc)[:, None], now.cell.array, 0.0)],
        )
        if "stress" in properties and not one.volume[0] > 0:
            raise PropertyNotImplementedError("a stress needs a cell that repeats in three directions")
        self.potential.refuse_unknown(one)
        if self.potential.facts.head.baseline is not None:
            found = vars(self.potential.predict_structures(one))
            answer = {name: value for name, value in found.items() if value is not None}
        else:
            self._shape = self._fitting(one)
            batch = pad(one, np.arange(1), self._shape, self.potential.cutoff_angstrom)
            answer = {name: value[0] for name, value in self.potential.predict(batch).items()}
            if one.volume[0] == 0:
                answer.pop("stress", None)
        known = {v.name for v in self.potential.spec.outputs} | {"stress"}
        self.results = {name: _plain(name, value) for name, value in answer.items() if name in known}
        if "energy" in self.results:
            self.results["free_energy"] = self.results["energy"]

    def _fitting(self, one: Structures) -> Shape:
        n, repeats = len(one.numbers), bool(one.periodic.any())
        if n <= DENSE_ATOMS and not repeats:
            return Shape(1, n, None)
        most = int(one.neighbours(self.potential.cutoff_angstrom).counts.max(initial=1))
        old = self._shape
        if old is not None and (old.atoms, old.periodic) == (n, repeats) and most <= (old.neighbours or 0):
            return old
        # A quarter more than now, so that a fluctuation seldom changes the shape.
        return Shape(1, n, round_up(most + most // 4), repeats)


def _plain(name: str, value: np.ndarray) -> object:
    """As ASE wants it: numbers for scalars, Voigt's six components for a stress."""
    value = np.asarray(value)
    if name == "stress":
        return full_3x3_to_voigt_6_stress(value.reshape(3, 3))
    return value.reshape(()).item() if OUTPUTS[name].dims == () else value
