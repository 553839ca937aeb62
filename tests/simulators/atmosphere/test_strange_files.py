"""Files as other people have them: the right state comes out, or a sentence says why none does."""

from __future__ import annotations

import os
import runpy
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.sphere.units import conversion, same_units
from simulators.atmosphere.reanalysis.plausible import RANGES
from simulators.atmosphere.reanalysis.reanalysis import Reanalysis
from simulators.atmosphere.reanalysis.sources import open_source
from simulators.atmosphere.reanalysis.times import time_axis

T0 = np.datetime64("2020-02-25T00", "ns")
LATITUDE, LONGITUDE = np.linspace(90, -90, 7), np.arange(0, 360, 30.0)


def hours(count: int, step: float = 6) -> np.ndarray:
    return T0 + (np.arange(count) * step * 3600).astype("timedelta64[s]")


def truth(times: np.ndarray, latitude: np.ndarray = LATITUDE, longitude: np.ndarray = LONGITUDE) -> np.ndarray:
    """A temperature in K, known at every time and place; (time, latitude, longitude)."""
    age = (times - T0) / np.timedelta64(1, "h")
    row, column = np.deg2rad(latitude)[None, :, None], np.deg2rad(longitude)[None, None, :]
    return 288 - 40 * np.sin(row) ** 2 + 3 * np.cos(row) * np.sin(column - age[:, None, None] / 15)


def record(
    times: np.ndarray, latitude: np.ndarray = LATITUDE, longitude: np.ndarray = LONGITUDE, **attrs: str
) -> xr.Dataset:
    values = truth(times, latitude, longitude).astype("f4")
    array = xr.DataArray(
        values, {"time": times, "latitude": latitude, "longitude": longitude}, attrs={"units": "K", **attrs}
    )
    return array.to_dataset(name="t2m")


def kept(path: Path, data: xr.Dataset) -> str:
    data.to_netcdf(path, engine="h5netcdf")
    return str(path)


def states(source: Reanalysis) -> np.ndarray:
    return np.concatenate([source.layout.stack(s.read(0, len(s.times))) for s in source.segments()])


def assert_true(source: Reanalysis, times: np.ndarray, atol: float = 1e-3) -> None:
    """The states are those of the closed form, in the order of latitude and longitude from 0."""
    grid = source.target
    stamps = np.concatenate([s.times for s in source.segments()])
    np.testing.assert_array_equal(stamps, times)
    right = truth(times, np.array(grid.latitude), np.array(grid.longitude))
    np.testing.assert_allclose(states(source)[..., 0], right, atol=atol)


# Files under one pattern


def test_each_file_is_brought_to_our_units_before_it_is_joined(tmp_path: Path) -> None:
    times = hours(8)
    kept(tmp_path / "a1.nc", record(times[:4]))
    celsius = record(times[4:], units="degC")
    celsius["t2m"] = (celsius.t2m - 273.15).assign_attrs(units="degC")
    kept(tmp_path / "a2.nc", celsius)
    source = Reanalysis(str(tmp_path / "a*.nc"))
    assert_true(source, times)
    assert any("a2.nc was converted from degC to K" in s for s in source.reading().assumed)
    assert_true(Reanalysis([str(tmp_path / "a1.nc"), str(tmp_path / "a2.nc")]), times)  # type: ignore[arg-type]
    del celsius.t2m.attrs["units"]
    kept(tmp_path / "a3.nc", celsius.assign_coords(time=times[4:] + np.timedelta64(1, "D")))
    with pytest.raises(InputError, match=r"a3\.nc: 2m_temperature has no attribute units"):
        states(Reanalysis(str(tmp_path / "a*.nc")))


def test_files_with_turned_shifted_rounded_and_overlapping_coordinates_are_one_record(tmp_path: Path) -> None:
    times = hours(12)
    kept(tmp_path / "a1.nc", record(times[:5]))
    kept(tmp_path / "a2.nc", record(times[4:8], LATITUDE[::-1], LONGITUDE - 180).assign_coords(
        latitude=LATITUDE[::-1] + 1e-7
    ))  # fmt: skip
    kept(tmp_path / "a3.nc", record(times[8:]))
    source = Reanalysis(str(tmp_path / "a*.nc"))
    assert_true(source, times)
    assert source.reading().left_out == {"in two files with the same values, taken once": 1}
    other = record(times[4:8])
    other["t2m"] = other.t2m + 1
    kept(tmp_path / "a4.nc", other)
    with pytest.raises(InputError, match=r"2m_temperature at 2020-02-26T00:00 differs from that of .*\.nc"):
        states(Reanalysis(str(tmp_path / "a*.nc")))


