"""SO3LR: the numbers of its own calculator, derivatives, invariances, a barrier of experiment, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.units import Debye, kcal, mol
from scipy.spatial.transform import Rotation
from simulator_contract import assert_promises
from teachers import by_its_own_package, needs

from data.errors import InputError
from data.spec import SimulationError
from simulators.chemistry.pyscf import PySCF
from simulators.chemistry.teachers.pretrained import MODELS, ask_structures
from simulators.chemistry.teachers.so3lr import SO3LR, SUPPORTED
from simulators.chemistry.variables import Geometry
from simulators.workers.model_process import close_processes

installed = needs("so3krates_torch", MODELS / "so3lr_model.py")
EXACT = SO3LR(SUPPORTED, precision="float64")


@pytest.fixture(scope="module", autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    close_processes()


def geometry(name: str, charge: int = 0, spin: int = 0, shaken: float = 0.05) -> Geometry:
    atoms = molecule(name)
    positions = atoms.positions + np.random.default_rng(1).normal(0, shaken, atoms.positions.shape)
    return Geometry(atoms.numbers.astype(np.int32), positions, charge, spin)


AMMONIUM = Geometry(
    np.array([7, 1, 1, 1, 1], np.int32),
    np.array([[0, 0, 0], [0.6, 0.6, 0.6], [-0.6, -0.6, 0.6], [-0.6, 0.6, -0.6], [0.6, -0.6, -0.6]]),
    charge=1,
)
CYANIDE = geometry("CN", charge=-1)
MOLECULES = [geometry("CH3CH2OH"), AMMONIUM, geometry("C6H6"), geometry("CH3SH"), CYANIDE]


@installed
def test_it_keeps_its_promises() -> None:
    good = MOLECULES[0].dataset()
    assert_promises(EXACT, SO3LR(SUPPORTED), good, good.assign(charge=np.int32(1)))


@installed
def test_a_batch_has_the_numbers_of_the_calculator_of_its_package() -> None:
    peer = by_its_own_package("so3krates_torch", "so3lr_by_ase.py", {"default_dtype": "float64"})
    for reach in (1000.0, 12.0):
        expected = ask_structures(peer, MOLECULES, {"reach": reach}, frozenset({"forces", "partial_charges"}))
        answers = replace(EXACT, long_range_angstrom=reach).simulate_many([m.dataset() for m in MOLECULES])
        for answer, values in zip(answers, expected, strict=True):
            assert not isinstance(answer, SimulationError)
            np.testing.assert_allclose(answer["energy"], values["energy"], atol=1e-8)
            np.testing.assert_allclose(answer["forces"], values["forces"], atol=1e-8)
            np.testing.assert_allclose(answer["partial_charges"], values["partial_charges"], atol=1e-8)
            np.testing.assert_allclose(answer["dipole"] * Debye, values["dipole"], atol=1e-8)
            assert float(answer["dipole_moment"]) == pytest.approx(np.linalg.norm(answer["dipole"]))
    peer.close()


@installed
def test_forces_are_minus_the_derivative_of_the_energy() -> None:
    for start in MOLECULES[:2]:
        direction = np.random.default_rng(2).normal(size=start.positions.shape)
        step = 1e-4
        moved = [replace(start, positions=start.positions + s * direction).dataset() for s in (step, -step)]
        ahead, behind = (float(answer["energy"]) for answer in EXACT.simulate_many(moved))
        slope = (ahead - behind) / (2 * step)
        forces = EXACT.simulate(start.dataset())["forces"].values
        assert -np.sum(forces * direction) == pytest.approx(slope, rel=1e-6)
        np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9)


@installed
def test_rotation_moves_vectors_and_the_order_of_atoms_does_not_matter() -> None:
    start = MOLECULES[0]
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()
    order = np.random.default_rng(3).permutation(len(start.numbers))
    turned = Geometry(start.numbers[order], start.positions[order] @ turn.T)
    before, after = (EXACT.simulate(g.dataset()) for g in (start, turned))
    assert float(after["energy"]) == pytest.approx(float(before["energy"]), abs=1e-9)
    np.testing.assert_allclose(after["forces"], before["forces"].values[order] @ turn.T, atol=1e-9)
    np.testing.assert_allclose(after["dipole"], turn @ before["dipole"].values, atol=1e-9)


@installed
def test_charges_add_up_and_the_dipole_of_water_is_that_of_experiment() -> None:
    for start in (AMMONIUM, CYANIDE, MOLECULES[0]):
        assert EXACT.simulate(start.dataset())["partial_charges"].values.sum() == pytest.approx(start.charge, abs=1e-9)
    water = EXACT.simulate(geometry("H2O", shaken=0.0).dataset())
    # 1.855 Debye: Clough et al., J. Chem. Phys. 1973, 59, 2254.
    assert float(water["dipole_moment"]) == pytest.approx(1.855, abs=0.1)


@installed
def test_the_barrier_of_ethane_is_that_of_experiment() -> None:
    staggered = geometry("C2H6", shaken=0.0)
    carbons = staggered.numbers == 6
    axis = np.diff(staggered.positions[carbons], axis=0)[0]
    half = (staggered.positions - staggered.positions[carbons].mean(axis=0)) @ axis > 0
    turn = Rotation.from_rotvec(np.pi / 3 * axis / np.linalg.norm(axis)).as_matrix()
    eclipsed = replace(staggered, positions=np.where(half[:, None], staggered.positions @ turn.T, staggered.positions))
    low, high = (float(EXACT.simulate(g.dataset())["energy"]) for g in (staggered, eclipsed))
    # 2.9 kcal/mol: Weiss and Leroi, J. Chem. Phys. 1968, 48, 962; turned without relaxation, it is a little higher.
    assert (high - low) / (kcal / mol) == pytest.approx(3.0, abs=0.35)


@installed
def test_its_forces_are_those_of_the_functional_that_it_learned_from() -> None:
    request = geometry("H2CO").dataset()
    functional = PySCF(method="pbe0", basis="def2-tzvp", outputs=("forces",)).simulate(request)["forces"].values
    # The dispersion of its level of theory is small within so small a molecule.
    error = np.abs(EXACT.simulate(request)["forces"].values - functional).mean()
    assert error < 0.02
    assert np.abs(functional).mean() > 0.5


@installed
def test_float32_is_as_good_for_energies_as_for_forces() -> None:
    requests = [m.dataset() for m in MOLECULES]
    exact, rounded = EXACT.simulate_many(requests), SO3LR(SUPPORTED).simulate_many(requests)
    for left, right in zip(exact, rounded, strict=True):
        # An energy of -1984 eV in float32 has steps of 1.2e-4 eV.
        assert float(left["energy"]) == pytest.approx(float(right["energy"]), abs=2e-5)
        np.testing.assert_allclose(left["forces"], right["forces"], atol=5e-5)
    assert EXACT.fingerprint != SO3LR(SUPPORTED).fingerprint


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (replace(AMMONIUM, numbers=np.array([33, 1, 1, 1, 1], np.int32)), "not learned As"),
        (replace(AMMONIUM, charge=0, spin=1), "1 electrons are unpaired"),
        (Geometry(np.array([17], np.int32), np.zeros((1, 3)), charge=-1), "a single atom has none"),
        (replace(AMMONIUM, cell=9.0 * np.eye(3)), "repeats along 3 directions"),
    ],
    ids=["element", "open shell", "atom", "cell"],
)
def test_what_it_has_not_learned_is_refused_without_loading_it(request_: Geometry, message: str) -> None:
    (refused,) = EXACT.simulate_many([request_.dataset()])
    assert isinstance(refused, SimulationError)
    assert refused.kind == "invalid_input"
    assert message in refused.message


@installed
def test_a_refused_molecule_leaves_the_others_of_its_batch() -> None:
    requests = [MOLECULES[0].dataset(), replace(AMMONIUM, charge=0, spin=1).dataset(), AMMONIUM.dataset()]
    answers = EXACT.simulate_many(requests)
    assert isinstance(answers[1], SimulationError)
    for place in (0, 2):
        np.testing.assert_allclose(answers[place]["forces"], EXACT.simulate(requests[place])["forces"], atol=1e-9)


@pytest.mark.parametrize(
    "settings", [{"precision": "float16"}, {"outputs": ("stress",)}, {"long_range_angstrom": 1.0}, {"outputs": ()}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict) -> None:
    with pytest.raises(InputError, match="simulator"):
        SO3LR(**settings)
