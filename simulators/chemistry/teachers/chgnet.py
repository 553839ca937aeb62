"""CHGNet, a pre-trained potential of crystals with stresses and magnetic moments, as a simulator.

Deng et al., Nat. Mach. Intell. 2023, 5, 1031. The weights and the code are those of the package chgnet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import xarray as xr
from ase.data import atomic_numbers, chemical_symbols

from data.errors import InputError
from data.spec import SimulationError, Spec
from simulators.chemistry.teachers.pretrained import Pretrained, PretrainedSimulator, answer_structures
from simulators.chemistry.variables import Geometry, spec

SUPPORTED = ("energy", "forces", "stress", "magnetic_moments")
#: Weights -> level of theory of the labels that they learned from, which are those of the Materials Project.
LEVELS: Mapping[str, str] = {
    "0.3.0": "PBE and PBE+U of the Materials Project (MPtrj), with its corrections of energies (MP2020)",
    "r2scan": "r2SCAN of the Materials Project, by transfer from PBE and PBE+U",
}
#: Weights -> elements up to Pu that they have not learned, whose embedding or reference energy is the initial one.
UNKNOWN: Mapping[str, tuple[str, ...]] = {
    "0.3.0": ("Po", "At", "Rn", "Fr", "Ra"),
    "r2scan": ("Po", "At", "Rn", "Fr", "Ra", "Yb"),
}
#: Largest number of atoms in a request to the process.
ATOMS = 1000


@dataclass(frozen=True)
class CHGNet(PretrainedSimulator):
    """CHGNet's energies, forces, stresses and magnetic moments of crystals, in float32.

    It takes no charge and no spin: the magnetic moments of atoms are an answer of its own.

    Attributes:
        model: which weights, of `LEVELS`.
        outputs: names from `SUPPORTED`.
    """

    model: str = "0.3.0"
    outputs: tuple[str, ...] = ("energy", "forces", "stress")

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))
        spec(self.outputs, SUPPORTED, periodic=True)
        if self.model not in LEVELS:
            raise InputError(
                f"no weights {self.model!r}", where="simulator.model", remedy=f"Choose from {', '.join(LEVELS)}"
            )

    @property
    def name(self) -> str:
        """Such as `chgnet:0.3.0`."""
        return f"chgnet:{self.model}"

    @cached_property
    def spec(self) -> Spec:
        """The input is a geometry with a cell; the outputs are the chosen ones."""
        return spec(self.outputs, SUPPORTED, periodic=True)

    @property
    def _pretrained(self) -> Pretrained:
        return Pretrained(
            package="chgnet",
            module="chgnet_model",
            licence="Modified BSD",
            level_of_theory=LEVELS[self.model],
            reference="doi:10.1038/s42256-023-00716-3",
        )

    @property
    def provenance(self) -> dict[str, Any]:
        """Package, its version, hash of the weights, licence, level of theory and settings."""
        return self._pretrained.provenance(self.name, asdict(self))

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Crystals in batches; see `simulators.adapter.AnswersMany`."""
        # The package computes stresses with forces alone.
        task = {"stress": "efs", "forces": "ef"}
        asked = next((task[name] for name in task if name in self.outputs), "e")
        if "magnetic_moments" in self.outputs:
            asked = "efsm" if asked != "e" else "em"
        return answer_structures(
            inputs,
            read=self._read,
            process=lambda: self._pretrained.process({"model": self.model}),
            facts={"task": asked},
            spec=self.spec,
            each_atom=frozenset({"forces", "magnetic_moments"}),
            largest=ATOMS,
        )

    def _read(self, request: xr.Dataset) -> Geometry:
        geometry = Geometry.read(request, periodic=True)
        elements = {chemical_symbols[n] for n in geometry.numbers}
        unknown = sorted(e for e in elements if e in UNKNOWN[self.model] or atomic_numbers[e] > atomic_numbers["Pu"])
        if unknown:
            raise SimulationError("invalid_input", f"CHGNet has not learned {', '.join(unknown)}")
        if not geometry.periodic.all():
            raise SimulationError(
                "invalid_input", "CHGNet has learned crystals, which repeat along three directions; this does not"
            )
        if geometry.charge or geometry.spin > 1:
            raise SimulationError(
                "invalid_input",
                f"CHGNet takes no charge ({geometry.charge:+d}) and no spin ({geometry.spin} unpaired electrons)",
            )
        return geometry
