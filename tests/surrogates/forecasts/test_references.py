"""Reference forecasts against processes whose best forecast is known, and intervals against the errors they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from surrogates.forecasts.autoregression import LinearAutoregression
from surrogates.forecasts.block_bootstrap import block_length, drawn, intervals
from surrogates.forecasts.references import DampedPersistence, Forecasts, LinearInverseModel, Patterns, series
from surrogates.forecasts.scores import Protocol, score

GRID = WeatherGrid((-30.0, 0.0, 30.0), (0.0, 90.0, 180.0, 270.0))
LAYOUT = WeatherLayout(GRID, (WeatherChannel("mean_sea_level_pressure"),), step_hours=24.0, calendar=False)


def written(path: Path, anomalies: np.ndarray) -> WindowStore:
    times = np.datetime64("2001-01-01", "ns") + np.arange(len(anomalies)) * np.timedelta64(24, "h")
    states = (1e5 + anomalies).astype(np.float32).reshape(len(anomalies), *GRID.shape, 1)
    return write_windows(
        path, [Segment.of(LAYOUT.unstack(states, ("time",), {"time": times}))], LAYOUT, fingerprint="a" * 64
    )


def test_two_lags_find_what_one_does_not_and_beyond_memory_a_forecast_is_the_climatology(tmp_path: Path) -> None:
    """A second-order autoregression x(t) = 1.6 x(t-1) - 0.8 x(t-2) + noise, of which one past state tells half."""
    random = np.random.default_rng(0)
    x = np.zeros((1500, 12))
    for k in range(2, len(x)):
        x[k] = 1.6 * x[k - 1] - 0.8 * x[k - 2] + random.normal(0, 100, 12)
    store = written(tmp_path / "w", x)
    train, valid, test = (0, 1000), (1000, 1200), (1200, 1500)
    climatology = store.climatology(train)
    damped = DampedPersistence.fit(store, train, climatology, 20)
    systems: dict[str, Forecasts] = {
        "two": LinearAutoregression.fit(store, train, valid, climatology, 20),
        "one": LinearInverseModel.fit(store, train, valid, climatology, 20),
        "damped": damped,
    }
    rmse = score(systems, Protocol(store, test, 20), climatology)["rmse"].isel(region=0, channel=0)
    # The error of the best forecast of a step is the noise, and its spread after many steps.
    spread = 100 / np.sqrt((1 - 0.8) / (1 + 0.8) * ((1 + 0.8) ** 2 - 1.6**2))
    assert rmse.sel(system="two")[0] == pytest.approx(100, rel=0.06)
    assert rmse.sel(system="one")[0] > 1.4 * rmse.sel(system="two")[0]
    assert float(rmse.sel(system="two")[-1]) == pytest.approx(spread, rel=0.1)
    # The correlation of one step, 1.6 / (1 + 0.8), is what persistence keeps; later ones follow by the recursion.
    kept = [1.0, 1.6 / 1.8]
    for _ in range(3):
        kept.append(1.6 * kept[-1] - 0.8 * kept[-2])
    assert damped.shares[:4, 0] == pytest.approx(np.maximum(kept[1:], 0), abs=0.06)


def test_the_autoregression_is_as_good_as_the_best_two_lag_regression_by_hand(
    tmp_path: Path, shared_data: Path
) -> None:
    """Twenty winters over Iberia, with the regression of 40 patterns on two states with a ridge chosen by hindsight."""
    data = xr.open_dataset(shared_data / "weather" / "ncep_iberia_djf.nc")
    names = {"msl": "mean_sea_level_pressure", "t": "temperature", "q": "specific_humidity"}
    data = data.rename(names).assign_coords(latitude=data.latitude, longitude=data.longitude)
    grid = WeatherGrid(tuple(data.latitude.values.tolist()), tuple(data.longitude.values.tolist()))
    channels = (WeatherChannel("mean_sea_level_pressure"), WeatherChannel("temperature", 850.0))
    layout = WeatherLayout(grid, (*channels, WeatherChannel("specific_humidity", 850.0)), step_hours=24.0)
    cuts = np.flatnonzero(np.diff(data.time.values) > np.timedelta64(1, "D")) + 1
    runs = [data.isel(time=rows) for rows in np.split(np.arange(data.sizes["time"]), cuts)]
    store = write_windows(tmp_path / "w", [Segment.of(run) for run in runs], layout, fingerprint="b" * 64)
    train, valid, test, steps = (0, 1355), (1355, 1445), (1625, 1805), 2
    climatology = store.climatology(train)
    systems: dict[str, Forecasts] = {"ours": LinearAutoregression.fit(store, train, valid, climatology, steps)}
    patterns = Patterns.fit(store, train, 40, climatology)
    c = series(store, train, patterns)
    nothing = np.zeros((steps, 3))
    for ridge in (1e-4, 1e-3, 1e-2, 1e-1):
        maps = []
        for lead in range(1, steps + 1):
            at = store.starts(2 + lead, train)
            past = np.concatenate([c[at], c[at + 1]], axis=1)
            gram = past.T @ past
            gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
            maps.append(np.linalg.solve(gram, past.T @ c[at + 1 + lead]))
        systems[str(ridge)] = LinearAutoregression(layout, patterns, np.stack(maps), nothing, 2)
    systems["damped"] = DampedPersistence.fit(store, train, climatology, steps)
    rmse = score(systems, Protocol(store, test, steps), climatology)["rmse"].isel(region=0, prediction_timedelta=0)
    others = rmse.sel(system=[n for n in systems if n not in ("ours", "damped")]).min("system")
    assert (rmse.sel(system="ours") < 1.01 * others).all()
    assert (rmse.sel(system="ours") < 0.95 * rmse.sel(system="damped")).all()


def test_intervals_hold_the_true_error_as_often_as_they_say() -> None:
    """Squares of errors with a memory of days: blocks hold the mean, single draws would be far too certain."""
    random, count, hits, hits_single = np.random.default_rng(1), 300, 0, 0
    times = np.datetime64("2001-01-01", "ns") + np.arange(count) * np.timedelta64(1, "D")
    assert block_length(times, np.timedelta64(5, "D")) == 10
    assert block_length(times, np.timedelta64(15, "D")) == 15
    for _ in range(30):
        x = np.zeros(count)
        for k in range(1, count):
            x[k] = 0.7 * x[k - 1] + random.normal(0, np.sqrt(1 - 0.49))
        squares = (1 + 0.3 * x)[:, None, None]
        bounds = intervals({"a": squares}, {}, times, np.timedelta64(5, "D"))
        hits += int(bounds["rmse_low"]["a"][0, 0] < 1.0 < bounds["rmse_high"]["a"][0, 0])
        single = np.sqrt(np.quantile(drawn(count, 1) @ squares[:, 0, 0], (0.025, 0.975)))
        hits_single += int(single[0] < 1.0 < single[1])
    assert hits >= 25
    assert hits_single < hits - 4


def test_systems_are_compared_on_the_same_draws_and_few_blocks_give_no_interval() -> None:
    random = np.random.default_rng(2)
    times = np.datetime64("2001-01-01", "ns") + np.arange(100) * np.timedelta64(1, "D")
    weather = random.gamma(1.0, 1.0, (100, 1, 1))
    # What makes a day hard for both cancels: the ratio is known where the errors themselves are not.
    bounds = intervals({"a": weather, "b": 1.21 * weather}, {}, times, np.timedelta64(1, "D"))
    for key in ("rmse_ratio", "rmse_ratio_low", "rmse_ratio_high"):
        assert float(bounds[key]["b"][0, 0]) == pytest.approx(1 / 1.1)
    assert float(bounds["rmse_high"]["a"][0, 0] / bounds["rmse_low"]["a"][0, 0]) > 1.1
    assert drawn(7, 3).sum(axis=1) == pytest.approx(np.ones(1000))
    assert intervals({"a": weather[:40]}, {}, times[:40], np.timedelta64(1, "D")) == {}
