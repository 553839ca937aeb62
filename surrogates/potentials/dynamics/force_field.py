"""What relaxation and dynamics need of a potential."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from data.structures.structures import Structures
from surrogates.potentials.energy import EnergyModel
from surrogates.potentials.facts import PotentialFacts


@runtime_checkable
class ForceField(Protocol):
    """A surrogate whose network gives energies and forces of batches of structures, on the device.

    Attributes:
        name: its name, which trajectories record.
        model: network that gives the energies of atoms, eV, and the forces, eV/Angstrom.
        facts: settings, reference energies of atoms, and the active head.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> EnergyModel: ...

    @property
    def facts(self) -> PotentialFacts: ...

    @property
    def cutoff_angstrom(self) -> float:
        """Distance beyond which atoms do not interact, Angstrom."""
        ...

    def refuse_unknown(self, structures: Structures) -> None:
        """Refuse structures that it cannot answer.

        Raises:
            SimulationError: `invalid_input`.
        """
        ...
