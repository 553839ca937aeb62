"""Promised recalls: exact small cases, an independent implementation, and coverage over many repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController, control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.stats import binom

from data.errors import InputError
from surrogates.cascade.betting import BETS, WeightedLabels, log_capital, planned_bet, strictest_weighted_threshold
from surrogates.cascade.design import draw, importance
from surrogates.cascade.learn_then_test import (
    fewest_hits,
    fixed_sequence,
    p_values,
    share_lost_bound,
    strictest_threshold,
)
from surrogates.cascade.promise import Calibration, Promise, stage_thresholds
from surrogates.cascade.shortlist import benjamini_hochberg, selection_p_values, shortlist


def largest_count(repeats: int, delta: float) -> int:
    """Violations that a procedure with the risk `delta` exceeds once in 10,000 runs of this test."""
    return int(binom.ppf(1 - 1e-4, repeats, delta))


def test_the_fewest_hits_are_those_whose_power_is_below_the_risk() -> None:
    assert fewest_hits(0.9, 0.05) == 29  # 0.9^29 = 0.0471, 0.9^28 = 0.0523
    assert fewest_hits(0.99, 0.05) == 299
    assert fewest_hits(0.5, 0.125) == 3  # an exact power
    scores = np.arange(29.0)
    assert strictest_threshold(scores, 0.9, 0.05) == 0.0
    assert strictest_threshold(scores[:28], 0.9, 0.05) is None


def test_p_values_and_thresholds_are_those_of_mapie() -> None:
    rng = np.random.default_rng(0)
    scores, recall, delta = np.round(rng.random(80), 3), 0.8, 0.1
    grid = np.unique(scores)
    lost = np.array([(scores < t).mean() for t in grid])
    theirs = compute_hoeffding_bentkus_p_value(lost, len(scores), 1 - recall, binary=True)[:, 0]
    kept = np.array([(scores >= t).sum() for t in grid])
    assert p_values(kept, len(scores), recall) == pytest.approx(theirs, rel=1e-9, abs=1e-300)
    chosen = control_fwer(theirs, delta, fwer_method="fixed_sequence")
    assert len(chosen) == fixed_sequence(p_values(kept, len(scores), recall), delta)
    assert strictest_threshold(scores, recall, delta) == grid[chosen[-1]]


def test_the_threshold_of_a_classifier_is_that_of_mapie() -> None:
    rng = np.random.default_rng(1)
    hits = rng.random(600) < 0.3
    scores = np.clip(np.round(rng.normal(0.35 + 0.3 * hits, 0.15), 3), 0, 1)
    grid = np.unique(scores[hits])
    theirs = BinaryClassificationController(
        predict_function=lambda x: np.stack([1 - x[:, 0], x[:, 0]], axis=1),
        risk="recall",
        target_level=0.9,
        confidence_level=0.95,
        list_predict_params=grid,
    ).calibrate(scores[:, None], hits.astype(int))
    valid = np.asarray(theirs.valid_predict_params)
    assert strictest_threshold(scores[hits], 0.9, 0.05) >= valid.max()  # theirs corrects for the number of thresholds
    kept = np.array([(scores[hits] >= t).sum() for t in grid])
    ours = set(grid[p_values(kept, int(hits.sum()), 0.9) <= 0.05 / len(grid)])
    # It rounds the number of lost hits, n times a share, up, which may add one.
    one_more = set(grid[p_values(kept - 1, int(hits.sum()), 0.9) <= 0.05 / len(grid)])
    assert one_more <= set(valid) <= ours


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0.01, 0.3))
def test_the_bound_of_the_share_lost_is_the_inverse_of_the_test(hits: int, lost: int, delta: float) -> None:
    bound = share_lost_bound(lost, hits, delta)
    if lost >= hits:
        assert bound == 1.0
    else:
        assert binom.cdf(lost, hits, bound) == pytest.approx(delta, rel=1e-6)


def population(seed: int, candidates: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Scores and hits, of which a few have a low score."""
    rng = np.random.default_rng(seed)
    hits = rng.random(candidates) < 0.05
    return np.where(hits, rng.normal(2.0, 1.0, candidates), rng.normal(-1.5, 1.0, candidates)), hits


