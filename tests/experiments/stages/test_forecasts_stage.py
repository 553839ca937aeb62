"""Forecasts by the command: windows from a source, a training, an evaluation with its page, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir
from small_weather import GRID, store

from data.errors import InputError
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from experiments.application.choices import CONF
from experiments.forecasting.campaign_states import CampaignStates
from experiments.forecasting.core_comparison import compare_with_core, years_per_minute
from experiments.forecasting.forecast_evaluation import _write_scores
from experiments.forecasting.forecast_page import Evaluation, _long_words, render
from experiments.forecasting.long_runs import Climate, long_run, runs_apart
from experiments.stages.evaluate import evaluate
from experiments.stages.simulate import simulate
from experiments.stages.train import task_of, train_task
from experiments.stages.windows import windows
from simulators.atmosphere.core.dycore import DynamicalCore
from simulators.atmosphere.core_windows import core_windows
from surrogates.forecasts.references import ClimatologyForecast, Persistence
from surrogates.forecasts.scores import Protocol, ensemble_metrics, score
from surrogates.forecasts.seeps import climates
from surrogates.forecasts.surrogate import ForecastSurrogate

SMALL = [
    "model.network.width=8",
    "model.network.blocks=1",
    "train.mlflow=false",
    "train.checkpoint_every_s=null",
]


def composed(stage: str, *overrides: str, root: str = ""):  # type: ignore[no-untyped-def]
    with initialize_config_dir(str(CONF / root), version_base="1.3"):
        return compose(stage, list(overrides))


@pytest.fixture(scope="module")
def trained(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    def make(folder: Path) -> None:
        store(folder / "windows")
        config = composed(
            "train", "task=weather/forecasts", f"data.file={folder / 'windows'}", "data.parts=[60,20,20,20]",
            "model.steps=4", "model.loss.unroll=1", "model.network.patch=1", "train.epochs=12",
            "train.learning_rate=1e-2", *SMALL,
        )  # fmt: skip
        metrics = train_task(task_of(config), folder / "run")
        (folder / "run" / "metrics.json").write_text(json.dumps(metrics))

    return once("forecast-stage", make)


def test_a_training_is_scored_beside_persistence_and_climatology(trained: Path) -> None:
    metrics = json.loads((trained / "run" / "metrics.json").read_text())
    key = "rmse/temperature_0.5/24h"
    assert metrics[f"test/{key}"] < 0.6 * metrics[f"test/persistence/{key}"]
    assert metrics["train/states"] == 60
    assert metrics["train/label_core_seconds"] == pytest.approx(250.0)
    assert json.loads((trained / "run" / "split.json").read_text())["test"] == [100, 120]
    kept = ForecastSurrogate.load(trained / "run" / "surrogate")
    assert kept.scores[f"test/{key}"] == metrics[f"test/{key}"]


def test_a_training_goes_on_from_a_forecaster_with_longer_rollouts(trained: Path, tmp_path: Path) -> None:
    first = trained / "run" / "surrogate"
    asked = [
        "task=weather/forecasts", f"data.file={trained / 'windows'}", "data.parts=[60,20,20,20]",
        "model.steps=4", "model.loss.unroll=3", "model.network.patch=1", "train.epochs=1",
        "train.learning_rate=1e-6", f"tune.surrogate={first}", *SMALL,
    ]  # fmt: skip
    metrics = train_task(task_of(composed("train", *asked)), tmp_path / "run")
    before = json.loads((trained / "run" / "metrics.json").read_text())
    # With next to no learning rate it forecasts as before, and its cost holds that of both trainings.
    key = "test/rmse/temperature_0.5/24h"
    assert metrics[key] == pytest.approx(before[key], rel=0.01)
    assert metrics["train/seconds"] > before["train/seconds"]
    with pytest.raises(InputError, match="its network is another"):
        train_task(task_of(composed("train", *asked, "model.network.width=6")), tmp_path / "other")


def test_an_evaluation_writes_scores_and_a_page(trained: Path, tmp_path: Path) -> None:
    config = composed(
        "evaluate", f"surrogate={trained / 'run'}", "forecasts=held_out", f"forecasts.file={trained / 'windows'}",
        "forecasts.long_days=20",
    )  # fmt: skip
    evaluate(config, tmp_path)
    scores = xr.open_zarr(tmp_path / "scores.zarr", consolidated=False)
    assert scores["rmse"].dims == ("system", "region", "prediction_timedelta", "channel")
    flat = json.loads((tmp_path / "scores.json").read_text())["scores"]
    one = flat["forecast/rmse"]["global"]["temperature_0.5"]["48h"]
    assert one == pytest.approx(
        float(scores["rmse"].sel(system="forecast", region="global", channel="temperature_0.5")[1])
    )
    page = (tmp_path / "forecast.html").read_text()
    assert "<script" not in page
    assert 'src="http' not in page
    assert "data:image/gif" in page
    assert page.count("<svg") >= 6
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 < metrics["beaten/persistence"] <= 1


class Drawn:
    """An ensemble drawn from the same distribution as its truth: uncertain as it says, and without skill."""

    history = 1

    def forecast_arrays(self, past, times, steps, members=1, seed=0):  # type: ignore[no-untyped-def]
        shape = (len(past), members, steps, *past.shape[2:])
        return rain(np.random.default_rng((seed, 7)), shape)


def rain(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Temperatures and precipitation; it is dry half of the time."""
    wet = np.exp(random.normal(np.log(4e-3), 1.0, shape[:-1])) * (random.random(shape[:-1]) < 0.5)
    return np.stack([280 + 5 * random.normal(size=shape[:-1]), wet], axis=-1).astype(np.float32)


