"""Effective core potentials belong to their basis, in whatever family it stands."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.core_potentials import core_potentials, needs_potential, potential_of
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.variables import Geometry


def hydride(number: int, distance: float, **settings: Any) -> Any:
    """A diatomic hydride by Hartree-Fock."""
    positions = np.array([[0, 0, 0], [0, 0, distance]], float)
    simulator = PySCF(method="hf", outputs=("energy", "gap", "dipole_moment"), **settings)
    return simulator.simulate(Geometry(np.array([number, 1], np.int32), positions).dataset())


def test_orbitals_and_dipoles_hardly_depend_on_whether_the_core_is_a_potential() -> None:
    whole = hydride(17, 1.275, basis="6-31g")
    for basis in ("lanl2dz", "sbkjc", {"Cl": "crenbl", "default": "6-31g"}):
        valence = hydride(17, 1.275, basis=basis)
        # Published energies of hydrogen chloride without its neon core lie between -15 and -16 Hartree.
        assert -440 < float(valence.energy) < -400
        assert float(valence.gap) == pytest.approx(float(whole.gap), abs=2.0)
        assert float(valence.dipole_moment) == pytest.approx(float(whole.dipole_moment), abs=0.4)
        assert json.loads(valence.attrs["log"])["core_electrons"] == {"Cl": 10}


def test_silver_hydride_is_the_same_molecule_with_and_without_diffuse_functions() -> None:
    plain, augmented = (hydride(47, 1.618, basis=name) for name in ("def2-svp", "ma-def2-svp"))
    # Against 26,600 eV without the potential; the sets are contracted alike but for the diffuse functions.
    assert float(augmented.energy) == pytest.approx(float(plain.energy), abs=0.3)
    assert float(augmented.gap) == pytest.approx(float(plain.gap), abs=1.5)


def test_density_fitting_of_a_heavy_atom_with_all_its_electrons_changes_little() -> None:
    fitted, exact = (hydride(47, 1.618, basis="3-21g", density_fit=fit) for fit in (True, False))
    # PySCF's fitting set for silver is that of its valence electrons, and 3,700 eV too deep.
    assert float(fitted.energy) == pytest.approx(float(exact.energy), abs=0.1)
    assert float(fitted.gap) == pytest.approx(float(exact.gap), abs=0.01)


@pytest.mark.parametrize("basis", ["minao", "cc-pvdz-pp-nr"])
def test_a_valence_basis_without_its_potential_is_refused(basis: str) -> None:
    with pytest.raises(SimulationError, match=r"valence electrons of Ag alone.*simulator.ecp"):
        core_potentials(basis, None, ["Ag"])
    assert core_potentials(basis, {"Ag": "cc-pvdz-pp"}, ["Ag"]) == {"Ag": "cc-pvdz-pp"}


def test_bases_of_all_electrons_need_none_and_those_beyond_krypton_have_theirs() -> None:
    for basis in ("sto-3g", "6-31g*", "cc-pvtz", "pcseg-1", "dyall-v2z", "ano", "def2-svp"):
        assert not any(needs_potential(basis, symbol) for symbol in ("H", "C", "Cl", "Zn", "Br")), basis
        assert potential_of(basis, "Br") is None
    for basis in ("aug-cc-pvdz-pp", "cc-pwcvdz-pp", "ma-def2-tzvp", "def2-mtzvp", "stuttgart-rsc", "unc-lanl2dz"):
        assert potential_of(basis, "Ag") is not None, basis


def test_a_choice_by_element_names_every_element() -> None:
    with pytest.raises(InputError, match=r"simulator\.basis"):
        PySCF(basis={"Xx": "def2-svp"})
    with pytest.raises(SimulationError, match="none for H"):
        hydride(17, 1.275, basis={"Cl": "lanl2dz"})


def test_labels_that_were_right_keep_their_fingerprint_and_those_without_a_core_do_not() -> None:
    def settings(basis: str) -> dict[str, Any]:
        return dict(PySCF(basis=basis).provenance["settings"])

    assert "ecp" not in settings("def2-svp")
    assert "ecp" not in settings("6-31g*")
    assert settings("lanl2dz")["ecp"] == settings("ma-def2-svp")["ecp"] == "of the basis"
