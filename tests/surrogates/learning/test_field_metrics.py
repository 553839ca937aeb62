"""Metrics of fields against hand-computed cases, loops over the published formulas, and exponax's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from surrogates.learning import field_metrics as metrics


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.normal(size=(3, 4, 2, 6, 8)) + 0.3
    return truth + 0.1 * random.normal(size=truth.shape), truth


def grid(n: int) -> np.ndarray:
    return 2 * np.pi * np.arange(n) / n


ALL = (
    metrics.relative_l2,
    metrics.energy_error,
    lambda p, t: metrics.gmean_nrmse(p, t, 4),
    lambda p, t: metrics.nrmse_per_step(p, t).mean(),
    lambda p, t: metrics.relative_l2_per_step(p, t).mean(),
)


@pytest.mark.parametrize("metric", ALL)
def test_no_error_is_zero_and_one_bad_value_is_infinite(metric, pair):
    _, truth = pair
    assert metric(truth, truth) == pytest.approx(0.0, abs=1e-15)
    for bad in (np.nan, np.inf, -np.inf):
        broken = truth.copy()
        broken[1, 2, 0, 3, 4] = bad
        assert metric(broken, truth) == math.inf
        assert metrics.non_finite(broken) == 1


def test_a_bad_value_spoils_its_own_step_only(pair):
    prediction, truth = pair
    broken = prediction.copy()
    broken[0, 2, 1, 0, 0] = np.nan
    for per_step in (metrics.nrmse_per_step, metrics.relative_l2_per_step):
        whole, spoilt = per_step(prediction, truth), per_step(broken, truth)
        assert spoilt[2] == math.inf
        assert np.array_equal(np.delete(spoilt, 2), np.delete(whole, 2))
    assert np.isfinite(metrics.relative_l2_each(broken, truth)).tolist() == [False, True, True]


def test_relative_l2_by_hand():
    # Norms over a whole sample: (3, 4) against (0, 4) is 3/4, and (0, 2) against (0, 1) is 1.
    truth = np.array([[0.0, 4.0], [0.0, 1.0]]).reshape(2, 1, 1, 2)
    prediction = np.array([[3.0, 4.0], [0.0, 2.0]]).reshape(2, 1, 1, 2)
    assert metrics.relative_l2_each(prediction, truth) == pytest.approx([0.75, 1.0])
    assert metrics.relative_l2(prediction, truth) == pytest.approx(0.875)


def test_norms_and_means_are_taken_in_the_published_order():
    # One sample, two times, two channels, constant in space: truth 1, 2 | 4, 8; errors 1, 1 | 2, 4.
    truth = np.array([[[1.0, 2.0], [4.0, 8.0]]])[..., None] * np.ones(3)
    prediction = truth + np.array([[[1.0, 1.0], [2.0, 4.0]]])[..., None]
    assert metrics.relative_l2(prediction, truth) == pytest.approx(math.sqrt(22 / 85))
    assert metrics.nrmse_per_step(prediction, truth) == pytest.approx([1.5, 1.0])
    assert metrics.relative_l2_per_step(prediction, truth) == pytest.approx([math.sqrt(2 / 5), math.sqrt(20 / 80)])
    assert metrics.gmean_nrmse(prediction, truth, 2) == pytest.approx(math.sqrt(1.5))
    assert metrics.gmean_nrmse(prediction, truth, 1) == pytest.approx(1.5)
    # Energies: (4 + 9)/2 against 5/2, (36 + 144)/2 against 80/2.
    assert metrics.energy_error(prediction, truth) == pytest.approx((8 / 5 + 100 / 80) / 2)


def test_nrmse_is_that_of_exponax(pair):
    jax = pytest.importorskip("jax")
    ex = pytest.importorskip("exponax")
    # exponax takes every side to have as many points.
    prediction, truth = (a[..., :6] for a in pair)
    expected = [
        float(ex.metrics.mean_metric(ex.metrics.nRMSE, jax.numpy.asarray(p), jax.numpy.asarray(t)))
        for p, t in zip(prediction.swapaxes(0, 1), truth.swapaxes(0, 1), strict=True)
    ]
    assert metrics.nrmse_per_step(prediction, truth) == pytest.approx(expected, rel=1e-5)


def test_gmean_is_over_the_first_steps_after_the_mean_over_samples():
    random = np.random.default_rng(1)
    truth = random.normal(size=(3, 120, 1, 5))
    prediction = truth * (1 + 0.01 * np.arange(1, 121)[None, :, None, None] * np.array([1, 2, 3])[:, None, None, None])
    # The ratio at step n is n/100 times the sample's factor; their mean is n/50.
    logs = np.log(np.arange(1, 101) / 50)
    assert metrics.gmean_nrmse(prediction, truth) == pytest.approx(math.exp(logs.mean()))
    with pytest.raises(InputError, match="over 100 steps"):
        metrics.gmean_nrmse(prediction[:, :99], truth[:, :99])


def test_drift_of_what_is_conserved():
    x = grid(32)
    initial = np.sin(x).reshape(1, 1, -1) * np.array([1.0, 2.0]).reshape(2, 1, 1)
    moving = np.stack([[[np.sin(x + s)], [np.sin(x + 2 * s)]] for s in (1, 2)])[:, :, None, 0]
    moving = moving * np.array([1.0, 2.0]).reshape(2, 1, 1, 1)
    assert metrics.drift(moving, initial, "mean") == pytest.approx(0.0, abs=1e-12)
    assert metrics.drift(moving, initial, "energy") == pytest.approx(0.0, abs=1e-12)
    growing = initial[:, None] * np.array([1.1, 0.8]).reshape(1, 2, 1, 1)
    assert metrics.drift(growing, initial, "energy") == pytest.approx(1 - 0.8**2)
    shifted = initial[:, None] + np.array([0.0, 0.5]).reshape(1, 2, 1, 1)
    # Root mean squares of the two samples: 1/sqrt 2 and 2/sqrt 2.
    assert metrics.drift(shifted, initial, "mean") == pytest.approx(0.5 * math.sqrt(2) * (1 + 0.5) / 2)
    shifted[0, 0] = np.nan
    assert metrics.drift(shifted, initial, "mean") == math.inf


def test_rank_correlation_by_hand():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.rank_correlation(np.exp(truth), truth) == (pytest.approx(1.0), pytest.approx(1.0))
    assert metrics.rank_correlation(-truth, truth) == (pytest.approx(-1.0), pytest.approx(-1.0))
    # One swap of neighbours: 1 - 6 * 2 / (4 * 15), and 5 pairs of 6 in order.
    swapped = metrics.rank_correlation(np.array([2.0, 1.0, 3.0, 4.0]), truth)
    assert swapped == (pytest.approx(0.8), pytest.approx(4 / 6))
    assert metrics.rank_correlation(np.array([1.0, 2.0, 3.0, np.nan]), truth) == (0.0, 0.0)
    assert metrics.rank_correlation(np.ones(4), truth) == (0.0, 0.0)
    with pytest.raises(InputError, match="cannot be ranked"):
        metrics.rank_correlation(truth, np.ones(4))


def test_bad_input_is_named():
    good = np.ones((1, 1, 1, 4))
    with pytest.raises(InputError, match=r"\(1, 1, 1, 5\)"):
        metrics.checked_pair(np.ones((1, 1, 1, 5)), good)
    with pytest.raises(InputError, match="truth is empty or holds values that are not finite"):
        metrics.relative_l2(good, np.full_like(good, np.nan))
    with pytest.raises(InputError, match="sample, time, channel"):
        metrics.checked_pair(np.ones((2, 4)), np.ones((2, 4)))


def test_nothing_to_predict_is_no_error_if_nothing_is_predicted():
    zero = np.zeros((1, 1, 1, 4))
    assert metrics.relative_l2(zero, zero) == 0.0
    assert metrics.relative_l2(zero + 1e-3, zero) == math.inf


def test_sums_that_overflow_are_infinite_and_not_nan():
    huge = np.full((1, 1, 1, 4), 1e200)
    assert metrics.relative_l2(np.full_like(huge, np.inf), huge) == math.inf
    assert metrics.relative_l2(-huge, huge) == math.inf


@given(st.integers(0, 2**31), st.floats(0.01, 100), st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_relative_metrics_do_not_depend_on_units_and_stream_over_samples(seed, scale, cut):
    random = np.random.default_rng(seed)
    truth, prediction = random.normal(size=(2, 3, 2, 2, 4))
    for metric in (metrics.relative_l2, metrics.energy_error):
        whole = metric(prediction, truth)
        assert metric(scale * prediction, scale * truth) == pytest.approx(whole)
        parts = cut * metric(prediction[:cut], truth[:cut]) + (3 - cut) * metric(prediction[cut:], truth[cut:])
        assert parts / 3 == pytest.approx(whole)
