"""A potential as an ASE calculator, for dynamics, relaxation and all other tools that work on ASE's atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from data.structures.ase_atoms import charge_and_spin, structure_of
from data.structures.batches import DENSE_ATOMS, Shape, pad, round_up
from data.structures.structures import Structures
from simulators.adapter import Simulator
from surrogates.potentials.potential_spec import OUTPUTS
from surrogates.potentials.surrogate import PotentialSurrogate


class SingleShape:
    """Answers of a potential to one structure at a time, in one padded shape for as long as it fits.

    The shape is compiled once. It has spare slots for neighbours, and grows only when an atom has more neighbours than
    slots.

    Args:
        potential: a trained potential; its baseline is not added.
    """

    def __init__(self, potential: PotentialSurrogate) -> None:
        self.potential = potential
        self._shape: Shape | None = None

    def answer(self, one: Structures) -> dict[str, np.ndarray]:
        """What `PotentialSurrogate.predict` gives for a table of one structure.

        Raises:
            SimulationError: as `PotentialSurrogate.simulate`.
        """
        self.potential.refuse_unknown(one)
        self._shape = self._fitting(one)
        return self.potential.predict(pad(one, np.arange(1), self._shape, self.potential.cutoff_angstrom))

    def _fitting(self, one: Structures) -> Shape:
        n, repeats = len(one.numbers), bool(one.periodic.any())
        if n <= DENSE_ATOMS and not repeats:
            return Shape(1, n, None)
        most = int(one.neighbours(self.potential.cutoff_angstrom).counts.max(initial=1))
        old = self._shape
        if old is not None and (old.atoms, old.periodic) == (n, repeats) and most <= (old.neighbours or 0):
            return old
        # A quarter more slots than neighbours now, so that fluctuations seldom change the shape.
        return Shape(1, n, round_up(most + most // 4), repeats)


class PotentialCalculator(Calculator):
    """Energy (eV), forces (eV/Angstrom) and, of crystals, stress (eV/Angstrom^3, Voigt) by a potential.

    `results` also holds the standard deviations `energy_std` and `forces_std`, bounds and `in_domain`, where the
    potential has them. The total charge is read from `atoms.info` or the atoms' initial charges, under any name that
    `data.structures.frame_names` knows, and is 0 where there is none. The spin, which a baseline may need, is read
    likewise. A change of either counts as a change of the system, and the results are computed again.

    A trajectory keeps one padded shape, so that it is compiled once; see `SingleShape`.

    Args:
        potential: a trained potential, or the directory that it was saved to.
        baseline: the simulator that the labels of the potential were differences to; None for labels that are not
            differences.
    """

    def __init__(self, potential: PotentialSurrogate | Path | str, baseline: Simulator | None = None) -> None:
        super().__init__()
        self.potential = PotentialSurrogate.load(Path(potential)) if isinstance(potential, str | Path) else potential
        if baseline is not None:
            self.potential = self.potential.with_baseline(baseline)
        self.implemented_properties = [*(v.name for v in self.potential.spec.outputs), "free_energy", "stress"]
        self._shapes = SingleShape(self.potential)

    @property
    def _spins(self) -> bool:
        """Whether spins matter: a potential itself does not distinguish them, but its baseline may."""
        return self.potential.facts.head.baseline is not None

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Names of what has changed since the last calculation; ASE itself does not compare `atoms.info`."""
        changes = list(super().check_state(atoms, tol=tol))
        spins = self._spins
        if self.atoms is not None and charge_and_spin(self.atoms, spins=spins) != charge_and_spin(atoms, spins=spins):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces"),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute `results` for `atoms`; ASE calls this method.

        Raises:
            PropertyNotImplementedError: a stress is requested, and the atoms are not periodic in three directions.
            SimulationError: as `PotentialSurrogate.simulate`; and if the charge is no integer or ambiguous.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        now = self.atoms
        one = structure_of(now, spins=self._spins)
        if "stress" in properties and not one.volume[0] > 0:
            raise PropertyNotImplementedError("a stress needs a cell that is periodic in three directions")
        if self.potential.facts.head.baseline is not None:
            predictions = vars(self.potential.predict_structures(one))
            answer = {name: value for name, value in predictions.items() if value is not None}
        else:
            answer = {name: value[0] for name, value in self._shapes.answer(one).items()}
            if one.volume[0] == 0:
                answer.pop("stress", None)
        names = {v.name for v in self.potential.spec.outputs} | {"stress"}
        self.results = {name: _plain(name, value) for name, value in answer.items() if name in names}
        if "energy" in self.results:
            self.results["free_energy"] = self.results["energy"]


def _plain(name: str, value: np.ndarray) -> object:
    """A value in the form that ASE expects: a number for a scalar, six Voigt components for a stress."""
    value = np.asarray(value)
    if name == "stress":
        return full_3x3_to_voigt_6_stress(value.reshape(3, 3))
    return value.reshape(()).item() if OUTPUTS[name].dims == () else value
