"""Which frames are chosen: by energy, by region, among the uncertain half; and whether a trial tells if that paid."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.morse import MorsePotential
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data.errors import InputError
from data.files import write_json
from data.json_files import read_json
from data.structures.structures import Structures
from experiments.active.active_learning import ActiveConfig, ActiveLearning
from experiments.active.batch import CHOSEN, Batch
from experiments.active.choice_diagnosis import crowding, rank_correlation
from experiments.active.choice_trial import TrialConfig, relative_differences, trial_entries, verdict
from experiments.active.energy_window import excess, inside_window, internal_coordinates
from experiments.active.frame_labelling import label
from experiments.active.frame_pool import draw_frames, frame_bytes, rows_left
from experiments.active.frame_selection import ChoiceConfig, choose, evenly
from experiments.active.initial_frames import InitialConfig
from experiments.active.learner import Learner
from experiments.active.results import metrics
from experiments.active.round_rows import verdict_line
from experiments.active.stopping import StopConfig
from experiments.pages.active_page import render_active
from simulators.campaigns.campaign import CampaignConfig
from simulators.chemistry.ase_calculator import ASECalculator
from surrogates.learning.loop import TrainConfig
from surrogates.potentials.facts import PotentialConfig
from surrogates.potentials.networks.painn import PaiNNConfig
from surrogates.potentials.surrogate import PotentialSurrogate


def dimers(distances: np.ndarray) -> Structures:
    positions = [np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]]) for r in distances]
    return Structures.from_arrays([np.array([18, 18])] * len(positions), positions)


# By energy


def test_energies_are_compared_by_internal_coordinate_above_the_lowest_label_of_the_same_molecule() -> None:
    water, argon = np.array([8, 1, 1]), np.array([18, 18])
    x = np.zeros((3, 3)) + np.arange(3)[:, None]
    fixed = [None, np.array([[True] * 3, [False] * 3, [False] * 3])]
    table = Structures.from_arrays([water] * 2, [x, x], [1.0, 2.0], fixed=fixed)
    # Three vibrations of water; six coordinates of two atoms beside a fixed one; one of two atoms.
    assert internal_coordinates(table).tolist() == [3, 6]
    assert internal_coordinates(dimers(np.ones(1))).tolist() == [1]
    frames = Structures.from_arrays([water, water, argon, argon], [x, x, x[:2], x[:2]], [1.3, 0.7, 5.0, 5.5])
    labelled = Structures.from_arrays([water] * 2, [x, x], [1.0, 9.0])
    np.testing.assert_allclose(excess(frames, labelled), [0.1, -0.1, 0.0, 0.5])
    kelvin = 0.1 / units.kB
    assert inside_window(frames, labelled, 1.01, kelvin).tolist() == [True, True, True, False]
    assert inside_window(frames, labelled, None, kelvin).all()


def test_thermal_frames_of_a_harmonic_molecule_lie_within_one_kt_by_coordinate() -> None:
    """75 coordinates: the energy over kT is half a chi-square variable, 37.5 with a deviation of 6.1."""
    assert stats.chi2(75).sf(2 * 75 * 1.0) < 1e-6
    assert stats.chi2(75).cdf(2 * 75 * 0.5) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("rule", ["uncertain", "uncertain_half", "random"])
def test_no_rule_picks_beyond_the_window_and_the_audit_knows_none(rule: str) -> None:
    frames = dimers(np.linspace(1, 2, 40))
    allowed = np.arange(40) < 20
    config = ChoiceConfig(rule=rule, batch=8, audit=16)
    chosen, audit = choose(frames, np.linspace(1, 2, 40), np.ones(40, bool), dimers(np.ones(1)), config, 99, 0, allowed)
    assert len(chosen) > 0
    assert allowed[chosen].all()
    assert not allowed[audit].all()


# By uncertainty and by region


def test_the_uncertain_half_is_drawn_from_uniformly() -> None:
    frames, uncertainty = dimers(np.linspace(1, 2, 20)), np.arange(20.0)
    config = ChoiceConfig(rule="uncertain_half", batch=2, audit=1)
    drawn = [choose(frames, uncertainty, np.ones(20, bool), frames, config, 99, seed) for seed in range(500)]
    counts = np.bincount(np.concatenate([chosen for chosen, _ in drawn]), minlength=20)
    # The audit takes one frame of twenty away, so that the median lies between the two middle ones.
    assert counts[:9].sum() == 0
    assert np.abs(counts[10:] - 100).max() < 45, "a standard deviation of 9.5"


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_rows_in_turn_of_every_region(sizes: list[int], seed: int) -> None:
    region = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(seed).permutation(len(region))
    even = evenly(order, region)
    assert sorted(even) == sorted(order)
    for count in range(len(even) + 1):
        taken = np.bincount(region[even[:count]], minlength=len(sizes))
        left = np.array(sizes) > taken
        assert not left.any() or taken.max() <= taken[left].min() + 1


def test_a_rare_region_counts_as_much_as_a_frequent_one() -> None:
    frames = dimers(np.concatenate([np.linspace(1.0, 1.1, 90), np.linspace(3.0, 3.3, 10)]))
    for rule in ("random", "uncertain_half", "uncertain"):
        config = ChoiceConfig(rule=rule, batch=6, audit=4, regions=2)
        chosen, audit = choose(frames, np.ones(100), np.ones(100, bool), dimers(np.array([9.0])), config, 99, 0)
        assert (audit >= 90).sum() == 2
        assert rule == "uncertain" or (chosen >= 90).sum() == 3
    plain = ChoiceConfig(rule="random", batch=6, audit=4)
    assert (
        np.mean([choose(frames, np.ones(100), np.ones(100, bool), frames, plain, 99, s)[1] >= 90 for s in range(200)])
        < 0.2
    )


def test_uncertainties_that_rank_errors_have_a_correlation_of_one() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.1, 0.5, 0.6])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([0.6, 0.5, 0.1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 2.0]), np.array([0.6, 0.5])) is None
    assert rank_correlation(np.ones(3), np.arange(3.0)) is None
    points = np.array([[0.0], [1.0], [10.0], [11.0]])
    assert crowding(points, 4 * points) == pytest.approx(0.25)


# Whether it pays


def test_a_verdict_counts_frames_as_if_they_were_of_one_round() -> None:
    rng = np.random.default_rng(0)
    chosen, random = rng.uniform(0.5, 2, (2, 3, 7))
    differences = [relative_differences(a, b) for a, b in zip(chosen, random, strict=True)]
    np.testing.assert_allclose(differences[0].mean(), 2 * (chosen[0] - random[0]).sum() / (chosen[0] + random[0]).sum())
    state = verdict([{}, *map(trial_entries, differences)], TrialConfig(rounds=9))
    assert state is not None
    assert state.difference == pytest.approx(np.mean(differences))
    assert state.standard_error == pytest.approx(stats.sem(np.concatenate(differences)))
    assert (state.frames, state.rounds, state.decided) == (
        21,
        3,
        abs(state.difference) > state.standard_error > 0 < state.difference,
    )
    assert verdict([{}], TrialConfig()) is None
    assert trial_entries(relative_differences(np.zeros(0), np.zeros(0))) == {}
    np.testing.assert_array_equal(relative_differences(np.zeros(2), np.zeros(2)), [0, 0])


def row(mean: float, spread: float, frames: int = 4) -> dict[str, Any]:
    return {"trial_frames": frames, "trial_difference": mean, "trial_difference_std": spread}


@pytest.mark.parametrize(
    ("rows", "decided", "falls_back"),
    [
        ([row(0.5, 0.1)], False, False),  # One round is too few.
        ([row(0.5, 0.1), row(0.4, 0.1)], True, True),  # Clearly worse.
        ([row(0.1, 1.0), row(0.1, 1.0)], False, False),  # Perhaps worse: 0.1 with a standard error of 0.38.
        ([row(0.1, 1.0)] * 3, True, True),  # No better at the end.
        ([row(-0.1, 1.0)] * 3, True, False),  # Better at the end.
        ([row(-0.1, 1.0)] * 3 + [row(9, 1)], True, False),  # What comes after the trial no longer counts.
    ],
)  # fmt: skip
def test_a_rule_has_to_earn_its_place(rows: list[dict[str, Any]], decided: bool, falls_back: bool) -> None:
    state = verdict(rows, TrialConfig(rounds=3, standard_errors=1.0))
    assert state is not None
    assert (state.decided, state.falls_back) == (decided, falls_back)
    assert ("at random from now on" in verdict_line(state)) == falls_back


MORSE = ASECalculator("ase.calculators.morse.MorsePotential")
#: Distances of a pool: the force is steep below 1.7, and nearly 0 beyond 2.
POOL = np.linspace(1.05, 2.6, 300)


def lengths(frames: Structures) -> np.ndarray:
    return np.linalg.norm(frames.positions[1::2] - frames.positions[::2], axis=1)


@functools.cache
def true_forces() -> np.ndarray:
    """The force on the second atom at each distance of the pool."""
    dimer = Atoms("Ar2", calculator=MorsePotential())
    forces = []
    for r in POOL:
        dimer.positions[1, 2] = r
        forces.append(dimer.get_forces()[1, 2])
    return np.array(forces)


def along(frames: Structures, force: np.ndarray) -> np.ndarray:
    """Forces of dimers that lie along an axis."""
    forces = np.zeros((len(frames), 2, 3))
    forces[:, 1, 2], forces[:, 0, 2] = force, -force
    return forces.reshape(-1, 3)


class Interpolation(PotentialSurrogate):
    """A stand-in for a surrogate: forces of dimers between labelled distances by straight lines.

    Its uncertainty is either its true error, or a power of the distance, which is largest where there is nothing to
    learn.
    """

    def __init__(self, points: np.ndarray, misleads: bool) -> None:
        self.points, self.misleads = points[np.argsort(points[:, 0])], misleads

    @property
    def spec(self) -> Any:
        return SimpleNamespace(outputs=[SimpleNamespace(name="forces_std")])

    def predict_structures(self, structures: Structures, **_: Any) -> Any:
        r = lengths(structures)
        smooth = np.interp(r, *self.points.T)
        doubt = r**12 if self.misleads else np.abs(smooth - np.interp(r, POOL, true_forces()))
        return SimpleNamespace(
            energy=np.zeros(len(r)), forces=along(structures, smooth), forces_std=along(structures, doubt)
        )

    def save(self, path: Path, **_: Any) -> None:
        write_json(path / "points.json", self.points.tolist())


@dataclass(frozen=True)
class InterpolationLearner(Learner):
    misleads: bool = False

    def load(self, folder: Path) -> PotentialSurrogate:
        return Interpolation(np.array(read_json(folder / "points.json", remedy="")), self.misleads)

    def learn(self, table: Structures, before: Any, folder: Path, **_: Any) -> PotentialSurrogate:
        (folder.parent / "surrogate").mkdir(parents=True, exist_ok=True)
        return Interpolation(np.stack([lengths(table), table.forces[1::2, 2]], axis=1), self.misleads)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the whole pool, which all runs share."""
    path = tmp_path_factory.mktemp("pool") / "labels.zarr"
    label(MORSE, dimers(POOL), path, CampaignConfig(workers=1), progress=False)
    return path


