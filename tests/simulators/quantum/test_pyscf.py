"""PySCF's answers against published numbers, finite differences and each other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.units import Bohr, Debye, Hartree

from data.errors import InputError
from simulators.base import SimulationError
from simulators.quantum.conformers import ConformerConfig, embed
from simulators.quantum.pyscf import PySCF
from simulators.quantum.variables import Geometry

sys.path.insert(0, str(Path(__file__).parent))
from small_molecules import HELIUM, HYDROGEN, WATER, bent, run


def test_helium_has_its_published_energies() -> None:
    # Szabo and Ostlund, Modern Quantum Chemistry, and the NIST CCCBDB: He RHF/STO-3G, RHF/6-31G.
    assert run(HELIUM, basis="sto-3g", outputs=("energy",)).energy / Hartree == pytest.approx(-2.807784, abs=1e-6)
    assert run(HELIUM, basis="6-31g", outputs=("energy",)).energy / Hartree == pytest.approx(-2.855160, abs=1e-6)


def test_hydrogen_is_that_of_szabo_and_ostlund() -> None:
    found = run(HYDROGEN, outputs=("energy", "homo", "lumo", "gap", "dipole_moment", "orbital_energies"))
    # Section 3.5.2: E = -1.1167, orbital energies -0.5782 and +0.6703 Hartree at R = 1.4.
    assert found.energy / Hartree == pytest.approx(-1.1167, abs=5e-5)
    assert found.homo / Hartree == pytest.approx(-0.5782, abs=5e-5)
    assert found.lumo / Hartree == pytest.approx(0.6703, abs=5e-5)
    assert found.gap == pytest.approx(float(found.lumo - found.homo))
    assert found.dipole_moment == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("method", "energy"),
    [
        ("hf", -74.942079928192),
        ("mp2", -74.942079928192 - 0.049149636120),
        ("ccsd", -74.942079928192 - 0.070680088376),
        ("ccsd(t)", -74.942079928192 - 0.070680088376 - 0.000099877272),
    ],
)
def test_water_has_the_published_energy(method: str, energy: float) -> None:
    assert run(WATER, method=method, outputs=("energy",)).energy / Hartree == pytest.approx(energy, abs=2e-7)


def test_water_has_the_published_dipole() -> None:
    # The same project gives |mu| = 0.6035 a.u. = 1.5338 Debye.
    found = run(WATER, outputs=("dipole", "dipole_moment"))
    assert found.dipole_moment == pytest.approx(1.5338, abs=2e-3)
    assert np.abs(found.dipole.values[[0, 2]]).max() < 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "hf"},
        {"method": "b3lyp", "density_fit": True, "basis": "def2-svp"},
        {"method": "mp2"},
        {"method": "ccsd"},
        {"method": "ccsd(t)"},
        {"method": "pbe", "dispersion": "d3bj"},
        {"method": "hf", "solvent": "water"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_forces_are_minus_the_gradient_of_the_energy(settings: dict[str, Any]) -> None:
    geometry, step = bent(), 2e-3
    forces = run(geometry, outputs=("energy", "forces"), tolerance=1e-11, **settings).forces.values

    def energy(atom: int, axis: int, sign: int) -> float:
        moved = geometry.positions.copy()
        moved[atom, axis] += sign * step
        return float(run(replace(geometry, positions=moved), outputs=("energy",), tolerance=1e-11, **settings).energy)

    for atom, axis in [(0, 1), (1, 0)]:
        difference = -(energy(atom, axis, 1) - energy(atom, axis, -1)) / (2 * step)
        assert forces[atom, axis] == pytest.approx(difference, abs=2e-3)
    assert np.abs(forces.sum(axis=0)).max() < 5e-3


def test_dispersion_lowers_the_energy_by_what_the_program_of_grimme_says() -> None:
    from pyscf.dispersion.dftd3 import DFTD3Dispersion

    plain, corrected = (
        run(WATER, method="pbe", outputs=("energy",), dispersion=d).energy / Hartree for d in (None, "d3bj")
    )
    model = DFTD3Dispersion(PySCF(basis="sto-3g")._molecule(WATER), xc="pbe", version="d3bj")
    alone = float(model.get_dispersion()["energy"])
    assert alone < -1e-5
    assert float(corrected - plain) == pytest.approx(alone, abs=1e-8)


def test_a_solvent_stabilises_a_dipole() -> None:
    for model in ("IEF-PCM", "SMD", "ddCOSMO"):
        vacuum, water = (
            run(WATER, solvent=solvent, solvent_model=model, outputs=("energy", "dipole_moment"))
            for solvent in (None, "water")
        )
        assert -0.6 < float(water.energy - vacuum.energy) < -0.05  # eV; experiment, larger basis: -0.27
        assert water.dipole_moment > vacuum.dipole_moment


def test_charges_sum_to_the_total_and_follow_electronegativity() -> None:
    ion = Geometry(np.array([8, 1], np.int32), np.array([[0, 0, 0], [0, 0, 0.97]]), charge=-1)
    for geometry in (WATER, ion):
        found = run(geometry, basis="6-31g", outputs=("mulliken_charges", "hirshfeld_charges"))
        for name in ("mulliken_charges", "hirshfeld_charges"):
            assert found[name].values.sum() == pytest.approx(geometry.charge, abs=1e-6)
            assert found[name].values[0] < found[name].values[1]
    # Hirshfeld's are known to be small: about -0.3 on the oxygen of water.
    assert run(WATER, basis="6-31g*", outputs=("hirshfeld_charges",)).hirshfeld_charges.values[0] == pytest.approx(
        -0.33, abs=0.06
    )


def test_polarizability_is_that_of_coupled_perturbed_theory() -> None:
    # The static limit solved analytically: alpha = 4 sum_ia mu_ia x_ia with the orbital Hessian (A + B) x = mu.
    from pyscf import scf, tdscf

    mf = scf.RHF(PySCF(basis="6-31g")._molecule(WATER)).run(conv_tol=1e-12)
    a, b = tdscf.rhf.get_ab(mf)
    occupied, empty = mf.mo_coeff[:, mf.mo_occ > 0], mf.mo_coeff[:, mf.mo_occ == 0]
    size = occupied.shape[1] * empty.shape[1]
    with mf.mol.with_common_orig((0, 0, 0)):
        moments = np.einsum("xpq,pi,qa->xia", mf.mol.intor("int1e_r"), occupied, empty).reshape(3, size)
    expected = 4 * moments @ np.linalg.solve((a + b).reshape(size, size), moments.T)
    found = run(WATER, basis="6-31g", outputs=("polarizability",)).polarizability.values / Bohr**3
    assert found == pytest.approx(expected, abs=2e-3)
    assert np.linalg.eigvalsh(found).min() > 0


def test_doublets_and_triplets_are_unrestricted() -> None:
    atom = Geometry(np.array([1], np.int32), np.zeros((1, 3)), spin=1)
    assert run(atom, outputs=("energy",)).energy / Hartree == pytest.approx(-0.46658, abs=1e-5)
    oxygen = Geometry(np.array([8, 8], np.int32), np.array([[0, 0, 0], [0, 0, 1.21]]))
    singlet, triplet = (
        run(replace(oxygen, spin=spin), basis="6-31g", outputs=("energy", "gap")).energy for spin in (0, 2)
    )
    assert triplet < singlet


def test_keeping_orbitals_changes_nothing() -> None:
    wanted = ("energy", "gap", "dipole_moment", "forces")
    for geometry in (bent(), replace(bent(), charge=1, spin=1)):
        settings = {"method": "b3lyp", "basis": "def2-svp", "outputs": wanted, "grid": 1}
        one, other = (run(geometry, keep_orbitals=k, **settings) for k in (True, False))
        for name in wanted:
            assert one[name].values == pytest.approx(other[name].values, abs=1e-8)


def test_heavy_elements_have_core_potentials() -> None:
    iodide = Geometry(np.array([1, 53], np.int32), np.array([[0, 0, 0], [0, 0, 1.609]]))
    found = run(iodide, basis="def2-svp", outputs=("dipole_moment", "energy"))
    assert float(found.energy) / Hartree > -400  # 25 valence electrons of iodine; all 53 are near -6900
    assert float(found.dipole_moment) == pytest.approx(0.6, abs=0.4)  # Debye; experiment 0.45


def test_the_fast_settings_stay_close_to_tight_ones() -> None:
    # simulator=pyscf_fast against level 3 and 1e-9 Hartree, on a strained lactone.
    geometry = embed("O=C1CO1", ConformerConfig()).geometry
    tight = PySCF().simulate(geometry.dataset())
    fast = PySCF(grid_points=(35, 110), tolerance=1e-6).simulate(geometry.dataset())
    assert float(fast.energy - tight.energy) / Hartree == pytest.approx(0, abs=5e-4)
    assert float(fast.gap - tight.gap) == pytest.approx(0, abs=3e-3)
    assert float(fast.dipole_moment - tight.dipole_moment) == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "b4lyp"}, "b4lyp"),
        ({"outputs": ("colour",)}, "colour"),
        ({"device": "tpu"}, "tpu"),
        ({"solvent": "beer"}, "beer"),
        ({"method": "ccsd(t)", "outputs": ("dipole",)}, "density"),
        ({"method": "mp2", "density_fit": True, "outputs": ("forces",)}, "density_fit"),
        ({"outputs": ("relaxed_positions",)}, "optimize"),
        ({"dispersion": "d5"}, "d5"),
        ({"method": "mp2", "density_fit": False, "optimize": True, "device": "gpu"}, "mp2 is not relaxed on a GPU"),
        ({"device": "gpu", "check_stability": True}, "check_stability"),
    ],
)
def test_a_wrong_choice_is_refused_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PySCF(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spin": 1}, "unpaired"),
        ({"numbers": np.array([8, 1, 400], np.int32)}, "unknown elements"),
        ({"positions": np.zeros((3, 3))}, "apart"),
        ({"positions": np.full((3, 3), np.nan)}, "not finite"),
    ],
)
def test_a_request_that_is_no_molecule_is_invalid_input(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message) as caught:
        PySCF().simulate(replace(WATER, **change).dataset())
    assert caught.value.kind == "invalid_input"


def test_an_unknown_basis_is_invalid_input() -> None:
    with pytest.raises(SimulationError, match="def9-svp") as caught:
        PySCF(basis="def9-svp").simulate(WATER.dataset())
    assert caught.value.kind == "invalid_input"


def test_the_fingerprint_tells_labels_apart_and_nothing_else() -> None:
    base = PySCF()
    assert base.fingerprint == PySCF(method="B3LYP").fingerprint
    assert base.fingerprint == PySCF(device="gpu", memory_mb=1).fingerprint
    others = [PySCF(method="pbe"), PySCF(basis="def2-tzvp"), PySCF(density_fit=False), PySCF(grid=4)]
    assert len({s.fingerprint for s in [base, *others]}) == 5


def test_units_are_those_of_the_spec() -> None:
    found = run(WATER, outputs=("energy", "dipole"))
    from pyscf import gto, scf

    mol = gto.M(atom=[(z, p) for z, p in zip(["O", "H", "H"], WATER.positions, strict=True)], basis="sto-3g", verbose=0)
    mf = scf.RHF(mol).run()
    assert float(found.energy) == pytest.approx(mf.e_tot * 27.211386, abs=1e-5)
    assert found.dipole.values == pytest.approx(mf.dip_moment(verbose=0), abs=1e-5)
    assert pytest.approx(2.541746, abs=1e-6) == Bohr / Debye
