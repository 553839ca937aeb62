"""Active learning: what is chosen, when it stops, and a run that is killed and goes on as if it had not been."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from forked_commands import Command, understudy
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from small_potential import SMALL, WATER, potential

from benchmarks.active_learning import ERROR, LearningRun
from data.errors import CorruptStoreError, InputError
from data.molecules.files import read
from data.settings import build
from data.spec import SimulationError, dataset
from data.store.records import RecordStore
from data.structures.structures import Structures
from experiments.active.active_learning import ActiveConfig
from experiments.active.batch import AUDIT, CHOSEN, INITIAL, Batch
from experiments.active.exploration import ExploreConfig, calm, explore, on_leash, pieces
from experiments.active.frame_labelling import label, refuse_unfit
from experiments.active.frame_selection import ChoiceConfig, bags, choose, pick, worst_atom
from experiments.active.initial_frames import InitialConfig, shaken
from experiments.active.results import write_frames
from experiments.active.stopping import AcquisitionAudit, StopConfig, expected_error, frame_errors, good_enough
from experiments.application.choices import CONF
from experiments.application.stage import instantiate
from experiments.stages.active import PARTS, starts
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.ase_calculator import ASECalculator
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.xtb import XTB
from simulators.structure_requests import refuse_cells, request
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.fit import FineTuning, fit_potential_surrogate
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.structure_reading import read_structures
from surrogates.potentials.surrogate import PotentialSurrogate
from surrogates.potentials.task import PotentialTask

WATER_XTB = XTB(outputs=("energy", "forces"))


def waters(count: int, spread: float = 0.05, seed: int = 0) -> Structures:
    rng = np.random.default_rng(seed)
    return Structures.from_arrays([np.array([8, 1, 1])] * count, list(WATER + spread * rng.normal(size=(count, 3, 3))))


# What is chosen


def test_a_bag_of_bonds_is_invariant_under_motion_and_exchange_of_like_atoms() -> None:
    numbers = np.array([6, 8, 1, 1, 1])
    x = np.random.default_rng(1).normal(size=(5, 3)) * 2
    moved = (x @ Rotation.random(random_state=2).as_matrix().T)[[0, 1, 4, 2, 3]] * [1, 1, -1] + 7.0
    table = bags(Structures.from_arrays([numbers, numbers], [x, moved]))
    np.testing.assert_allclose(table[0], table[1], atol=1e-12)
    # Ten pairs: HH 3, HC 3, HO 3, CO 1; the first are those of hydrogen, the nearest first.
    assert table.shape == (2, 10)
    hh = sorted((1 / np.linalg.norm(x[i] - x[j]) for i, j in ((2, 3), (2, 4), (3, 4))), reverse=True)
    np.testing.assert_allclose(table[0, :3], hh)


def test_bags_of_different_molecules_are_padded_to_the_fullest() -> None:
    table = bags(Structures.from_arrays([np.array([8, 1, 1]), np.array([1, 8])], [WATER, WATER[[1, 0]]]))
    bond = 1 / np.linalg.norm(WATER[0] - WATER[1])
    np.testing.assert_allclose(table, [[1 / 1.52, bond, bond], [0.0, bond, 0.0]])


@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(1, 6),
    size=st.integers(1, 8),
    labelled_count=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_as_many_picks_as_there_are_groups_fall_one_into_each(
    seed: int, groups: int, size: int, labelled_count: int
) -> None:
    """Groups 100 apart and 1 wide, each equally often visited: whatever the uncertainties, none is picked twice."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(groups), size))
    place = 100.0 * group[:, None] + rng.uniform(-0.5, 0.5, (len(group), 1))
    uncertainty = rng.uniform(0.5, 1.0, len(group))
    labelled = -100.0 * np.arange(1, labelled_count + 1, dtype=float)[:, None]
    picked = pick(uncertainty, place, labelled, groups)
    assert sorted(group[picked]) == list(range(groups))
    everything = pick(uncertainty, place, labelled, 10 * len(group))
    assert len(set(everything)) == len(everything) == len(np.unique(place))
    np.testing.assert_array_equal(everything[: len(picked)], picked)