def learning(run: Path, store: Path, *, misleads: bool, seed: int, labels: int = 86) -> ActiveLearning:
    recipe = TrainConfig(epochs=1)
    return ActiveLearning(
        None,
        MORSE,
        CampaignConfig(workers=1),
        InterpolationLearner(PotentialConfig(network=PaiNNConfig()), recipe, recipe, misleads),
        ActiveConfig(
            initial=InitialConfig(count=6),
            choose=ChoiceConfig(batch=8, audit=8),
            trial=TrialConfig(rounds=3),
            stop=StopConfig(force_error_mev_per_angstrom=1e-6, labels=labels),
            seed=seed,
        ),
        run,
        store=store,
        pool=dimers(POOL),
        progress=False,
    )


def chosen_lengths(run: Path, number: int) -> np.ndarray:
    batch = Batch.load(run / "rounds" / f"{number:03d}" / "batch.npz")
    return lengths(batch.frames.take(np.flatnonzero(batch.role == CHOSEN)))


def test_a_choice_that_pays_stays_and_one_that_misleads_is_given_up(store: Path, tmp_path: Path) -> None:
    for seed in range(3):
        good = learning(tmp_path / f"good-{seed}", store, misleads=False, seed=seed)
        rounds = good.run().rounds
        state = good.verdict
        assert state is not None
        assert state.decided
        assert not state.falls_back
        assert state.difference < 0
        assert (chosen_lengths(good.run_dir, len(rounds) - 1) < 1.7).mean() > 0.6, "it still looks where it is steep"
        bad = learning(tmp_path / f"bad-{seed}", store, misleads=True, seed=seed)
        rounds = bad.run().rounds
        state = bad.verdict
        assert state is not None
        assert state.falls_back
        assert state.difference > 0
        before = [n for n, row in enumerate(rounds) if n and not row["fell_back"]]
        after = [n for n, row in enumerate(rounds) if row["fell_back"]]
        assert after == list(range(before[-1] + 1, len(rounds)))
        assert min(chosen_lengths(bad.run_dir, n).min() for n in before) > 2.0
        assert min(chosen_lengths(bad.run_dir, n).min() for n in after) < 2.0
        reported = metrics(bad.run(), bad.config, bad.ledger)
        assert (reported["active/fell_back"], reported["active/trial_difference"]) == (1.0, state.difference)


