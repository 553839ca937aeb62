"""Forecasts from end to end: they learn a wave that travels, answer in xarray, and refuse what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from flax import nnx
from small_weather import COLUMNS, LAYOUT, ROWS, states, store

from data.errors import CorruptStoreError, InputError
from data.plain import from_plain, to_plain
from data.spec import SimulationError
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from simulators.adapter import Simulator
from surrogates.forecasts.batches import ForecastBatch, WindowBatches
from surrogates.forecasts.calibration import calibrate_intervals, forecast_errors
from surrogates.forecasts.crps import fair_crps
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts, LeadBands
from surrogates.forecasts.fit import fit_forecast_surrogate, slow_parts
from surrogates.forecasts.loss import ForecastLoss, ForecastLossSettings
from surrogates.forecasts.model import ForecastScale
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.references import Persistence
from surrogates.forecasts.streaming import forecast_to_zarr, verify_forecasts
from surrogates.forecasts.sun import DAY_S, clock, insolation, later
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.learning.checkpointed import identity
from surrogates.learning.loop import TrainConfig
from surrogates.saved import load_surrogate

CONFIG = ForecastConfig(
    network=ConvConfig(width=12, blocks=1),
    keep_mass=True,
    steps=4,
    loss=ForecastLossSettings(unroll=2, unroll_from=0.5),
)


@pytest.fixture(scope="module")
def windows(once: Callable[[str, Callable[[Path], object]], Path]) -> WindowStore:
    return WindowStore.open(once("small-weather", lambda folder: store(folder / "w")) / "w")


@pytest.fixture(scope="module")
def trained(windows: WindowStore, once: Callable[[str, Callable[[Path], object]], Path]) -> ForecastSurrogate:
    def make(folder: Path) -> None:
        recipe = TrainConfig(epochs=25, learning_rate=1e-2, batch_size=16, ema_decay=0.9, checkpoint_every_s=None)
        forecaster, result = fit_forecast_surrogate(
            windows, (0, 60), (60, 80), CONFIG, recipe, folder / "run", progress=False
        )
        assert result.compilations["train"] == 1
        calibrate_intervals(forecaster, windows, (80, 100)).save(folder / "surrogate")

    return ForecastSurrogate.load(once("small-forecaster", make) / "surrogate")


def test_a_wave_that_travels_is_forecast_and_its_mass_is_kept(trained: ForecastSurrogate, windows: WindowStore) -> None:
    errors = forecast_errors(trained, windows, (100, 120), 4)
    still = forecast_errors(_as_forecaster(), windows, (100, 120), 4)
    ratio = np.sqrt((errors**2).mean(axis=(0, 2, 3)) / (still**2).mean(axis=(0, 2, 3)))
    assert (ratio < 0.3).all()
    start = windows.read(np.array([100]), 1)
    forecast = trained.forecast_arrays(start, windows.times[[100]], 30)[0, 0, ..., 1].astype(np.float64)
    mean = (forecast * LAYOUT.grid.weights).mean(axis=(1, 2))
    before = (start[0, 0, ..., 1].astype(np.float64) * LAYOUT.grid.weights).mean()
    # A pascal in a hundred thousand is what float32 holds after thirty steps.
    assert np.abs(mean - before).max() < 1.0


def _as_forecaster() -> ForecastSurrogate:
    class Still(Persistence):
        def forecast_arrays(self, history, times, steps, members=1, seed=0):  # type: ignore[no-untyped-def, override]
            return super().forecast_arrays(history, times, steps)

    return Still()  # type: ignore[return-value]


def test_xarray_goes_in_and_comes_out(trained: ForecastSurrogate, windows: WindowStore) -> None:
    state = windows.dataset((100, 101)).isel(time=0)
    forecast = trained.forecast(state, steps=3)
    assert forecast["temperature"].dims == ("prediction_timedelta", "level", "latitude", "longitude")
    assert forecast["temperature"].attrs["units"] == "K"
    assert forecast["prediction_timedelta"].values[-1] == np.timedelta64(72, "h")
    assert forecast["time"].values == windows.times[100]
    arrays = trained.forecast_arrays(windows.read(np.array([100]), 1), windows.times[[100]], 3)[0, 0]
    np.testing.assert_allclose(forecast["temperature"].values[:, 0], arrays[..., 0])
    for change, message in (
        (lambda d: d.drop_vars("temperature"), "no variable temperature"),
        (lambda d: d.isel(latitude=slice(0, 3)), "latitudes run from"),
        (lambda d: d.where(d.latitude < 60), "not finite"),
        (lambda d: d.assign(temperature=d.temperature.assign_attrs(units="degC")), "degC"),
    ):
        with pytest.raises(InputError, match=message):
            trained.forecast(change(state))
    with pytest.raises(InputError, match="noise_dims"):
        trained.forecast(state, members=2)


def test_it_is_a_simulator_with_bands_that_hold(
    trained: ForecastSurrogate, windows: WindowStore, tmp_path: Path
) -> None:
    assert isinstance(trained, Simulator)
    state = windows.dataset((104, 105)).isel(time=0)
    request = trained.spec.request({n: state[n].values for n in ("temperature", "surface_pressure")})
    answer = trained.simulate(request)
    names = [f"{n}{e}" for n in ("temperature", "surface_pressure") for e in ("", "_std", "_low", "_high")]
    assert set(answer) == {*names, "in_domain"}
    truth = windows.dataset((105, 109))["temperature"].values
    inside = (truth >= answer["temperature_low"].values) & (truth <= answer["temperature_high"].values)
    assert inside.mean() > 0.6
    with pytest.raises(SimulationError, match="not finite"):
        trained.simulate(request.assign(temperature=request.temperature * np.nan))
    batch = next(WindowBatches(windows, (100, 120), 3, 1, 4, None, stride=4).epoch(0))
    np.testing.assert_allclose(trained.predict(batch)["temperature"][1], answer["temperature"].values, rtol=1e-5)
    trained.save(tmp_path / "again")
    again = load_surrogate(tmp_path / "again")
    assert again.fingerprint == trained.fingerprint
    np.testing.assert_array_equal(again.simulate(request)["temperature"].values, answer["temperature"].values)


def test_chunks_of_a_rollout_are_the_whole_and_compile_one_program(
    trained: ForecastSurrogate, windows: WindowStore
) -> None:
    past, times = windows.read(np.array([100, 101]), 1), windows.times[[100, 101]]
    whole = trained.forecast_arrays(past, times, 7)
    fresh = ForecastSurrogate(trained.model, trained.facts)
    parts = list(fresh.chunks(past, times, 7, chunk=3))
    assert [p.shape[2] for p in parts] == [3, 3, 1]
    np.testing.assert_allclose(np.concatenate(parts, axis=2), whole, rtol=1e-5)
    assert list(fresh._compiled) == [3]
    assert fresh._compiled[3]._cache_size() == 1


#: Compiled once for the models and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda model, *inputs: model(*inputs))


def small(**changes: object) -> ForecastFacts:
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1), **changes)  # type: ignore[arg-type]
    ones = (1.0, 100.0)
    return ForecastFacts(config, LAYOUT, ForecastScale(ones, ones, (0,)), "none", (0.0, 0.0), (1e6, 1e6))


def test_unrolled_loss_is_the_mean_of_steps_one_by_one() -> None:
    facts = small(loss=ForecastLossSettings(unroll=3))
    model = facts.model(states(1, 0)[:1])
    frames = np.stack([states(4, 1), states(4, 2)])
    batch = ForecastBatch(frames, np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(2, np.float32))
    loss = ForecastLoss.of(facts.config.loss, LAYOUT)
    key = jax.random.key(0)
    whole = float(nnx.jit(lambda m: loss(m, batch, key, jnp.ones(()))[0])(model))
    area = LAYOUT.grid.weights[..., None]
    past, by_hand = jnp.asarray(frames[None, :, :1]), []
    for step in range(3):
        new = ask(model, past, jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32))
        by_hand.append(float((((new[0] - frames[:, step + 1]) / np.array([1.0, 100.0])) ** 2 * area).mean()))
        past = new[:, :, None]
    assert whole == pytest.approx(np.mean(by_hand), rel=1e-4)
    # At the beginning of training the first step alone counts.
    assert np.asarray(loss.step_weights(jnp.zeros(()))).tolist() == [1, 0, 0]
    first = ForecastLoss(channel_weights=loss.channel_weights)
    cut = batch._replace(frames=frames[:, :2])
    assert float(nnx.jit(lambda m: first(m, cut, key, jnp.ones(()))[0])(model)) == pytest.approx(by_hand[0], rel=1e-4)


class Record:
    """States of two segments, read in pieces."""

    layout = LAYOUT
    segments = ((0, 40), (40, 60))

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        walk = np.cumsum(random.normal(size=(60, ROWS, 1, 2)), axis=0) * np.array([1.0, 100.0])
        self.states = (walk + random.normal(size=(60, ROWS, COLUMNS, 2))).astype(np.float32)
        self.times = np.datetime64("2001-01-01", "ns") + np.arange(60) * np.timedelta64(24, "h")

    def blocks(self, part: tuple[int, int]) -> Iterator[tuple[slice, np.ndarray]]:
        for a, b in self.segments:
            for start in range(max(a, part[0]), min(b, part[1]), 7):
                rows = slice(start, min(start + 7, b, part[1]))
                yield rows, self.states[rows]


def test_zonal_means_count_in_units_of_their_own() -> None:
    facts, record = small(loss=ForecastLossSettings(zonal_weight=0.25)), Record()
    usual = np.zeros((1, ROWS, COLUMNS, 2), np.float32)
    unit, kept = slow_parts(record, (5, 55), usual, (0,))  # type: ignore[arg-type]
    zonal = [record.states[a:b].mean(axis=2, dtype=np.float64) for a, b in ((5, 40), (40, 55))]
    steps = np.concatenate([np.diff(z, axis=0) for z in zonal])
    np.testing.assert_allclose(unit, np.sqrt((steps**2).mean(axis=0)), rtol=1e-5)
    means = [np.average(z, axis=1, weights=LAYOUT.grid.weights[:, 0]) for z in zonal]
    products = sum((m[1:] * m[:-1]).sum(axis=0) for m in means)
    np.testing.assert_allclose(kept, np.minimum(products / sum((m[:-1] ** 2).sum(axis=0) for m in means), 1), rtol=1e-6)

    model = facts.model(states(1, 0)[:1])
    frames = np.stack([states(2, 1), states(2, 2)])
    batch = ForecastBatch(frames, np.zeros(2, np.int32), np.zeros(2, np.int32), np.ones(2, np.float32))
    key, end = jax.random.key(0), jnp.ones(())
    losses = [
        float(nnx.jit(lambda m, loss=loss: loss(m, batch, key, end)[0])(model))
        for loss in (
            ForecastLoss.of(facts.config.loss, LAYOUT, unit),
            ForecastLoss.of(small().config.loss, LAYOUT),
        )
    ]
    new = np.asarray(ask(model, jnp.asarray(frames[None, :, :1]), jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32)))[0]
    off = (new.astype(np.float64) - frames[:, 1]).mean(axis=2) / unit
    by_hand = (off**2 * LAYOUT.grid.weights[:, :1]).mean()
    assert losses[0] - losses[1] == pytest.approx(0.25 * by_hand, rel=1e-3)


def test_area_means_fade_as_they_are_told_to() -> None:
    facts = small(keep_means=True)
    scale = replace(facts.scale, mean_kept=(0.5, 0.9))
    usual = states(1, 0)
    model = replace(facts, scale=scale).model(usual[:1])
    past = states(3, 5)[:, None]
    new = np.asarray(ask(model, jnp.asarray(past[None]), jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32)))[0]
    area = LAYOUT.grid.weights[..., None]
    before, after = (((x.astype(np.float64) - usual[0]) * area).mean(axis=(1, 2)) for x in (past[:, 0], new))
    np.testing.assert_allclose(after, before * np.array([0.5, 0.9]), rtol=1e-3, atol=1e-3)
    assert from_plain(ForecastScale, to_plain(scale)) == scale
    with pytest.raises(ValueError, match="keep_means needs"):
        ForecastConfig(network=ConvConfig(), usual="day", keep_means=True)


def test_noise_spreads_an_ensemble_and_draws_are_repeated_by_their_seed() -> None:
    forecaster = ForecastSurrogate(small(noise_dims=3).model(states(1, 0)[:1]), small(noise_dims=3))
    weight = forecaster.model.networks.decode.norm.map.kernel
    weight[...] = jax.random.normal(jax.random.key(1), weight.shape)
    forecaster = ForecastSurrogate(forecaster.model, forecaster.facts)
    past, times = states(1, 1)[None], np.array(["2001-01-01"], "datetime64[ns]")
    first, again, other = (forecaster.forecast_arrays(past, times, 2, members=4, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert first.shape == (1, 4, 2, ROWS, COLUMNS, 2)
    assert (first.std(axis=1) > 0).any()


def test_the_fair_crps_does_not_depend_on_the_number_of_members() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=4000)
    # Of members from the distribution of the truth it is 1/sqrt(pi) (Gneiting and Raftery 2007), however many.
    for count in (2, 5):
        members = jnp.asarray(random.normal(size=(count, 4000)))
        assert float(fair_crps(members, jnp.asarray(truth)).mean()) == pytest.approx(1 / np.sqrt(np.pi), abs=0.03)
    for count in (2, 4, 7):  # in pairs, and sorted
        x = random.normal(size=(count, 6))
        apart = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (2 * count * (count - 1))
        by_pairs = np.abs(x - truth[:6]).mean(axis=0) - apart
        np.testing.assert_allclose(fair_crps(jnp.asarray(x), jnp.asarray(truth[:6])), by_pairs, atol=1e-6)


def test_the_sun_stands_where_almanacs_have_it() -> None:
    latitude, longitude = np.array([-90.0, -23.44, 0.0, 23.44, 66.6, 90.0]), np.arange(24) * 15.0

    def mean(day: str) -> np.ndarray:
        fluxes = []
        for hour in range(24):
            days, seconds = clock(np.array([f"{day}T{hour:02d}"], "datetime64[s]"))
            fluxes.append(np.asarray(insolation(jnp.asarray(days), jnp.asarray(seconds), latitude, longitude))[0])
        return np.mean(fluxes, axis=(0, 2))

    equinox, june, december = mean("2020-03-20"), mean("2020-06-20"), mean("2020-12-21")
    # Daily means are S / pi at the equator at an equinox, and S sin(obliquity) at the pole at its solstice (Hartmann).
    assert equinox[2] == pytest.approx(1361 / np.pi / 0.9962**2, rel=0.01)
    assert june[5] == pytest.approx(1361 * np.sin(np.deg2rad(23.44)) / 1.0163**2, rel=0.01)
    assert december[0] == pytest.approx(1361 * np.sin(np.deg2rad(23.44)) / 0.9837**2, rel=0.01)
    assert june[0] == 0
    assert december[5] == 0
    days, seconds = later(jnp.array([3]), jnp.array([DAY_S - 10]), 2 * DAY_S + 20)
    assert (int(days[0]), int(seconds[0])) == (6, 10)


def test_bands_hold_their_share_of_points_by_area() -> None:
    random = np.random.default_rng(0)
    errors = random.normal(size=(400, 2, ROWS, COLUMNS, 1)) * np.array([1.0, 3.0])[None, :, None, None, None]
    bands = LeadBands.fit(errors[:200], LAYOUT.grid.weights)
    inside = (np.abs(errors[200:]) <= bands.half_width(2)[None, :, None, None]) * LAYOUT.grid.weights[..., None]
    coverage = (inside.mean(axis=(2, 3, 4)) >= 0.9).mean(axis=0)
    assert ((coverage > 0.8) & (coverage < 0.98)).all()
    np.testing.assert_allclose(np.array(bands.sigma)[:, 0], [1.0, 3.0], rtol=0.05)
    assert from_plain(LeadBands, to_plain(bands)) == bands
    small = LeadBands.fit(1e-12 * errors[:200], LAYOUT.grid.weights)
    np.testing.assert_allclose(1e12 * small.half_width(2), bands.half_width(2))
    with pytest.raises(ValueError, match="2 leads"):
        bands.half_width(3)


def test_parts_without_windows_and_settings_that_do_not_fit_are_refused(windows: WindowStore, tmp_path: Path) -> None:
    recipe = TrainConfig(epochs=1, checkpoint_every_s=None)
    short = ForecastConfig(network=ConvConfig(width=4, blocks=1), loss=ForecastLossSettings(unroll=30))
    with pytest.raises(InputError, match="no 31 states that follow one another"):
        fit_forecast_surrogate(windows, (0, 60), None, short, recipe, tmp_path / "a", progress=False)
    dated = ForecastConfig(network=ConvConfig(width=4, blocks=1), usual="hour")
    with pytest.raises(InputError, match="no dates"):
        fit_forecast_surrogate(windows, (0, 60), None, dated, recipe, tmp_path / "b", progress=False)
    weights = ForecastLossSettings(variable_weights={"humidity": 1.0})
    strange = ForecastConfig(network=ConvConfig(width=4, blocks=1), loss=weights)
    with pytest.raises(InputError, match="humidity"):
        fit_forecast_surrogate(windows, (0, 60), None, strange, recipe, tmp_path / "c", progress=False)
    assert isinstance(windows.dataset((0, 1)), xr.Dataset)


def test_windows_of_two_stores_are_learned_from_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)

    def written(name: str, records: int, count: int) -> WindowStore:
        segments = []
        for k in range(records):
            times = np.datetime64("2001-01-01", "ns") + (np.arange(count) + 99 * k + count) * np.timedelta64(24, "h")
            drawn = random.normal(280, 5, (count, ROWS, COLUMNS, 2)).astype(np.float32)
            segments.append(Segment.of(LAYOUT.unstack(drawn, ("time",), {"time": times})))
        return write_windows(tmp_path / name, segments, LAYOUT, fingerprint=name)

    main, more, most = written("main", 3, 20), written("more", 7, 5), written("most", 2, 6)
    part = (20, 60)
    batches = WindowBatches(main, part, 7, 1, 3, seed=0, also=(more, most))
    expected = {
        source.read(np.array([start]), 4).tobytes(): clock(source.times[[start]])
        for source, starts in ((main, main.starts(4, part)), (more, more.starts(4)), (most, most.starts(4)))
        for start in starts
    }
    assert len(batches.starts) == len(expected) == 2 * 17 + 7 * 2 + 2 * 3
    assert batches.steps_per_epoch == 54 // 7

    def check(source: WindowBatches) -> list[bytes]:
        rows = []
        for batch in source.epoch(0):
            assert batch.weight.all()
            for frames, day, second in zip(batch.frames, batch.days, batch.seconds, strict=True):
                rows.append(frames.tobytes())
                assert (day, second) == tuple(v[0] for v in expected[rows[-1]])
        return rows

    in_memory = check(batches)
    assert len(set(in_memory)) == len(in_memory) == 49
    monkeypatch.setattr("surrogates.forecasts.batches.MEMORY_BYTES", 0)
    assert check(replace(batches)) == in_memory
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1))
    other = write_windows(
        tmp_path / "other", [Segment.of(more.dataset((0, 5)))], replace(LAYOUT, step_hours=12.0), fingerprint="f" * 64
    )
    with pytest.raises(InputError, match=r"data\.also"):
        fit_forecast_surrogate(
            main, part, None, config, TrainConfig(epochs=1), tmp_path / "run", also=(more, other), progress=False
        )


def test_half_of_the_windows_of_a_training_are_mirrored(tmp_path: Path) -> None:
    layout = replace(LAYOUT, channels=(WeatherChannel("temperature", 0.5), WeatherChannel("v_component_of_wind", 0.5)))
    random = np.random.default_rng(0)
    states = random.normal(size=(40, ROWS, COLUMNS, 2)).astype(np.float32)
    times = np.datetime64("2001-01-01", "ns") + np.arange(40) * np.timedelta64(24, "h")
    record = Segment.of(layout.unstack(states, ("time",), {"time": times}))
    store = write_windows(tmp_path / "w", [record], layout, fingerprint="f" * 64)
    mirrored = states[:, ::-1] * np.array([1, -1], np.float32)

    def drawn(batches: WindowBatches, epoch: int) -> list[tuple[int, bool]]:
        """Which window each row is, and whether it is mirrored."""
        origins = []
        for batch in batches.epoch(epoch):
            for row in batch.frames:
                for sign, originals in ((False, states), (True, mirrored)):
                    origins += [(s, sign) for s in range(38) if np.array_equal(row, originals[s : s + 3])]
        return origins

    batches = WindowBatches(store, (0, 40), 19, 1, 2, seed=0, mirror=True)
    first, second = drawn(batches, 0), drawn(batches, 1)
    for epoch in (first, second):
        assert sorted(s for s, _ in epoch) == list(range(38))
        assert 9 <= sum(turned for _, turned in epoch) <= 29
    assert dict(first) != dict(second)
    assert drawn(batches, 0) == first
    assert not any(turned for _, turned in drawn(replace(batches, seed=None), 0))


def test_hemispheres_that_are_told_apart_are_not_mirrored(tmp_path: Path) -> None:
    def refused(layout: WeatherLayout, static: xr.Dataset | None = None) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shape = (5, *layout.grid.shape, len(layout.channels))
        times = np.datetime64("2001-01-01", "ns") + np.arange(5) * np.timedelta64(24, "h")
        record = Segment.of(layout.unstack(np.ones(shape, np.float32), ("time",), {"time": times}))
        store = write_windows(folder, [record], layout, static=static, fingerprint="f" * 64)
        config = ForecastConfig(network=ConvConfig(width=4, blocks=1), mirror=True)
        with pytest.raises(InputError) as caught:
            fit_forecast_surrogate(store, (0, 5), None, config, TrainConfig(epochs=1), folder / "run", progress=False)
        return str(caught.value)

    north = replace(LAYOUT, grid=WeatherGrid(tuple(np.linspace(0, 75, ROWS)), LAYOUT.grid.longitude))
    assert "does not mirror at the equator" in refused(north)
    assert "how ozone mirrors is not known" in refused(replace(LAYOUT, channels=(WeatherChannel("ozone"),)))
    assert "seasons tell the hemispheres apart" in refused(replace(LAYOUT, calendar=True))
    land = np.zeros(LAYOUT.grid.shape, np.float32)
    land[0] = 1
    coords = {"latitude": list(LAYOUT.grid.latitude), "longitude": list(LAYOUT.grid.longitude)}
    antarctica = xr.Dataset({"land_sea_mask": (("latitude", "longitude"), land)}, coords)
    assert "land_sea_mask tells the hemispheres apart" in refused(
        replace(LAYOUT, static=("land_sea_mask",)), antarctica
    )


def test_forecasts_stream_to_zarr_and_go_on_after_a_stop(
    trained: ForecastSurrogate, windows: WindowStore, tmp_path: Path
) -> None:
    starts = np.array([100, 103, 106])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forecast_to_zarr(trained, windows, starts, 5, tmp_path / "f.zarr", chunk=2, advance=stop)
    first = (tmp_path / "f.zarr" / "temperature" / "c" / "0" / "0" / "0" / "0" / "0").stat().st_mtime_ns
    forecast_to_zarr(trained, windows, starts, 5, tmp_path / "f.zarr", chunk=2)
    assert (tmp_path / "f.zarr" / "temperature" / "c" / "0" / "0" / "0" / "0" / "0").stat().st_mtime_ns == first
    stored = xr.open_zarr(tmp_path / "f.zarr", consolidated=False)
    assert stored["temperature"].dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
    assert stored["time"].values[1] == windows.times[103]
    assert stored["prediction_timedelta"].values[-1] == np.timedelta64(120, "h")
    for k, start in enumerate(starts):
        alone = trained.forecast(windows.dataset((start, start + 1)).isel(time=0), steps=5)
        for name in ("temperature", "surface_pressure"):
            np.testing.assert_allclose(stored[name].values[k], alone[name].values, rtol=1e-5)
    with pytest.raises(InputError, match="other forecasts"):
        forecast_to_zarr(trained, windows, starts, 4, tmp_path / "f.zarr", chunk=2)
    # A changed byte is noticed, in a chunk, a description or the note, and so is a chunk that is gone.
    chunk = tmp_path / "f.zarr" / "temperature" / "c" / "1" / "0" / "0" / "0" / "0"
    described, note = tmp_path / "f.zarr" / "temperature" / "zarr.json", tmp_path / "f.zarr.progress.json"
    for file, words in ((chunk, "checksum"), (described, str(described)), (note, str(note))):
        content = file.read_bytes()
        for place in np.random.default_rng(0).integers(len(content), size=5):
            damaged = bytearray(content)
            damaged[place] ^= 1
            file.write_bytes(damaged)
            with pytest.raises((CorruptStoreError, ValueError), match=re.escape(words)):  # noqa: PT012 (two readers)
                verify_forecasts(tmp_path / "f.zarr")
                xr.open_zarr(tmp_path / "f.zarr", consolidated=False)["temperature"].load()
        file.write_bytes(content)
    chunk.unlink()
    with pytest.raises(CorruptStoreError, match="chunks of it are missing"):
        verify_forecasts(tmp_path / "f.zarr")


def test_amounts_are_never_negative_and_other_variables_are_left_alone(
    trained: ForecastSurrogate, windows: WindowStore
) -> None:
    layout = trained.facts.layout
    amount = WeatherChannel("total_precipitation_6hr")
    rainy = trained.with_facts(layout=replace(layout, channels=(amount, *layout.channels[1:])))
    past = windows.read(np.array([3]), trained.history)
    # States below zero, from which the network's answers are below zero as well.
    past = past - 2 * np.abs(past).max()
    plain = trained.forecast_arrays(past, windows.times[[3]], 2)
    wet = rainy.forecast_arrays(past, windows.times[[3]], 2)
    assert (plain[..., 0] < 0).any()
    np.testing.assert_array_equal(wet[..., 0], np.maximum(plain[..., 0], 0))
    np.testing.assert_array_equal(wet[..., 1:], plain[..., 1:])


def test_checkpoints_describe_the_loss_as_before_it_had_settings() -> None:
    """Notes of checkpoints of earlier versions have these keys, and a run resumes only with an equal description."""
    settings = ForecastLossSettings(unroll=3, level_weights="mass", variable_weights={"temperature": 3.0})
    deterministic, noisy = (ForecastLoss.of(settings, LAYOUT, noisy=noisy) for noisy in (False, True))
    loss = identity(TrainConfig(), deterministic, nnx.State({}))["loss"]
    before = {
        "unroll": 3, "unroll_from": 0.3, "unroll_full": 0.7, "draws": 1, "channel_weights": [*loss["channel_weights"]],
        "input_noise": 0.0, "zonal_weight": 0.0, "zonal_unit": [], "spectral_weight": 0.0, "spectral_unit": [],
    }  # fmt: skip
    assert {**loss, **before} == loss
    # What is not among them has its default, which a resumed run adds.
    assert {key: value for key, value in loss.items() if key not in before} == {
        "level_weights": "equal", "variable_weights": {},
    }  # fmt: skip
    # Three times half of the pressure at the surface, and once the surface.
    assert loss["channel_weights"] == pytest.approx([1.2, 0.8])
    assert noisy.settings.draws == 2
