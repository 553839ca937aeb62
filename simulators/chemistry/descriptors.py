"""Descriptors of molecules by RDKit: numbers from a SMILES in under a millisecond, without a geometry.

They are the physicochemical properties, the connectivity and shape indices, and the surface areas by ranges of an
atomic property, that RDKit computes in C++. Crippen's logP and molar refractivity: Wildman and Crippen, J. Chem. Inf.
Comput. Sci. 1999, 39, 868; polar surface: Ertl et al., J. Med. Chem. 2000, 43, 3714; surface areas by ranges: Labute,
J. Mol. Graph. Model. 2000, 18, 464; indices: Hall and Kier, Rev. Comput. Chem. 1991, 2, 367.

A surrogate of properties that stands on them (`on=descriptors`) begins from a line through them. With 74 descriptors
and few labels this line fits noise too; see docs/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from jaxtyping import Float
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from data.molecules.smiles import parse_smiles
from data.spec import Coordinate, SimulationError, Spec, Variable, check, content_hash
from simulators.chemistry.from_smiles import SMILES
from simulators.chemistry.variables import refuse_choice

#: Descriptors that RDKit computes together, by its own names. Left out are those that repeat others of the list.
PROPERTIES = (
    "amw", "NumRotatableBonds", "NumHBD", "NumHBA", "NumHeavyAtoms", "NumAtoms", "NumHeteroatoms", "NumAmideBonds",
    "FractionCSP3", "NumRings", "NumAromaticRings", "NumAliphaticRings", "NumSaturatedRings", "NumHeterocycles",
    "NumAromaticHeterocycles", "NumSaturatedHeterocycles", "NumSpiroAtoms", "NumBridgeheadAtoms",
    "NumAtomStereoCenters", "labuteASA", "tpsa", "CrippenClogP", "CrippenMR", "chi0v", "chi1v", "chi2v", "chi3v",
    "chi4v", "chi0n", "chi1n", "chi2n", "chi3n", "chi4n", "hallKierAlpha", "kappa1", "kappa2", "kappa3", "Phi",
)  # fmt: skip
#: Surface area of the atoms in each range of a property, by prefix: its function in RDKit and the number of ranges.
AREAS = {"SlogP_VSA": ("SlogP_VSA_", 12), "SMR_VSA": ("SMR_VSA_", 10), "PEOE_VSA": ("PEOE_VSA_", 14)}
#: Every descriptor, in the order of `describe_molecule`: a mass in Da, areas in Angstrom^2, and numbers without a unit.
NAMES = (*PROPERTIES, *(f"{prefix}{k + 1}" for prefix, (_, count) in AREAS.items() for k in range(count)))


@dataclass(frozen=True)
class Descriptors:
    """Descriptors of a molecule.

    Attributes:
        names: which ones, from `NAMES`; None for all of them.
        answers_here: it is asked in the process that needs it; see `simulators.adapter.AnswersHere`.

    Raises:
        InputError: one of them is unknown or named twice, or there is none.
    """

    names: tuple[str, ...] | None = None
    answers_here: ClassVar[bool] = True

    def __post_init__(self) -> None:
        chosen = NAMES if self.names is None else tuple(self.names)
        refuse_choice(chosen, NAMES, "names")
        object.__setattr__(self, "names", chosen)

    @property
    def name(self) -> str:
        """`descriptors`."""
        return "descriptors"

    @cached_property
    def spec(self) -> Spec:
        """The input is a SMILES; the output is a list of the chosen descriptors."""
        said = "descriptors of RDKit: a mass in Da, areas in Angstrom^2, and numbers"
        names = Coordinate("descriptor", tuple(self.names or ()), "1", "name in RDKit")
        return Spec((SMILES,), (Variable("descriptors", ("descriptor",), "1", "float64", said),), (names,))

    @property
    def provenance(self) -> dict[str, Any]:
        """RDKit's version and the chosen descriptors."""
        settings = {"names": list(self.names or ())}
        return {"simulator": self.name, "version": f"rdkit {rdBase.rdkitVersion}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    @cached_property
    def _places(self) -> list[int]:
        return [NAMES.index(name) for name in self.names or ()]

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """The descriptors of one molecule; see `simulators.adapter.Simulator`."""
        check(inputs, self.spec.inputs)
        text = str(inputs["smiles"].item())
        with rdBase.BlockLogs():
            molecule = parse_smiles(text)
        if molecule is None or not molecule.GetNumAtoms():
            raise SimulationError("invalid_input", f"{text[:200]!r} is no molecule that RDKit can read")
        values = describe_molecule(molecule)[self._places]
        if not np.isfinite(values).all():
            raise SimulationError("not_converged", f"a descriptor of {text[:200]!r} is not finite")
        return self.spec.answer({"descriptors": values})


def describe_molecule(molecule: Chem.Mol) -> Float[np.ndarray, " descriptor"]:
    """Every descriptor of a molecule, in the order of `NAMES`."""
    areas = [getattr(rdMolDescriptors, function)(molecule) for function, _ in AREAS.values()]
    return np.array([*_properties().ComputeProperties(molecule), *(value for area in areas for value in area)])


@cache
def _properties() -> rdMolDescriptors.Properties:
    return rdMolDescriptors.Properties(list(PROPERTIES))
