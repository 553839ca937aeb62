"""A molecule at one moment of a trajectory, as every format of trajectories takes and gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, eq=False)
class Frame:
    """One molecule at one moment; what is not known is NaN, or None for a whole array.

    Attributes:
        molecule: which one of those that move together, from 0.
        step: steps done; ascending for each molecule.
        time_fs: femtoseconds since the beginning; NaN where there is no time, as in a relaxation.
        numbers: atomic numbers.
        positions: Angstrom.
        energy: potential energy, eV.
        forces: eV/Angstrom.
        velocities: Angstrom/fs.
        kinetic_energy: eV.
        energy_std: standard deviation of the potential energy, eV.
        cell: lattice vectors, Angstrom; zeros along directions that do not repeat, None where none does.
        status: "ok", or what became of the molecule.
    """

    molecule: int
    step: int
    time_fs: float
    numbers: Int[np.ndarray, " atom"]
    positions: Float[np.ndarray, "atom 3"]
    energy: float = float("nan")
    forces: Float[np.ndarray, "atom 3"] | None = None
    velocities: Float[np.ndarray, "atom 3"] | None = None
    kinetic_energy: float = float("nan")
    energy_std: float = float("nan")
    cell: Float[np.ndarray, "3 3"] | None = None
    status: str = "ok"