def test_uniform_draws_keep_their_promise_in_the_promised_share_of_repeats() -> None:
    scores, hits = population(0)
    broken, repeats, promised = 0, 1000, 0
    for seed in range(repeats):
        drawn = np.random.default_rng(seed).integers(0, len(scores), 2500)
        cut = strictest_threshold(scores[drawn][hits[drawn]], 0.9, 0.1)
        if cut is not None:
            promised += 1
            broken += (scores[hits] >= cut).mean() < 0.9
    assert promised > 900
    assert broken <= largest_count(repeats, 0.1)
    assert broken >= 20  # the test is exact up to the steps of a binomial, and not merely safe


@pytest.mark.parametrize(("certain", "misleading"), [(0, False), (150, False), (150, True)])
def test_draws_by_score_keep_their_promise_in_the_promised_share_of_repeats(certain: int, misleading: bool) -> None:
    scores, hits = population(1)
    # A misleading score expects hits where none are; only the power may suffer from it.
    expected = importance(-2.0 * np.abs(scores)) if misleading else importance(np.minimum(0.0, 2.0 * scores - 4.0))
    order = np.argsort(-scores)
    first, rest = order[:certain], order[certain:]
    hit_scores = scores[first][hits[first]]
    broken, kept, repeats = 0, [], 300
    for seed in range(repeats):
        draws = draw(expected[rest], 1000, seed)
        rows = rest[draws.rows]
        labels = WeightedLabels(scores[rows], hits[rows], draws.weights, draws.largest_weight, hit_scores)
        cut = strictest_weighted_threshold(labels, 0.8, 0.1)
        kept.append((scores >= (-np.inf if cut is None else cut)).mean())
        broken += cut is not None and (scores[hits] >= cut).mean() < 0.8
    assert broken <= largest_count(repeats, 0.1)
    assert np.mean(kept) < 0.5  # the promise is kept by choosing, not by keeping everything


def test_the_capital_is_the_product_of_the_factors_and_falls_with_the_threshold() -> None:
    rng = np.random.default_rng(3)
    labels = WeightedLabels(rng.normal(size=40), rng.random(40) < 0.4, rng.uniform(1, 9, 40), 9.0, rng.normal(size=5))
    grid, recall = np.sort(rng.normal(size=30)), 0.7
    worst = recall * (9.0 + 5)
    for threshold, value in zip(grid, log_capital(labels, grid, recall), strict=True):
        paths = []
        for bet in BETS:
            constant = (labels.certain >= threshold).sum() - recall * 5
            x = constant + labels.hits * labels.weights * ((labels.scores >= threshold) - recall)
            paths.append(np.cumprod(1 + bet / worst * x))
        assert value == pytest.approx(max(0.0, float(np.log(np.mean(paths, axis=0)).max())), abs=1e-9)
    assert (np.diff(log_capital(labels, grid, recall)) <= 1e-9).all()


def test_the_capital_of_a_broken_promise_does_not_grow_on_average() -> None:
    scores, hits = population(2, 500)
    cut = np.quantile(scores[hits], 0.25)  # recall 0.75, and 0.8 is promised
    draws = draw(np.ones(500), 200_000, 0, uniform=1.0)
    x = hits[draws.rows] * draws.weights * ((scores[draws.rows] >= cut) - 0.8)
    exact = float(((scores[hits] >= cut) - 0.8).sum())
    assert exact < 0
    assert x.mean() == pytest.approx(exact, abs=5 * x.std() / np.sqrt(len(x)))


