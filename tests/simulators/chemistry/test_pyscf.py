"""PySCF's answers against published numbers, finite differences and each other."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from ase.units import Bohr, Debye, Hartree
from small_molecules import HELIUM, HYDROGEN, WATER, bent, run

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.conformers import ConformerConfig, embed
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.variables import Geometry


def test_helium_has_its_published_energies() -> None:
    # Szabo and Ostlund, Modern Quantum Chemistry, and the NIST CCCBDB: He RHF/STO-3G, RHF/6-31G.
    assert run(HELIUM, basis="sto-3g", outputs=("energy",)).energy / Hartree == pytest.approx(-2.807784, abs=1e-6)
    assert run(HELIUM, basis="6-31g", outputs=("energy",)).energy / Hartree == pytest.approx(-2.855160, abs=1e-6)


def test_hydrogen_is_that_of_szabo_and_ostlund() -> None:
    answer = run(HYDROGEN, outputs=("energy", "homo", "lumo", "gap", "dipole_moment", "orbital_energies"))
    # Section 3.5.2: E = -1.1167, orbital energies -0.5782 and +0.6703 Hartree at R = 1.4.
    assert answer.energy / Hartree == pytest.approx(-1.1167, abs=5e-5)
    assert answer.homo / Hartree == pytest.approx(-0.5782, abs=5e-5)
    assert answer.lumo / Hartree == pytest.approx(0.6703, abs=5e-5)
    assert answer.gap == pytest.approx(float(answer.lumo - answer.homo))
    assert answer.dipole_moment == pytest.approx(0, abs=1e-8)


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
    answer = run(WATER, outputs=("dipole", "dipole_moment"))
    assert answer.dipole_moment == pytest.approx(1.5338, abs=2e-3)
    assert np.abs(answer.dipole.values[[0, 2]]).max() < 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "hf"},
        {"method": "b3lyp", "density_fit": True, "basis": "def2-svp"},
        {"method": "mp2"},
        {"method": "ccsd"},
        {"method": "ccsd(t)"},
        {"method": "mp2", "frozen_core": True},
        {"method": "ccsd(t)", "frozen_core": True},
        {"method": "pbe", "dispersion": "d3bj"},
        {"method": "hf", "dispersion": "d4"},
        {"method": "wb97x-d3bj", "grid": 0},
        {"method": "hf", "solvent": "water"},
        {"method": "hf", "solvent": "water", "solvent_model": "SS(V)PE"},
        {"method": "hf", "spin": 1},
        {"method": "pbe", "spin": 1, "grid": 1},
        {"method": "b3lyp", "spin": 1, "grid": 1, "density_fit": True, "auxiliary_basis": "weigend"},
        {"method": "mp2", "spin": 1, "frozen_core": True},
        {"method": "ccsd", "spin": 1},
        {"method": "pbe", "spin": 1, "grid": 0, "solvent": "acetone", "solvent_model": "C-PCM"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_forces_are_minus_the_gradient_of_the_energy(settings: dict[str, Any]) -> None:
    settings = dict(settings)
    spin = settings.pop("spin", 0)
    geometry, step = replace(bent(), charge=spin, spin=spin), 2e-3
    forces = run(geometry, outputs=("energy", "forces"), tolerance=1e-11, **settings).forces.values

    def energy(atom: int, axis: int, sign: int) -> float:
        moved = geometry.positions.copy()
        moved[atom, axis] += sign * step
        return float(run(replace(geometry, positions=moved), outputs=("energy",), tolerance=1e-11, **settings).energy)

    for atom, axis in [(0, 1), (1, 0)]:
        difference = -(energy(atom, axis, 1) - energy(atom, axis, -1)) / (2 * step)
        assert forces[atom, axis] == pytest.approx(difference, abs=5e-4)
    assert np.abs(forces.sum(axis=0)).max() < 5e-3


def test_forces_that_pyscf_gets_wrong_are_refused() -> None:
    with pytest.raises(SimulationError, match="unpaired") as caught:
        run(replace(bent(), charge=1, spin=1), method="ccsd(t)", outputs=("forces",))
    assert caught.value.kind == "invalid_input"


@pytest.mark.parametrize("version", ["d3bj", "d3zero", "d4"])
def test_dispersion_lowers_the_energy_by_what_the_programs_of_grimme_say(version: str) -> None:
    from pyscf.dispersion.dftd3 import DFTD3Dispersion
    from pyscf.dispersion.dftd4 import DFTD4Dispersion

    settings = {"method": "pbe", "grid": 0, "outputs": ("energy",)}
    plain, corrected = (run(WATER, dispersion=d, **settings).energy / Hartree for d in (None, version))
    mol = PySCF(basis="sto-3g")._molecule(WATER)
    d4 = version == "d4"
    model = DFTD4Dispersion(mol, xc="pbe") if d4 else DFTD3Dispersion(mol, xc="pbe", version=version)
    alone = float(model.get_dispersion()["energy"])
    assert alone < -1e-5
    assert float(corrected - plain) == pytest.approx(alone, abs=1e-8)
    # A name that implies the correction is another way to ask for it.
    named = run(WATER, **settings | {"method": f"pbe-{version}"}).energy / Hartree
    assert float(named) == pytest.approx(float(corrected), abs=1e-8)


def test_a_functional_defined_with_its_dispersion_is_that_functional_with_it() -> None:
    # wB97X-D3(BJ) is wB97X-V without its nonlocal correlation, with D3 (Najibi and Goerigk, JCTC 2018, 14, 5725).
    from pyscf import dft
    from pyscf.dispersion.dftd3 import DFTD3Dispersion

    mf = dft.RKS(PySCF(basis="sto-3g")._molecule(WATER), xc="wb97x_v")
    mf.nlc, mf.grids.level, mf.conv_tol = False, 0, 1e-9
    correction = DFTD3Dispersion(mf.mol, xc="wb97x", version="d3bj").get_dispersion()["energy"]
    energy = run(WATER, method="wb97x-d3bj", grid=0, outputs=("energy",)).energy / Hartree
    assert float(energy) == pytest.approx(mf.kernel() + float(correction), abs=1e-7)


def test_the_version_of_the_dispersion_program_is_part_of_labels_that_depend_on_it() -> None:
    program = f"pyscf-dispersion {version('pyscf-dispersion')}"
    for settings in ({"method": "pbe", "dispersion": "d4"}, {"method": "wb97x-d3bj"}, {"method": "cf22d"}):
        assert program in PySCF(**settings).provenance["version"], settings
    for settings in ({"method": "pbe"}, {"method": "hf"}, {"method": "mp2", "density_fit": False}):
        assert program not in PySCF(**settings).provenance["version"], settings


def test_correlation_without_the_core_is_the_sum_over_valence_pairs() -> None:
    # Second order: E = sum_ijab (ia|jb) [2 (ia|jb) - (ib|ja)] / (e_i + e_j - e_a - e_b), i and j without the 1s of O.
    from pyscf import ao2mo, scf

    mf = scf.RHF(PySCF(basis="6-31g")._molecule(WATER)).run(conv_tol=1e-12)
    e, c, filled = mf.mo_energy, mf.mo_coeff, mf.mol.nelectron // 2
    valence, empty = c[:, 1:filled], c[:, filled:]
    shape = (filled - 1, empty.shape[1]) * 2
    integrals = ao2mo.general(mf.mol, (valence, empty, valence, empty), compact=False).reshape(shape)
    ei, ea = e[1:filled], e[filled:]
    gaps = ei[:, None, None, None] - ea[None, :, None, None] + ei[None, None, :, None] - ea
    expected = (integrals * (2 * integrals - integrals.transpose(0, 3, 2, 1)) / gaps).sum()
    energy = run(WATER, basis="6-31g", method="mp2", frozen_core=True, outputs=("energy",)).energy / Hartree
    assert float(energy) - mf.e_tot == pytest.approx(expected, abs=1e-6)


def test_a_better_auxiliary_basis_leaves_a_smaller_error_of_the_fit() -> None:
    settings = {"basis": "def2-svp", "outputs": ("energy",)}
    exact = float(run(WATER, **settings).energy) / Hartree
    errors = [
        abs(float(run(WATER, density_fit=True, auxiliary_basis=name, **settings).energy) / Hartree - exact)
        for name in ("weigend", "def2-universal-jkfit", "cc-pvtz-jkfit")
    ]
    # The first is for the Coulomb part alone, and the last for a larger basis.
    assert errors[0] > 5 * errors[1] > 50 * errors[2]
    assert errors[1] < 1e-4
    with pytest.raises(SimulationError, match="auxiliary basis 'cc-pv9z'") as caught:
        run(WATER, density_fit=True, auxiliary_basis="cc-pv9z", **settings)
    assert caught.value.kind == "invalid_input"


@pytest.mark.parametrize("method", ["hf", "pbe"])
@pytest.mark.parametrize("model", ["IEF-PCM", "C-PCM", "COSMO", "SS(V)PE", "ddCOSMO"])
def test_an_ion_in_a_sphere_gains_the_energy_of_born(model: str, method: str) -> None:
    # Born 1920: -(1 - 1/eps) q^2 / (2 R); COSMO scales by (eps - 1) / (eps + 1/2) (Klamt and Schueuermann 1993).
    from pyscf.data import radii
    from pyscf.solvent.pcm import modified_Bondi
    from pyscf.solvent.smd import solvent_db

    lithium = Geometry(np.array([3], np.int32), np.zeros((1, 3)), charge=1)
    eps = solvent_db["acetone"][5]
    radius = 1.1 * radii.UFF[3] if model == "ddCOSMO" else 1.2 * modified_Bondi[3]
    factor = (eps - 1) / (eps + 0.5) if model == "COSMO" else 1 - 1 / eps
    vacuum, solvated = (
        run(lithium, method=method, grid=0, solvent=s, solvent_model=model, outputs=("energy",)).energy / Hartree
        for s in (None, "acetone")
    )
    assert float(solvated - vacuum) == pytest.approx(-factor / (2 * radius), rel=2e-3)


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
        answer = run(geometry, basis="6-31g", outputs=("mulliken_charges", "hirshfeld_charges"))
        for name in ("mulliken_charges", "hirshfeld_charges"):
            assert answer[name].values.sum() == pytest.approx(geometry.charge, abs=1e-6)
            assert answer[name].values[0] < answer[name].values[1]
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
    polarizability = run(WATER, basis="6-31g", outputs=("polarizability",)).polarizability.values / Bohr**3
    assert polarizability == pytest.approx(expected, abs=2e-3)
    assert np.linalg.eigvalsh(polarizability).min() > 0


def test_doublets_and_triplets_are_unrestricted() -> None:
    atom = Geometry(np.array([1], np.int32), np.zeros((1, 3)), spin=1)
    assert run(atom, outputs=("energy",)).energy / Hartree == pytest.approx(-0.46658, abs=1e-5)
    oxygen = Geometry(np.array([8, 8], np.int32), np.array([[0, 0, 0], [0, 0, 1.21]]))
    singlet, triplet = (
        run(replace(oxygen, spin=spin), basis="6-31g", outputs=("energy", "gap")).energy for spin in (0, 2)
    )
    assert triplet < singlet


def test_keeping_orbitals_changes_nothing() -> None:
    outputs = ("energy", "gap", "dipole_moment", "forces")
    for geometry in (bent(), replace(bent(), charge=1, spin=1)):
        settings = {"method": "b3lyp", "basis": "def2-svp", "outputs": outputs, "grid": 1}
        one, other = (run(geometry, keep_orbitals=k, **settings) for k in (True, False))
        for name in outputs:
            assert one[name].values == pytest.approx(other[name].values, abs=1e-8)


def test_heavy_elements_have_core_potentials() -> None:
    iodide = Geometry(np.array([1, 53], np.int32), np.array([[0, 0, 0], [0, 0, 1.609]]))
    answer = run(iodide, basis="def2-svp", outputs=("dipole_moment", "energy"))
    assert float(answer.energy) / Hartree > -400  # 25 valence electrons of iodine; all 53 are near -6900
    assert float(answer.dipole_moment) == pytest.approx(0.6, abs=0.4)  # Debye; experiment 0.45


def test_the_fast_settings_stay_close_to_tight_ones() -> None:
    # simulator=pyscf_fast against level 3 and 1e-9 Hartree, on a strained lactone.
    geometry = embed("O=C1CO1", ConformerConfig()).geometry
    tight = PySCF().simulate(geometry.dataset())
    fast = PySCF(grid_points=(30, 86), tolerance=1e-6).simulate(geometry.dataset())
    assert float(fast.energy - tight.energy) / Hartree == pytest.approx(0, abs=5e-4)
    assert float(fast.gap - tight.gap) == pytest.approx(0, abs=4e-3)
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
        ({"method": "m06", "dispersion": "d3bj"}, "no dispersion correction of m06"),
        ({"method": "pbe-d3"}, "no dispersion correction of pbe-d3"),
        ({"method": "wb97x-d3"}, "wb97x-d3 is not supported"),
        ({"frozen_core": True}, "frozen_core"),
        ({"density_fit": False, "auxiliary_basis": "weigend"}, "auxiliary_basis"),
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
    answer = run(WATER, outputs=("energy", "dipole"))
    from pyscf import gto, scf

    mol = gto.M(atom=[(z, p) for z, p in zip(["O", "H", "H"], WATER.positions, strict=True)], basis="sto-3g", verbose=0)
    mf = scf.RHF(mol).run()
    assert float(answer.energy) == pytest.approx(mf.e_tot * 27.211386, abs=1e-5)
    assert answer.dipole.values == pytest.approx(mf.dip_moment(verbose=0), abs=1e-5)
    assert pytest.approx(2.541746, abs=1e-6) == Bohr / Debye
