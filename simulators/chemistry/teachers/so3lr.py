"""SO3LR, a pre-trained potential of organic molecules with charges and dispersion, as a simulator.

Kabylda et al., J. Am. Chem. Soc. 2025, 147, 33723; its network: Frank et al., Nat. Commun. 2024, 15, 6539. The weights
and the code are those of the package so3krates-torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import xarray as xr
from ase.data import atomic_numbers, chemical_symbols

from data.errors import InputError
from data.spec import SimulationError, Spec
from simulators.chemistry.teachers.pretrained import Pretrained, PretrainedSimulator, answer_structures
from simulators.chemistry.variables import Geometry, spec

SUPPORTED = ("energy", "forces", "dipole", "dipole_moment", "partial_charges")
#: The elements of its training data, which are those whose scale in the weights is not the initial one.
ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl")
PRECISIONS = ("float32", "float64")
#: Largest number of ordered pairs of atoms in a batch, about 30 small molecules: the fastest of five on a core
#: (`benchmarks.teachers`).
PAIRS = 10_000
MODEL = Pretrained(
    package="so3krates_torch",
    module="so3lr_model",
    licence="MIT",
    level_of_theory="PBE0+MBD; learned from forces, so that only energies of one composition and charge compare",
    reference="doi:10.1021/jacs.5c09558",
)
_NUMBERS = frozenset(atomic_numbers[symbol] for symbol in ELEMENTS)


@dataclass(frozen=True)
class SO3LR(PretrainedSimulator):
    """SO3LR's energies, forces, dipoles and charges of isolated molecules and ions with closed shells.

    It has learned from forces alone: the energies of two geometries of the same atoms and charge compare, those of
    different molecules do not. The dipole of an ion depends on the origin of its coordinates.

    Attributes:
        outputs: names from `SUPPORTED`.
        long_range_angstrom: distance at which its Coulomb and dispersion energies end, Angstrom. Its authors advise
            1000 for isolated molecules; the calculator of its package has 12 by default.
        precision: of the network, one of `PRECISIONS`.
    """

    outputs: tuple[str, ...] = ("energy", "forces")
    long_range_angstrom: float = 1000.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", tuple(self.outputs))
        spec(self.outputs, SUPPORTED)
        if self.precision not in PRECISIONS:
            raise InputError(
                f"no precision {self.precision!r}", where="simulator.precision", remedy=f"Choose from {PRECISIONS}"
            )
        if not 6.0 <= self.long_range_angstrom <= 1e4:
            raise InputError(
                f"must lie between 6 and 10,000 Angstrom, got {self.long_range_angstrom}",
                where="simulator.long_range_angstrom",
            )

    @property
    def name(self) -> str:
        """`so3lr`."""
        return "so3lr"

    @cached_property
    def spec(self) -> Spec:
        """The input is a geometry; the outputs are the chosen ones."""
        return spec(self.outputs, SUPPORTED)

    @property
    def provenance(self) -> dict[str, Any]:
        """Package, its version, hash of the weights, licence, level of theory and settings."""
        return MODEL.provenance(self.name, asdict(self))

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """Molecules in batches; see `simulators.adapter.AnswersMany`."""
        return answer_structures(
            inputs,
            read=_read,
            process=lambda: MODEL.process({"precision": self.precision}),
            facts={"forces": "forces" in self.outputs, "long_range_angstrom": self.long_range_angstrom},
            spec=self.spec,
            each_atom=frozenset({"forces", "partial_charges"}),
            largest=PAIRS,
            size=lambda geometry: len(geometry.numbers) ** 2,
        )


def _read(request: xr.Dataset) -> Geometry:
    """The geometry of a request.

    Raises:
        SimulationError: `invalid_input`: it is outside of what the weights have learned.
    """
    geometry = Geometry.read(request)
    unknown = sorted({chemical_symbols[n] for n in geometry.numbers if n not in _NUMBERS})
    if unknown:
        raise SimulationError(
            "invalid_input", f"SO3LR has not learned {', '.join(unknown)}, only {', '.join(ELEMENTS)}"
        )
    if geometry.spin:
        raise SimulationError(
            "invalid_input", f"SO3LR has learned closed shells alone, and {geometry.spin} electrons are unpaired"
        )
    if len(geometry.numbers) == 1:
        raise SimulationError("invalid_input", "SO3LR has learned from forces, of which a single atom has none")
    return geometry