def test_a_trial_goes_on_after_a_kill_as_if_there_had_been_none(store: Path, tmp_path: Path) -> None:
    whole = learning(tmp_path / "whole", store, misleads=False, seed=5).run().rounds
    run = tmp_path / "run"
    learning(run, store, misleads=False, seed=5, labels=54).run()
    # The third round was killed after its arms were trained, and before its summary was written.
    (run / "rounds" / "003" / "round.json").unlink()
    again = learning(run, store, misleads=False, seed=5).run().rounds
    assert [{k: v for k, v in row.items() if "seconds" not in k} for row in again] == [
        {k: v for k, v in row.items() if "seconds" not in k} for row in whole
    ]


def test_a_trial_on_test_frames_is_judged_by_what_these_weigh(store: Path, tmp_path: Path) -> None:
    """The same choice, of short distances, is right for a test there and wrong for one of long distances."""
    for name, low, high, pays in (("short", 1.05, 1.3, True), ("long", 2.0, 2.6, False)):
        active = learning(tmp_path / name, store, misleads=False, seed=1)
        r = POOL[(low <= POOL) & (high >= POOL)]
        truth = np.interp(r, POOL, true_forces())
        active.test = replace(dimers(r), forces=along(dimers(r), truth))
        active.config = replace(active.config, trial=TrialConfig(rounds=3, on="test"))
        active.run()
        assert active.verdict is not None
        assert active.verdict.frames == active.verdict.rounds * len(r)
        assert active.verdict.falls_back == (not pays)
    with pytest.raises(InputError, match=r"trial.on.*test=FILE"):
        ActiveLearning(
            None, MORSE, CampaignConfig(), active.learner, active.config, tmp_path / "none", pool=dimers(POOL)
        )


