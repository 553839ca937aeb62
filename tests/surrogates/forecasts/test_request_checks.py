"""What a forecaster is asked: counts, dims, units, values and times that it could not have learned are not answered."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_weather import LAYOUT, states

from data.errors import InputError
from data.plain import from_plain, to_plain
from data.spec import SimulationError
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from surrogates.forecasts.facts import ForecastConfig, ForecastFacts
from surrogates.forecasts.model import ForecastScale
from surrogates.forecasts.networks.conv import ConvConfig
from surrogates.forecasts.request_checks import beyond_learned, times_learned
from surrogates.forecasts.streaming import forecast_to_zarr
from surrogates.forecasts.surrogate import ForecastSurrogate

DATED = replace(LAYOUT, calendar=True, step_hours=6.0)
#: Extremes of the training: those of `small_weather`'s states.
LOW, HIGH = (270.0, 99_800.0), (290.0, 100_200.0)


def untrained(layout: WeatherLayout = LAYOUT, hours: tuple[int, ...] = (0,), **facts: object) -> ForecastSurrogate:
    config = ForecastConfig(network=ConvConfig(width=4, blocks=1), steps=2)
    trained = ForecastFacts(config, layout, ForecastScale((5.0, 100.0), (1.0, 20.0), hours), "none", LOW, HIGH, **facts)  # type: ignore[arg-type]
    return ForecastSurrogate(trained.model(np.repeat(states(1, 0), len(hours), axis=0)), trained)


def state(layout: WeatherLayout = LAYOUT, time: str = "2001-01-01T06") -> xr.Dataset:
    return layout.unstack(states(1, 1)[0], (), {"time": np.datetime64(time, "ns")})


def test_a_step_that_is_written_as_a_whole_number_of_hours_is_saved(tmp_path: Path) -> None:
    model = untrained(replace(LAYOUT, step_hours=24))
    model.save(tmp_path / "s")
    assert ForecastSurrogate.load(tmp_path / "s").spec.sizes == model.spec.sizes


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "2"])
def test_counts_are_whole_numbers_of_one_or_more(count: object) -> None:
    for key in ("steps", "members"):
        with pytest.raises(InputError, match=f"{key}: must be a whole number of 1 or more"):
            untrained().forecast(state(), **{key: count})  # type: ignore[arg-type]


def test_a_state_of_other_dims_is_refused_and_its_dims_may_stand_in_any_order() -> None:
    model, one = untrained(), state()
    with pytest.raises(InputError, match=r"got a DataArray.*to_dataset\(name='temperature'\)"):
        model.forecast(one["temperature"])  # type: ignore[arg-type]
    several = xr.concat([one, one], "number", coords="minimal", compat="override")
    with pytest.raises(InputError, match=r"dim number of 2.*isel\(number=0\)"):
        model.forecast(several)
    straight = model.forecast(one)["temperature"].values
    np.testing.assert_array_equal(model.forecast(several.isel(number=[1]))["temperature"].values, straight)
    turned = one.assign(surface_pressure=one["surface_pressure"].transpose("longitude", "latitude"))
    answer = model.forecast(turned.assign(temperature=one["temperature"].transpose("longitude", ...)))
    np.testing.assert_array_equal(answer["temperature"].values, straight)


#: What people call the variables and dims of a state, and what the refusal says to type.
OTHER_NAMES: list[tuple[dict[str, str], str]] = [
    (
        {"temperature": "t", "surface_pressure": "sp"},
        r"no variable temperature and no surface_pressure in it. Forecast from "
        r"state.rename\({'t': 'temperature', 'sp': 'surface_pressure'}\)$",
    ),
    (
        {"latitude": "lat", "longitude": "lon", "level": "plev"},
        r"no dim latitude in it; no dim longitude in it; no dim level in it. Forecast from "
        r"state.rename\({'plev': 'level', 'lat': 'latitude', 'lon': 'longitude'}\)$",
    ),
    (
        {"surface_pressure": "surface_presure", "latitude": "lat"},
        r"state.rename\({'lat': 'latitude'}\). Did you mean surface_presure\? It has temperature, surface_presure, .*; "
        "temperature, surface_pressure, latitude, longitude, level are needed$",
    ),
    ({"temperature": "abc"}, r"no variable temperature in it. It has abc, surface_pressure, .* are needed$"),
]


@pytest.mark.parametrize(("names", "words"), OTHER_NAMES)
def test_names_that_others_use_come_with_the_renaming_to_type(names: dict[str, str], words: str) -> None:
    one = state()
    renamed = one.rename(names)
    with pytest.raises(InputError, match=words):
        untrained().forecast(renamed)
    # The renaming that it says is enough.
    back = renamed.rename({new: old for old, new in names.items()})
    np.testing.assert_array_equal(
        untrained().forecast(back)["temperature"].values, untrained().forecast(one)["temperature"].values
    )


def test_a_state_without_units_is_held_to_the_values_of_the_training() -> None:
    model, one = untrained(), state()
    bare = one.copy()
    bare["surface_pressure"].attrs.clear()
    with pytest.warns(UserWarning, match="no units, taken are surface_pressure in Pa"):
        taken = model.forecast(bare)
    np.testing.assert_array_equal(taken["temperature"].values, model.forecast(one)["temperature"].values)
    # Pressures in hPa and temperatures in degrees Celsius, whatever their attributes say.
    hecto = one.assign(surface_pressure=(one["surface_pressure"] / 100).assign_attrs(units="Pa"))
    with pytest.raises(InputError, match=r"surface_pressure is from \d+.* in the training from 99800 to 100200 Pa"):
        model.forecast(hecto)
    celsius = one.assign(temperature=(one["temperature"] - 273.15).assign_attrs(units="K"))
    with pytest.raises(InputError, match=r"temperature_0.5 is from"):
        model.forecast(celsius)
    inputs = {name: celsius[name].values for name in ("temperature", "surface_pressure")}
    with pytest.raises(SimulationError, match=r"invalid_input.*temperature_0.5 is from"):
        model.simulate(model.spec.request(inputs))
    # Half a range of the training beyond its extremes is said, and answered.
    top = float(one["temperature"].max())
    warm = one.assign(temperature=(one["temperature"] + (300.0 - top)).assign_attrs(units="K"))
    with pytest.warns(UserWarning, match=r"to 300, in the training from 270 to 290 K"):
        model.forecast(warm)
    assert beyond_learned(states(1, 1), model.facts) == ([], [])


def test_hours_without_usual_states_are_refused_and_unlike_times_are_said() -> None:
    model = untrained(DATED, (0, 6, 12, 18), times_of_day=(0.0, 6.0, 12.0, 18.0), months=(1, 2, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.forecast(state(DATED))
    with pytest.raises(InputError, match=r"03:00 UTC is an hour.*00:00, 06:00, 12:00, 18:00"):
        model.forecast(state(DATED, "2001-01-01T03"))
    with pytest.warns(UserWarning, match="months 7 begin forecasts, the training had those of the months 1, 2, 12"):
        model.forecast(state(DATED, "2001-07-01T06"))
    # The right hour, but half an hour late.
    with pytest.warns(UserWarning, match="states at 06:30 UTC begin"):
        model.forecast(state(DATED, "2001-01-01T06:30"))
    # A step that leads to an hour without a usual state.
    twelve = untrained(replace(DATED, step_hours=3.0), (0, 6, 12, 18))
    with pytest.raises(InputError, match="09:00 UTC"):
        twelve.forecast(state(DATED))
    with pytest.raises(InputError, match="no date"):
        model.forecast(state(DATED).assign_coords(time=6))
    times = np.array(["2001-01-01T00", "2001-02-01T12:30", "2003-12-05T00"], "datetime64[ns]")
    assert times_learned(times) == ((0.0, 12.5), (1, 2, 12))


def test_facts_keep_their_times_and_those_of_older_versions_lack_them() -> None:
    facts = untrained(DATED, times_of_day=(0.0, 12.5), months=(1, 12)).facts
    assert from_plain(ForecastFacts, to_plain(facts)) == facts
    older = untrained(DATED).facts
    assert "months" not in to_plain(older)
    assert from_plain(ForecastFacts, to_plain(older)) == older


def windows(path: Path, layout: WeatherLayout) -> WindowStore:
    shape = (4, *layout.grid.shape, len(layout.channels))
    times = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(round(layout.step_hours), "h")
    state = layout.unstack(np.ones(shape, np.float32), ("time",), {"time": times})
    return write_windows(path, [Segment.of(state)], layout, fingerprint="f" * 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step_hours": 48.0}, "48 h from one to the next, 24 h are needed"),
        ({"channels": (WeatherChannel("temperature", 0.5),)}, "without surface_pressure"),
        ({"channels": LAYOUT.channels[::-1]}, "another order"),
        ({"calendar": True}, "with dates, without dates are needed"),
        ({"level_units": "hPa"}, "levels in hPa, 1 is needed"),
        ({"grid": WeatherGrid(tuple(np.linspace(-70, 70, 6)), LAYOUT.grid.longitude)}, "6 latitudes from -70 to 70"),
    ],
)
def test_windows_of_other_states_are_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    other = windows(tmp_path / "w", replace(LAYOUT, **change))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        LAYOUT.refuse_other_states(other.layout, "w", "those of the surrogate")
    with pytest.raises(InputError, match=said):
        forecast_to_zarr(untrained(), other, np.array([1]), 2, tmp_path / "f.zarr")
