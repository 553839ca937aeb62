"""Forecasters that stand on a linear step: what it fits, that networks correct it, and what they save and refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_weather import COLUMNS, LAYOUT, ROWS, store

from data.errors import InputError
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from surrogates.forecasts.calibration import forecast_errors
from surrogates.forecasts.facts import ForecastConfig
from surrogates.forecasts.fit import fit_forecast_surrogate, usual_states
from surrogates.forecasts.linear_step import (
    Anomalies,
    LinearStep,
    LinearStepFacts,
    LinearStepModule,
    fit_linear_step,
    left_over,
)
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.sun import clock, year_phase
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.forecasts.task import ForecastTask
from surrogates.learning.loop import TrainConfig
from surrogates.learning.rung import FittedRung
from surrogates.saved import load_surrogate

VALUES = ROWS * COLUMNS * 2
DATED = replace(LAYOUT, calendar=True)
CONFIG = ForecastConfig(network=ConvConfig(width=8, blocks=1), steps=3)
RECIPE = TrainConfig(epochs=1, batch_size=16, checkpoint_every_s=None, mlflow=False)


def written(path: Path, anomalies: np.ndarray, *, dated: bool = False) -> WindowStore:
    """A record of these anomalies (time, value) about 300."""
    layout = DATED if dated else LAYOUT
    times = np.datetime64("2001-01-01", "ns") + np.arange(len(anomalies)) * np.timedelta64(24, "h")
    states = (300 + anomalies).reshape(-1, ROWS, COLUMNS, 2).astype(np.float32)
    record = Segment.of(layout.unstack(states, ("time",), {"time": times}))
    return write_windows(path, [record], layout, fingerprint="f" * 64)


def of(store: WindowStore, *, seasons: bool = False) -> Anomalies:
    part = (0, len(store))
    return Anomalies(store, part, *usual_states(store, part, "mean"), seasons)


def test_damped_persistence_has_the_memory_and_the_annual_cycle_of_red_noise(tmp_path: Path) -> None:
    random, share = np.random.default_rng(0), np.linspace(0.2, 0.9, VALUES)
    days = np.arange(1100)
    times = np.datetime64("2001-01-01", "s") + days * np.timedelta64(86_400, "s")
    phase = np.asarray(year_phase(jnp.asarray(clock(times)[0])))
    noise = np.zeros((1100, VALUES))
    for t in range(1, 1100):
        noise[t] = share * noise[t - 1] + random.normal(size=VALUES)
    cycle = phase @ np.array([[3.0], [-2.0]]) * np.ones(VALUES)
    anomalies = of(written(tmp_path / "w", noise + cycle, dated=True), seasons=True)
    step = fit_linear_step("damped_persistence", anomalies, 1)
    # The standard error of an estimated share s is sqrt((1 - s^2) / n).
    assert np.abs(step.kept - share).max() < 4 * np.sqrt(1 / 1100)
    # Iterated without noise it ends in the annual cycle: the climatology.
    past = np.zeros((1, 1, VALUES))
    for day in range(1, 1100):
        past = step.apply(past, phase[[day]])[:, None]
    assert (np.abs(past[0, 0] - cycle[1099]) < 4 * np.sqrt(2 / 1100) / (1 - share)).all()
    (size, _) = left_over(step, anomalies, 1, 2)
    assert size == pytest.approx(1.0, rel=0.03)


def test_the_linear_model_finds_the_step_of_a_vector_autoregression(tmp_path: Path) -> None:
    """Eight patterns that turn into each other in a way that depends on two states, and noise."""
    random = np.random.default_rng(1)
    patterns = np.linalg.qr(random.normal(size=(VALUES, 8)))[0]
    turn = np.linalg.qr(random.normal(size=(8, 8)))[0]
    c = np.zeros((800, 8))
    for t in range(2, 800):
        c[t] = 0.3 * turn @ c[t - 1] + 0.6 * turn.T @ c[t - 2] + random.normal(size=8)
    anomalies = of(written(tmp_path / "w", 10 * c @ patterns.T))
    two, one, damped = (
        left_over(fit_linear_step(name, anomalies, past), anomalies, past, 2)[0]
        for name, past in (("linear", 2), ("linear", 1), ("damped_persistence", 1))
    )
    noise = 10 * np.sqrt(8 / VALUES)
    assert two == pytest.approx(noise, rel=0.1)
    assert two < 0.9 * one
    assert one < damped
    # The module in the network computes the same.
    step = fit_linear_step("linear", anomalies, 2)
    module = LinearStepModule(step.facts, (ROWS, COLUMNS, 2), 2)
    module.take(step)
    past = random.normal(size=(3, 2, VALUES)) * 10
    phase = random.normal(size=(3, 2))
    states = [jnp.asarray(past[:, k].reshape(3, ROWS, COLUMNS, 2), jnp.float32) for k in range(2)]
    np.testing.assert_allclose(
        np.asarray(module(states, jnp.asarray(phase, jnp.float32))).reshape(3, -1), step.apply(past, phase), atol=1e-3
    )


def test_white_noise_has_no_pattern_to_follow(tmp_path: Path) -> None:
    """Cross-validation leaves the linear model out, or almost: what it adds is far below the noise."""
    anomalies = of(written(tmp_path / "w", np.random.default_rng(2).normal(size=(300, VALUES))))
    step = fit_linear_step("linear", anomalies, 2)
    added = step.apply(np.ones((1, 2, VALUES)), np.zeros((1, 2))) if step.facts.patterns else np.zeros(1)
    assert np.abs(added).max() < 0.2


def test_a_forecaster_on_a_linear_step_begins_from_it_and_saves_it(tmp_path: Path) -> None:
    windows = store(tmp_path / "w")
    forecaster, _ = fit_forecast_surrogate(
        windows, (0, 60), None, CONFIG, RECIPE, tmp_path / "on", on="linear", progress=False
    )
    error = np.sqrt((forecast_errors(forecaster, windows, (100, 120), 3) ** 2).mean())
    states = windows.read(windows.starts(4, (100, 120)), 4)
    # A travelling wave is linear in its patterns, and one epoch of a network is no training.
    assert error < 0.3 * np.sqrt(((states[:, 1:] - states[:, :1]) ** 2).mean())
    assert forecaster.facts.first == LinearStepFacts("linear", forecaster.facts.first.patterns)  # type: ignore[union-attr]
    assert forecaster.spec.attrs["on"] == "linear"
    forecaster.save(tmp_path / "s")
    again = load_surrogate(tmp_path / "s")
    assert isinstance(again, ForecastSurrogate)
    assert again.fingerprint == forecaster.fingerprint
    past, times = windows.read(np.array([100]), 1), windows.times[[100]]
    np.testing.assert_array_equal(again.forecast_arrays(past, times, 3), forecaster.forecast_arrays(past, times, 3))
    # The step is part of the fingerprint.
    assert forecaster.model.first is not None
    forecaster.model.first.kept[...] *= 0.5
    assert ForecastSurrogate(forecaster.model, forecaster.facts).fingerprint != again.fingerprint
    # A fine-tuned forecaster stands on the same step.
    tuned, _ = fit_forecast_surrogate(
        windows, (0, 60), None, CONFIG, RECIPE, tmp_path / "t", init=again, progress=False
    )
    assert tuned.facts.first == again.facts.first
    assert again.model.first is not None
    assert tuned.model.first is not None
    np.testing.assert_array_equal(tuned.model.first.kept[...], again.model.first.kept[...])


def test_other_settings_of_where_a_step_begins_are_refused(tmp_path: Path) -> None:
    windows = store(tmp_path / "w", records=2)
    for change, message in (
        ({"damping": 0.9}, "damping of its own"),
        ({"usual": "day"}, "usual states of the training"),
    ):
        config = replace(CONFIG, **change)
        with pytest.raises(InputError, match=message):
            fit_forecast_surrogate(windows, (0, 40), None, config, RECIPE, tmp_path, on="linear", progress=False)
    with pytest.raises(ValueError, match="name must be one of"):
        LinearStepFacts("cubic")
    assert isinstance(fit_linear_step("linear", of(windows), 1), LinearStep)


def test_the_key_on_names_the_step_and_a_resumed_run_needs_the_same() -> None:
    settings = {
        "data": {"file": "x"}, "train": {}, "tune": {"surrogate": None},
        "model": {"kind": "forecasts", "network": {"architecture": "conv"}},
    }  # fmt: skip
    assert ForecastTask.of(settings).on is None
    assert ForecastTask.of(settings, FittedRung("linear")).on == "linear"
    unused = ForecastTask.unused_in_training({**settings, "on": "damped_persistence", "baseline": None})
    assert unused["rung"] == "damped_persistence is fitted to the training samples"
    tuned = {**settings, "tune": {"surrogate": "runs/f"}, "on": "linear", "baseline": None}
    assert "stood on before" in ForecastTask.unused_in_training(tuned)["on"]
