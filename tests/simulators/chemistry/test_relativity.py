"""Relativistic bases have a relativistic Hamiltonian, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import atomic_numbers

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.variables import Geometry

#: Speed of light in atomic units, and eV in a Hartree.
LIGHT, HARTREE = 137.035999, 27.211386


def energy(simulator: PySCF, symbol: str, charge: int, spin: int) -> float:
    """Of an atom, eV."""
    atom = Geometry(np.array([atomic_numbers[symbol]], np.int32), np.zeros((1, 3)), charge, spin)
    return float(simulator.simulate(atom.dataset())["energy"])


def test_one_electron_at_krypton_has_the_energy_of_dirac() -> None:
    # The 1s electron of Kr35+ has no spin-orbit coupling, so that the spin-free Hamiltonian is exact for it.
    exact = LIGHT**2 * (np.sqrt(1 - (36 / LIGHT) ** 2) - 1) * HARTREE
    x2c = PySCF(method="hf", basis="unc-dyall-v2z", outputs=("energy",), density_fit=False, relativity="x2c")
    assert energy(x2c, "Kr", 35, 1) == pytest.approx(exact, rel=1e-3)
    # Without it the energy is Z^2 / 2, which is 1.8% off.
    assert abs(-(36**2) / 2 * HARTREE / exact - 1) > 0.015
    with pytest.raises(SimulationError, match=r"made for a relativistic Hamiltonian.*simulator\.relativity=x2c"):
        energy(PySCF(method="hf", basis="unc-dyall-v2z", outputs=("energy",)), "Kr", 35, 1)


def test_relativity_is_refused_where_it_cannot_be_and_counts_only_where_it_is_asked_for() -> None:
    with pytest.raises(SimulationError, match="core potentials of Ag hold their relativity"):
        energy(PySCF(method="hf", basis="def2-svp", outputs=("energy",), relativity="x2c"), "Ag", 1, 0)
    for changes, words in (
        ({"relativity": "dirac"}, "Choose x2c"),
        ({"outputs": ("energy", "forces")}, "no forces"),
        ({"solvent": "water"}, "in a solvent"),
    ):
        with pytest.raises(InputError, match=words):
            PySCF(**{"relativity": "x2c", "outputs": ("energy",), **changes})  # type: ignore[arg-type]
    assert "relativity" not in PySCF().provenance["settings"]
    assert PySCF(outputs=("energy",)).fingerprint != PySCF(outputs=("energy",), relativity="x2c").fingerprint
