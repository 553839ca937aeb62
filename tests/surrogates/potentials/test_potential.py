"""The surrogate of energies and forces: training, prediction, refusals and storage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import small_potential
import xarray as xr
from ase import Atoms
from ase.calculators.morse import MorsePotential
from flax import nnx

from data.errors import InputError
from data.files import write_text
from data.plain import from_plain, to_plain
from data.spec import SimulationError, check
from data.structures.batches import Shape, pad
from data.structures.structures import Structures
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.atom_energies import References
from surrogates.potentials.calibration import calibrate_intervals
from surrogates.potentials.energy import evaluate
from surrogates.potentials.facts import Head, PotentialConfig, PotentialFacts
from surrogates.potentials.fit import fit_potential_surrogate
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.saved import load_surrogate
from surrogates.trained import Surrogate

NETWORK = PaiNNConfig(features=16, layers=1, cutoff_angstrom=4.0, basis_size=8)
#: eV; large, as all-electron energies are.
OFFSET = {6: -1030.0, 8: -2040.0}


def clusters(n: int, seed: int, *, offset: bool = True) -> Structures:
    """Clusters of 3 and of 5 atoms of carbon and oxygen, labelled by a Morse potential and an energy an atom.

    Tables of 40 and of 48 are answered in batches of the same two shapes, which are compiled once.
    """
    rng = np.random.default_rng(seed)
    morse = MorsePotential(epsilon=1.0, r0=1.4, rho0=3.0, rcut1=3.6, rcut2=4.0)
    molecules: list[Atoms] = []
    while len(molecules) < n:
        atoms = Atoms(numbers=rng.choice([6, 8], size=(3, 5)[len(molecules) % 2]))
        atoms.positions = rng.uniform(-1.6, 1.6, size=(len(atoms), 3))
        distance = atoms.get_all_distances() + 10 * np.eye(len(atoms))
        if distance.min() > 1.1 and distance[distance < 9].max(initial=0.0) < 3.5:
            molecules.append(atoms)
    for atoms in molecules:
        atoms.calc = morse
    extra = [sum(OFFSET[z] for z in a.numbers) if offset else 0.0 for a in molecules]
    return Structures.from_arrays(
        [a.numbers for a in molecules],
        [a.positions for a in molecules],
        [a.get_potential_energy() + e for a, e in zip(molecules, extra, strict=True)],
        [a.get_forces() for a in molecules],
    )


@pytest.fixture(scope="module")
def trained(once: Callable[[str, Callable[[Path], object]], Path]) -> PotentialSurrogate:
    """An ensemble of two, trained on Morse clusters, with a calibrated interval."""

    def make(folder: Path) -> None:
        potential, result = fit_potential_surrogate(
            clusters(240, 0),
            clusters(20, 1),
            PotentialConfig(network=NETWORK, ensemble=2, buckets=1),
            TrainConfig(epochs=20, learning_rate=1e-2, clip_norm=10.0, ema_decay=0.97, batch_size=20),
            folder / "run",
            label_fingerprint="morse",
            progress=False,
        )
        assert result.compilations["train"] == 1
        calibrate_intervals(potential, clusters(48, 2)).save(folder / "potential")

    return PotentialSurrogate.load(once("morse", make) / "potential")


def record(numbers: list[int], positions: np.ndarray, **more: int) -> xr.Dataset:
    values = {
        "numbers": ("atom", np.asarray(numbers, np.int32)),
        "positions": (("atom", "axis"), np.asarray(positions, float)),
    }
    return xr.Dataset(values | {name: ((), np.int32(value)) for name, value in more.items()})


def test_references_of_a_linear_set_are_recovered_exactly() -> None:
    rng = np.random.default_rng(0)
    truth = {1: -13.6, 6: -1030.25, 8: -2041.5}
    sizes = [2, 3, 5, 8, 9, 4, 7]
    numbers = [rng.choice([1, 6, 8], n) for n in sizes]
    table = Structures.from_arrays(
        numbers, [rng.normal(size=(n, 3)) for n in sizes], [sum(truth[z] for z in row) for row in numbers]
    )
    references = References.fit(table)
    np.testing.assert_allclose(references.bonded, [truth[z] for z in references.elements], rtol=1e-12)
    np.testing.assert_allclose(references.energy(table), table.energy, rtol=0, atol=1e-9)
    assert references.release() == {}
    assert from_plain(References, to_plain(references)) == references


def test_references_of_one_composition_leave_only_fluctuations() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 3))
    energy = -2076.0 + np.array([0.1, -0.2, 0.3, 0.0, -0.2])
    table = Structures.from_arrays([np.array([8, 1, 1])] * 5, list(x), list(energy))
    left = table.energy - References.fit(table).energy(table)
    np.testing.assert_allclose(left, energy - energy.mean(), atol=1e-9)


def test_isolated_atoms_are_kept_apart_from_bonded_ones() -> None:
    x = np.array([[0.0, 0, 0], [0, 0, 0.74]])
    frames = ([np.array([1, 1]), np.array([1]), np.array([1])], [x, x[:1], x[:1]], [-31.7, -13.6, -13.1])
    references = References.fit(Structures.from_arrays(*frames))
    assert references.isolated == (-13.6,)
    np.testing.assert_allclose(references.bonded, [-31.7 / 2])
    assert References.fit(Structures.from_arrays(*frames), {1: -13.0}).isolated == (-13.0,)
    with pytest.raises(InputError, match="two atoms or more"):
        References.fit(Structures.from_arrays([np.array([1])], [x[:1]], [-13.6]))


def test_a_morse_potential_is_learned(trained: PotentialSurrogate) -> None:
    test = clusters(48, 3)
    answer = trained.predict_structures(test)
    bare = clusters(48, 3, offset=False).energy
    energy_error = np.abs(answer.energy - test.energy).mean()
    forces_error = np.abs(answer.forces - test.forces).mean()
    # The mean of all energies errs by about 1 eV, no force at all by about 1.4 eV/Angstrom.
    assert energy_error < 0.2 * np.abs(bare - bare.mean()).mean()
    assert forces_error < 0.2 * np.abs(test.forces).mean()


def test_energies_of_thousands_of_ev_lose_nothing_to_float32(trained: PotentialSurrogate) -> None:
    test = clusters(40, 4)
    assert test.energy.min() < -4000
    graph, state = nnx.split(trained.model)
    with jax.enable_x64(True):
        double = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(np.float64), state))
        batch = pad(test, np.arange(40), Shape(40, 5, None), trained.cutoff_angstrom, dtype=np.float64)
        exact = np.asarray(jax.jit(lambda b: evaluate(double, b))(batch)[0]).mean(axis=0)
    exact = exact + trained.facts.references.energy(test)
    np.testing.assert_allclose(trained.predict_structures(test).energy, exact, rtol=0, atol=1e-5)


def test_any_mixture_gets_the_answer_that_each_gets_alone(trained: PotentialSurrogate) -> None:
    assert isinstance(trained, Surrogate)
    test = clusters(40, 5)
    together = trained.predict_structures(test)
    for m in (0, 7, 39):
        atoms = slice(test.atom_start[m], test.atom_start[m + 1])
        one = trained.simulate(record(test.numbers[atoms].tolist(), test.positions[atoms], charge=0))
        check(one, trained.spec.outputs)
        for name in ("energy", "energy_std", "energy_low", "energy_high"):
            assert float(one[name]) == pytest.approx(getattr(together, name)[m], abs=1e-4)
        np.testing.assert_allclose(one["forces"], together.forces[atoms], atol=1e-4)
        np.testing.assert_allclose(one["forces_std"], together.forces_std[atoms], atol=1e-4)  # type: ignore[index]


def test_many_sizes_are_answered_with_few_compilations() -> None:
    potential = small_potential.potential(small_potential.SMALL["painn"])
    rng = np.random.default_rng(0)
    # A line of atoms with random bends has any size, and no two atoms coincide.
    sizes = [*range(1, 50, 3), 80]
    chains = [np.cumsum(rng.uniform(0.7, 1.0, size=(n, 3)), axis=0) for n in sizes]
    table = Structures.from_arrays([rng.choice([6, 8], n) for n in sizes], chains)
    answer = potential.predict_structures(table)
    assert np.isfinite(answer.energy).all()
    assert np.isfinite(answer.forces).all()
    compiled = potential.compilations
    assert compiled <= 14
    potential.predict_structures(table)
    assert potential.compilations == compiled


def test_a_saved_potential_is_the_same_potential(trained: PotentialSurrogate, tmp_path: Path) -> None:
    scored = trained.with_facts(scores={"test/a/energy_mae_mev": 1.5})
    scored.save(tmp_path / "surrogate")
    loaded = load_surrogate(tmp_path / "surrogate")
    assert isinstance(loaded, PotentialSurrogate)
    assert loaded.facts == scored.facts
    assert loaded.spec == scored.spec
    assert loaded.fingerprint == scored.fingerprint == trained.fingerprint
    test = clusters(40, 6)
    for name, value in vars(loaded.predict_structures(test)).items():
        np.testing.assert_array_equal(value, getattr(scored.predict_structures(test), name))


def test_what_was_not_learned_is_refused(trained: PotentialSurrogate) -> None:
    pair = np.array([[0.0, 0, 0], [0, 0, 1.3]])
    for request, message in (
        (record([6, 17], pair), r"unknown element Cl \(17\).*knows C, O"),
        (record([6, 8], pair, charge=-1), "charge is -1"),
        (record([6, 8], pair * 0.01), "closer than"),
        (record([6, 8], pair * np.nan), "not finite"),
    ):
        with pytest.raises(SimulationError, match=message) as caught:
            trained.simulate(request)
        assert caught.value.kind == "invalid_input"


def test_the_spread_of_the_ensemble_grows_far_from_the_training_set(trained: PotentialSurrogate) -> None:
    near = clusters(40, 7)
    squeezed = Structures.from_arrays(
        [near.numbers[a:b] for a, b in zip(near.atom_start, near.atom_start[1:], strict=False)],
        [0.6 * near.positions[a:b] for a, b in zip(near.atom_start, near.atom_start[1:], strict=False)],
    )
    inside, outside = trained.predict_structures(near), trained.predict_structures(squeezed)
    # Energies of two members agree by chance here and there; their forces on all atoms do not.
    assert np.median(outside.forces_std) > 3 * np.median(inside.forces_std)  # type: ignore[type-var]


def test_the_interval_covers_new_energies(trained: PotentialSurrogate) -> None:
    inside = []
    for seed in range(4):
        test = clusters(48, 20 + seed)
        answer = trained.predict_structures(test)
        assert answer.energy_low is not None
        assert answer.energy_high is not None
        inside.append((answer.energy_low <= test.energy) & (test.energy <= answer.energy_high))
    # 90% nominal; 48 calibration and 192 test points allow about 0.73 to 1.00 (beta-binomial, 99.8%).
    assert 0.75 < np.mean(inside) < 0.99


@pytest.mark.parametrize("missing", ["energy", "forces"])
def test_labels_that_are_missing_everywhere_are_not_needed(missing: str, tmp_path: Path) -> None:
    table = clusters(24, 9)
    blank = {
        "energy": np.full_like(table.energy, np.nan) if missing == "energy" else table.energy,
        "forces": np.full_like(table.forces, np.nan) if missing == "forces" else table.forces,
    }
    part = replace(table, **blank)
    potential, _ = fit_potential_surrogate(
        part,
        None,
        PotentialConfig(network=PaiNNConfig(features=4, layers=1, basis_size=4), buckets=1),
        TrainConfig(epochs=2, batch_size=12, checkpoint_every_s=None),
        tmp_path,
        label_fingerprint="morse",
        progress=False,
    )
    names = [v.name for v in potential.spec.outputs]
    assert names == (["forces", "in_domain"] if missing == "energy" else ["energy", "forces", "in_domain"])
    one = potential.simulate(record([6, 8], np.array([[0.0, 0, 0], [0, 0, 1.3]])))
    check(one, potential.spec.outputs)


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    bare = Structures.from_arrays([np.array([6, 8])], [np.array([[0.0, 0, 0], [0, 0, 1.3]])])
    arguments = (PotentialConfig(), TrainConfig(), tmp_path)
    with pytest.raises(InputError, match="no structure has an energy or forces"):
        fit_potential_surrogate(bare, None, *arguments, label_fingerprint="x", progress=False)
    table, other = clusters(3, 0), Structures.from_arrays([np.array([1, 9])], [np.eye(3)[:2]])
    with pytest.raises(InputError, match=r"elements \[1, 9\]"):
        fit_potential_surrogate(table, other, *arguments, label_fingerprint="x", progress=False)


def test_a_description_that_lacks_something_is_refused(tmp_path: Path) -> None:
    config = PotentialConfig(network=PaiNNConfig(features=2, layers=1, basis_size=2))
    facts = PotentialFacts(config, 1.0, {"main": Head(References((6,), (-1030.0,), (-1030.0,)), "x")}, "main")
    PotentialSurrogate(facts.model(), facts).save(tmp_path / "s")
    card = tmp_path / "s" / "surrogate.json"
    write_text(card, card.read_text().replace('"references"', '"elsewhere"'), listed=True)
    with pytest.raises(InputError, match=r"facts\.heads\.main\.elsewhere is no key"):
        PotentialSurrogate.load(tmp_path / "s")


def test_a_table_without_structures_is_answered_by_none(trained: PotentialSurrogate) -> None:
    nothing = clusters(3, 0).take(np.arange(0))
    answer = trained.predict_structures(nothing)
    assert answer.energy.shape == (0,)
    assert answer.forces.shape == (0, 3)
    assert trained.novelties(nothing).shape == (0,)


DEVICES = """
import sys
import jax, numpy as np
from data.structures.structures import Structures
from surrogates.saved import load_surrogate
from surrogates.learning.devices import data_mesh
assert len(jax.devices()) == 4
rows = np.load(sys.argv[2])
ends = rows["start"][1:-1]
table = Structures.from_arrays(np.split(rows["numbers"], ends), np.split(rows["positions"], ends))
answer = load_surrogate(sys.argv[1]).predict_structures(table, mesh=data_mesh())
np.savez(sys.argv[3], energy=answer.energy, forces=answer.forces)
"""


def test_four_devices_answer_what_one_answers(trained: PotentialSurrogate, tmp_path: Path, repository: Path) -> None:
    test = clusters(40, 10)
    trained.save(tmp_path / "s")
    np.savez(
        tmp_path / "in.npz",
        start=test.atom_start,
        numbers=test.numbers,
        positions=test.positions,
    )
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    subprocess.run(
        [sys.executable, "-c", DEVICES, tmp_path / "s", tmp_path / "in.npz", tmp_path / "out.npz"],
        check=True,
        cwd=repository,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        timeout=1200,
    )
    stored, expected = np.load(tmp_path / "out.npz"), trained.predict_structures(test)
    np.testing.assert_allclose(stored["energy"], expected.energy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(stored["forces"], expected.forces, rtol=0, atol=1e-4)
