"""Controlled risks: exact small cases, MAPIE, a search by hand, and the promise over many repeats."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value, get_r_hat_plus
from scipy.stats import binom

from data.errors import InputError
from surrogates.cascade.risk import (
    ALWAYS,
    ErrorModel,
    allowed,
    answering_rung,
    fewest_labels,
    first_wrong,
    risk_threshold,
)
from surrogates.cascade.risk_calibration import LabelledAnswers, Risk, calibrate, chances, wrong_answers


def test_the_fewest_labels_are_those_with_which_none_may_be_wrong() -> None:
    assert fewest_labels(0.1) == 9  # 1 / (n + 1) <= 0.1
    assert fewest_labels(0.3) == 3
    assert fewest_labels(0.1, 0.95) == 29  # 0.9^29 = 0.0471, 0.9^28 = 0.0523
    for alpha, confidence in ((0.1, None), (0.05, 0.9), (0.25, 0.5), (0.5, 0.875)):
        fewest = fewest_labels(alpha, confidence)
        assert allowed(fewest, alpha, confidence) == 0
        assert allowed(fewest - 1, alpha, confidence) == -1
    assert [allowed(n, 0.3) for n in (9, 10)] == [2, 2]  # 0.3 * 10 is 3, whatever rounding makes of it


def population(rng: np.random.Generator, rows: int) -> LabelledAnswers:
    """Errors of two rungs, whose difficulties say something of them; a few of the first have no answer."""
    hard = rng.lognormal(-0.5, 0.7, (rows, 2)) * np.array([1.0, 0.5])
    error = hard * rng.lognormal(0.0, 0.6, (rows, 2))
    hard[rng.random(rows) < 0.05, 0] = np.nan
    return LabelledAnswers(hard, error, np.zeros(rows, bool), (0, 0, 0))


def risk_of(labels: LabelledAnswers, seed: int, risk: Risk, many: LabelledAnswers) -> float:
    """The share of wrong answers among many other requests."""
    result = calibrate(labels, risk)
    rung = answering_rung(chances(result.errors, many.difficulty), result.threshold)
    return float(wrong_answers(rung, many.error > 1).mean())


def test_the_mean_risk_is_the_promised_one_and_no_more() -> None:
    many, repeats = population(np.random.default_rng(0), 4_000), 200
    risks = [
        risk_of(population(np.random.default_rng(1 + s), 100), s, Risk(0.1, design=0.3), many) for s in range(repeats)
    ]
    error = np.std(risks) / np.sqrt(repeats)
    assert np.mean(risks) <= 0.1 + 4 * error
    # 70 labels set the threshold, whose risk is 7/71; what is lost beside it is that a cheaper answer may be right
    # where one was wrong.
    assert np.mean(risks) >= 0.07


def test_a_risk_with_confidence_is_kept_in_the_promised_share_of_repeats() -> None:
    many, repeats = population(np.random.default_rng(0), 4_000), 150
    risk = Risk(0.1, confidence=0.9, design=0.3)
    risks = np.array([risk_of(population(np.random.default_rng(1 + s), 200), s, risk, many) for s in range(repeats)])
    assert (risks > 0.1).sum() <= binom.ppf(1 - 1e-4, repeats, 0.1)
    assert risks.mean() > 0.04


def test_thresholds_are_those_of_mapie() -> None:
    rng = np.random.default_rng(3)
    wrong_from = np.where(rng.random(90) < 0.5, rng.random(90), np.inf)
    grid = np.sort(wrong_from[np.isfinite(wrong_from)])
    losses = (wrong_from[:, None] < grid).astype(float)
    alpha = 0.15
    _, bound = get_r_hat_plus(losses, grid, "crc", None, None, None)
    assert risk_threshold(wrong_from, alpha) == grid[bound <= alpha].max()
    p = compute_hoeffding_bentkus_p_value(losses.mean(axis=0), len(losses), alpha, binary=True)[:, 0]
    assert risk_threshold(wrong_from, alpha, 0.9) == grid[p <= 0.1].max()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_an_answer_is_or_was_wrong_above_the_first_wrong_threshold_and_never_below(seed: int, rungs: int) -> None:
    rng = np.random.default_rng(seed)
    chance = np.round(rng.random((6, rungs)), 1)
    chance[rng.random((6, rungs)) < 0.2] = np.inf
    wrong = rng.random((6, rungs)) < 0.5
    grid = np.linspace(0, 1.1, 111)
    at = np.stack([wrong_answers(answering_rung(chance, t), wrong) for t in grid], axis=1)
    ever = np.maximum.accumulate(at, axis=1)
    assert (ever == (first_wrong(chance, wrong)[:, None] < grid)).all()


def test_a_threshold_is_finite_where_no_answer_is_wrong() -> None:
    assert risk_threshold(np.full(20, np.inf), 0.1) == ALWAYS
    with pytest.raises(ValueError, match="fewer than 9"):
        risk_threshold(np.full(8, np.inf), 0.1)


def test_an_error_model_is_the_one_that_made_the_errors() -> None:
    rng = np.random.default_rng(0)
    hard = rng.lognormal(size=20_000)
    error = np.exp(-0.4) * hard**1.3 * rng.lognormal(0.0, 0.5, 20_000)
    model = ErrorModel.fit(np.append(hard, np.nan), np.append(error, np.inf))
    assert (model.offset, model.slope, model.scale) == pytest.approx((-0.4, 1.3, 0.5), abs=0.02)
    near = (hard > 0.9) & (hard < 1.1)
    assert model.chance(np.array(1.0)) == pytest.approx((error[near] > 1).mean(), abs=0.03)
    assert model.chance(np.array(np.nan)) == np.inf
    constant = ErrorModel.fit(np.ones(100), error[:100])
    assert constant.slope == 0.0
    misleading = ErrorModel.fit(1 / hard, error)
    assert misleading.slope == 0.0  # a harder request never counts as a safer one


def test_the_labels_that_are_missing_are_counted() -> None:
    few = population(np.random.default_rng(0), 18)
    with pytest.raises(InputError, match="19 fresh labels or more, and there are 18; 1 labels are missing"):
        calibrate(few, Risk(0.1))
    calibrate(population(np.random.default_rng(0), 19), Risk(0.1))
    with pytest.raises(InputError, match=r"confidence of 0\.95"):
        calibrate(population(np.random.default_rng(0), 30), Risk(0.1, confidence=0.95))


def test_a_missing_label_counts_as_a_wrong_answer() -> None:
    labels = population(np.random.default_rng(5), 400)
    lost = np.arange(400) % 3 == 0
    error = np.where(lost[:, None], np.inf, labels.error)
    some = LabelledAnswers(labels.difficulty, error, lost, (0, 0, int(lost.sum())))
    result, full = calibrate(some, Risk(0.2)), calibrate(labels, Risk(0.2))
    assert result.threshold < full.threshold
    assert result.wrong.mean() <= 0.2
