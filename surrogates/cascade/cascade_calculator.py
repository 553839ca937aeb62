"""A cascade as an ASE calculator, for single geometries, frames of trajectories and relaxations; not for dynamics."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from data.spec import SimulationError
from data.structures.ase_atoms import structure_of
from simulators.structure_requests import request
from surrogates.cascade.answer_cascade import AnswerCascade


class CascadeCalculator(Calculator):
    """The outputs of a cascade of geometries, such as energy (eV) and forces (eV/Angstrom), under the same names.

    `results` also holds bounds, the rung and the cost of the answer. Charge and spin are read from `atoms.info`, under
    any name that `data.structures.frame_names` knows.

    Atoms that have momenta are refused. A rung that changes between two steps of dynamics changes the energy surface,
    so that no energy would be conserved; dynamics runs on one rung, and the cascade sorts its frames afterwards. A
    relaxation may end where another rung took over: its last geometry is an answer with the bounds of that rung.

    Args:
        cascade: a cascade whose rungs take geometries.
    """

    def __init__(self, cascade: AnswerCascade) -> None:
        super().__init__()
        self.cascade = cascade
        self.implemented_properties = [v.name for v in cascade.spec.outputs]
        if "energy" in self.implemented_properties:
            self.implemented_properties.append("free_energy")

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Names of what has changed since the last calculation; ASE itself does not compare `atoms.info`."""
        changes = list(super().check_state(atoms, tol=tol))
        if self.atoms is not None and self.atoms.info != atoms.info:
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
            SimulationError: `invalid_input`: the atoms have momenta, or their charge or spin is ambiguous; or as
                `AnswerCascade.simulate`.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        now = self.atoms
        if now.has("momenta"):
            raise SimulationError(
                "invalid_input",
                "the atoms have momenta: a cascade may change its rung between two steps of dynamics, which conserves "
                "no energy. Run dynamics with one rung, and give frames without momenta: del atoms.arrays['momenta']",
            )
        answer = self.cascade.simulate(request(self.cascade, structure_of(now), 0))
        self.results = {
            str(name): values.values if values.dims else values.item() for name, values in answer.data_vars.items()
        }
        if "energy" in self.results:
            self.results["free_energy"] = self.results["energy"]