def test_what_is_certain_or_labelled_already_is_never_picked() -> None:
    place = np.array([[0.0], [1.0], [2.0], [3.0]])
    picked = pick(np.array([5.0, 1.0, 0.0, 1.0]), place, np.array([[0.0]]), 4)
    assert picked.tolist() == [3, 1]


def test_a_region_counts_by_how_often_it_is_visited() -> None:
    """One frame at a distance of 3 (9), or twelve at a distance of 1 on the other side of another centre (12)."""
    place = np.array([[3.0]] + [[101.0]] * 12)
    centres = np.array([[0.0], [100.0]])
    assert place[pick(np.ones(13), place, centres, 1)[0], 0] == 101.0
    assert place[pick(np.ones(9), place[:9], centres, 1)[0], 0] == 3.0


def test_the_uncertainty_of_a_frame_is_that_of_its_worst_atom() -> None:
    std = np.zeros((6, 3))
    std[1], std[5] = [0.3, 0.0, 0.4], [0.0, 2.0, 0.0]
    np.testing.assert_allclose(worst_atom(waters(2), std), [0.5, 2.0])


@pytest.mark.parametrize("rule", ["uncertain", "random"])
def test_a_choice_keeps_to_its_rule_and_to_the_labels_that_are_left(rule: str) -> None:
    frames = waters(40)
    unsure = np.arange(40) % 2 == 0
    config = ChoiceConfig(rule=rule, batch=8, audit=5)
    chosen, audit = choose(frames, np.ones(40), unsure, waters(3, seed=1), config, 100, 0)
    assert (len(chosen), len(audit)) == (8, 5)
    assert len(set(chosen) | set(audit)) == 13
    assert unsure[chosen].all() == (rule == "uncertain")
    chosen, audit = choose(frames, np.ones(40), unsure, waters(3, seed=1), config, 7, 0)
    assert (len(chosen), len(audit)) == (2, 5)
    if rule == "uncertain":
        chosen, audit = choose(frames, np.ones(40), np.zeros(40, bool), waters(3, seed=1), config, 100, 0)
        assert (len(chosen), len(audit)) == (0, 5)


def test_an_audit_is_uniform_over_the_frames() -> None:
    frames, config = waters(10), ChoiceConfig(batch=0, audit=2)
    drawn = [
        choose(frames, np.arange(10.0), np.ones(10, bool), waters(1, seed=1), config, 9, s)[1] for s in range(2000)
    ]
    counts = np.bincount(np.concatenate(drawn), minlength=10)
    # 4000 draws over 10 frames: a standard deviation of about 18.
    assert np.abs(counts - 400).max() < 80


# Where walkers go


def test_a_walker_is_followed_to_the_first_frame_beyond_its_leash() -> None:
    walker = np.repeat([0, 1, 2], 4)
    uncertainty = np.array([0.1, 0.2, 0.3, 0.4, 0.1, 3.0, 0.1, 0.1, 0.1, np.inf, 0.1, 0.1])
    kept, lost = on_leash(walker, uncertainty, 1.0)
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 8]
    assert lost == 2


def test_a_molecule_with_an_atom_far_off_is_in_two_pieces() -> None:
    broken = WATER.copy()
    broken[2] *= 4.0
    stretched = WATER * 1.5
    table = Structures.from_arrays([np.array([8, 1, 1])] * 3, [WATER, broken, stretched])
    assert pieces(table).tolist() == [1, 2, 1]


def test_walkers_start_at_the_calmer_half_of_each_composition() -> None:
    numbers = [np.array([8, 1, 1])] * 4 + [np.array([8, 1])] * 2
    table = Structures.from_arrays(numbers, [WATER] * 4 + [WATER[:2]] * 2, [4.0, 1.0, 3.0, 2.0, 90.0, 80.0])
    assert calm(table).tolist() == [1, 3, 5]


