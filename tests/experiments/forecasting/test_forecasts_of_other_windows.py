"""A forecaster scored on windows of its own: references come from its training, whatever file is tested."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir

from data.errors import InputError
from data.files import write_json
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from experiments.application.choices import CONF
from experiments.forecasting import forecast_evaluation
from experiments.forecasting.external_forecasts import ExternalForecasts
from experiments.forecasting.forecast_page import Evaluation, render
from experiments.stages.evaluate import evaluate
from experiments.stages.train import task_of, train_task
from surrogates.forecasts.climate_ensemble import ClimatologicalEnsemble
from surrogates.forecasts.references import ClimatologyForecast, Regressed, mean_forecast
from surrogates.forecasts.scores import Protocol, ensemble_metrics, score

#: Half a year a year, so that the other half is unknown, in six years of daily states.
GRID = WeatherGrid((30.0, 40.0, 50.0), (0.0, 10.0, 20.0, 30.0))
LAYOUT = WeatherLayout(GRID, (WeatherChannel("mean_sea_level_pressure"),), step_hours=24.0)


def field(times: np.ndarray, seed: int) -> np.ndarray:
    """A year's cycle of 1000 Pa, a trend of 200 Pa a year, and red noise of a persistence of 0.7 a day."""
    random = np.random.default_rng(seed)
    days = (times - np.datetime64("2001-01-01")) / np.timedelta64(1, "D")
    noise = random.normal(0, 300, (len(times), *GRID.shape, 1))
    for k in range(1, len(times)):
        noise[k] = 0.7 * noise[k - 1] + noise[k] * np.sqrt(1 - 0.49)
    cycle = 1000 * np.cos(2 * np.pi * days / 365.25) + 200 * days / 365.25
    return (101_000 + cycle[:, None, None, None] + noise).astype(np.float32)


def years(path: Path, first: int, last: int, layout: WeatherLayout = LAYOUT) -> WindowStore:
    step = np.timedelta64(round(layout.step_hours), "h")
    times = np.arange(np.datetime64(f"{first}-01-01T00", "ns"), np.datetime64(f"{last + 1}-01-01T00", "ns"), step)
    state = layout.unstack(field(times, first), ("time",), {"time": times})
    return write_windows(path, [Segment.of(state)], layout, fingerprint=f"{first}-{last}-{layout.step_hours}")


def composed(stage: str, *overrides: str, root: str = ""):  # type: ignore[no-untyped-def]
    with initialize_config_dir(str(CONF / root), version_base="1.3"):
        return compose(stage, list(overrides))


def scored(out: Path, surrogate: Path, file: Path, *more: str) -> xr.Dataset:
    asked = [f"surrogate={surrogate}", "forecasts=held_out", f"forecasts.file={file}", *more]
    evaluate(composed("evaluate", *asked), out)
    return xr.open_zarr(out / "scores.zarr", consolidated=False)


def scored_alone(out: Path, surrogate: Path, file: Path, *more: str) -> xr.Dataset:
    """The same without figures and a page, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("add_figures", "write_page"):
            patch.setattr(forecast_evaluation, name, lambda *_: None)
        return scored(out, surrogate, file, "forecasts.regressed=false", *more)


@pytest.fixture(scope="module")
def trained(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A forecaster of 2001 to 2004, and windows of 2005 and 2006."""

    def make(folder: Path) -> None:
        years(folder / "train", 2001, 2004)
        years(folder / "test", 2005, 2006)
        config = composed(
            "train", "task=weather/forecasts", f"data.file={folder / 'train'}", "data.parts=[1200,100,60,101]",
            "model.steps=3", "model.loss.unroll=1", "model.network.patch=1", "train.epochs=1",
            "model.noise_dims=2", "model.network.width=8", "model.network.blocks=1", "train.mlflow=false",
            "train.checkpoint_every_s=null",
        )  # fmt: skip
        train_task(task_of(config), folder / "run")

    return once("forecast-other-windows", make)