def test_every_frame_of_a_pool_is_asked_once_and_then_the_run_ends(store: Path, tmp_path: Path) -> None:
    active = learning(tmp_path / "run", store, misleads=False, seed=0, labels=10**6)
    active.pool = dimers(POOL[::12])
    outcome = active.run()
    assert outcome.stopped_by == "pool"
    assert sorted(lengths(outcome.frames)) == pytest.approx(sorted(POOL[::12]))
    assert len(rows_left(active.pool, set(frame_bytes(outcome.frames)))) == 0
    with pytest.raises(InputError, match=r"pool: 25 frames, and the first round labels 26"):
        draw_frames(active.pool, 26, 0)
    with pytest.raises(InputError, match=r"start.*pool=FILE"):
        ActiveLearning(None, MORSE, CampaignConfig(), active.learner, active.config, tmp_path / "none")


def test_the_page_says_whether_the_choice_paid(tmp_path: Path) -> None:
    state = verdict([row(0.25, 0.1)] * 2, TrialConfig())
    assert state is not None
    rounds = [{"labels": 20, "fell_back": 0}, {"labels": 38, "fell_back": 1, **row(0.25, 0.1)}]
    write_json(tmp_path / "active.json", {"rounds": rounds, "choice": verdict_line(state), "ended": "x < y"})
    write_json(tmp_path / "metrics.json", {"active/labels": 38.0})
    (tmp_path / "active.svg").write_text("<svg></svg>")
    page = render_active(tmp_path)
    assert "differs by +25.0%" in page
    assert "drawn at random from now on" in page
    assert "x &lt; y" in page
    assert "<svg>" in page
