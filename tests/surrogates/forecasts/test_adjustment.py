"""Climates that are put right in free runs, and the statistics of harmonics that this and the loss go by."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx

from data.errors import InputError
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from surrogates.forecasts import adjustment
from surrogates.forecasts.adjustment import SpectralClimate, adjust_climate
from surrogates.forecasts.batches import ForecastBatch
from surrogates.forecasts.facts import ClimateSettings, ForecastConfig, ForecastFacts
from surrogates.forecasts.fit import fit_forecast_surrogate
from surrogates.forecasts.loss import ForecastLoss, ForecastLossSettings
from surrogates.forecasts.model import ForecastScale
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.networks.harmonic_statistics import FAINTEST, coefficient_mask, gain_units
from surrogates.forecasts.networks.harmonics import Harmonics
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.loop import TrainConfig
from surrogates.saved import load_surrogate

ROWS, COLUMNS, TRUNCATION = 8, 16, 4
LATITUDE = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(ROWS)[0]))
GRID = WeatherGrid(tuple(LATITUDE), tuple(np.arange(COLUMNS) * 360 / COLUMNS))
LAYOUT = WeatherLayout(
    GRID,
    (WeatherChannel("temperature", 0.5), WeatherChannel("v_component_of_wind", 0.5)),
    static=("a", "b", "c", "d"),
    step_hours=24.0,
    level_units="1",
    calendar=False,
)
HARMONICS = Harmonics(GRID, TRUNCATION)
STD = np.array([2.0, 3.0])


def fields(random: np.random.Generator, count: int, channels: int = 2) -> np.ndarray:
    """Of every harmonic alike, a root mean square of about 1."""
    coefficients = random.normal(size=(count, *HARMONICS.mask.shape, channels)) * HARMONICS.mask[..., None]
    return np.asarray(HARMONICS.backward(jnp.asarray(coefficients, jnp.float32))) * np.sqrt(4 * np.pi / 25)


def kept(path: Path, runs: list[np.ndarray]) -> WindowStore:
    """A store of some runs."""
    segments = []
    for k, states in enumerate(runs):
        times = np.datetime64("2001-01-01", "ns") + k * np.timedelta64(3000, "D")
        times = times + np.arange(len(states)) * np.timedelta64(24, "h")
        segments.append(Segment.of(LAYOUT.unstack(states.astype(np.float32), ("time",), {"time": times})))
    maps = fields(np.random.default_rng(5), 1, 4)[0]
    static = xr.Dataset(
        {name: (("latitude", "longitude"), maps[..., k]) for k, name in enumerate(LAYOUT.static)},
        {"latitude": list(GRID.latitude), "longitude": list(GRID.longitude)},
    )
    return write_windows(path, segments, LAYOUT, static=static, fingerprint="f" * 64)


def test_units_of_harmonics_are_what_a_step_adds_to_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    size = np.ones((TRUNCATION + 1, TRUNCATION + 1, 2))
    size[2, 3] = [5.0, 0.0]
    runs = []
    for length in (150, 250):
        gains = random.normal(size=(length, *HARMONICS.mask.shape, 2)) * HARMONICS.mask[..., None]
        gains *= size[HARMONICS.orders] * STD
        runs.append(np.asarray(HARMONICS.backward(jnp.asarray(np.cumsum(gains, axis=0), jnp.float32))))
    store = kept(tmp_path / "w", runs)
    units = gain_units(HARMONICS, store, (0, 400), STD)
    # From one run to the next nothing is added. Of 398 gains, and two of each wave, the root varies by 5 % at most.
    exists = coefficient_mask(HARMONICS)[..., 0] > 0
    want = np.maximum(size, 0.0)
    floor = np.sqrt(FAINTEST * (want[exists] ** 2).mean(axis=0))
    np.testing.assert_allclose(units[exists], np.maximum(want[exists], floor), rtol=0.15)
    np.testing.assert_allclose(units[~exists], np.broadcast_to(floor, units[~exists].shape), rtol=0.15)
    assert units[2, 3, 0] == pytest.approx(5.0, rel=0.1)


def test_the_loss_counts_harmonics_in_their_own_units() -> None:
    unit = np.full((TRUNCATION + 1, TRUNCATION + 1, 2), 2.0)
    unit[1, 3] = [0.5, 0.25]
    config = ForecastConfig(
        network=ConvConfig(width=4, blocks=1), truncation=TRUNCATION, loss=ForecastLossSettings(spectral_weight=0.5)
    )
    facts = facts_of(config)
    random = np.random.default_rng(1)
    model = facts.model(np.zeros((1, ROWS, COLUMNS, 2), np.float32), fields(random, 1, 4)[0].astype(np.float32))
    start = fields(random, 3).astype(np.float32) * STD.astype(np.float32)
    none = jnp.zeros(3, jnp.int32)
    answer = np.asarray(nnx.jit(model)(jnp.asarray(start[None, :, None]), none, none))[0]
    # What the forecast is off by is one wave of order 1 and degree 3.
    wrong = np.zeros((3, *HARMONICS.mask.shape, 2), np.float32)
    wrong[:, 1, 3] = [3.0, -1.0]
    truth = answer - np.asarray(HARMONICS.backward(jnp.asarray(wrong))) * STD
    frames = np.stack([start, truth], axis=1).astype(np.float32)
    batch = ForecastBatch(frames, np.zeros(3, np.int32), np.zeros(3, np.int32), np.ones(3, np.float32))
    losses = [
        float(nnx.jit(lambda m, loss=loss: loss(m, batch, jax.random.key(0), jnp.ones(()))[0])(model))
        for loss in (ForecastLoss.of(s, LAYOUT, spectral_unit=unit) for s in (config.loss, ForecastLossSettings()))
    ]
    # Points: the mean square over the sphere is that of the coefficients by its area. A channel has 25 of them.
    assert losses[1] == pytest.approx((3.0**2 + 1.0**2) / 2 / (4 * np.pi), rel=5e-3)
    assert losses[0] - losses[1] == pytest.approx(0.5 * ((3 / 0.5) ** 2 + (1 / 0.25) ** 2) / 50, rel=1e-3)


def facts_of(config: ForecastConfig, low: float = -1e3, high: float = 1e3) -> ForecastFacts:
    return ForecastFacts(
        config,
        LAYOUT,
        ForecastScale(tuple(STD.tolist()), tuple(STD.tolist()), (0,)),
        "f" * 64,
        (low, low),
        (high, high),
    )


@pytest.fixture(scope="module")
def noisy() -> ForecastSurrogate:
    """Nothing that was learned: noise that shakes waves, which fade."""
    config = ForecastConfig(
        network=ConvConfig(width=8, blocks=1), noise_dims=4, truncation=TRUNCATION, damping=0.7, steps=2
    )
    facts = facts_of(config)
    model = facts.model(np.zeros((1, ROWS, COLUMNS, 2), np.float32), fields(np.random.default_rng(5), 1, 4)[0], 3)
    weight = model.networks.decode.norm.map.kernel
    weight[...] = 3 * jax.random.normal(jax.random.key(1), weight.shape)
    return ForecastSurrogate(model, facts)


def free_runs(forecaster: ForecastSurrogate, runs: int, days: int, seed: int) -> list[np.ndarray]:
    start = np.zeros((runs, 1, ROWS, COLUMNS, 2), np.float32)
    times = np.repeat(np.datetime64("2001-01-01", "ns"), runs)
    return list(forecaster.forecast_arrays(start, times, days, seed=seed)[:, 0, 20:])


def test_free_runs_take_the_climate_that_is_asked_for(noisy: ForecastSurrogate, tmp_path: Path) -> None:
    climate_of_runs = free_runs(noisy, 24, 200, 0)
    zonal = np.stack([3 * LATITUDE / 90, np.cos(np.deg2rad(2 * LATITUDE))], axis=-1)[:, None]
    zonal = zonal - np.average(zonal, axis=0, weights=GRID.weights[:, 0])
    other = kept(tmp_path / "other", [1.2 * states + zonal for states in climate_of_runs])
    model = noisy.model
    want = SpectralClimate.of(model, other, (0, len(other)))
    adjusted = adjust_climate(noisy, other, (0, len(other)), 1600, 32, progress=False)
    assert adjusted.restarts == 0

    def off(forecaster: ForecastSurrogate, seed: int) -> tuple[float, float]:
        store = kept(tmp_path / f"runs{seed}", free_runs(forecaster, 24, 200, seed))
        measured = SpectralClimate.of(model, store, (0, len(store)))
        # All but the area means, which are left alone.
        for statistic in (measured, want):
            statistic.energy[0, 0] = statistic.zonal[0] = 0.0
        energy = np.abs(measured.energy.sum(axis=(0, 1)) / want.energy.sum(axis=(0, 1)) - 1).max()
        return float(np.linalg.norm(measured.zonal - want.zonal) / np.linalg.norm(want.zonal)), float(energy)

    before, after = off(noisy, 1), off(adjusted.forecaster, 2)
    assert min(before) > 0.25, before
    assert max(after) < 0.1, after

    adjusted.forecaster.save(tmp_path / "surrogate")
    again = load_surrogate(tmp_path / "surrogate")
    assert isinstance(again, ForecastSurrogate)
    assert again.fingerprint == adjusted.forecaster.fingerprint != noisy.fingerprint
    start, times = np.stack(climate_of_runs[:1])[:, :1], np.array(["2001-01-01"], "datetime64[ns]")
    np.testing.assert_array_equal(
        again.forecast_arrays(start, times, 2), adjusted.forecaster.forecast_arrays(start, times, 2)
    )
    with pytest.raises(InputError, match="its climate is adjusted"):
        fit_forecast_surrogate(other, (0, 1000), None, noisy.facts.config, TrainConfig(), tmp_path / "run", init=again)


def test_an_adjustment_that_was_killed_goes_on_as_if_it_had_not(
    noisy: ForecastSurrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = kept(tmp_path / "w", free_runs(noisy, 4, 60, 0))
    part = (0, len(store))
    whole = adjust_climate(noisy, store, part, 160, 4, tmp_path / "whole", progress=False)
    monkeypatch.setattr(adjustment, "SAVE_EVERY_S", 0.0)
    save, saved = adjustment.save_arrays, []

    def killed(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        saved.append(1)
        if len(saved) == 2:
            raise SystemExit

    monkeypatch.setattr(adjustment, "save_arrays", killed)
    with pytest.raises(SystemExit):
        adjust_climate(noisy, store, part, 160, 4, tmp_path / "killed", progress=False)
    monkeypatch.setattr(adjustment, "save_arrays", save)
    resumed = adjust_climate(noisy, store, part, 160, 4, tmp_path / "killed", progress=False)
    assert resumed.forecaster.fingerprint == whole.forecaster.fingerprint
    assert resumed.seconds > 0
    with pytest.raises(InputError, match="other settings"):
        adjust_climate(noisy, store, part, 240, 4, tmp_path / "killed", progress=False)


def test_runs_that_leave_the_range_begin_anew_and_a_forecaster_that_always_does_is_refused(
    noisy: ForecastSurrogate, tmp_path: Path
) -> None:
    store = kept(tmp_path / "w", free_runs(noisy, 4, 60, 0))
    part = (0, len(store))
    reach = float(np.abs(store.read(np.array([0]), 40)).max())
    tight = noisy.with_facts(low=(-0.5 * reach,) * 2, high=(0.5 * reach,) * 2)
    adjusted = adjust_climate(tight, store, part, 80, 4, progress=False)
    assert 0 < adjusted.restarts < 4 * 80
    assert np.isfinite(np.asarray(adjusted.forecaster.model.growth[...])).all()
    none = noisy.with_facts(low=(1e6, 1e6), high=(1e6 + 1, 1e6 + 1))
    with pytest.raises(InputError, match="leave the climatological range"):
        adjust_climate(none, store, part, 80, 4, progress=False)
    with pytest.raises(InputError, match="5000 runs"):
        adjust_climate(noisy, store, part, 80, 5000, progress=False)


def test_a_training_ends_with_the_adjustment_and_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    store = kept(tmp_path / "w", [np.cumsum(fields(random, 40), axis=0) for _ in range(2)])
    config = ForecastConfig(
        network=ConvConfig(width=4, blocks=1), truncation=TRUNCATION, steps=2,
        loss=ForecastLossSettings(spectral_weight=1.0), climate=ClimateSettings(days=40, runs=4),
    )  # fmt: skip
    recipe = TrainConfig(epochs=1, batch_size=8, checkpoint_every_s=60.0)
    forecaster, result = fit_forecast_surrogate(store, (0, 60), None, config, recipe, tmp_path / "run", progress=False)
    assert forecaster.facts.config == config
    assert np.abs(np.asarray(forecaster.model.shift[...])).max() > 0
    assert (tmp_path / "run" / "adjustment" / "note.json").exists()
    assert np.isfinite(result.history[-1]["train/loss"])
    for settings, words in (
        ({"climate": ClimateSettings(days=10.0)}, r"climate\.days needs"),
        ({"loss": ForecastLossSettings(spectral_weight=1.0)}, "spectral_weight needs"),
    ):
        with pytest.raises(ValueError, match=words):
            ForecastConfig(network=ConvConfig(), **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"climate\.runs"):
        ClimateSettings(runs=0)