def climatology_of(train: WindowStore, part: tuple[int, int], times: np.ndarray) -> np.ndarray:
    """That of WeatherBench 2, from its definition: a weighted mean over years and 61 days around the day."""
    data = train.dataset(part)["mean_sea_level_pressure"]
    day = data["time"].dt.dayofyear.values
    days = [xr.DataArray(times).dt.dayofyear.values[k] for k in range(len(times))]
    means = []
    for d in days:
        apart = np.abs(day - d)
        weight = np.maximum(0, 1 - np.minimum(apart, 366 - apart) / 30)
        means.append(np.average(data.values, axis=0, weights=weight))
    return np.stack(means)


def test_climatology_is_that_of_the_training_on_windows_of_other_years(trained: Path, tmp_path: Path) -> None:
    scores = scored_alone(tmp_path / "a", trained / "run", trained / "test", "forecasts.starts=40")
    train, test = (WindowStore.open(trained / name) for name in ("train", "test"))
    rmse = scores["rmse"].isel(region=0, channel=0)
    starts = Protocol(test, (0, len(test)), 3, 40).starts(2)  # the linear autoregression sees two states
    truth, area = test.dataset(), GRID.weights / GRID.weights.mean()
    # Days before the last year's 366th are alike in both definitions.
    for lead in (1, 3):
        rows = starts + lead
        usual = climatology_of(train, (0, 1200), test.times[rows])
        off = usual - truth["mean_sea_level_pressure"].values[rows]
        by_hand = float(np.sqrt((off**2 * area).mean()))
        assert float(rmse.sel(system="climatology")[lead - 1]) == pytest.approx(by_hand, rel=0.002)
    # The trend went on, which a climatology of the tested years would not show.
    assert by_hand > 600
    persistence = truth["mean_sea_level_pressure"].values
    still = np.sqrt((((persistence[starts] - persistence[starts + 1]) ** 2) * area).mean())
    assert float(rmse.sel(system="persistence")[0]) == pytest.approx(float(still), rel=1e-5)
    assert "linear_inverse_model" in scores["system"].values
    reading = json.loads((tmp_path / "a" / "reading.json").read_text())[0]
    assert (reading["total"], reading["used"]) == (730, 730)
    assert "1,200 states from 2001-01-01 to 2004-04-14" in reading["assumed"][0]
    # Where the windows of the training have gone, what it kept gives the same numbers.
    moved = tmp_path / "moved"
    shutil.copytree(trained / "run" / "surrogate", moved)
    note = json.loads((moved / "training.json").read_text())
    write_json(moved / "training.json", note | {"windows": str(tmp_path / "gone")})
    kept = scored(tmp_path / "b", moved, trained / "test", "forecasts.starts=40", "forecasts.members=3")
    saved = ("climatology", "persistence", "damped_persistence", "linear_inverse_model", "linear_autoregression")
    for name in saved:
        np.testing.assert_allclose(kept["rmse"].sel(system=name), scores["rmse"].sel(system=name), rtol=1e-5)
    assert "regressed" not in kept["system"].values
    page = (tmp_path / "b" / "forecast.html").read_text()
    assert "forecast regressed towards climatology is left out" in page
    assert "climatological ensemble is left out: the windows of the training are not available" in page
    # A directory of an older version says what it lacks.
    (moved / "training.json").unlink()
    with pytest.raises(InputError, match=r"older version.*as forecasts\.training=WINDOWS"):
        scored(tmp_path / "c", moved, trained / "test")
    again = scored_alone(
        tmp_path / "d", moved, trained / "test", "forecasts.starts=40", f"forecasts.training={trained / 'train'}",
        "forecasts.train=[0,1200]", "forecasts.valid=[1200,1300]",
    )  # fmt: skip
    np.testing.assert_allclose(
        again["rmse"].sel(system="climatology"), scores["rmse"].sel(system="climatology"), rtol=1e-6
    )