def test_variables_of_other_times_meet_at_common_ones_and_the_rest_is_counted(tmp_path: Path) -> None:
    kept(tmp_path / "hourly.nc", record(hours(13, 1)))
    wind = record(hours(3, 6), units="m s-1").rename(t2m="u10")
    kept(tmp_path / "sixhourly.nc", (wind - 280).assign(u10=(wind.u10 - 280).assign_attrs(units="m s-1")))
    source = Reanalysis(str(tmp_path / "*ly.nc"))
    assert states(source).shape == (3, 7, 12, 2)
    [(reason, count)] = source.reading().left_out.items()
    assert "not in all of the files" in reason
    assert count == 10


def test_a_file_a_level_makes_one_record(tmp_path: Path) -> None:
    for level, units in ((500.0, "hPa"), (85000.0, "Pa")):
        data = record(hours(3)).rename(t2m="t").expand_dims(level=[level])
        data["t"] = data.t + (0 if level == 500 else 10)
        data["t"].attrs["units"] = "K"
        data["level"].attrs["units"] = units
        kept(tmp_path / f"l{level:g}.nc", data)
    source = Reanalysis(str(tmp_path / "l*.nc"))
    assert [c.label for c in source.layout.channels] == ["temperature_500", "temperature_850"]
    np.testing.assert_allclose(states(source)[..., 1] - states(source)[..., 0], 10, atol=1e-3)


# Times


@pytest.mark.parametrize("year", [1, 1500, 2300])
def test_years_that_nanoseconds_cannot_hold_are_refused_and_never_other_years(tmp_path: Path, year: int) -> None:
    data = record(hours(4)).assign_coords(
        time=("time", np.arange(4.0), {"units": f"days since {year:04d}-03-01", "calendar": "noleap"})
    )
    with pytest.raises(InputError, match=f"years from {year} to {year}"):
        states(Reanalysis(kept(tmp_path / "a.nc", data)))


@pytest.mark.parametrize("calendar", ["360_day", "all_leap", "julian"])
def test_calendars_of_other_days_are_refused(tmp_path: Path, calendar: str) -> None:
    attrs = {"units": "days since 2019-02-27", "calendar": calendar}
    data = record(hours(6)).assign_coords(time=("time", np.arange(6.0), attrs))
    # xarray gives calendars their other name.
    with pytest.raises(InputError, match=f"the calendar ({calendar}|366_day) has other days than ours"):
        states(Reanalysis(kept(tmp_path / "a.nc", data)))


def test_times_in_single_precision_lose_no_state(tmp_path: Path) -> None:
    times = hours(240, 1)
    days = ((times - np.datetime64("1900-01-01")) / np.timedelta64(1, "D")).astype("f4")
    data = record(times).assign_coords(time=("time", days, {"units": "days since 1900-01-01"}))
    source = Reanalysis(kept(tmp_path / "a.nc", data))
    assert_true(source, times)
    assert "minutes beside whole steps of 1 h" in source.reading().assumed[0]


