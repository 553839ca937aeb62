"""Conformal intervals hold as often as theory says, for any predictor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.plain import from_plain, to_plain
from surrogates.learning.conformal import (
    Conformal,
    conformal_factor,
    conformal_quantile,
    coverage,
    coverage_band,
    error_floor,
    fewest_points,
)


@given(st.integers(9, 60), st.floats(0.1, 0.4))
def test_the_quantile_is_the_order_statistic_of_the_theorem(n: int, alpha: float) -> None:
    scores = np.random.default_rng(n).exponential(size=n)
    value = conformal_quantile(scores, alpha)
    rank = int((scores <= value).sum())
    assert rank == int(np.ceil((n + 1) * (1 - alpha)))


def test_too_few_points_are_refused() -> None:
    with pytest.raises(InputError, match="8 calibration points"):
        conformal_quantile(np.ones(8), 0.1)
    assert conformal_quantile(np.arange(9.0), 0.1) == 8.0


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.32])
def test_the_fewest_points_are_just_enough(alpha: float) -> None:
    enough = fewest_points(alpha)
    conformal_quantile(np.ones(enough), alpha)
    with pytest.raises(InputError, match=f"at least {enough}"):
        conformal_quantile(np.ones(enough - 1), alpha)


@pytest.mark.parametrize("shared", [0.0, 1.0, 5.0])
def test_coverage_is_at_least_nominal_on_average_and_within_its_band(shared: float) -> None:
    """A biased predictor with a meaningless spread, calibrated 400 times on 39 points."""
    random = np.random.default_rng(0)
    coverages = []
    for _ in range(400):
        truth = random.normal(size=39 + 50)
        mean = truth + shared + random.standard_t(3, size=len(truth))
        std = random.gamma(2.0, 0.5, size=len(truth))
        conformal = Conformal.fit(truth[:39], mean[:39], std[:39], alpha=0.1)
        low, high = conformal.interval(mean[39:], std[39:])
        coverages.append(coverage(truth[39:], low, high))
    # Exact for continuous scores: 0.9 <= E[coverage] <= 0.9 + 1/40; the floor, fitted on the same points, and
    # the Monte Carlo error of 400 runs add less than 0.01.
    assert 0.89 < np.mean(coverages) < 0.935
    low_band, high_band = coverage_band(39, 50, 0.1)
    inside = np.mean([low_band <= value <= high_band for value in coverages])
    assert inside > 0.93


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_intervals_scale_with_the_unit(scale: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, mean, std = random.normal(size=30), random.normal(size=30), random.gamma(2.0, size=30)
    one, other = Conformal.fit(truth, mean, std), Conformal.fit(scale * truth, scale * mean, scale * std)
    assert np.allclose(scale * np.array(one.interval(mean, std)), other.interval(scale * mean, scale * std))


def test_json_round_trip_and_missing_labels() -> None:
    truth = np.array([*np.linspace(0, 1, 12), np.nan])
    conformal = Conformal.fit(truth, np.zeros(13), np.ones(13))
    assert conformal.n == 12
    assert from_plain(Conformal, to_plain(conformal)) == conformal


def test_a_field_of_one_point_is_calibrated_like_a_number() -> None:
    rng = np.random.default_rng(5)
    truth, mean, std = rng.normal(size=(3, 50))
    fields = ([np.array([v]) for v in values] for values in (truth, mean, np.abs(std)))
    assert Conformal.fit_fields(*fields) == Conformal.fit(truth, mean, np.abs(std))


@given(st.integers(10, 60), st.integers(1, 30), st.floats(0.1, 0.4))
def test_a_factor_of_fields_holds_the_shares_that_it_promises(n: int, points: int, alpha: float) -> None:
    ratios = np.random.default_rng(n + 100 * points).exponential(size=(n, points))
    for factor in (conformal_factor(ratios, alpha), conformal_factor(ratios, alpha, np.full(points, 1 / points))):
        coverage = (ratios <= factor).mean(axis=1)
        # The interpolated quantile of few points may lie up to one point below the share.
        assert (coverage >= 1 - alpha - 1 / points).sum() >= np.ceil((n + 1) * (1 - alpha)) - 1e-9
    assert conformal_factor(list(ratios), alpha) == conformal_factor(ratios, alpha)


def test_weights_say_how_much_each_point_of_a_field_counts() -> None:
    # The second point has almost all of the area, so that it alone decides, however large the others are.
    ratios = np.stack([np.full(20, 50.0), np.linspace(0.1, 2.0, 20), np.full(20, 90.0)], axis=1)
    assert conformal_factor(ratios, 0.1, np.array([0.04, 0.92, 0.04])) == conformal_quantile(ratios[:, 1], 0.1)


def test_the_floor_is_the_typical_error_and_never_zero() -> None:
    assert error_floor(np.array([1.0, 2.0, 9.0]), 5.0) == 2.0
    assert error_floor(np.zeros(3), 5.0) == 5e-9
    assert error_floor(np.zeros(0), 0.0) > 0
