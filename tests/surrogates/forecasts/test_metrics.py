"""Scores with known answers, and the same as the package `scores` gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scores.continuous
import scores.probability
import xarray as xr
from small_weather import COLUMNS, LAYOUT, ROWS, store

from data.sphere.statistics import Climatology
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.metrics import EnsembleScores, ForecastScores, region_weights, zonal_spectrum
from surrogates.forecasts.references import (
    ClimatologyForecast,
    LinearInverseModel,
    Persistence,
    leads,
)
from surrogates.forecasts.seeps import DRY, PrecipitationClimate, SeepsScores, climates, seeps

GRID = WeatherGrid(tuple(np.linspace(-90, 90, 19)), tuple(np.arange(24) * 15.0))
DIMS = ("time", "lead", "latitude", "longitude", "channel")


def fields(seed: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2, *GRID.shape, 3))


def test_errors_are_those_of_an_independent_package() -> None:
    forecast, truth, usual = fields(0), fields(1), fields(2)
    sums = ForecastScores(GRID, 2, 3)
    # In two batches: what is summed does not depend on it.
    sums.add(forecast[:2], truth[:2], usual[:2])
    sums.add(forecast[2:], truth[2:], usual[2:])
    ours = sums.scores()
    said, came = (xr.DataArray(a, dims=DIMS) for a in (forecast, truth))
    weights = xr.DataArray(GRID.weights, dims=DIMS[2:4])
    keep = {"preserve_dims": ["lead", "channel"], "weights": weights}
    for name, theirs in (
        ("rmse", scores.continuous.rmse(said, came, **keep)),
        ("mae", scores.continuous.mae(said, came, **keep)),
        ("bias", scores.continuous.additive_bias(said, came, **keep)),
    ):
        np.testing.assert_allclose(ours[name][0], theirs.transpose("lead", "channel").values, rtol=1e-6, atol=1e-9)
    regions = region_weights(GRID)
    assert sums.regions == tuple(regions)
    at = sums.regions.index("tropics")
    tropics = weights.where(np.abs(np.array(GRID.latitude))[:, None] <= 20, 0.0)
    theirs = scores.continuous.rmse(said, came, preserve_dims=["lead", "channel"], weights=tropics)
    np.testing.assert_allclose(ours["rmse"][at], theirs.transpose("lead", "channel").values, rtol=1e-6)


def test_crps_is_that_of_an_independent_package() -> None:
    members = np.stack([fields(k) for k in range(5)], axis=1)
    truth = fields(9)
    sums = EnsembleScores(GRID, 5)
    sums.add(members, truth)
    theirs = scores.probability.crps_for_ensemble(
        xr.DataArray(members, dims=("time", "number", *DIMS[1:])), xr.DataArray(truth, dims=DIMS), "number",
        method="fair", preserve_dims=["lead", "channel"], weights=xr.DataArray(GRID.weights, dims=DIMS[2:4]),
    )  # fmt: skip
    np.testing.assert_allclose(sums.scores()["crps"][0], theirs.transpose("lead", "channel").values, rtol=1e-6)


def test_an_ensemble_from_the_distribution_of_the_truth_is_as_uncertain_as_it_says() -> None:
    random = np.random.default_rng(0)
    sums = EnsembleScores(GRID, 4)
    for _ in range(10):
        centre = random.normal(size=(4, 1, 1, *GRID.shape, 1)) * 3
        sums.add(
            centre + random.normal(size=(4, 4, 1, *GRID.shape, 1)),
            centre[:, 0] + random.normal(size=(4, 1, *GRID.shape, 1)),
        )
    assert sums.scores()["spread_skill"][0, 0, 0] == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(sums.rank_histogram()[0, :, 0], 0.2, atol=0.015)


def test_ties_are_shared_among_the_ranks_that_a_truth_may_have() -> None:
    """Rain that is 0 most of the time: members and truth are exchangeable, so that the histogram is flat."""
    random = np.random.default_rng(0)
    sums = EnsembleScores(GRID, 8)
    drawn = np.where(random.random((8, 9, 1, *GRID.shape, 1)) < 0.9, 0.0, random.random((8, 9, 1, *GRID.shape, 1)))
    sums.add(drawn[:, 1:], drawn[:, 0])
    np.testing.assert_allclose(sums.rank_histogram()[0, :, 0], 1 / 9, atol=0.01)
    # All are alike: each rank has the same share, exactly.
    flat = EnsembleScores(GRID, 3)
    flat.add(np.zeros((2, 3, 1, *GRID.shape, 1)), np.zeros((2, 1, *GRID.shape, 1)))
    np.testing.assert_allclose(flat.rank_histogram()[0, :, 0], 0.25, rtol=1e-12)


def test_anomaly_correlation_of_known_anomalies() -> None:
    usual = fields(0)
    wave = fields(1)
    sums = ForecastScores(GRID, 2, 3)
    sums.add(usual + 0.5 * wave, usual + wave, usual)
    np.testing.assert_allclose(sums.scores()["acc"], 1.0, rtol=1e-12)
    opposite = ForecastScores(GRID, 2, 3)
    opposite.add(usual - wave, usual + wave, usual)
    np.testing.assert_allclose(opposite.scores()["acc"], -1.0, rtol=1e-12)
    nothing = ForecastScores(GRID, 2, 3)
    nothing.add(usual, usual + wave, usual)
    assert (nothing.scores()["acc"] == 0).all()
    for weights in region_weights(GRID).values():
        assert weights.sum() == pytest.approx(1.0)


def test_a_wave_has_its_energy_at_its_wavenumber_and_all_of_it() -> None:
    longitude = np.deg2rad(np.array(GRID.longitude))
    wave = 3 * np.cos(4 * longitude + 0.3) + 2.0
    spectrum = zonal_spectrum(np.broadcast_to(wave[None, :, None], (*GRID.shape, 1)), GRID)[:, 0]
    assert spectrum[4] == pytest.approx(4.5)
    assert spectrum[0] == pytest.approx(4.0)
    noise = np.random.default_rng(0).normal(size=(*GRID.shape, 2))
    mean = (noise**2 * GRID.weights[..., None]).mean(axis=(0, 1)) / GRID.weights.mean()
    np.testing.assert_allclose(zonal_spectrum(noise, GRID).sum(axis=0), mean)


def test_seeps_is_equitable() -> None:
    # Where it is dry half of the time a forecast of always the same class, or drawn from the climate, scores 1.
    random = np.random.default_rng(0)
    p1 = np.full((1, 1), 0.5)
    heavy = np.full((1, 1), 0.004)
    drawn = random.choice([0.0, 0.001, 0.01], p=[0.5, 1 / 3, 1 / 6], size=(200_000, 1, 1))
    for always in (0.0, 0.001, 0.01):
        assert np.mean(seeps(np.full_like(drawn, always), drawn, p1, heavy)) == pytest.approx(1.0, abs=0.01)
    assert np.mean(seeps(random.permutation(drawn), drawn, p1, heavy)) == pytest.approx(1.0, abs=0.01)
    assert np.abs(seeps(drawn, drawn, p1, heavy)).max() == 0
    assert np.isnan(seeps(drawn[:1], drawn[:1], np.full((1, 1), 0.95), heavy)).all()


def test_a_linear_model_finds_a_wave_that_travels_and_persistence_does_not(tmp_path: Path) -> None:
    windows: WindowStore = store(tmp_path / "w")
    train, valid = (0, 80), (80, 100)
    climatology = windows.climatology(train)
    assert climatology.kind == "mean"
    start = np.array([100])
    truth, times = windows.read(start + 1, 3)[0], windows.times[start]
    past = windows.read(start, 1)

    def error(system: object) -> float:
        forecasts = system.forecast_arrays(past, times, 3)[0, 0]  # type: ignore[attr-defined]
        return float(np.abs(forecasts[..., 0] - truth[..., 0]).max())

    model = LinearInverseModel.fit(windows, train, valid, climatology, 3)
    assert error(model) < 0.1 * error(Persistence())
    usual = ClimatologyForecast(LAYOUT, climatology).forecast_arrays(past, times, 3)
    assert usual.shape == (1, 1, 3, ROWS, COLUMNS, 2)
    auto = LinearAutoregression.fit(windows, train, valid, climatology, 3)
    forecasts = auto.forecast_arrays(windows.read(start - 1 + 1, 2), windows.times[start + 1], 2)
    assert np.abs(forecasts[0, 0, ..., 0] - windows.read(start + 2, 2)[0, ..., 0]).max() < 0.1 * error(Persistence())
    assert leads(times, LAYOUT, 2)[0, 1] == windows.times[102]
    assert isinstance(climatology, Climatology)


def test_the_climate_of_precipitation_is_that_of_the_states() -> None:
    random = np.random.default_rng(1)
    rows, columns = GRID.shape
    amount = np.exp(random.normal(np.log(2e-3), 1.0, (3000, rows, columns)))
    drawn = np.where(random.random(amount.shape) < 0.4, 0.0, amount).astype(np.float32)
    states = np.stack([np.zeros_like(drawn), drawn], axis=-1)
    climate = PrecipitationClimate.fit(iter([states[:1000], states[1000:]]), 1, 1e-4)
    assert climate.dry_share == pytest.approx((drawn <= 1e-4).mean(axis=0), abs=1e-9)
    wet = np.where(drawn > 1e-4, drawn, np.nan)
    assert climate.heavy == pytest.approx(np.nanquantile(wet, 2 / 3, axis=0), rel=0.025)
    # A forecast drawn from the climate scores 1 in each region, the truth 0.
    sums = SeepsScores(GRID, climate)
    sums.add(random.permutation(states)[:, None], states[:, None])
    assert sums.score() == pytest.approx(1.0, abs=0.05)
    right = SeepsScores(GRID, climate)
    right.add(states[:, None], states[:, None])
    assert (right.score() == 0).all()
    never = SeepsScores(GRID, replace(climate, dry_share=np.full(GRID.shape, 0.95)))
    never.add(states[:, None], states[:, None])
    assert np.isnan(never.score()).all()


def test_a_layout_without_precipitation_reads_nothing() -> None:
    def blocks():  # type: ignore[no-untyped-def]
        raise AssertionError("read")
        yield

    assert climates(WeatherLayout(GRID, (WeatherChannel("2m_temperature"),), 6.0), blocks()) == []
    assert DRY["total_precipitation_24hr"] == 2.5e-4