@given(
    st.sampled_from([1, 3, 6, 12, 24]), st.integers(10, 60), st.integers(0, 59), st.integers(0, 2**31),
    st.floats(0, 0.05),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_steps_are_those_of_the_times_without_their_rounding(
    step: int, count: int, minute: int, seed: int, error: float
) -> None:
    random = np.random.default_rng(seed)
    exact = T0 + np.timedelta64(minute - minute % 5, "m") + np.arange(count) * np.timedelta64(step * 3600, "s")
    rounding = (random.uniform(-error, error, count) * step * 3600).astype("timedelta64[s]")
    axis = time_axis(exact + rounding)
    assert axis.hours == step
    assert (np.diff(axis.step) == 1).all()
    assert np.abs((axis.times - exact) / np.timedelta64(1, "s")).max() <= error * step * 3600 + 60
    assert len(np.unique(np.diff(axis.times))) == 1


def test_one_odd_hour_costs_only_itself(tmp_path: Path) -> None:
    times = hours(20)
    odd = np.sort(np.append(times, times[5] + np.timedelta64(1, "h")))
    source = Reanalysis(kept(tmp_path / "a.nc", record(odd)))
    assert_true(source, times)
    assert source.reading().left_out == {"between the steps of 6 h, the commonest": 1}


@pytest.mark.parametrize(("unit", "hours_of_a_step"), [("M", 730.485), ("Y", 8765.82)])
def test_months_and_years_are_steps(tmp_path: Path, unit: str, hours_of_a_step: float) -> None:
    times = np.arange("2000", "2012", dtype=f"datetime64[{unit}]").astype("datetime64[ns]")
    source = Reanalysis(kept(tmp_path / "a.nc", record(times)))
    assert_true(source, times)
    assert source.hours == pytest.approx(hours_of_a_step)
    assert len(list(source.segments())) == 1
    gap = Reanalysis(kept(tmp_path / "b.nc", record(np.delete(times, 5))))
    assert len(list(gap.segments())) == 2


def test_a_step_that_does_not_divide_is_refused_and_a_multiple_says_what_it_leaves_out(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.nc", record(hours(8)))
    with pytest.raises(InputError, match="steps of 4 h are asked for, and its states lie 6 h apart"):
        states(Reanalysis(path, step_hours=4))
    source = Reanalysis(path, step_hours=12)
    assert states(source).shape[0] == 4
    assert source.reading().left_out == {"between the steps of 12 h that were asked for": 4}
    assert states(Reanalysis(path, start=2020, stop=2020)).shape[0] == 8


# Values and units


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v - 273.15, "If these are degrees Celsius"),
        (lambda v: np.where(v > 285, -9999, v), "is -9999 K at time .* If it stands for a missing value"),
        (lambda v: np.where(v > 285, 1e36, v), r"1e\+36 K at .* If it stands for a missing value"),
    ],
)
def test_what_no_atmosphere_has_is_refused_with_its_place(tmp_path: Path, change: object, words: str) -> None:
    data = record(hours(3))
    data["t2m"] = (data.t2m.dims, change(data.t2m.values).astype("f4"), {"units": "K"})  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as error:
        states(Reanalysis(kept(tmp_path / "a.nc", data)))
    assert "2m_temperature is " in str(error.value)
    assert " at time 2020-02-25T00:00, latitude " in str(error.value)


def test_pressure_in_hectopascal_under_the_name_of_pascal_is_refused(tmp_path: Path) -> None:
    data = record(hours(3)).rename(t2m="msl")
    data["msl"] = (data.msl + 725).assign_attrs(units="Pa")
    with pytest.raises(InputError, match="If these are hPa, set its attribute units to hPa"):
        states(Reanalysis(kept(tmp_path / "a.nc", data)))


def test_every_range_holds_what_was_measured_on_earth() -> None:
    # Records of the World Meteorological Organization: 184.0 K (Vostok), 329.9 K (Furnace Creek), 870 hPa (typhoon
    # Tip), 1083.8 hPa (Agata), a gust of 113 m/s (Barrow Island), 0.305 m of rain in an hour (Holt) and 1.825 m in a
    # day (Foc-Foc).
    for name, values in {
        "2m_temperature": (184.0, 329.9), "mean_sea_level_pressure": (87000, 108380),
        "10m_u_component_of_wind": (-113, 113), "total_precipitation": (0, 0.305),
        "total_precipitation_24hr": (0, 1.825),
    }.items():  # fmt: skip
        assert RANGES[name][0] < min(values)
        assert max(values) < RANGES[name][1]


SPELLED = {
    "K": ["kelvin", "degK", "deg_K", "K"], "degC": ["degrees_C", "°C", "celsius", "degree_Celsius", "C"],
    "Pa": ["Pascals", "pa", "N m-2"], "hPa": ["millibar", "mb", "mbar", "hectopascals"],
    "m s-1": ["m/s", "m s**-1", "m s^-1", "metres/second", "m.s-1"], "mm": ["kg m-2", "kg m**-2", "millimetres"],
    "m": ["metres", "meters", "m of water equivalent"], "knot": ["knots", "kt"], "m2 s-2": ["m**2 s**-2", "J kg-1"],
}  # fmt: skip


@pytest.mark.parametrize(("unit", "spelling"), [(u, s) for u, spellings in SPELLED.items() for s in spellings])
def test_spellings_mean_their_unit_and_no_other(unit: str, spelling: str) -> None:
    assert same_units(unit, spelling)
    assert [u for u in SPELLED if same_units(u, spelling)] == [unit]


@pytest.mark.parametrize(
    ("spelling", "unit", "value", "right"),
    [("degC", "K", 100.0, 373.15), ("mb", "Pa", 1013.25, 101325.0), ("knots", "m s-1", 3600.0, 1852.0),
     ("kg m**-2", "m", 1000.0, 1.0), ("km/h", "m s-1", 36.0, 10.0), ("g/kg", "kg kg-1", 5.0, 0.005)],
)  # fmt: skip
def test_units_are_converted_by_their_definitions(spelling: str, unit: str, value: float, right: float) -> None:
    pair = conversion(spelling, unit)
    assert pair is not None
    assert value * pair[0] + pair[1] == pytest.approx(right)
    assert conversion("furlong", unit) is None


