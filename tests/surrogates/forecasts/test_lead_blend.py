"""Blends of a forecast with simpler ones: weights are those of the truth, and saved forecasts are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_weather import store

from data.sphere.window_store import WindowStore
from surrogates.forecasts.blend_fit import _bounded, _weights, first_weights, fit_blend
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.fit import scale_of, usual_states
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.saved import load_surrogate

STEPS = 3


@pytest.fixture(scope="module")
def windows(once: Callable[[str, Callable[[Path], object]], Path]) -> WindowStore:
    return WindowStore.open(once("small-weather", lambda folder: store(folder / "w")) / "w")


def fresh(windows: WindowStore, noise: int = 0) -> ForecastSurrogate:
    """A forecaster that was not trained."""
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1), steps=STEPS, noise_dims=noise)
    usual, hours = usual_states(windows, (0, 60), "mean")
    statistics = windows.statistics_of((0, 60))
    scale = scale_of(windows, (0, 60), usual, hours, config)
    facts = ForecastFacts(config, windows.layout, scale, "f" * 64, statistics.low, statistics.high)
    return ForecastSurrogate(facts.model(usual), facts)


def test_weights_are_those_of_the_truth_at_each_point() -> None:
    random = np.random.default_rng(0)
    members = random.normal(size=(4000, 1, 2, 2, 1, 3))
    at_each = np.array([[[0.6, 0.0, 0.3], [0.1, 0.5, 0.2]], [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])[None, :, :, None]
    truth = (members * at_each).sum(-1) + 0.1 * random.normal(size=members.shape[:-1])
    gram = np.einsum("nkxycm,nkxycl->kxycml", members, members)
    moment = np.einsum("nkxycm,nkxyc->kxycm", members, truth)
    first = np.broadcast_to(np.array([0.5, 0.0, 0.5]), (1, 1, 3))
    np.testing.assert_allclose(_weights(gram, moment, 1e-3, 1e-3, first), at_each, atol=0.01)
    one = _weights(gram, moment, 1e-3, None, first)
    np.testing.assert_allclose(one[0, 0, 0, 0], at_each.mean(axis=(0, 1, 2, 3)), atol=0.01)
    np.testing.assert_allclose(_weights(gram, moment, 1e9, None, first)[0, 1, 1, 0], [0.5, 0.0, 0.5], atol=1e-3)


def test_weights_are_not_negative_and_leave_the_rest_to_climatology() -> None:
    # Without bounds the solution is (2, -1): the best one within them is (1, 0).
    np.testing.assert_allclose(_bounded(np.eye(2), np.array([2.0, -1.0])), [1.0, 0.0], atol=1e-6)
    # On the bound of the sum, the nearest point to (0.9, 0.5) is (0.7, 0.3).
    np.testing.assert_allclose(_bounded(np.eye(2), np.array([0.9, 0.5])), [0.7, 0.3], atol=1e-6)
    np.testing.assert_allclose(_bounded(np.eye(2), np.array([0.2, 0.5])), [0.2, 0.5], atol=1e-6)


def test_the_first_weight_of_a_network_falls_as_memory_does_beyond_its_training() -> None:
    weights = first_weights(np.array([[0.8], [0.6], [0.3], [0.0]]), [2], True)[:, 0]
    np.testing.assert_allclose(weights, np.array([[0.5, 0, 0.5], [0.5, 0, 0.5], [0.25, 0, 0.75], [0, 0, 1]]))


def test_an_untrained_network_does_no_harm_and_its_blend_is_saved(windows: WindowStore, tmp_path: Path) -> None:
    alone = fresh(windows)
    blend = fit_blend(alone, windows, (0, 60), (60, 80))
    assert not isinstance(blend, str)
    both = alone.with_blend(blend)
    starts = windows.starts(1 + STEPS, (80, 120))
    frames, times = windows.read(starts, 1 + STEPS), windows.times[starts]
    answers = [f.forecast_arrays(frames[:, :1], times, STEPS)[:, 0] for f in (alone, both)]
    errors = [float(((answer - frames[:, 1:])[..., 0] ** 2).mean()) for answer in answers]
    assert errors[1] < 0.3 * errors[0]
    both.save(tmp_path / "surrogate")
    again = load_surrogate(tmp_path / "surrogate")
    assert again.fingerprint == both.fingerprint != alone.fingerprint
    np.testing.assert_allclose(again.forecast_arrays(frames[:, :1], times, STEPS)[:, 0], answers[1], rtol=1e-5)
    # In chunks it is the same; later leads, and long runs, are the network's own.
    parts = list(both.chunks(frames[:, :1], times, STEPS, chunk=2))
    np.testing.assert_allclose(np.concatenate(parts, axis=2)[:, 0], answers[1], rtol=1e-5)
    long = both.forecast_arrays(frames[:, :1], times, STEPS + 1)[:, 0]
    raw = np.concatenate(list(both.chunks(frames[:, :1], times, STEPS + 1, blended=False)), axis=2)[:, 0]
    np.testing.assert_allclose(long[:, -1], raw[:, -1], rtol=1e-5)
    np.testing.assert_allclose(raw[:, :STEPS], answers[0], rtol=1e-5)


def test_an_ensemble_keeps_the_blend_of_its_mean_and_spreads_by_its_error(windows: WindowStore) -> None:
    alone = fresh(windows, noise=4)
    blend = fit_blend(alone, windows, (0, 60), (60, 80))
    assert not isinstance(blend, str)
    both = alone.with_blend(blend)
    past, times = windows.read(np.array([100]), 1), windows.times[[100]]
    raw = alone.forecast_arrays(past, times, STEPS, members=5)
    said = both.forecast_arrays(past, times, STEPS, members=5)
    np.testing.assert_allclose(said.mean(axis=1), blend.apply(past, times, raw).mean(axis=1), rtol=1e-5)
    ratio = said[0, :, :, ..., 0].std(axis=0) / raw[0, :, :, ..., 0].std(axis=0)
    np.testing.assert_allclose(ratio, np.broadcast_to(blend.spread[:, None, None, 0], ratio.shape), rtol=0.02)


def test_too_few_windows_make_no_blend_and_say_so(windows: WindowStore) -> None:
    assert "windows of 4 states" in str(fit_blend(fresh(windows), windows, (0, 60), (60, 64)))