def test_an_ensemble_and_precipitation_have_sections_of_their_own(tmp_path: Path) -> None:
    channels = (WeatherChannel("2m_temperature"), WeatherChannel("total_precipitation_24hr"))
    layout = WeatherLayout(GRID, channels, step_hours=24.0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(200) * np.timedelta64(24, "h")
    drawn = rain(np.random.default_rng(0), (200, *GRID.shape, 2))
    store = write_windows(
        tmp_path / "w", [Segment.of(layout.unstack(drawn, ("time",), {"time": times}))], layout, fingerprint="f" * 64
    )
    usual = store.climatology((0, 150))
    wet = climates(layout, (states for _, states in store.blocks((0, 150))))
    systems = {"forecast": Drawn(), "persistence": Persistence(), "climatology": ClimatologyForecast(layout, usual)}
    protocol = Protocol(store, (150, 200), 3)
    scores = score(systems, protocol, usual, members={"forecast": 5}, precipitation=wet)
    one = scores.sel(system="forecast").isel(region=0)
    assert one["spread_skill"].sel(channel="2m_temperature").values == pytest.approx(1.0, abs=0.05)
    histogram = scores["rank_histogram"].sel(ensemble="forecast", channel="2m_temperature").values
    assert histogram == pytest.approx(np.full((3, 6), 1 / 6), abs=0.03)
    assert np.isnan(scores["crps"].sel(system="persistence")).all()
    seeps = scores["seeps"].isel(region=0).sel(channel="total_precipitation_24hr")
    # The mean of members is seldom dry, which costs; yesterday's weather is as good as a draw from the climate.
    assert seeps.sel(system="persistence").values == pytest.approx(1.0, abs=0.1)
    assert np.isnan(scores["seeps"].sel(channel="2m_temperature")).all()
    page = render(Evaluation(layout, scores, [0, 1]))
    assert "Reliability of the ensemble" in page
    assert "Precipitation in three classes" in page
    assert page.count("5 members; means over leads") == 1
    _write_scores(scores, tmp_path)
    flat = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert list(flat["persistence/seeps"]["global"]) == ["total_precipitation_24hr"]
    assert "persistence/crps" not in flat
    assert ensemble_metrics(scores)["ensemble/spread_skill/2m_temperature"] == pytest.approx(1.0, abs=0.05)


def test_a_rollout_that_leaves_the_range_is_told_when_and_why(trained: Path) -> None:
    windows_ = WindowStore.open(trained / "windows")
    forecaster = ForecastSurrogate.load(trained / "run" / "surrogate")
    facts = forecaster.facts
    narrow = forecaster.with_facts(low=(279.0, facts.low[1]), high=(281.0, facts.high[1]))
    run = long_run(narrow, windows_, [100], 30, (0, 60))
    assert run.left == 1
    assert run.climate is None
    assert "temperature_0.5" in run.why
    wide = forecaster.with_facts(low=(0.0, 0.0), high=(1e4, 1e7))
    run = long_run(wide, windows_, [100], 20, (0, 60), (60, 120), chunk=5)
    assert run.left is None
    assert run.climate is not None
    assert run.unseen is not None
    # The first tenth of the rollout is left out of its climate.
    past = windows_.read(np.array([100]), 1)
    states = next(wide.chunks(past, windows_.times[[100]], 20, chunk=20, blended=False))[0, 0]
    again = Climate.of([states[2:7], states[7:]])
    assert run.climate.states == again.states == 18
    np.testing.assert_allclose(run.climate.mean, again.mean, rtol=1e-5)
    # Two rollouts together have the climate of both; where one leaves the range, that of the other.
    pair = long_run(wide, windows_, [100, 60], 20, (0, 60), chunk=5)
    other = long_run(wide, windows_, [60], 20, (0, 60)).climate
    assert pair.ends == (None, None)
    assert pair.climate is not None
    assert other is not None
    both = Climate.pooled([run.climate, other])
    assert pair.climate.states == both.states == 36
    np.testing.assert_allclose(pair.climate.mean, both.mean, rtol=1e-5)
    np.testing.assert_allclose(pair.climate.spread, both.spread, rtol=1e-3, atol=1e-2)
    warmth = [
        wide.forecast_arrays(windows_.read(np.array([start]), 1), windows_.times[[start]], 20)[0, 0, ..., 0]
        for start in (100, 60)
    ]
    most = [float(w.max()) for w in warmth]
    warmer, between = int(np.argmax(most)), sum(most) / 2
    # The range ends a quarter of its width beyond its upper end.
    split = wide.with_facts(low=(0.0, 0.0), high=(between / 1.25, 1e7))
    run_of_two = long_run(split, windows_, [100, 60], 20, (0, 60), chunk=5)
    day = 1 + int(np.argmax(warmth[warmer].max(axis=(1, 2)) > between))
    assert run_of_two.ends == ((day, None) if warmer == 0 else (None, day))
    assert (run_of_two.left, run_of_two.stayed) == (day, 1)
    assert run_of_two.climate is not None
    alone = other if warmer == 0 else run.climate
    np.testing.assert_allclose(run_of_two.climate.mean, alone.mean, rtol=1e-5)
    assert "1 of 2 rollouts left the climatological range on day" in _long_words(run_of_two)
    np.testing.assert_allclose(run.unseen.mean, windows_.read(np.array([60]), 60)[0].mean(axis=(0, 2)), rtol=1e-5)


def test_the_difference_of_two_climates_is_in_units_of_contrast_and_spread() -> None:
    latitude = np.deg2rad(np.linspace(-75, 75, 11))
    weights = np.cos(latitude)
    time, longitude = np.arange(64), 2 * np.pi * np.arange(16) / 16
    wave = 3.0 * np.sqrt(2) * np.cos(longitude + 2 * np.pi * time[:, None] / 64)
    jet = 20.0 * np.sin(2 * latitude) ** 2
    states = (jet[:, None] + wave[:, None, :])[..., None]
    truth = Climate.of([states[:10], states[10:]])
    np.testing.assert_allclose(truth.mean[:, 0], jet, atol=1e-9)
    np.testing.assert_allclose(truth.spread, 3.0, rtol=1e-9)
    contrast = np.sqrt(np.average((jet - np.average(jet, weights=weights)) ** 2, weights=weights))
    off = Climate.of([1.5 + jet[:, None, None] + 1.1 * wave[:, None, :, None]]).off(truth, weights)
    assert off["mean"] == pytest.approx(1.5 / contrast)
    assert off["mean_in_spreads"] == pytest.approx(0.5)
    assert off["variance"] == pytest.approx(0.21)
    with pytest.raises(ValueError, match="no states"):
        Climate.of([])


def test_runs_of_a_core_are_held_against_its_other_runs(tmp_path: Path) -> None:
    latitude, longitude = np.linspace(-75, 75, 10), np.arange(16) * 22.5
    grid = WeatherGrid(tuple(latitude), tuple(longitude))
    layout = WeatherLayout(
        grid, (WeatherChannel("u_component_of_wind", 0.5),), step_hours=24.0, level_units="1", calendar=False
    )
    jet = 20.0 * np.sin(2 * np.deg2rad(latitude)) ** 2
    wave = 3.0 * np.sqrt(2) * np.cos(np.deg2rad(longitude) + 2 * np.pi * np.arange(8)[:, None] / 8)

    def record(number: int, more: float) -> Segment:
        states = (more + jet[:, None] + wave[:, None, :])[..., None].astype(np.float32)
        times = np.datetime64("2001-01-01", "ns") + (100 * number + np.arange(8)) * np.timedelta64(24, "h")
        return Segment.of(layout.unstack(states, ("time",), {"time": times}))

    runs = [record(k, more) for k, more in enumerate((0.0, 0.0, 1.5))]
    weights = grid.weights[:, 0]
    pairs = runs_apart(write_windows(tmp_path / "w", runs, layout, fingerprint="f" * 64))
    offs = [run.off(others, weights) for run, others in pairs]
    centre = np.average(jet, weights=weights)
    contrast = np.sqrt(np.average((jet - centre) ** 2, weights=weights))
    # The last is 1.5 from the others, each of these half of that from the mean of its own others.
    assert [float(off["mean"][0]) * contrast for off in offs] == pytest.approx([0.75, 0.75, 1.5], rel=1e-4)
    # The others of the last are alike, those of the first two lie 1.5 apart.
    wider = 9 / (9 + 0.75**2) - 1
    assert [float(off["variance"][0]) for off in offs] == pytest.approx([wider, wider, 0], rel=1e-3, abs=1e-4)
    section = pairs[2][0].section_off(pairs[2][1], weights, [0])
    assert section["section_mean"] == pytest.approx(1.5 / np.sqrt(contrast**2 + centre**2), rel=1e-4)
    assert section["section_contrast"] == pytest.approx(1.5 / contrast, rel=1e-4)
    assert section["section_variance"] == pytest.approx(0, abs=1e-4)
    assert runs_apart(write_windows(tmp_path / "one", runs[:1], layout, fingerprint="f" * 64)) == []
    # In pieces of four days each is held against the same others.
    pieces = runs_apart(WindowStore.open(tmp_path / "w"), 4)
    assert [piece.states for piece, _ in pieces] == [4] * 6
    assert [float(others.mean[0, 0]) for _, others in pieces[::2]] == pytest.approx(
        [float(others.mean[0, 0]) for _, others in pairs]
    )


def test_the_climate_of_states_and_their_mirror_images_is_that_of_both() -> None:
    latitude, longitude = np.linspace(-75, 75, 4), np.arange(8) * 45.0
    layout = WeatherLayout(
        WeatherGrid(tuple(latitude), tuple(longitude)),
        (WeatherChannel("temperature", 0.5), WeatherChannel("v_component_of_wind", 0.5)),
        step_hours=24.0, level_units="1", calendar=False,
    )  # fmt: skip
    states = np.random.default_rng(0).normal(size=(20, 4, 8, 2)) + np.arange(4)[:, None, None]
    both = Climate.of([states]).and_mirrored(layout)
    mirrored = states[:, ::-1] * np.array([1.0, -1.0])
    want = Climate.of([states, mirrored])
    assert both.states == 40
    np.testing.assert_allclose(both.mean, want.mean, atol=1e-12)
    np.testing.assert_allclose(both.spread, want.spread, rtol=1e-12)


def test_what_does_not_fit_is_refused(trained: Path, tmp_path: Path) -> None:
    surrogate = f"surrogate={trained / 'run'}"
    with pytest.raises(InputError, match="forecasts=held_out"):
        evaluate(composed("evaluate", surrogate), tmp_path)
    asked = [surrogate, "forecasts=held_out", f"forecasts.file={trained / 'windows'}"]
    with pytest.raises(InputError, match="no reference 'oracle'"):
        evaluate(composed("evaluate", *asked, "forecasts.references=[oracle]"), tmp_path)
    config = composed(
        "train", "task=weather/forecasts", f"data.file={trained / 'windows'}", "data.parts=[118,0,0,2]", *SMALL
    )
    with pytest.raises(InputError, match="follow one another"):
        train_task(task_of(config), tmp_path / "run")
    # It is refused before it is trained.
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture(scope="module")
def cored(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A small core's campaign, its windows, and a forecaster that has hardly learned from them."""

    def make(folder: Path) -> None:
        asked = [
            "simulator=held_suarez", "simulator.truncation=7", "simulator.layers=3", "simulator.days=12",
            "simulator.spin_up_days=2", "sampling=seeds", "sampling.count=3", "campaign.workers=1",
        ]  # fmt: skip
        simulate(composed("simulate", *asked, f"out={folder / 'core'}", f"run.dir={folder / 'sim'}"), folder / "sim")
        overrides = [f"source.path={folder / 'core'}", f"out={folder / 'w'}"]
        windows(composed("windows", "source=campaign", *overrides), folder / "run")
        train_task(task_of(composed("train", *tiny(folder))), folder / "fit")

    return once("cored", make)


def tiny(folder: Path) -> list[str]:
    return [
        "study=weather/held_suarez", f"data.file={folder / 'w'}", "data.parts=[13,13,0,13]",
        "model.steps=2", "model.loss.unroll=1", "model.truncation=7", "train.epochs=1", *SMALL,
    ]  # fmt: skip


def test_windows_of_a_core_and_its_coarser_truncations_beside_a_forecaster(cored: Path, tmp_path: Path) -> None:
    store = WindowStore.open(cored / "w")
    core = CampaignStates(str(cored / "core")).core()
    assert isinstance(core, DynamicalCore)
    assert [b - a for a, b in store.segments] == [13, 13, 13]
    forecaster = ForecastSurrogate.load(cored / "fit" / "surrogate")
    comparison = compare_with_core(
        forecaster, core, store, (26, 39), (5,), steps=2, requests=2, cores=1, batch_sizes=(1,), repeats=1
    )
    assert next(p.name for p in comparison.rungs).startswith("T5")
    assert all(np.isfinite(p.error) for p in comparison.points)
    ours, theirs = years_per_minute(forecaster, core, store.read(np.array([26]), 1)[0, 0], 2)
    assert min(ours, theirs) > 0
    with pytest.raises(InputError, match="another simulator"):
        core_windows(cored / "core", DynamicalCore(), tmp_path / "other")


def test_what_a_core_does_where_a_forecaster_drifted_to_is_learned_from(cored: Path, tmp_path: Path) -> None:
    asked = [
        "source=drift", f"source.surrogate={cored / 'fit' / 'surrogate'}", f"source.path={cored / 'w'}",
        "source.runs=3", "source.days=6", "source.every=2", f"out={tmp_path / 'drifted'}",
    ]  # fmt: skip
    windows(composed("windows", *asked), tmp_path / "run")
    drifted, store = WindowStore.open(tmp_path / "drifted"), WindowStore.open(cored / "w")
    forecaster = ForecastSurrogate.load(cored / "fit" / "surrogate")
    starts = np.array([0, 6, 12])  # of the 13 of its training
    # Those of the network alone: in the long run the core answers, no simpler forecast is blended in.
    chunks = forecaster.chunks(store.read(starts, 1), store.times[starts], 6, blended=False)
    forecast = np.concatenate(list(chunks), axis=2)[:, 0]
    kept = drifted.dataset()
    assert drifted.segments == tuple((k, k + 1) for k in range(9))
    expected = np.concatenate([forecast[:, day] for day in (1, 3, 5)])
    assert np.allclose(store.layout.stack(kept), expected, rtol=1e-4, atol=1e-2)
    with pytest.raises(InputError, match=r"source\.runs: must lie in \[1, "):
        windows(composed("windows", *asked, "source.runs=0"), tmp_path / "refused")

    simulate(
        composed(
            "simulate", "simulator=held_suarez", "simulator.truncation=7", "simulator.layers=3", "simulator.days=2",
            "simulator.start=state", "simulator.spin_up_days=0", "sampling=windows", "sampling.count=4",
            f"sampling.initial.path={tmp_path / 'drifted'}", "campaign.workers=1", f"out={tmp_path / 'answers'}",
            f"run.dir={tmp_path / 'sim'}",
        ),
        tmp_path / "sim",
    )  # fmt: skip
    more = [f"source.path={tmp_path / 'answers'}", f"out={tmp_path / 'also'}"]
    windows(composed("windows", "source=campaign", *more), tmp_path / "run2")
    also = WindowStore.open(tmp_path / "also")
    assert also.fingerprint != store.fingerprint
    first = also.read(np.array([a for a, _ in also.segments]), 1)[:, 0]
    # The core keeps its own wavenumbers of what it is given.
    nearest = np.abs(first[:, None] - expected[None])[..., : store.layout.index("surface_pressure")[0]]
    assert np.median(nearest, axis=(2, 3, 4)).min(axis=1).max() < 1.0
    metrics = train_task(task_of(composed("train", *tiny(cored), f"data.also=[{tmp_path / 'also'}]")), tmp_path / "fit")
    assert metrics["train/states"] == 13 + len(also)
    assert metrics["train/label_core_seconds"] == pytest.approx(store.label_core_seconds + also.label_core_seconds)
    learned = json.loads((tmp_path / "fit" / "learned_from.json").read_text())
    assert learned["states"] == store.fingerprint + also.fingerprint
