"""PySCF's answers against published numbers, finite differences and each other."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase.units import Bohr, Debye, Hartree

from data.errors import InputError
from simulators.base import SimulationError, check
from simulators.quantum.conformers import ConformerConfig, embed
from simulators.quantum.pyscf import PySCF
from simulators.quantum.scf import LadderConfig, Record, converge
from simulators.quantum.variables import Geometry

# The water of the Crawford group's programming projects (github.com/CrawfordGroup/ProgrammingProjects), Bohr,
# which publish its RHF, MP2, CCSD and CCSD(T) energies in STO-3G.
WATER = Geometry(
    np.array([8, 1, 1], np.int32),
    np.array([[0, -0.143225816552, 0], [1.638036840407, 1.136548822547, 0], [-1.638036840407, 1.136548822547, 0]])
    * Bohr,
)
HELIUM = Geometry(np.array([2], np.int32), np.zeros((1, 3)))
HYDROGEN = Geometry(np.array([1, 1], np.int32), np.array([[0, 0, 0], [0, 0, 1.4 * Bohr]]))


def run(geometry: Geometry, **settings: Any) -> Any:
    simulator = PySCF(**{"density_fit": False, "basis": "sto-3g", "method": "hf", **settings})
    found = simulator.simulate(geometry.dataset())
    check(found, simulator.spec.outputs)
    return found


def test_helium_has_its_published_energies() -> None:
    # Szabo and Ostlund, Modern Quantum Chemistry, and the NIST CCCBDB: He RHF/STO-3G, RHF/6-31G.
    assert run(HELIUM, basis="sto-3g", outputs=("energy",)).energy / Hartree == pytest.approx(-2.807784, abs=1e-6)
    assert run(HELIUM, basis="6-31g", outputs=("energy",)).energy / Hartree == pytest.approx(-2.855160, abs=1e-6)


def test_helium_in_one_gaussian_is_the_integral_done_by_hand() -> None:
    # E(a) = 3 a - 8 sqrt(2 a / pi) + 2 sqrt(a / pi) for two electrons in exp(-a r^2) around Z = 2.
    from pyscf import gto, scf

    for exponent in (0.5, 0.766758, 1.2):
        expected = 3 * exponent - 8 * np.sqrt(2 * exponent / np.pi) + 2 * np.sqrt(exponent / np.pi)
        mol = gto.M(atom="He 0 0 0", basis={"He": [[0, [exponent, 1.0]]]}, verbose=0)
        assert converge(scf.RHF(mol), LadderConfig(), Record()).e_tot == pytest.approx(expected, abs=1e-9)


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


def bent(seed: int = 0) -> Geometry:
    return replace(WATER, positions=WATER.positions + 0.05 * np.random.default_rng(seed).normal(size=(3, 3)))


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


def test_an_optimised_geometry_has_no_forces_and_a_lower_energy() -> None:
    start = bent()
    wanted = ("energy", "forces", "relaxed_positions")
    before = run(start, outputs=("energy",), basis="6-31g")
    after = run(start, outputs=wanted, basis="6-31g", optimize=True)
    assert after.energy < before.energy
    assert np.abs(after.forces.values).max() < 0.03
    bond = np.linalg.norm(after.relaxed_positions.values[0] - after.relaxed_positions.values[1])
    assert bond == pytest.approx(0.9497, abs=1e-3)  # RHF/6-31G, NIST CCCBDB


def stretched(length: float, geometry: Geometry = HYDROGEN) -> Geometry:
    return replace(geometry, positions=np.array([[0, 0, 0], [0, 0, length]]))


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "b3lyp", "density_fit": True, "basis": "def2-svp"},
        {"method": "mp2", "basis": "6-31g*"},
        {"method": "ccsd", "basis": "6-31g*"},
        {"method": "pbe", "charge": 1, "spin": 1},
        {"method": "hf", "solvent": "water", "solvent_model": "C-PCM"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_a_relaxed_bond_is_as_long_as_where_the_energy_is_lowest(settings: dict[str, Any]) -> None:
    settings = dict(settings)
    start = replace(HYDROGEN, charge=settings.pop("charge", 0), spin=settings.pop("spin", 0))
    wanted = ("energy", "forces", "relaxed_positions")
    found = run(start, optimize=True, outputs=wanted, **settings)
    length = np.linalg.norm(found.relaxed_positions.values[0] - found.relaxed_positions.values[1])
    step = 0.01
    low, middle, high = (
        float(run(stretched(length + d, start), outputs=("energy",), **settings).energy) for d in (-step, 0, step)
    )
    # The vertex of the parabola through three energies.
    assert abs(0.5 * step * (low - high) / (low - 2 * middle + high)) < 2e-3
    assert float(found.energy) == pytest.approx(middle, abs=1e-5)
    assert np.abs(found.forces.values).max() < 0.03


def test_an_atom_is_relaxed_as_it_is() -> None:
    found = run(HELIUM, optimize=True, outputs=("energy", "relaxed_positions"))
    assert np.array_equal(found.relaxed_positions.values, HELIUM.positions)
    assert json.loads(found.attrs["log"])["relaxation_steps"] == 0


def test_fields_that_need_help_within_a_relaxation_get_it_and_are_recorded() -> None:
    wanted = ("energy", "relaxed_positions")
    plain = run(bent(), optimize=True, basis="6-31g", outputs=wanted)
    helped = run(bent(), optimize=True, basis="6-31g", outputs=wanted, max_cycles=3)
    assert float(helped.energy) == pytest.approx(float(plain.energy), abs=1e-5)
    assert np.allclose(helped.relaxed_positions, plain.relaxed_positions, atol=1e-3)
    log = json.loads(helped.attrs["log"])
    rescues = log["relaxation_rescues"]
    assert [r["step"] for r in rescues] == list(range(1, len(rescues) + 1))
    for rescue in rescues:
        assert not rescue["scf"][0]["converged"]
        assert rescue["scf"][-1]["converged"]
    assert "second order" in {rung["rung"] for r in rescues for rung in r["scf"]}
    assert "relaxation_rescues" not in json.loads(plain.attrs["log"])


@pytest.mark.parametrize("method", ["pbe", "mp2"])
def test_a_field_that_fails_within_a_relaxation_is_not_converged_and_says_at_which_step(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = []

    def failing(*arguments: Any) -> Any:
        solved.append(converge(*arguments))
        if len(solved) == 3:
            raise SimulationError("not_converged", "on purpose", {"scf": []})
        return solved[-1]

    monkeypatch.setattr("simulators.quantum.pyscf.converge", failing)
    with pytest.raises(SimulationError, match="at step 3 of the relaxation: on purpose") as caught:
        run(stretched(0.9), optimize=True, method=method, outputs=("energy",))
    assert caught.value.kind == "not_converged"
    assert caught.value.details == {"scf": [], "relaxation_steps": 3}


def test_a_relaxation_without_steps_enough_is_not_converged() -> None:
    with pytest.raises(SimulationError, match="2 steps") as caught:
        run(stretched(1.2), optimize=True, max_steps=2, outputs=("energy",))
    assert caught.value.kind == "not_converged"


def test_relaxing_leaves_the_logging_of_the_process_alone() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        run(bent(), outputs=("energy",), optimize=True)
        logging.getLogger("mine").error("still heard")
        assert stream.getvalue() == "still heard\n"
    finally:
        logging.getLogger().removeHandler(handler)


def test_doublets_and_triplets_are_unrestricted() -> None:
    atom = Geometry(np.array([1], np.int32), np.zeros((1, 3)), spin=1)
    assert run(atom, outputs=("energy",)).energy / Hartree == pytest.approx(-0.46658, abs=1e-5)
    oxygen = Geometry(np.array([8, 8], np.int32), np.array([[0, 0, 0], [0, 0, 1.21]]))
    singlet, triplet = (
        run(replace(oxygen, spin=spin), basis="6-31g", outputs=("energy", "gap")).energy for spin in (0, 2)
    )
    assert triplet < singlet


def test_the_ladder_rescues_what_plain_diis_does_not_converge() -> None:
    carbonyl = Geometry(np.array([28, 6, 8], np.int32), np.array([[0, 0, 0], [0, 0, 1.7], [0, 0, 2.85]]), spin=2)
    found = run(carbonyl, method="b3lyp", grid=0, outputs=("energy",))
    rungs = json.loads(found.attrs["log"])["scf"]
    assert not rungs[0]["converged"]
    assert rungs[-1]["converged"]
    assert rungs[-1]["energy_hartree"] <= rungs[0]["energy_hartree"] + 1e-6


@pytest.mark.parametrize(
    ("settings", "change"),
    [({"method": "hf"}, {}), ({"method": "pbe", "grid": 1}, {"charge": 1, "spin": 1})],
    ids=["restricted", "unrestricted"],
)
def test_a_field_that_second_order_rescued_answers_as_if_it_had_not_failed(
    settings: dict[str, Any], change: dict[str, int]
) -> None:
    geometry, wanted = replace(bent(), **change), ("energy", "gap", "dipole", "forces", "polarizability")
    plain = run(geometry, outputs=wanted, **settings)
    rescued = run(geometry, outputs=wanted, max_cycles=3, **settings)
    rungs = json.loads(rescued.attrs["log"])["scf"]
    assert [(rung["rung"], rung["converged"]) for rung in rungs][1:] == [
        ("damping and level shift", False),
        ("second order", True),
    ]
    assert 1 <= rungs[-1]["cycles"] <= 3
    for name in wanted:
        assert rescued[name].values == pytest.approx(plain[name].values, abs=2e-4), name


def test_what_never_converges_says_what_was_tried() -> None:
    with pytest.raises(SimulationError, match="remedies") as caught:
        run(WATER, basis="6-31g", max_cycles=1, tolerance=1e-12, outputs=("energy",))
    assert caught.value.kind == "not_converged"
    assert len(caught.value.details["scf"]) == 5


def test_an_instability_is_followed_to_a_lower_solution() -> None:
    carbon = Geometry(np.array([6, 6], np.int32), np.array([[0, 0, 0], [0, 0, 1.24]]))
    plain = run(carbon, basis="6-31g", outputs=("energy",))
    checked = run(carbon, basis="6-31g", outputs=("energy",), check_stability=True)
    log = json.loads(checked.attrs["log"])
    assert [step["stable"] for step in log["stability"]] == [False, True]
    assert float(checked.energy) < float(plain.energy) - 0.1
    assert "stability" not in json.loads(plain.attrs["log"])


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


def test_a_gpu_that_is_not_there_names_its_command() -> None:
    with pytest.raises(SimulationError, match="understudy\\[gpu\\]") as caught:
        run(WATER, device="gpu")
    assert caught.value.kind == "missing_component"


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