def test_windows_that_do_not_fit_or_were_learned_from_are_refused(trained: Path, tmp_path: Path) -> None:
    run, test = trained / "run", trained / "test"
    years(tmp_path / "slow", 2005, 2005, replace(LAYOUT, step_hours=48.0))
    with pytest.raises(InputError, match="48 h from one to the next, 24 h are needed"):
        scored(tmp_path / "a", run, tmp_path / "slow")
    years(tmp_path / "again", 2004, 2005)
    with pytest.raises(InputError, match=r"105 of the 731 states.*learned from.*forecasts\.test=\[105,731\]"):
        scored(tmp_path / "b", run, tmp_path / "again")
    more = ("forecasts.test=[0,731]", "forecasts.starts=20", "forecasts.references=[persistence]")
    scores = scored_alone(tmp_path / "h", run, tmp_path / "again", *more)
    assert "105 of the 731 states" in scores.attrs["notes"][-1]
    assert "unseen/ are of states 105 to 731" in scores.attrs["notes"][-1]
    scored_alone(tmp_path / "i", run, tmp_path / "again", "forecasts.test=[105,731]", *more[1:])
    metrics, apart = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "hi")
    key = "rmse/mean_sea_level_pressure/24h"
    assert metrics[f"unseen/{key}"] == apart[f"forecast/{key}"] != metrics[f"forecast/{key}"]
    assert f"unseen/{key}" not in apart
    noon = LAYOUT.unstack(np.full((9, *GRID.shape, 1), 1e5, np.float32), ("time",), {
        "time": np.datetime64("2005-06-01T12", "ns") + np.arange(9) * np.timedelta64(24, "h")
    })  # fmt: skip
    write_windows(tmp_path / "noon", [Segment.of(noon)], LAYOUT, fingerprint="noon")
    with pytest.raises(InputError, match="states of 12 UTC, the training had those of 00 UTC"):
        scored(tmp_path / "c", run, tmp_path / "noon")
    with pytest.raises(InputError, match="trained on other windows"):
        scored(tmp_path / "d", run, test, f"forecasts.training={test}")
    with pytest.raises(InputError, match=r"forecasts\.test: must be \[start,stop\] of the 730 states"):
        scored(tmp_path / "e", run, test, "forecasts.test=[700,800]")
    for key in ("steps", "members"):
        with pytest.raises(InputError, match=rf"forecasts\.{key}: must lie in \[1, "):
            scored(tmp_path / "f", run, test, f"forecasts.{key}=0")


def test_an_ensemble_is_held_against_that_of_the_climate(trained: Path, tmp_path: Path) -> None:
    scores = scored(tmp_path / "a", trained / "run", trained / "test", "forecasts.starts=20", "forecasts.members=4")
    assert set(scores["ensemble"].values) == {"forecast", "climatological_ensemble"}
    metrics = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert metrics["ensemble/crps_of_climate/mean_sea_level_pressure"] > 0
    page = (tmp_path / "a" / "forecast.html").read_text()
    assert "Root mean square error of the mean of 4 members" in page
    assert "CRPS of the climatological ensemble" in page


def test_the_crps_of_a_climate_of_known_spread(tmp_path: Path) -> None:
    """Draws of a normal distribution: 1/sqrt(pi) spreads for the ensemble, sqrt(2/pi) for its mean alone."""
    times = np.arange(
        np.datetime64("2001-01-01T00", "ns"), np.datetime64("2006-01-01T00", "ns"), np.timedelta64(1, "D")
    )
    drawn = np.random.default_rng(3).normal(1e5, 300, (len(times), *GRID.shape, 1)).astype(np.float32)
    store = write_windows(
        tmp_path / "w", [Segment.of(LAYOUT.unstack(drawn, ("time",), {"time": times}))], LAYOUT, fingerprint="f"
    )
    usual = store.climatology((0, 1461))
    climate = ClimatologicalEnsemble(store, (0, 1461), usual.kind)
    systems = {"climatology": ClimatologyForecast(LAYOUT, usual), "climatological_ensemble": climate}
    scores = score(systems, Protocol(store, (1461, len(store)), 2, 150), usual, members={"climatological_ensemble": 10})
    one = scores.isel(region=0, channel=0)
    assert one["crps"].sel(system="climatological_ensemble").values == pytest.approx(300 / np.sqrt(np.pi), rel=0.03)
    assert one["mae"].sel(system="climatology").values == pytest.approx(300 * np.sqrt(2 / np.pi), rel=0.03)
    # Members are of the training, of the time of the year, and no state is drawn twice.
    drawn_from = climate.pool(np.datetime64("2005-01-01T00"))
    apart = np.abs(xr.DataArray(store.times[drawn_from]).dt.dayofyear.values - 1)
    assert np.minimum(apart, 366 - apart).max() == 15
    assert drawn_from.max() < 1461
    members_drawn = climate.forecast_arrays(drawn[None, :1], times[[1461]], 1, members=len(climate.pool(times[1462])))
    assert len(np.unique(members_drawn[0, :, 0, 0, 0, 0])) == members_drawn.shape[1]


