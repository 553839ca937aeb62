"""A mixture asks the expert that learned a molecule, and answers as that one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from predicting import predicted_by
from small_potential import SMALL, WATER, potential, scattered

from data.errors import CorruptStoreError, InputError
from data.spec import SimulationError
from data.structures.batches import Shape, pad
from data.structures.structures import Structures
from surrogates.learning.conformal import Conformal
from surrogates.mixture.facts import MixtureConfig
from surrogates.mixture.fit import fit_mixture_surrogate
from surrogates.mixture.gate import Gate, describe, fit_gate
from surrogates.mixture.memory import Memory, read_memory, save_memory
from surrogates.mixture.surrogate import MixtureSurrogate
from surrogates.potentials.last_layer import LastLayer
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.saved import load_surrogate
from understudy import dynamics, relax


def expert(scale: float, *, novelty: float | None = None) -> PotentialSurrogate:
    """A potential whose answers are unlike those of another scale; with a domain if it has a novelty."""
    bare = potential(SMALL["painn"], scale)
    layer = LastLayer(np.eye(8, dtype=np.float32), np.zeros((0, 8), np.float32), np.eye(8, dtype=np.float32))
    return PotentialSurrogate(bare.model, replace(bare.facts, novelty=novelty), layer)


def water(count: int, seed: int, shake: float = 0.02) -> Structures:
    rng = np.random.default_rng(seed)
    return Structures.from_arrays(
        [np.array([8, 1, 1])] * count, [WATER + shake * rng.normal(size=(3, 3)) for _ in range(count)]
    )


def methane(count: int, seed: int) -> Structures:
    corners = 0.63 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    rng = np.random.default_rng(seed)
    return Structures.from_arrays(
        [np.array([6, 1, 1, 1, 1])] * count, [corners + 0.02 * rng.normal(size=(5, 3)) for _ in range(count)]
    )


@pytest.fixture(scope="module")
def mixture() -> MixtureSurrogate:
    """One expert for water, and one for methane of another size of answers."""
    experts = {"water": expert(0.5, novelty=1.0), "methane": expert(2.0, novelty=1.0)}
    return fit_mixture_surrogate(experts, {"water": water(20, 0), "methane": methane(8, 0)}, MixtureConfig())


def test_each_molecule_is_answered_by_the_expert_that_learned_its_composition(mixture: MixtureSurrogate) -> None:
    table = Structures.concatenate([methane(2, 5), water(3, 5), methane(1, 6)])
    assert mixture.route(table).tolist() == [1, 1, 0, 0, 0, 1]
    answer = mixture.predict_structures(table)
    for name, rows in (("water", [2, 3, 4]), ("methane", [0, 1, 5])):
        alone = mixture.experts[mixture.names.index(name)].predict_structures(table.take(np.array(rows)))
        np.testing.assert_allclose(answer.energy[rows], alone.energy, rtol=1e-12)
        np.testing.assert_allclose(answer.forces[table.atoms_of(np.array(rows))], alone.forces, atol=1e-12)
        np.testing.assert_array_equal(answer.in_domain[rows], alone.in_domain)
    assert mixture.shares(table) == {"water": 0.5, "methane": 0.5}


def test_molecules_of_several_experts_relax_each_on_its_own(mixture: MixtureSurrogate, tmp_path: Path) -> None:
    table = Structures.concatenate([methane(1, 5), water(2, 5), methane(1, 6)])
    settings = {"max_steps": 3, "fmax": 1e-6}
    whole = relax(mixture, table, **settings)
    for name, rows in (("water", [1, 2]), ("methane", [0, 3])):
        some = np.array(rows)
        alone = relax(mixture.experts[mixture.names.index(name)], table.take(some), **settings)
        np.testing.assert_allclose(whole.structures.energy[some], alone.structures.energy, rtol=1e-6)
        np.testing.assert_allclose(
            whole.structures.positions[table.atoms_of(some)], alone.structures.positions, atol=1e-5
        )
        assert whole.steps[some].tolist() == alone.steps.tolist()
    assert not np.allclose(whole.structures.positions, table.positions, atol=1e-6)
    with pytest.raises(InputError, match="2 experts answer these molecules"):
        dynamics(mixture, table, tmp_path / "both.zarr", steps=1)
    assert dynamics(mixture, table.take(np.array([1])), tmp_path / "one.zarr", steps=2, record_every=1) == 3


def test_predict_answers_every_frame_by_its_expert(mixture: MixtureSurrogate, tmp_path: Path) -> None:
    table = Structures.concatenate([methane(1, 5), water(1, 5)])
    atoms = [Atoms(t.numbers, t.positions) for t in (table.take(np.array([i])) for i in (0, 1))]
    ase.io.write(tmp_path / "in.extxyz", [atoms[0], Atoms("HF", [[0, 0, 0], [0, 0, 0.92]]), atoms[1]])
    mixture.save(tmp_path / "m")
    predicted_by(tmp_path / "m", tmp_path / "in.extxyz", tmp_path / "out.extxyz")
    first, fluoride, last = ase.io.read(tmp_path / "out.extxyz", index=":")
    expected = mixture.predict_structures(table).energy
    np.testing.assert_allclose([a.get_potential_energy() for a in (first, last)], expected, rtol=1e-7)
    assert "no expert has learned" in fluoride.info["reason"]


def test_a_batch_is_answered_like_a_table(mixture: MixtureSurrogate) -> None:
    table = Structures.concatenate([methane(2, 5), water(3, 5)])
    batch = mixture.predict(pad(table, np.arange(5), Shape(6, 5, None), mixture.cutoff_angstrom))
    answer = mixture.predict_structures(table)
    np.testing.assert_allclose(batch["energy"][:5], answer.energy, rtol=1e-7)
    np.testing.assert_allclose(batch["forces"][2, :3], answer.forces[10:13], atol=1e-5)


def test_the_gate_agrees_with_scikit_learn_and_gives_few_molecules_the_same_weight() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    expert_of = np.repeat([0, 1, 2], [200, 40, 5])
    counts = rng.poisson([[2.0, 5.0], [6.0, 2.0], [1.0, 1.0]], size=(245, 3, 2))[np.arange(245), expert_of]
    inputs = describe(counts.astype(float), np.zeros(245, np.int32))
    gate = Gate(2, 3)
    fit_gate(gate, inputs, expert_of, strength=10.0)
    varied = inputs[:, :3]
    scaled = (varied - varied.mean(axis=0)) / varied.std(axis=0)
    truth = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2_000).fit(scaled, expert_of)
    got = gate.probabilities(inputs, np.ones((245, 3), bool))
    np.testing.assert_allclose(got, truth.predict_proba(scaled), atol=1e-4)
    masked = gate.probabilities(inputs, np.tile([True, False, True], (245, 1)))
    assert (masked[:, 1] == 0).all()
    np.testing.assert_allclose(masked.sum(axis=1), 1.0)


def test_of_one_composition_the_nearest_expert_answers() -> None:
    # Both learned the same molecules, so that the gate cannot decide; the domain of one is a hundred times wider.
    experts = {"narrow": expert(0.5, novelty=0.01), "wide": expert(0.5, novelty=1.0)}
    mixture = fit_mixture_surrogate(experts, {"narrow": water(9, 0), "wide": water(9, 1)}, MixtureConfig())
    assert mixture.route(water(4, 2)).tolist() == [1] * 4
    novelties = [e.novelties(water(4, 2)) for e in mixture.experts]
    np.testing.assert_allclose(novelties[0], 100 * novelties[1], rtol=1e-5)
    np.testing.assert_array_equal(mixture.inside(water(4, 2)), novelties[1] <= 1)


def test_elements_and_charges_that_no_expert_learned_are_refused_and_outside(mixture: MixtureSurrogate) -> None:
    ammonia = Structures.from_arrays([np.array([7, 1, 1])], [WATER])
    hydroxide = Structures.from_arrays([np.array([8, 1])], [WATER[:2]], charge=[-1])
    for table in (ammonia, hydroxide):
        with pytest.raises(SimulationError, match="no expert has learned") as caught:
            mixture.predict_structures(table)
        assert caught.value.kind == "invalid_input"
        assert not mixture.inside(table).any()
    # Methanol has elements of both, and neither alone has learned them.
    with pytest.raises(SimulationError, match="no expert"):
        mixture.route(Structures.from_arrays([np.array([6, 8, 1])], [WATER]))


def test_a_mixture_comes_back_with_its_experts_and_a_changed_expert_is_refused(
    mixture: MixtureSurrogate, tmp_path: Path
) -> None:
    mixture.save(tmp_path / "m")
    again = load_surrogate(tmp_path / "m")
    assert (type(again), again.fingerprint) == (MixtureSurrogate, mixture.fingerprint)
    np.testing.assert_array_equal(
        again.predict_structures(water(2, 3)).energy, mixture.predict_structures(water(2, 3)).energy
    )
    expert(0.7, novelty=1.0).save(tmp_path / "m" / "experts" / "water")
    with pytest.raises(InputError, match="the expert water is another one"):
        load_surrogate(tmp_path / "m")


def test_outputs_are_those_that_all_experts_have(mixture: MixtureSurrogate) -> None:
    calibrated = expert(0.5).with_facts(
        heads={"main": replace(potential().facts.head, energy=Conformal(1.0, 0.1, 0.1, 20))}
    )
    two = fit_mixture_surrogate(
        {"a": calibrated, "b": mixture.experts[1]}, {"a": water(3, 0), "b": methane(3, 0)}, MixtureConfig()
    )
    assert "energy_low" in {v.name for v in calibrated.spec.outputs}
    assert {v.name for v in two.spec.outputs} == {"energy", "forces"}
    assert two.predict_structures(water(1, 0)).energy_low is None


def test_frames_of_experts_come_back_and_damage_is_named(tmp_path: Path) -> None:
    learned = replace(scattered(5, 6), energy=np.arange(5.0))
    save_memory(tmp_path, {"a": Memory(learned, learned.take(np.zeros(0, int)))})
    memory = read_memory(tmp_path, ["a"])["a"]
    for name in ("atom_start", "numbers", "positions", "energy", "charge", "spin"):
        np.testing.assert_array_equal(getattr(memory.learned, name), getattr(learned, name))
    assert len(memory.tests) == 0
    with pytest.raises(CorruptStoreError, match=r"b\.npz"):
        read_memory(tmp_path, ["b"])
    path = tmp_path / "memory" / "a.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CorruptStoreError, match=r"a\.npz"):
        read_memory(tmp_path, ["a"])
