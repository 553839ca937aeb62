"""Inputs and outputs of a potential: the variables of a request, and predictions for a table of structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from data.spec import Variable

#: Variables of a request.
INPUTS = (
    Variable("numbers", ("atom",), "1", "int32", "atomic numbers"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions of the nuclei"),
    Variable("charge", (), "e", "int32", "total charge"),
    Variable("cell", ("axis", "axis_2"), "Angstrom", "float64", "lattice vectors, zeros where nothing repeats"),
)
#: Inputs that may be left out: the charge is then 0, and the structure is not periodic.
OPTIONAL = ("charge", "cell")
#: Every variable that a potential may answer with, by its name; `PotentialSurrogate.spec` says which of them one has.
OUTPUTS = {
    "energy": Variable("energy", (), "eV", "float64", "total energy"),
    "energy_std": Variable("energy_std", (), "eV", "float64", "standard deviation of the energy"),
    "energy_low": Variable("energy_low", (), "eV", "float64", "lower bound of the energy"),
    "energy_high": Variable("energy_high", (), "eV", "float64", "upper bound of the energy"),
    "forces": Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "forces on the nuclei"),
    "forces_std": Variable(
        "forces_std", ("atom", "axis"), "eV/Angstrom", "float64", "standard deviation of the forces"
    ),
    "forces_low": Variable("forces_low", ("atom", "axis"), "eV/Angstrom", "float64", "lower bound of the forces"),
    "forces_high": Variable("forces_high", ("atom", "axis"), "eV/Angstrom", "float64", "upper bound of the forces"),
    "in_domain": Variable("in_domain", (), "1", "bool", "whether it looks like what was learned from"),
    "stress": Variable("stress", ("axis", "axis_2"), "eV/Angstrom^3", "float64", "stress, positive under tension"),
}


@dataclass(frozen=True)
class StructurePredictions:
    """Predictions for a table of M structures with A atoms in all, in its order; None for outputs that are missing.

    Attributes:
        energy: total energies, eV.
        forces: forces on the atoms, eV/Angstrom.
        energy_std, forces_std: standard deviations from an ensemble or a committee, eV and eV/Angstrom.
        energy_low, energy_high, forces_low, forces_high: bounds of calibrated intervals, eV and eV/Angstrom.
        in_domain: whether a structure lies in the domain of training.
        stress: eV/Angstrom^3; NaN for structures that are not periodic in all directions, None if all are not.
    """

    energy: Float[np.ndarray, " M"]
    forces: Float[np.ndarray, "A 3"]
    energy_std: Float[np.ndarray, " M"] | None = None
    forces_std: Float[np.ndarray, "A 3"] | None = None
    energy_low: Float[np.ndarray, " M"] | None = None
    energy_high: Float[np.ndarray, " M"] | None = None
    forces_low: Float[np.ndarray, "A 3"] | None = None
    forces_high: Float[np.ndarray, "A 3"] | None = None
    in_domain: Bool[np.ndarray, " M"] | None = None
    stress: Float[np.ndarray, "M 3 3"] | None = None