def test_what_is_shown_of_an_ensemble_is_its_mean(tmp_path: Path) -> None:
    class Noisy:
        """The truth's usual state, and noise that a mean of many members has not."""

        history = 1

        def forecast_arrays(self, past, times, steps, members=1, seed=0):  # type: ignore[no-untyped-def]
            shape = (len(past), members, steps, *GRID.shape, 1)
            return 1e5 + np.random.default_rng((seed, 1)).normal(0, 300, shape)

    store = years(tmp_path / "w", 2001, 2001)
    usual = store.climatology((0, 200))
    drawn = Regressed.fit(Noisy(), store, (200, 300), usual, 2, members=64)
    past, times = store.read(np.array([300]), 1), store.times[[300]]
    said = (
        drawn.forecast_arrays(past, times, 2)[0, 0]
        - ClimatologyForecast(LAYOUT, usual).forecast_arrays(past, times, 2)[0, 0]
    )
    mean = mean_forecast(Noisy(), past, times, 2, 64)[0]
    assert np.abs(mean - 1e5).std() < 300 / 4
    assert np.isfinite(said).all()
    systems = {"forecast": Noisy(), "climatological_ensemble": ClimatologicalEnsemble(store, (0, 200), usual.kind)}
    scores = score(systems, Protocol(store, (300, 365), 2, 20), usual, members=dict.fromkeys(systems, 8))
    page = render(Evaluation(LAYOUT, scores, [0], members=8, notes=["Mind this."]))
    assert "There is no reference to compare the forecast with" in page
    assert page.count("8 members; means over leads") == 1
    assert '<div class="warning">Mind this.</div>' in page
    assert set(ensemble_metrics(scores)) == {
        f"ensemble/{k}/mean_sea_level_pressure" for k in ("crps", "spread_skill", "crps_of_climate")
    }