def test_the_first_frame_is_the_start_and_the_others_are_shaken_by_so_much() -> None:
    displaced = shaken(waters(2, 0.0), InitialConfig(count=400, shake_angstrom=0.03), 0)
    np.testing.assert_array_equal(displaced.positions[:3], WATER)
    moves = displaced.positions.reshape(-1, 3, 3)[1:] - WATER
    assert moves.std() == pytest.approx(0.03, rel=0.05)


# When it stops


def audit(error: float, lost: float = 0.0) -> AcquisitionAudit:
    return AcquisitionAudit(np.array([0.5 * error, 1.5 * error]), np.array([0.1, 0.3]), lost)


def test_it_is_good_enough_when_the_last_rounds_all_were() -> None:
    config = StopConfig(force_error_mev_per_angstrom=30.0, rounds_in_row=2, lost_share=0.1)
    assert not good_enough([], config)
    assert not good_enough([audit(29)], config)
    assert good_enough([audit(99), audit(30), audit(29)], config)
    assert not good_enough([audit(29), audit(29), audit(31)], config)
    assert not good_enough([audit(29), audit(29, lost=0.2)], config)
    assert not good_enough([audit(29), AcquisitionAudit(np.zeros(0), np.zeros(0), 0.0)], config)


def test_expected_errors_are_those_that_the_last_audits_showed() -> None:
    # Errors of 60 and 180 meV/A at 0.1 and 0.3 eV/A: 600 meV/A for 1 eV/A.
    assert expected_error([audit(9999), audit(120), audit(120)], 2) == pytest.approx(600.0)
    assert expected_error([], 2) is None


def test_the_error_of_a_frame_is_a_mean_over_its_components() -> None:
    table = waters(2)
    truth = np.zeros((6, 3))
    predicted = truth.copy()
    predicted[0, 0], predicted[3:] = 0.9, -0.2
    np.testing.assert_allclose(frame_errors(table, predicted, truth), [100.0, 200.0])


# Labels and files


def test_labels_are_the_simulators_and_failures_are_told(tmp_path: Path) -> None:
    frames = waters(3)
    frames.positions[5] = frames.positions[4] + 0.01  # Two atoms of the second molecule on top of each other.
    config = CampaignConfig(workers=1)
    labelled = label(WATER_XTB, frames, tmp_path / "labels.zarr", config, progress=False)
    assert labelled.rows.tolist() == [0, 2]
    assert [kind for kind, _ in labelled.failed] == ["invalid_input"]
    record = {"numbers": frames.numbers[6:], "positions": frames.positions[6:]}
    truth = WATER_XTB.simulate(dataset(WATER_XTB.spec.inputs, record))
    # Not to the last digit: how BLAS adds depends on which one a process has loaded first.
    assert labelled.structures.energy[1] == pytest.approx(float(truth.energy), rel=1e-13)
    np.testing.assert_allclose(labelled.structures.forces[3:], truth.forces.values, rtol=0, atol=1e-10)
    again = label(WATER_XTB, frames.take(np.array([2])), tmp_path / "labels.zarr", config, progress=False)
    np.testing.assert_array_equal(again.structures.forces, labelled.structures.forces[3:])
    assert again.core_seconds < labelled.core_seconds


def test_a_simulator_without_forces_is_refused() -> None:
    with pytest.raises(InputError, match=r"simulator.outputs.*forces"):
        refuse_unfit(XTB())


def test_a_batch_comes_back_to_the_last_bit_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    frames = waters(3)
    batch = Batch(frames, np.array([CHOSEN, CHOSEN, AUDIT]), np.array([0.1, 0.2, np.nan]), 50, 0.25, 0.5)
    batch.save(tmp_path / "batch.npz")
    back = Batch.load(tmp_path / "batch.npz")
    assert back.frames.positions.tobytes() == frames.positions.tobytes()
    assert (back.explored, back.uncertain_share, back.lost_share) == (50, 0.25, 0.5)
    (tmp_path / "batch.npz").write_bytes((tmp_path / "batch.npz").read_bytes()[:300])
    with pytest.raises(CorruptStoreError, match=r"batch.npz"):
        Batch.load(tmp_path / "batch.npz")