def test_a_bet_is_planned_smaller_where_more_hits_may_be_lost() -> None:
    q, kept = np.full(1000, 1e-3), np.arange(1000) >= 900
    none, few, many = (planned_bet(q, np.where(kept, 0.0, chance), kept, 100, 0.9) for chance in (0.0, 0.004, 0.009))
    assert none == 0.99
    assert none > few > many
    # Kelly's fraction: a gain of c for each draw, but a loss of 0.9 / q - c for a hit below the threshold.
    constant, worst, lost = 0.1 * 100, 0.9 * (1000 + 100), 0.004 * 0.9
    gain, loss = constant / worst, (0.9 * 1000 - constant) / worst
    assert few == pytest.approx((1 - lost) / loss - lost / gain, abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_weights_are_the_reciprocals_of_the_probabilities(seed: int, uniform: float) -> None:
    g = np.random.default_rng(seed).random(50) ** 4
    draws = draw(g, 4000, seed, uniform)
    q = uniform / 50 + (1 - uniform) * g / g.sum()
    assert draws.weights == pytest.approx(1 / q[draws.rows])
    assert draws.largest_weight == pytest.approx(1 / q.min())
    assert draw(g, 100, seed, uniform).rows.tolist() == draws.rows[:100].tolist()
    counts = np.bincount(draws.rows, minlength=50)
    assert (np.abs(counts - 4000 * q) <= 7 * np.sqrt(4000 * q) + 7).all()


def test_a_promise_is_shared_out_over_stages_and_refused_with_the_missing_labels() -> None:
    promise = Promise(0.9, 0.95, 2)
    assert promise.stage_recall == pytest.approx(0.95)
    assert promise.stage_delta == pytest.approx(0.025)
    assert promise.fewest_hits == 72
    with pytest.raises(InputError, match="61 labels of hits are missing"):
        promise.refuse_too_few(11, what="are labelled", where="recall", remedy="Label more")
    promise.refuse_too_few(72, what="are labelled", where="recall", remedy="Label more")
    with pytest.raises(ValueError, match="between 0 and 1"):
        Promise(1.0, 0.95, 1)


def test_two_stages_together_keep_the_promise() -> None:
    rng = np.random.default_rng(5)
    hits = rng.random(3000) < 0.1
    scores = np.stack([rng.normal(2.0 * hits, 1.0), rng.normal(2.5 * hits, 1.0)], axis=1)
    broken, repeats = 0, 300
    for seed in range(repeats):
        rows = np.random.default_rng(seed).integers(0, 3000, 1500)
        calibration = Calibration(scores[rows], hits[rows], None, 1.0, np.zeros((0, 2)))
        cuts = np.array([stage.threshold for stage in stage_thresholds(calibration, Promise(0.8, 0.9, 2))])
        broken += (scores[hits] >= cuts).all(axis=1).mean() < 0.8
    assert broken <= largest_count(repeats, 0.1)


def test_a_hit_without_an_answer_counts_against_the_promise() -> None:
    scores = np.concatenate([np.arange(40.0), [-np.inf] * 6])
    assert strictest_threshold(scores[:40], 0.9, 0.05) is not None
    assert strictest_threshold(scores, 0.9, 0.05) is None
    passed_on = np.concatenate([np.arange(40.0), [np.inf] * 6])
    assert strictest_threshold(passed_on, 0.9, 0.05) >= strictest_threshold(scores[:40], 0.9, 0.05)


def test_small_shortlists_are_those_computed_by_hand() -> None:
    calibration, hits = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, False, True, True])
    p = selection_p_values(calibration, hits, np.array([0.95, 0.4, 0.05]))
    assert p == pytest.approx([1 / 5, 2 / 5, 3 / 5])
    assert benjamini_hochberg(np.array([0.01, 0.9, 0.02, 0.04]), 0.05).tolist() == [0, 2]
    assert len(benjamini_hochberg(np.array([0.5, 0.9]), 0.05)) == 0


def test_the_false_discovery_rate_of_a_shortlist_is_controlled() -> None:
    rng = np.random.default_rng(7)
    rates, power = [], []
    for _ in range(300):
        hits = rng.random(900) < 0.2
        scores = rng.normal(2.0 * hits, 1.0)
        chosen = shortlist(scores[:600], hits[:600], scores[600:], 0.2)
        rates.append((~hits[600:][chosen]).sum() / max(1, len(chosen)))
        power.append(hits[600:][chosen].sum() / hits[600:].sum())
    assert np.mean(rates) <= 0.2 + 3 * np.std(rates) / np.sqrt(len(rates))
    assert np.mean(power) > 0.3