def test_a_rate_is_no_amount(tmp_path: Path) -> None:
    data = record(hours(3)).rename(t2m="tp")
    data["tp"] = (data.tp * 1e-3).assign_attrs(units="mm/h")
    with pytest.raises(InputError, match="It is a rate"):
        states(Reanalysis(kept(tmp_path / "a.nc", data)))


# Missing values


def test_a_new_cell_is_the_mean_of_what_is_there_and_then_the_fill(tmp_path: Path) -> None:
    latitude, longitude = np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0)
    data = record(hours(1), latitude, longitude).rename(t2m="sst")
    land = (np.abs(data.longitude - 100) < 41) & (np.abs(data.latitude - 20) < 41)
    data["sst"] = data.sst.where(~land).assign_attrs(units="K")
    path = kept(tmp_path / "a.nc", data)
    source = Reanalysis(path, grid=(18, 36), fill={"sea_surface_temperature": 300.0})
    regridded = states(source)[0, ..., 0]
    # By hand: two by two cells, weighted by their area, of those that are there.
    weight = (np.sin(np.deg2rad(latitude + 2.5)) - np.sin(np.deg2rad(latitude - 2.5)))[:, None] * np.ones(72)
    sea = ~land.transpose("latitude", "longitude").values
    # A cell of 10 degrees about 0 spans half of the one at -5 and of the one at 5, and that at 0.
    share = np.zeros((36, 72))
    for k in range(36):
        share[k, [2 * k, (2 * k + 1) % 72, (2 * k - 1) % 72]] = 1.0, 0.5, 0.5
    pair = np.kron(np.eye(18), np.ones(2))
    values = np.nan_to_num(data.sst.values[0])
    total = pair @ (weight * sea * values) @ share.T
    area = pair @ (weight * sea) @ share.T
    right = np.where(area > 1e-9, total / np.maximum(area, 1e-9), 300.0)
    np.testing.assert_allclose(regridded, right, atol=2e-3)
    assert (area < 1e-9).any()


def test_one_missing_value_is_named_where_it_is_and_reaches_no_other_cell(tmp_path: Path) -> None:
    latitude, longitude = np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0)
    data = record(hours(2), latitude, longitude)
    data["t2m"][1, 20, 30] = np.nan
    for method in ("conservative", "bilinear"):
        regridded = states(Reanalysis(kept(tmp_path / f"{method}.nc", data), grid=(18, 36), regrid=method))
        missing = np.argwhere(np.isnan(regridded[..., 0]))
        assert 1 <= len(missing) <= 4
        assert set(missing[:, 0]) == {1}
        assert np.abs(missing[:, 1] - 10).max() <= 1
        assert np.abs(missing[:, 2] - 15).max() <= 1


# Levels, names and coordinates


@pytest.mark.parametrize(
    ("levels", "units", "answer"),
    [
        ((50000, 85000), None, "have no units"),
        ((1, 2, 3), None, "have no units"),
        ((1, 2, 3), "level", "its levels are in level"),
        ((500, 850), None, (500.0, 850.0)),
        ((50000, 85000), "Pa", (500.0, 850.0)),
        ((500, 850), "millibars", (500.0, 850.0)),
    ],
)
def test_levels_are_certain_or_refused(tmp_path: Path, levels: tuple, units: str | None, answer: object) -> None:
    data = xr.concat([record(hours(2)).rename(t2m="t")] * len(levels), "level").assign_coords(level=list(levels))
    data["t"].attrs["units"] = "K"
    if units:
        data["level"].attrs["units"] = units
    source = Reanalysis(kept(tmp_path / "a.nc", data))
    if isinstance(answer, str):
        with pytest.raises(InputError, match=answer):
            states(source)
        return
    assert tuple(c.level for c in source.layout.channels) == answer
    assert any("taken for hPa" in s for s in source.reading().assumed) == (units is None)


def test_a_geopotential_without_a_level_is_not_taken_for_the_surface(tmp_path: Path) -> None:
    data = record(hours(3))
    data["z"] = (data.t2m * 200).assign_attrs(units="m2 s-2")
    data["air"] = data.t2m
    unused = Reanalysis(kept(tmp_path / "a.nc", data)).reading().unused
    assert "on a level that the file does not name" in unused["z"]
    assert "name it by source.names to use it" in unused["air"]
    orography = data.assign(z=data.z.isel(time=0, drop=True).assign_attrs(units="m2 s-2"))
    assert Reanalysis(kept(tmp_path / "b.nc", orography)).layout.static == ("geopotential_at_surface",)