def test_a_start_is_smiles_or_a_file_and_no_ion(tmp_path: Path) -> None:
    from data.rejects import RejectLog

    with RejectLog(tmp_path / "rejects.csv") as rejects:
        assert starts(["CO", "O"], ConformerConfig(), rejects).sizes.tolist() == [6, 3]
        with pytest.raises(InputError, match="charged"):
            starts("[OH-]", ConformerConfig(), rejects)
        with pytest.raises(InputError, match=r"start: no such file"):
            starts("absent.xyz", ConformerConfig(), rejects)


# The configuration


def test_the_experiment_composes_and_every_part_is_built() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("active", ["start=CCO"])
        wrong = compose("active", ["start=CCO", "stop.labels=5"])
    refuse_unfit(instantiate(config.simulator))
    assert build(ActiveConfig, {name: config[name] for name in PARTS}, where="").choose.rule == "uncertain"
    assert PotentialTask.model_settings(config.model).ensemble > 1
    for name in ("first", "again"):
        assert build(TrainConfig, config[name], where=name).max_seconds is None, "a clock would not repeat itself"
    build(CampaignConfig, config.campaign, where="campaign")
    with pytest.raises(InputError, match=r"initial.count is 20, above stop.labels"):
        build(ActiveConfig, {name: wrong[name] for name in PARTS}, where="")