def test_forecasts_made_elsewhere_have_the_same_references_and_page(tmp_path: Path) -> None:
    """The truth and an error of a known size, in another order, convention of longitudes and unit."""
    train, truth = years(tmp_path / "train", 2001, 2002), years(tmp_path / "test", 2003, 2003)
    states = truth.dataset()["mean_sea_level_pressure"]
    starts, leads = np.arange(10, 360, 5), (0, 24, 48)
    values = np.stack([states.values[starts + lead // 24] + 3.0 * lead for lead in leads], axis=1)
    values[4, 1, 0, 0] = np.nan
    forecasts = xr.Dataset(
        {"msl": (("init_time", "lead_time", "lat", "lon"), values[:, :, ::-1] / 100, {"units": "hPa"})},
        {
            "init_time": states.time.values[starts], "lead_time": np.array(leads) * np.timedelta64(1, "h"),
            "lat": list(GRID.latitude[::-1]), "lon": [v - 360 for v in GRID.longitude],
        },
    )  # fmt: skip
    forecasts.to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    asked = ["surrogate=null", "forecasts=held_out", f"forecasts.file={truth.path}", "forecasts.starts=null"]
    asked += [f"forecasts.external={tmp_path / 'f.nc'}", "forecasts.references=[persistence,climatology]"]
    with pytest.raises(InputError, match=r"forecasts\.training"):
        evaluate(composed("evaluate", *asked, "forecasts.test=[0,300]"), tmp_path / "a")
    evaluate(composed("evaluate", *asked, f"forecasts.training={train.path}"), tmp_path / "a")
    scores = xr.open_zarr(tmp_path / "a" / "scores.zarr", consolidated=False)
    rmse = scores["rmse"].isel(region=0, channel=0)
    assert rmse.sel(system="forecast").values == pytest.approx([72.0, 144.0], rel=1e-3)
    area = GRID.weights / GRID.weights.mean()
    good = np.delete(starts, 4)
    good = good[good + 2 < len(states)]
    still = np.sqrt(((states.values[good] - states.values[good + 2]) ** 2 * area).mean())
    assert float(rmse.sel(system="persistence")[1]) == pytest.approx(float(still), rel=1e-5)
    read = json.loads((tmp_path / "a" / "reading.json").read_text())[1]
    assert (read["total"], read["used"], read["left_out"]["a value is missing or not finite"]) == (70, len(good), 1)
    assert read["assumed"] == ["Leads of 0 h are not scored."]
    # The truth may be a file as well; without other states the climatology is that of the scored ones, which is said.
    kept(states.sortby("latitude", ascending=False).to_dataset(name="msl"), tmp_path / "truth.nc")
    asked[2] = f"forecasts.file={tmp_path / 'truth.nc'}"
    evaluate(composed("evaluate", *asked[:-1], "forecasts.references=[climatology,damped_persistence]"), tmp_path / "c")
    again = xr.open_zarr(tmp_path / "c" / "scores.zarr", consolidated=False)
    assert again["system"].values.tolist() == ["forecast", "climatology"]
    np.testing.assert_allclose(again["rmse"].sel(system="forecast"), scores["rmse"].sel(system="forecast"), rtol=1e-4)
    assert "from the scored states themselves" in again.attrs["notes"][0]
    asked[2] = f"forecasts.file={truth.path}"
    forecasts["msl"] = forecasts["msl"].assign_attrs(units="Pa")
    forecasts.to_netcdf(tmp_path / "pa.nc", engine="h5netcdf")
    wrong = [*asked, f"forecasts.external={tmp_path / 'pa.nc'}", f"forecasts.training={train.path}"]
    with pytest.raises(InputError, match="in the truth from"):
        evaluate(composed("evaluate", *wrong), tmp_path / "b")


@pytest.mark.parametrize("dim", ["time", "prediction_timedelta"])
def test_forecasts_made_elsewhere_begin_once_at_each_time(tmp_path: Path, dim: str) -> None:
    truth = years(tmp_path / "w", 2001, 2001)
    states = truth.dataset()["mean_sea_level_pressure"]
    leads = np.array([24, 48]) * np.timedelta64(1, "h")
    forecasts = xr.concat([states[:4].assign_attrs(units="Pa")] * 2, xr.DataArray(leads, dims="prediction_timedelta"))
    forecasts = forecasts.assign_coords(prediction_timedelta=leads).to_dataset(name="mean_sea_level_pressure")
    forecasts.to_netcdf(tmp_path / "once.nc", engine="h5netcdf")
    assert ExternalForecasts.open(tmp_path / "once.nc", truth).steps == (1, 2)
    xr.concat([forecasts, forecasts.isel({dim: [1]})], dim).to_netcdf(tmp_path / "twice.nc", engine="h5netcdf")
    with pytest.raises(InputError, match=f"{dim} .* occurs twice"):
        ExternalForecasts.open(tmp_path / "twice.nc", truth)


#: Two variables, one of them on two levels.
ON_LEVELS = (
    WeatherChannel("geopotential", 500.0),
    WeatherChannel("geopotential", 850.0),
    WeatherChannel("2m_temperature"),
)
STARTS = np.arange(5, 30)


def by_valid_time(data: xr.Dataset) -> xr.Dataset:
    """Along initial and valid times, most pairs of which are empty."""
    starts, leads = data.time.values, data.step.values
    valid = np.unique(starts[:, None] + leads)
    parts = [data.isel(time=k).assign_coords(step=t + leads).rename(step="valid_time") for k, t in enumerate(starts)]
    return xr.concat([part.reindex(valid_time=valid) for part in parts], "time")


def by_valid_time_and_lead(data: xr.Dataset) -> xr.Dataset:
    """Along valid times and leads, as archives for verification are."""
    starts = data.time.values
    parts = [
        data.isel(step=k).assign_coords(time=starts + v).rename(time="valid_time")
        for k, v in enumerate(data.step.values)
    ]
    return xr.concat(parts, "step", join="outer")


def one_along_valid_time(data: xr.Dataset) -> xr.Dataset:
    """One forecast, whose `time` is the valid one, with the initial time as a scalar."""
    one = data.isel(time=3).rename(time="forecast_reference_time")
    return one.assign_coords(step=one.forecast_reference_time.values + one.step.values).rename(step="time")


#: What files of the same forecasts look like elsewhere: a change of the Dataset, and of how it is kept.
ELSEWHERE: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "zarr2": lambda data: data,
    "zarr3": lambda data: data.rename(number="realization"),
    "pa.nc": lambda data: data.assign_coords(level=("level", [50000, 85000], {"units": "Pa"})).rename(level="plev"),
    "turned.nc": lambda data: data.isel(level=[1, 0], latitude=[2, 1, 0]).transpose("level", "time", ...),
    "hours.nc": lambda data: data.assign_coords(step=("step", [24, 48], {"units": "hours"})),
    "one_member.nc": lambda data: data.isel(number=[1]).assign_coords(number=[7]),
    "no_member.nc": lambda data: data.isel(number=1, drop=True),
    "one_start.nc": lambda data: data.isel(time=3),
    "one_start_valid.nc": one_along_valid_time,
    "valid.nc": by_valid_time,
    "valid_and_lead.nc": by_valid_time_and_lead,
    "surface.nc": lambda data: data.assign(t2m=data.t2m.expand_dims(surface=1)),
}
REFUSED: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {
    "mixed": (lambda data: data.assign(t2m=data.t2m.isel(number=0, drop=True)), "2m_temperature has no dim number"),
    "twice": (lambda data: data.assign({"2m_temperature": data.t2m}), "t2m and 2m_temperature would both be"),
    "level": (lambda data: data.isel(level=[0]), "geopotential lacks the level 850"),
    "lead": (lambda data: data.assign(t2m=data.t2m.isel(step=0, drop=True)), "no dim prediction_timedelta"),
    "dim": (lambda data: data.assign(t2m=data.t2m.expand_dims(band=2)), "has a dim band of 2"),
    "unit": (lambda data: data.assign_coords(step=[24, 48]), "leads have no unit"),
    "no start": (lambda data: data.isel(time=slice(0)), "holds nothing: time has no entry"),
    "no lead": (lambda data: data.isel(step=slice(0)), "holds nothing: prediction_timedelta has no entry"),
    "nobody": (lambda data: data.isel(number=slice(0)), "holds nothing: number has no entry"),
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[WindowStore, xr.Dataset]:
    """Windows on levels, and an ensemble of three whose second member is the truth."""
    layout = WeatherLayout(GRID, ON_LEVELS, step_hours=24.0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(40) * np.timedelta64(1, "D")
    noise = np.random.default_rng(0).normal(size=(40, *GRID.shape, 3))
    values = (np.array([54_000, 14_000, 280]) + np.array([100, 100, 1]) * noise).astype(np.float32)
    folder = tmp_path_factory.mktemp("elsewhere") / "w"
    states = Segment.of(layout.unstack(values, ("time",), {"time": times}))
    truth = write_windows(folder, [states], layout, fingerprint="on levels")
    later = np.stack([values[STARTS + k] for k in (1, 2)], axis=1)
    members = np.stack([later + np.float32(shift) for shift in (5, 0, 2)])
    dims = ("number", "time", "step", "latitude", "longitude")
    forecasts = xr.Dataset(
        {
            "z": ((*dims, "level"), members[..., :2], {"units": "m2 s-2"}),
            "t2m": (dims, members[..., 2], {"units": "K"}),
        },
        {
            "time": times[STARTS], "step": np.array([24, 48]) * np.timedelta64(1, "h"),
            "latitude": list(GRID.latitude), "longitude": list(GRID.longitude),
            "level": ("level", [500, 850], {"units": "hPa"}),
        },
    )  # fmt: skip
    return truth, forecasts


def kept(data: xr.Dataset, path: Path) -> Path:
    if path.suffix == ".nc":
        data.to_netcdf(path, engine="h5netcdf")
    else:
        data.to_zarr(path, zarr_format=int(path.name[-1]), consolidated=False)  # type: ignore[call-overload]
    return path


@pytest.mark.parametrize("name", ELSEWHERE)
def test_ensembles_on_levels_are_read_however_they_are_kept(
    elsewhere: tuple[WindowStore, xr.Dataset], name: str, tmp_path: Path
) -> None:
    truth, forecasts = elsewhere
    external = ExternalForecasts.open(kept(ELSEWHERE[name](forecasts), tmp_path / name), truth)
    rows, reading = external.starts(truth, (0, len(truth)), None)
    assert reading.used == len(rows) == (1 if name.startswith("one_start") else len(STARTS))
    arrays = external.forecast_arrays(np.zeros(0), truth.times[rows], 2, members=external.members)
    right = np.stack([truth.read(rows + k, 1)[:, 0] for k in (1, 2)], axis=1)
    several = "member" not in name
    assert external.members == arrays.shape[1] == (3 if several else 1)
    np.testing.assert_allclose(arrays[:, 1 if several else 0], right, rtol=1e-6)
    assert reading.assumed == ()


def test_names_of_a_file_of_forecasts_can_be_given(elsewhere: tuple[WindowStore, xr.Dataset], tmp_path: Path) -> None:
    truth, forecasts = elsewhere
    path = kept(forecasts.rename(t2m="temp", step="ahead"), tmp_path / "f.nc")
    names = {"temp": "2m_temperature", "ahead": "prediction_timedelta"}
    assert ExternalForecasts.open(path, truth, names=names).steps == (1, 2)
    with pytest.raises(InputError, match=r"no variable tmp in it, which forecasts\.names renames"):
        ExternalForecasts.open(path, truth, names={"tmp": "2m_temperature"})


def test_levels_and_variables_without_units_are_said(elsewhere: tuple[WindowStore, xr.Dataset], tmp_path: Path) -> None:
    truth, forecasts = elsewhere
    bare = forecasts.assign_coords(level=[500, 850])
    del bare.t2m.attrs["units"]
    notes = ExternalForecasts.open(kept(bare, tmp_path / "bare.nc"), truth).notes
    assert len(notes) == 2
    assert "2m_temperature in K" in notes[0]
    assert "assumed to be hPa" in notes[1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_forecast_of_these_windows_is_refused(
    elsewhere: tuple[WindowStore, xr.Dataset], name: str, tmp_path: Path
) -> None:
    truth, forecasts = elsewhere
    change, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        ExternalForecasts.open(kept(change(forecasts), tmp_path / "f.nc"), truth)


def test_an_ensemble_made_elsewhere_stands_beside_a_surrogate(trained: Path, tmp_path: Path) -> None:
    states = WindowStore.open(trained / "test").dataset()["mean_sea_level_pressure"].values
    starts = np.arange(20, 60, 4)
    spread = np.random.default_rng(3).normal(0, 100, (len(starts), 4, 2, *GRID.shape)).astype(np.float32)
    values = np.stack([states[starts + k] for k in (1, 2)], axis=1)[:, None] + spread
    forecasts = xr.Dataset(
        {"msl": (("time", "member", "step", "latitude", "longitude"), values, {"units": "Pa"})},
        {
            "time": WindowStore.open(trained / "test").times[starts],
            "step": np.array([24, 48]) * np.timedelta64(1, "h"),
            "latitude": list(GRID.latitude), "longitude": list(GRID.longitude),
        },
    )  # fmt: skip
    path = kept(forecasts, tmp_path / "f.zarr3")
    more = [f"forecasts.external={path}", "forecasts.starts=null", "forecasts.references=[persistence]"]
    scores = scored(tmp_path / "e", trained / "run", trained / "test", *more)
    systems = [str(s) for s in scores["system"].values]
    assert systems == ["forecast", "external", "regressed", "persistence", "climatological_ensemble"]
    assert [str(s) for s in scores["ensemble"].values] == ["external", "climatological_ensemble"]
    # The error of the mean of four members, and their CRPS, which that of the climate does not reach.
    mean = np.sqrt((spread.mean(axis=1) ** 2 * (GRID.weights / GRID.weights.mean())).mean(axis=(0, 2, 3)))
    rmse = scores["rmse"].sel(system="external").isel(region=0, channel=0)
    assert rmse.values == pytest.approx(mean, rel=1e-4)
    crps = scores["crps"].isel(region=0, channel=0)
    assert (crps.sel(system="external") < 0.5 * crps.sel(system="climatological_ensemble")).all()
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert metrics["external/rmse/mean_sea_level_pressure/24h"] == pytest.approx(mean[0], rel=1e-4)
    assert metrics["external/ensemble/crps/mean_sea_level_pressure"] > 0
    assert "forecasts made elsewhere" in (tmp_path / "e" / "forecast.html").read_text()
    reading = json.loads((tmp_path / "e" / "reading.json").read_text())[1]
    assert (reading["total"], reading["used"], reading["quantities"]["members"]) == (10, 10, "4")