@pytest.mark.parametrize("start", [0.0, -180.0])
def test_a_circle_that_is_closed_has_its_first_meridian_once(tmp_path: Path, start: float) -> None:
    longitude = start + np.arange(13) * 30.0
    assert_true(Reanalysis(kept(tmp_path / "a.nc", record(hours(2), longitude=longitude))), hours(2))


def test_short_names_and_the_order_of_a_region(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.nc", record(hours(2)))
    assert Reanalysis(path, variables=("t2m",)).layout.variables == ("2m_temperature",)
    with pytest.raises(ValueError, match="did you mean 2m_temperature"):
        Reanalysis(path, variables=("2m_temprature",))
    with pytest.raises(InputError, match=r"Give south, north, west, east, in this order: \[-30,30,-60,60\]"):
        states(Reanalysis(path, region=(30, -60, -30, 60)))


def test_a_zip_under_the_name_of_netcdf_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nc").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(InputError, match="a zip archive, not NetCDF"):
        states(Reanalysis(str(tmp_path / "a.nc")))


def test_final_and_preliminary_values_are_one_record(tmp_path: Path) -> None:
    times = hours(10)
    whole = record(times).t2m
    parts = [whole.where(whole.time < times[6]), whole.where(whole.time >= times[6])]
    data = xr.concat(parts, xr.DataArray([1, 5], dims="expver", name="expver")).to_dataset(name="t2m")
    data["t2m"].attrs["units"] = "K"
    source = Reanalysis(kept(tmp_path / "a.nc", data))
    assert_true(source, times)
    assert "preliminary" in source.reading().assumed[0]


# Precipitation


def rain(path: Path, *, since_midnight: bool) -> tuple[str, np.ndarray, np.ndarray]:
    """A record of four days, its times and what fell in each hour."""
    times = hours(96, 1)
    fell = np.random.default_rng(0).gamma(0.3, 1e-4, (96, 3, 4)).astype("f4")
    values = fell.copy()
    if since_midnight:
        for i in range(1, 96):
            if times[i].astype("datetime64[h]").astype(int) % 24 != 1:
                values[i] += values[i - 1]
    coords = {"time": times, "latitude": [0.0, 1, 2], "longitude": [0.0, 1, 2, 3]}
    data = xr.Dataset({"tp": (("time", "latitude", "longitude"), values, {"units": "m"})}, coords)
    return kept(path, data), times, fell


def test_what_fell_since_midnight_is_recognised_and_taken_apart(tmp_path: Path) -> None:
    path, _, fell = rain(tmp_path / "land.nc", since_midnight=True)
    for name in ("total_precipitation", "total_precipitation_6hr"):
        with pytest.raises(InputError, match=r"grows from hour to hour .* Give source\.accumulated=day"):
            states(Reanalysis(path, variables=(name,)))
    source = Reanalysis(
        path, variables=("total_precipitation_6hr",), accumulated="day", start="2020-02-25T07", step_hours=6
    )
    stamps = np.concatenate([s.times for s in source.segments()])
    at = ((stamps - T0) / np.timedelta64(1, "h")).astype(int)
    right = np.stack([fell[i - 5 : i + 1].sum(axis=0) for i in at])
    np.testing.assert_allclose(states(source)[..., 0], right, rtol=2e-3, atol=1e-8)
    hourly, _, fell = rain(tmp_path / "hourly.nc", since_midnight=False)
    np.testing.assert_array_equal(states(Reanalysis(hourly))[..., 0], fell)


def test_sums_since_midnight_lose_only_the_hours_that_are_not_known(tmp_path: Path) -> None:
    path, times, fell = rain(tmp_path / "land.nc", since_midnight=True)
    with xr.open_dataset(path, engine="h5netcdf") as data:
        holed = data.load().isel(time=np.r_[0:30, 33:96])
    source = Reanalysis(kept(tmp_path / "holed.nc", holed), accumulated="day")
    stamps = np.concatenate([s.times for s in source.segments()])
    at = ((stamps - times[0]) / np.timedelta64(1, "h")).astype(int)
    starts_new = times[0].astype("datetime64[h]").astype(int) % 24 == 1
    unknown = {30, 31, 32, 33} | (set() if starts_new else {0})
    assert at.tolist() == [i for i in range(96) if i not in unknown]
    np.testing.assert_allclose(states(source)[..., 0], fell[at], atol=1e-8)
    assert sum(source.reading().left_out.values()) == 93 - len(at)


def test_rain_late_in_one_day_is_no_sum_and_amounts_below_zero_are_said(tmp_path: Path) -> None:
    path, times, fell = rain(tmp_path / "hourly.nc", since_midnight=False)
    hour = times.astype("datetime64[h]").astype(int) % 24
    first = int(np.argmax(hour == 1))
    fell[first : first + 23] = 0
    fell[first + 23] = 1e-4
    fell[fell < 1e-6] = -1.2e-7
    with xr.open_dataset(path, engine="h5netcdf") as data:
        data = data.load()
    data["tp"].values[:] = fell
    source = Reanalysis(kept(tmp_path / "late.nc", data))
    np.testing.assert_array_equal(states(source)[..., 0], np.maximum(fell, 0))
    assert any("total_precipitation goes down to -1.2e-07 m" in text for text in source.reading().assumed)


def test_files_whose_times_and_circles_are_written_otherwise_are_one_record(tmp_path: Path) -> None:
    longitude = np.arange(8) * 45.0
    times = np.datetime64("2020-02-25", "ns") + np.arange(12) * np.timedelta64(6, "h")

    def part(name: str, units: str, east: np.ndarray, offset: float) -> xr.Dataset:
        wave = np.cos(np.deg2rad(east))[None, None] + np.arange(12)[:, None, None] + np.zeros((1, 5, 1))
        coords = {"time": times, "latitude": np.linspace(-80, 80, 5), "longitude": east}
        return xr.Dataset({name: (("time", "latitude", "longitude"), wave + offset, {"units": units})}, coords)

    days = (times - np.datetime64("1850-01-01")) / np.timedelta64(1, "D") + 1e-8
    closed = part("u10", "m s-1", np.append(longitude, 360.0), 0.0)
    closed = closed.assign_coords(time=("time", days, {"units": "days since 1850-01-01"}))
    paths = [kept(tmp_path / "a.nc", part("t2m", "K", longitude, 280.0)), kept(tmp_path / "b.nc", closed)]
    for order in (paths, paths[::-1]):
        source = Reanalysis(order, variables=("t2m", "u10"))
        values = states(source)
        assert values.shape == (12, 5, 8, 2)
        np.testing.assert_allclose(values[..., 0] - 280, values[..., 1], atol=1e-4)


def test_files_that_disagree_in_the_middle_of_their_overlap_are_refused(tmp_path: Path) -> None:
    times = np.datetime64("2020-02-25", "ns") + np.arange(12) * np.timedelta64(6, "h")
    values = 280 + np.random.default_rng(0).normal(size=(12, 5, 8)).astype("f4")
    coords = {"time": times, "latitude": np.linspace(-80, 80, 5), "longitude": np.arange(8) * 45.0}
    whole = xr.Dataset({"t2m": (("time", "latitude", "longitude"), values, {"units": "K"})}, coords)
    other = whole.isel(time=slice(2, 12)).copy(deep=True)
    paths = [kept(tmp_path / "a.nc", whole.isel(time=slice(0, 7))), kept(tmp_path / "b.nc", other)]
    np.testing.assert_array_equal(states(Reanalysis(paths))[..., 0], values)
    other["t2m"].values[2, 1, 3] += 0.2  # within a thousandth of 280 K, and neither the first nor the last
    paths[1] = kept(tmp_path / "c.nc", other)
    with pytest.raises(InputError, match="2m_temperature at 2020-02-26T00:00 differs"):
        states(Reanalysis(paths))


@pytest.fixture(scope="module")
def gribs(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GRIB files as the climate data store gives them."""
    script = shared_data.parent / "cases" / "weather" / "make_grib.py"
    if not script.is_file():
        pytest.skip("the folder of cases is absent")
    folder = tmp_path_factory.mktemp("grib")
    shutil.copy(script, folder)
    before = os.getcwd()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(str(folder / "make_grib.py"))
    finally:
        os.chdir(before)
    return folder


def test_precipitation_of_forecasts_lies_along_its_valid_time(gribs: Path) -> None:
    right = np.load(gribs / "l_rate.npz")
    for name in ("l02_tp_only.grib", "l01_t2m_tp.grib"):
        source = Reanalysis(str(gribs / name), variables=("total_precipitation",))
        stamps = np.concatenate([s.times for s in source.segments()]).astype("datetime64[s]")
        assert len(stamps) == 72
        for stamp, state in zip(stamps, states(source), strict=True):
            # Latitudes from the north in the file; packed to 24 bits.
            np.testing.assert_allclose(state[..., 0], right[str(stamp)][::-1], atol=1e-9)
    assert [c.label for c in Reanalysis(str(gribs / "l01_t2m_tp.grib")).layout.channels] == [
        "2m_temperature", "total_precipitation",
    ]  # fmt: skip


def test_forecasts_are_flattened_and_an_overlap_is_said(gribs: Path) -> None:
    one = Reanalysis(str(gribs / "l06_forecast_steps.grib"))
    assert (one.states, one.hours) == (9, 6)
    two = Reanalysis(str(gribs / "l07_two_forecasts.grib"))
    assert two.states == 5
    assert "1 times are in two forecasts: that of the later start was taken" in two.reading().assumed


def test_variables_on_other_levels_and_an_hour_that_one_lacks_cost_only_themselves(gribs: Path) -> None:
    levels = Reanalysis(str(gribs / "l05_levels_differ.grib"))
    labels = [c.label for c in levels.layout.channels]
    assert sorted(labels) == ["temperature_500", "temperature_850", "u_component_of_wind_850"]
    assert np.isfinite(states(levels)).all()
    lacking = Reanalysis(str(gribs / "l08_lacking_hour.grib"))
    assert lacking.reading().used == 11
    assert sum(lacking.reading().left_out.values()) == 1


# What a newcomer's own files brought up


def test_hours_that_are_said_to_be_sums_since_midnight_are_refused(tmp_path: Path) -> None:
    path, _, _ = rain(tmp_path / "a.nc", since_midnight=False)
    source = Reanalysis(path, accumulated="day")
    with pytest.raises(InputError, match=r"less than an hour before .* no sum since 00 UTC. Leave source.accumulated"):
        states(source)


@pytest.mark.parametrize(("name", "units"), [("latitude", "radians"), ("longitude", "rad"), ("longitude", "m")])
def test_coordinates_in_other_units_than_degrees_are_refused(tmp_path: Path, name: str, units: str) -> None:
    data = record(hours(3))
    data[name].attrs["units"] = units
    with pytest.raises(InputError, match=f"{name} is in {units}, degrees are needed"):
        _ = Reanalysis(kept(tmp_path / "a.nc", data)).target


def test_a_state_beside_its_step_does_not_move_the_others(tmp_path: Path) -> None:
    times = hours(8)
    late = times + np.array([0, 0, 0, 0, 7, 0, 0, 0]).astype("timedelta64[m]")
    source = Reanalysis(kept(tmp_path / "a.nc", record(times).assign_coords(time=late)))
    assert_true(source, times)
    assert any("up to 7 minutes beside whole steps" in text for text in source.reading().assumed)


def test_a_region_beyond_the_points_and_a_single_time_are_said(tmp_path: Path) -> None:
    data = record(hours(1), np.arange(60, 29, -5.0), np.arange(-20, 21, 5.0))
    path = kept(tmp_path / "a.nc", data)
    inside = " ".join(Reanalysis(path, region=(30, 60, -20, 20)).reading().assumed)
    assert "extends beyond the points" not in inside
    assert "6 h was taken" in inside
    beyond = " ".join(Reanalysis(path, region=(10, 62, -60, 20)).reading().assumed)
    assert "source.region extends beyond the points of the source to the south, west" in beyond
    # A circle has no edge.
    around = Reanalysis(kept(tmp_path / "b.nc", record(hours(2))), region=(-90, 90, -180, 180))
    assert not any("extends beyond the points" in text for text in around.reading().assumed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.isel(time=slice(0, 0)), "no time in it: its dim has length 0"),
        (lambda data: data.drop_vars("time"), "its dim time has no values"),
        (
            lambda data: data.assign_coords(time=("time", [0, 1, 2], {"units": "months since 2000-01-01"})),
            "'months since",
        ),
        (lambda data: data.rename(t2m="z"), "z is on a level that the file does not name"),
    ],
)
def test_a_file_without_states_or_dates_says_so(tmp_path: Path, change: object, words: str) -> None:
    path = kept(tmp_path / "a.nc", change(record(hours(3))))
    with pytest.raises(InputError, match=words) as caught:
        _ = Reanalysis(path).states
    assert "cut short" not in str(caught.value)


# Ensembles

MEMBERS = [
    (("number", "time", "latitude", "longitude"), [0, 1, 2], 1),
    (("time", "realization", "latitude", "longitude"), [4.0, 7.0, 9.0], "7"),
    (("time", "latitude", "longitude", "member"), ["r1i1p1f1", "r2i1p1f1", "r3i1p1f1"], "r2i1p1f1"),
    (("time", "ensemble", "latitude", "longitude"), None, 1),
]


def ensemble(dims: tuple[str, ...], names: list[Any] | None) -> xr.Dataset:
    """Three members, of which the second is the truth."""
    dim = next(d for d in dims if d not in ("time", "latitude", "longitude"))
    data = xr.concat([record(hours(8)) + shift for shift in (5.0, 0.0, 9.0)], dim).transpose(*dims)
    data.t2m.attrs["units"] = "K"
    return data if names is None else data.assign_coords({dim: names})


@pytest.mark.parametrize(("dims", "names", "second"), MEMBERS)
def test_one_member_of_an_ensemble_is_chosen_by_its_name(
    tmp_path: Path, dims: tuple[str, ...], names: list[Any] | None, second: int | str
) -> None:
    path = kept(tmp_path / "a.nc", ensemble(dims, names))
    with pytest.raises(InputError, match=r"an ensemble of 3 members \(.*Choose one, such as source.member="):
        _ = Reanalysis(path).states
    chosen = Reanalysis(path, member=second)
    assert_true(chosen, hours(8))
    assert chosen.reading().quantities["member"] == f"{second}, that of source.member"
    assert chosen.fingerprint != Reanalysis(path, member=str((names or [0])[0]).removesuffix(".0")).fingerprint
    with pytest.raises(InputError, match="no member 17 in it"):
        _ = Reanalysis(path, member=17).states


def test_files_of_a_member_each_are_no_times_that_disagree(tmp_path: Path) -> None:
    whole = ensemble(*MEMBERS[0][:2])
    for k, half in enumerate((slice(0, 4), slice(4, 8))):
        for number in range(3):
            kept(tmp_path / f"m{number}_{k}.nc", whole.isel(number=number, time=half))
    pattern = str(tmp_path / "m*.nc")
    with pytest.raises(InputError, match=r"an ensemble of 3 members \(0, 1, 2\)"):
        _ = Reanalysis(pattern).states
    assert_true(Reanalysis(pattern, member=1), hours(8))
    alone = kept(tmp_path / "x.nc", record(hours(8)))
    with pytest.raises(InputError, match=r"no members to choose from. Leave source.member out"):
        _ = Reanalysis(alone, member=1).states


def test_a_dim_that_no_state_has_comes_with_what_to_type(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.nc", record(hours(4)).expand_dims(band=2))
    with pytest.raises(InputError, match=r"has a dim band of 2.*xarray.open_dataset\('.*a.nc'\).isel\(band=0\)"):
        _ = Reanalysis(path).states


def test_a_setting_that_is_not_used_leaves_a_source_the_one_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Any] = []
    monkeypatch.setattr(
        "simulators.atmosphere.reanalysis.reanalysis.content_hash", lambda value: hashed.append(value) or ""
    )
    path = kept(tmp_path / "a.nc", record(hours(4)))
    first = {"path", "variables", "levels", "start", "stop", "step_hours", "region", "grid", "poles", "regrid"}
    first |= {"missing", "fill", "static"}
    _ = Reanalysis(path).fingerprint, Reanalysis(path, accumulated="day").fingerprint
    # Windows that were written of it before there were more settings go on.
    assert set(hashed[0][0]) == first
    assert set(hashed[1][0]) == first | {"accumulated"}
    assert hashed[0][1:] == hashed[1][1:]


def test_files_of_which_some_have_no_times_or_none_that_are_dates_are_named(tmp_path: Path) -> None:
    axes = {"latitude": [-30.0, 0.0, 30.0], "longitude": [0.0, 120.0, 240.0]}
    dims, values = ("latitude", "longitude"), np.full((3, 3), 280.0, np.float32)
    dated = xr.Dataset(
        {"t2m": (("time", *dims), values[None].repeat(2, 0), {"units": "K"})},
        {"time": np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]"), **axes},
    )
    dated.to_netcdf(tmp_path / "a.nc", engine="scipy")
    for other, message in (
        (dated.isel(time=0, drop=True).rename(t2m="msl"), r"b\.nc: no time in it, which other files have"),
        (dated.assign_coords(time=[1.5, 2.5]), r"b\.nc: its times are no dates"),
        (dated.drop_vars("time"), r"b\.nc: its dim time has no values"),
    ):
        other.to_netcdf(tmp_path / "b.nc", engine="scipy")
        with pytest.raises(InputError, match=message):
            open_source(str(tmp_path / "[ab].nc"))