def test_its_help_is_its_own(tmp_path: Path) -> None:
    done = understudy("active", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stop.force_error_mev_per_angstrom" in done.stdout
    assert not list(tmp_path.iterdir())


# Going on from trained weights


def test_training_begins_with_the_weights_that_are_given(tmp_path: Path) -> None:
    first = potential(SMALL["painn"], members=2)
    config, frames = first.facts.config, waters(4)
    truth = first.predict_structures(frames)
    still = TrainConfig(epochs=1, batch_size=4, learning_rate=1e-12, checkpoint_every_s=None)

    def fit(table: Structures, config: PotentialConfig) -> PotentialSurrogate:
        return fit_potential_surrogate(
            table, None, config, still, tmp_path / "run", label_fingerprint="x", tune=FineTuning(first), progress=False
        )[0]

    # Energies far from the references that it has, which are kept.
    answer = fit(frames.with_energy(truth.energy + 500.0), config).predict_structures(frames)
    np.testing.assert_allclose(answer.energy, truth.energy, atol=1e-4)
    np.testing.assert_allclose(answer.forces, truth.forces, atol=1e-5)
    assert answer.forces_std is not None
    with pytest.raises(InputError, match="another network"):
        fit(frames.with_energy(truth.energy), PotentialConfig(network=PaiNNConfig(features=16)))
    other = Structures.from_arrays([np.array([9, 1])], [WATER[:2]], [0.0])
    with pytest.raises(InputError, match=r"elements \[9\]"):
        fit(other, config)


def test_a_surrogate_that_does_not_know_where_it_is_unsure_is_refused() -> None:
    with pytest.raises(InputError, match=r"model.ensemble"):
        explore(potential(SMALL["painn"]), waters(2), ExploreConfig(), 0, progress=False)


# The whole

GOAL = 120.0
TINY = [
    "start=O", "simulator=xtb",
    "model.network.features=16", "model.network.layers=1", "model.network.basis_size=8",
    "model.ensemble=2", "first.epochs=250", "first.learning_rate=5e-3", "again.epochs=60",
    "again.learning_rate=2e-3", "initial.count=8", "explore.walkers=8", "explore.steps=200", "explore.record_every=10",
    "choose.batch=6", "choose.audit=5", f"stop.force_error_mev_per_angstrom={GOAL}", "stop.labels=70", "stop.rounds=6",
    "trial.rounds=1", "campaign.workers=1",
]  # fmt: skip


def start(run: Path) -> Command:
    return Command("active", *TINY, f"run.dir={run}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that nothing disturbed, and what it printed."""
    run = tmp_path_factory.mktemp("active") / "run"
    process = start(run)
    out, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, out
    return run, out


def asked(run: Path) -> list[str]:
    with RecordStore.open(run / "labels.zarr") as records:
        return records.keys()


@pytest.mark.slow
def test_it_ends_when_the_error_on_fresh_frames_is_small_enough(finished: tuple[Path, str]) -> None:
    run, out = finished
    report = json.loads((run / "active.json").read_text())
    rounds = report["rounds"]
    assert report["stopped_by"] == "goal", rounds
    assert all(row["force_error_mev_per_angstrom"] <= GOAL for row in rounds[-2:])
    assert rounds[-3]["force_error_mev_per_angstrom"] is None or (
        rounds[-3]["force_error_mev_per_angstrom"] > GOAL or rounds[-3]["lost_share"] > 0.05
    )
    # The truth, which the run never saw: many frames of a fresh dynamics of the surrogate that was judged last.
    judged = PotentialSurrogate.load(run / "rounds" / f"{len(rounds) - 2:03d}" / "surrogate")
    labelled = Structures.from_frames(read(run / "labels.xyz"), "labels.xyz")
    fresh = explore(
        judged, labelled, ExploreConfig(walkers=8, steps=200, record_every=40), 12345, progress=False
    ).frames
    truth = label(WATER_XTB, fresh, run.parent / "truth.zarr", CampaignConfig(workers=1), progress=False).structures
    assert frame_errors(truth, fresh.forces, truth.forces).mean() < 1.6 * GOAL
    for word in ("the goal was met", "core-s", str(run / "surrogate")):
        assert "".join(word.split()) in "".join(out.split())


@pytest.mark.slow
def test_a_run_leaves_its_frames_costs_and_figure_and_the_counts_agree(finished: tuple[Path, str]) -> None:
    run, _ = finished
    rounds = json.loads((run / "active.json").read_text())["rounds"]
    metrics = json.loads((run / "metrics.json").read_text())
    keys = asked(run)
    assert len(keys) == len(set(keys)) == rounds[-1]["labels"] == metrics["active/labels"] <= 70
    frames = Structures.from_frames(read(run / "labels.xyz"), "labels.xyz")
    assert len(frames) == metrics["active/labels"] - metrics["active/labels_failed"]
    potential = PotentialSurrogate.load(run / "surrogate")
    assert potential.scores["active/force_error_mev_per_angstrom"] == metrics["active/force_error_mev_per_angstrom"]
    learned = potential.predict_structures(frames)
    assert np.abs(learned.forces - frames.forces).mean() < 1e-3 * GOAL
    costs = {row["stage"]: row for row in json.loads((run / "costs.json").read_text())}
    assert costs["labels"]["core_seconds"] == pytest.approx(sum(row["label_core_seconds"] for row in rounds))
    assert all(metrics[f"cost/{name}_core_seconds"] > 0 for name in ("labels", "training", "exploration"))
    assert "<svg" in (run / "active.svg").read_text()
    first = Batch.load(run / "rounds" / "000" / "batch.npz")
    assert set(first.role) == {INITIAL}


@pytest.mark.slow
def test_a_run_that_is_killed_twice_goes_on_to_the_same_labels(finished: tuple[Path, str], tmp_path: Path) -> None:
    whole, _ = finished
    run = tmp_path / "run"
    # While the second round trains, and when the third has just decided what to label.
    for sign in (run / "rounds" / "001" / "training" / "train.jsonl", run / "rounds" / "002" / "batch.npz"):
        process = start(run)
        deadline = time.monotonic() + 1200
        while not sign.exists():
            assert process.poll() is None, process.said
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (run / "metrics.json").exists()
    process = start(run)
    out, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, out
    keys = asked(run)
    assert len(keys) == len(set(keys))
    assert set(keys) == set(asked(whole))
    mine, theirs = (json.loads((r / "active.json").read_text())["rounds"] for r in (run, whole))
    for a, b in zip(mine, theirs, strict=True):
        assert {k: v for k, v in a.items() if "seconds" not in k} == {k: v for k, v in b.items() if "seconds" not in k}


def test_a_finished_run_is_not_handed_out_as_one_from_another_start(finished: tuple[Path, str]) -> None:
    run = finished[0]
    done = understudy("active", *TINY, "seed=7", "start=CO", f"run.dir={run}")
    assert done.returncode == 2
    assert "seed=0 (now 7)" in done.stderr
    assert "start=" in done.stderr


def test_labels_to_reach_an_error_lie_on_a_line_of_its_logarithm() -> None:
    rounds = [{"labels": n, ERROR: e} for n, e in ((10, 100.0), (20, 10.0), (30, 20.0))]
    run = LearningRun("random", rounds, "labels", {})
    assert run.labels_to_reach(200.0) == 10
    assert run.labels_to_reach(10.0**1.5) == pytest.approx(15.0)
    assert run.labels_to_reach(5.0) is None
    assert float(run.error_at(15)) == pytest.approx(10.0**1.5)


def test_rounds_keep_cells_charges_spins_and_fixed_atoms(tmp_path: Path) -> None:
    crystal = bulk("Cu", a=3.61)
    crystal.calc = EMT()
    fixed = np.array([[True, True, True]])
    frames = Structures.from_arrays(
        [crystal.numbers], [crystal.positions], lattice=[crystal.cell.array], fixed=[fixed], spin=[0]
    )
    ion = Structures.from_arrays([np.array([8, 1])], [np.array([[0, 0, 0], [0, 0, 0.97]])], charge=[-1], spin=[2])
    both = Structures.concatenate([frames, ion])
    Batch(both, np.zeros(2), np.zeros(2)).save(tmp_path / "batch.npz")
    again = Batch.load(tmp_path / "batch.npz").frames
    for name in ("lattice", "charge", "spin", "fixed"):
        np.testing.assert_array_equal(getattr(again, name), getattr(both, name))
    emt = ASECalculator("ase.calculators.emt.EMT")
    structures = label(emt, frames, tmp_path / "labels.zarr", CampaignConfig(workers=1), progress=False).structures
    assert structures.energy[0] == pytest.approx(crystal.get_potential_energy(), abs=1e-9)
    np.testing.assert_array_equal(structures.lattice, frames.lattice)
    np.testing.assert_array_equal(structures.fixed, frames.fixed)
    np.testing.assert_array_equal(shaken(structures, InitialConfig(count=3), 0).positions[2], crystal.positions[0])
    write_frames(structures, tmp_path / "labels.xyz")
    written = read_structures(tmp_path / "labels.xyz", None)
    np.testing.assert_array_equal(written.lattice, frames.lattice)
    np.testing.assert_array_equal(written.fixed, frames.fixed)
    # What an ion is asked, as a label and as what a baseline adds.
    asked = request(XTB(), ion, 0)
    assert (int(asked["charge"]), int(asked["spin"])) == (-1, 2)
    with pytest.raises(InputError, match="1 of 1 frames are periodic, and xtb"):
        refuse_cells(XTB(), frames, "start")
    with pytest.raises(SimulationError, match="takes no cell"):
        request(XTB(), frames, 0)


def test_pieces_hold_together_through_the_boundaries_of_a_cell() -> None:
    x = np.array([[0, 0, 0], [0, 0, 5.4]])
    table = Structures.from_arrays([np.full(2, 29)] * 2, [x, x], lattice=[np.diag([0, 0, 8.0]), np.zeros((3, 3))])
    assert pieces(table).tolist() == [1, 2]
