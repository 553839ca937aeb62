"""What forecasters have, however it is written: one dataset from GRIB, NetCDF and Zarr, and every flaw named."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import eccodes
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import CorruptStoreError, InputError
from data.spec import SimulationError
from data.sphere.weather_layout import WeatherGrid
from data.sphere.writing import write_windows
from simulators.atmosphere.reanalysis import chunk_reader
from simulators.atmosphere.reanalysis.reanalysis import Reanalysis
from simulators.atmosphere.reanalysis.regrid import edges, global_grid, regrid, weights
from simulators.atmosphere.reanalysis.sources import open_source


def dataset(times: int = 6, *, levels: bool = True) -> xr.Dataset:
    """ERA5 as its service writes it: short names, latitudes from the north."""
    random = np.random.default_rng(0)
    latitude, longitude = np.linspace(80, -80, 5), np.arange(8) * 45.0
    stamps = np.datetime64("2020-02-28", "ns") + np.arange(times) * np.timedelta64(6, "h")
    data = xr.Dataset(
        {
            "t2m": (("time", "latitude", "longitude"), 280 + random.normal(size=(times, 5, 8)).astype("f4")),
            "lsm": (("latitude", "longitude"), random.uniform(size=(5, 8)).astype("f4"), {"units": "(0 - 1)"}),
        },
        {"time": stamps, "latitude": latitude, "longitude": longitude},
    )
    data["t2m"].attrs["units"] = "K"
    if levels:
        values = 250 + random.normal(size=(times, 3, 5, 8)).astype("f4")
        data["t"] = (("time", "level", "latitude", "longitude"), values, {"units": "K"})
        data = data.assign_coords(level=("level", [500, 850, 1000], {"units": "hPa"}))
    return data


def kept(path: Path, data: xr.Dataset) -> str:
    data.to_netcdf(path, engine="h5netcdf")
    return str(path)


def states(source: Reanalysis) -> np.ndarray:
    return np.concatenate([source.layout.stack(s.read(0, len(s.times))) for s in source.segments()])


def test_grib_netcdf_and_zarr_give_the_same_states(shared_data: Path, tmp_path: Path) -> None:
    grib = shared_data / "weather" / "era5_t2m_hourly_2019-03_uk.grib"
    stop = "2019-03-02T11"
    first = Reanalysis(str(grib), stop=stop)
    assert first.layout.channels[0].label == "2m_temperature"
    assert first.states == 36
    assert first.hours == 1
    assert (first.target.latitude[0], first.target.latitude[-1]) == (50.0, 58.0)
    assert (first.target.longitude[0], first.target.longitude[-1]) == (-10.0, 2.0)
    values = states(first)
    raw = xr.open_dataset(grib, engine="cfgrib", backend_kwargs={"indexpath": ""}).t2m[:36].load()
    np.testing.assert_array_equal(values[..., 0], raw.values[:, ::-1])
    plain = raw.to_dataset().drop_vars(["number", "step", "surface", "valid_time"])
    kept(tmp_path / "a.nc", plain.isel(time=slice(0, 20)))
    kept(tmp_path / "b.nc", plain.isel(time=slice(20, 36)))
    plain.to_netcdf(tmp_path / "classic.nc", engine="scipy")
    plain.to_zarr(tmp_path / "a.zarr", zarr_format=3)
    plain.to_zarr(tmp_path / "two.zarr", zarr_format=2)
    for path in ("[ab].nc", "classic.nc", "a.zarr", "two.zarr"):
        other = Reanalysis(str(tmp_path / path), stop=stop)
        assert other.layout.grid == first.layout.grid
        np.testing.assert_array_equal(states(other), values)


def messages(path: Path, grib: Path, variables: list[tuple[str, int]]) -> str:
    """Messages of a file as other variables at other levels; 0 is the surface, whose static ones are there once."""
    with open(grib, "rb") as source, open(path, "wb") as out:
        for hour in range(3):
            message = eccodes.codes_grib_new_from_file(source)
            for short, level in variables:
                if hour and not level and short in ("z", "lsm"):
                    continue
                other = eccodes.codes_clone(message)
                eccodes.codes_set(other, "typeOfLevel", "isobaricInhPa" if level else "surface")
                eccodes.codes_set(other, "level", level)
                eccodes.codes_set(other, "shortName", short)
                eccodes.codes_write(other, out)
    return str(path)


def test_grib_of_the_surface_and_of_levels_in_one_file_loses_no_variable(shared_data: Path, tmp_path: Path) -> None:
    grib = shared_data / "weather" / "era5_t2m_hourly_2019-03_uk.grib"
    variables = [("2t", 0), ("t", 1000), ("t", 850), ("z", 1000), ("z", 850), ("z", 0), ("lsm", 0)]
    mixed = Reanalysis(messages(tmp_path / "mixed.grib", grib, variables))
    labels = {c.label for c in mixed.layout.channels}
    assert labels == {"2m_temperature", "temperature_1000", "temperature_850", "geopotential_1000", "geopotential_850"}
    assert mixed.layout.static == ("geopotential_at_surface", "land_sea_mask")
    # All messages were copied from one, so that all channels are alike.
    array = states(mixed)
    assert array.shape == (3, 33, 49, 5)
    np.testing.assert_array_equal(array, np.repeat(states(Reanalysis(str(grib), stop="2019-03-01T02")), 5, axis=-1))
    single = Reanalysis(messages(tmp_path / "single.grib", grib, [("z", 850)]))
    assert [c.label for c in single.layout.channels] == ["geopotential_850"]
    cut = tmp_path / "cut.grib"
    cut.write_bytes((tmp_path / "mixed.grib").read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"cut\.grib: cannot be read"):
        states(Reanalysis(str(cut)))


def test_files_of_parts_of_the_time_and_of_single_variables_are_joined_unread(tmp_path: Path) -> None:
    data = dataset(8)
    whole = Reanalysis(kept(tmp_path / "whole.nc", data))
    # The later times have the earlier name, and the mask comes with a time as its service gives it.
    for name, times in (("b", slice(0, 3)), ("a", slice(3, 8))):
        kept(tmp_path / f"part_t2m_{name}.nc", data[["t2m"]].isel(time=times))
        kept(tmp_path / f"part_t_{name}.nc", data[["t"]].isel(time=times).rename(time="valid_time"))
    kept(tmp_path / "part_lsm.nc", data[["lsm"]].expand_dims(time=data.time[:1]))
    joined = Reanalysis(str(tmp_path / "part_*.nc"), variables=whole.layout.variables)
    assert joined.source["temperature"].chunks is not None
    np.testing.assert_array_equal(states(joined), states(whole))
    xr.testing.assert_equal(joined.static_fields(), whole.static_fields())
    kept(tmp_path / "part_t2m_c.nc", data[["t2m"]].isel(time=slice(0, 3), latitude=slice(0, 4)))
    with pytest.raises(InputError, match=r"part_t2m_c\.nc: 4 latitudes, the first file has 5"):
        open_source(str(tmp_path / "part_*.nc"))


def test_a_chunk_of_many_times_is_decoded_once_however_small_the_blocks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(20).to_zarr(tmp_path / "a.zarr", encoding={"t2m": {"chunks": (8, 5, 8)}})
    source = Reanalysis(str(tmp_path / "a.zarr"), variables=("2m_temperature",), step_hours=12)
    times: list[int] = []
    monkeypatch.setattr(chunk_reader, "load", lambda data, _: times.append(data.sizes["time"]) or data.load())
    (segment,) = source.segments()
    temperature = np.concatenate([segment.read(i, min(i + 3, 10))["2m_temperature"].values for i in range(0, 10, 3)])
    np.testing.assert_array_equal(temperature, dataset(20)["t2m"].values[::2, ::-1])
    assert times == [8, 8, 4]


def test_what_a_source_needs_and_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SimulationError, match=r"needs gcsfs.*\[weather\]") as caught:
        open_source("gs://bucket/era5.zarr")
    assert caught.value.kind == "missing_component"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A folder over HTTP."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_a_store_behind_a_url_gives_what_the_local_one_gives(tmp_path: Path, served: str) -> None:
    dataset().to_zarr(tmp_path / "era5.zarr", consolidated=True, zarr_format=2)
    local, remote = (Reanalysis(f"{base}/era5.zarr") for base in (tmp_path, served))
    np.testing.assert_array_equal(states(remote), states(local))
    assert remote.fingerprint == local.fingerprint
    with pytest.raises(InputError, match="cannot be opened as Zarr"):
        open_source(f"{served}/none.zarr")
    with pytest.raises(InputError, match="no scheme ftp"):
        open_source("ftp://example.org/a.zarr")


def test_levels_range_stride_region_and_units_are_chosen(tmp_path: Path) -> None:
    data = dataset(12)
    data["t"] = (data["t"].dims, data["t"].values - np.float32(273.15), {"units": "degC"})
    path = kept(tmp_path / "a.nc", data)
    source = Reanalysis(
        path, variables=("temperature",), levels=(850.0,), start="2020-02-28T12", stop="2020-03-01", step_hours=12,
        region=(-50, 50, 270, 100),
    )  # fmt: skip
    assert source.layout.grid.longitude == (-90.0, -45.0, 0.0, 45.0, 90.0)
    assert source.layout.grid.latitude == (-40.0, 0.0, 40.0)
    array = states(source)
    columns = [6, 7, 0, 1, 2]
    want = dataset(12)["t"].sel(level=850).values[2::2][:, [3, 2, 1]][:, :, columns]
    np.testing.assert_allclose(array[..., 0], want[: len(array)], atol=1e-4)
    assert len(array) == 5
    assert source.layout.step_hours == 12
    whole = Reanalysis(path)
    assert [c.label for c in whole.layout.channels][:2] == ["2m_temperature", "temperature_500"]
    assert whole.layout.static == ("land_sea_mask",)
    static = whole.static_fields()
    assert static is not None
    np.testing.assert_array_equal(static.land_sea_mask.values, data.lsm.values[::-1])


def test_each_variable_can_have_levels_of_its_own(tmp_path: Path) -> None:
    data = dataset()
    # About the geopotential of the standard atmosphere at 500, 850 and 1000 hPa.
    usual = np.array([218.0, 57.0, 4.3])[:, None, None]
    data["z"] = (data["t"].dims, (usual * data["t"].values).astype("f4"), {"units": "m2 s-2"})
    path = kept(tmp_path / "a.nc", data)
    variables = ("geopotential", "temperature", "2m_temperature")
    source = Reanalysis(path, variables=variables, levels={"geopotential": [500], "temperature": [1000, 850]})
    labels = ["geopotential_500", "temperature_1000", "temperature_850", "2m_temperature"]
    assert [c.label for c in source.layout.channels] == labels
    array = states(source)
    for k, (name, level) in enumerate((("z", 500), ("t", 1000), ("t", 850))):
        np.testing.assert_array_equal(array[..., k], data[name].sel(level=level).values[:, ::-1])
    # Written, read and put into a Dataset again: NaN only where there is no such channel.
    store = write_windows(
        tmp_path / "w", source.segments(), source.layout, static=source.static_fields(), fingerprint=source.fingerprint
    )
    again = store.dataset()
    assert np.isnan(again.temperature.sel(level=500)).all()
    np.testing.assert_array_equal(store.layout.stack(again), array)
    some = Reanalysis(path, variables=("geopotential", "temperature"), levels={"geopotential": [850]})
    assert [c.label for c in some.layout.channels][:2] == ["geopotential_850", "temperature_500"]
    assert states(some).shape[-1] == 4
    with pytest.raises(ValueError, match="levels names 'vorticity'"):
        Reanalysis(path, variables=variables, levels={"vorticity": [500]})
    with pytest.raises(InputError, match="no level 700 hPa"):
        _ = Reanalysis(path, variables=variables, levels={"geopotential": [700]}).layout


def test_precipitation_of_hours_is_summed_up_to_each_state(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    hours = np.arange(40)
    hours = hours[hours != 20]  # a gap
    stamps = np.datetime64("2020-02-28", "ns") + hours * np.timedelta64(1, "h")
    shape = (len(hours), 5, 8)
    data = xr.Dataset(
        {
            "tp": (("time", "latitude", "longitude"), random.exponential(size=shape).astype("f4"), {"units": "mm"}),
            "t2m": (("time", "latitude", "longitude"), random.normal(280, 1, shape).astype("f4"), {"units": "K"}),
        },
        {"time": stamps, "latitude": np.linspace(80, -80, 5), "longitude": np.arange(8) * 45.0},
    )
    path = kept(tmp_path / "a.nc", data)
    source = Reanalysis(path, variables=("2m_temperature", "total_precipitation_6hr"), step_hours=1)
    segments = list(source.segments())
    # The sixth hour is the first with five before it, before and behind the gap.
    firsts = [np.datetime64("2020-02-28T05", "ns"), np.datetime64("2020-02-29T02", "ns")]
    assert [s.times[0] for s in segments] == firsts
    tp = data["tp"].values[:, ::-1]
    array = states(source)
    np.testing.assert_allclose(array[0, ..., 1], 1e-3 * tp[:6].sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(array[len(segments[0].times) - 1, ..., 1], 1e-3 * tp[14:20].sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(array[-1, ..., 1], 1e-3 * tp[-6:].sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(array[0, ..., 0], data["t2m"].values[5, ::-1])
    alone = Reanalysis(path, variables=("total_precipitation_6hr",), stop="2020-02-28T18", step_hours=6)
    np.testing.assert_allclose(states(alone)[0, ..., 0], 1e-3 * tp[1:7].sum(axis=0), rtol=1e-6)
    every = Reanalysis(path, variables=("total_precipitation",))
    np.testing.assert_allclose(states(every)[3, ..., 0], 1e-3 * tp[3], rtol=1e-6)
    six = Reanalysis(kept(tmp_path / "b.nc", data.isel(time=slice(0, 20, 4))), variables=("total_precipitation_6hr",))
    with pytest.raises(InputError, match="its times are no hours"):
        _ = six.states
    with pytest.raises(InputError, match="no state has the hours before it"):
        _ = Reanalysis(
            kept(tmp_path / "c.nc", data.isel(time=slice(0, 6))), variables=("total_precipitation_24hr",)
        ).states


def test_longitudes_from_minus_180_are_the_same_circle(tmp_path: Path) -> None:
    data = dataset()
    turned = data.assign_coords(longitude=(data.longitude + 180) % 360 - 180).sortby("longitude")
    first, second = (Reanalysis(kept(tmp_path / f"{i}.nc", d)) for i, d in enumerate((data, turned)))
    assert first.target == second.target
    np.testing.assert_array_equal(states(first), states(second))


def test_a_gap_in_time_cuts_the_states_in_two_and_nothing_is_lost(tmp_path: Path) -> None:
    data = dataset(10).isel(time=[0, 1, 2, 5, 6, 9])
    source = Reanalysis(kept(tmp_path / "a.nc", data))
    assert [len(s.times) for s in source.segments()] == [3, 2, 1]
    assert source.gaps == ["2020-02-28T12:00 to 2020-02-29T06:00", "2020-02-29T12:00 to 2020-03-01T06:00"]
    store = write_windows(
        tmp_path / "s", source.segments(), source.layout, static=source.static_fields(), fingerprint=source.fingerprint
    )
    assert store.segments == ((0, 3), (3, 5), (5, 6))
    np.testing.assert_array_equal(store.read(np.array([0]), 6)[0], states(source))
    assert store.static.shape == (5, 8, 1)


def flawed(name: str) -> xr.Dataset:
    data = dataset()
    if name == "missing variable":
        return data.drop_vars("t2m")
    if name == "wrong units":
        data["t2m"].attrs["units"] = "m"
    if name == "no units":
        del data["t2m"].attrs["units"]
    if name == "twice":
        return data.isel(time=[0, 1, 1, 2])
    if name == "unsorted":
        return data.isel(time=[0, 2, 1, 3])
    if name == "nan":
        data["t2m"].values[3, 1, 2] = np.nan
    if name == "other name":
        data["t2m"].attrs["standard_name"] = "eastward_wind"
    if name == "members":
        return xr.concat([data, data], "number")
    if name == "calendar":
        stamps = ("time", np.arange(6), {"units": "days since 2001-02-26", "calendar": "360_day"})
        return data.assign_coords(time=stamps)
    return data


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("missing variable", "no variable 2m_temperature"),
        ("wrong units", "2m_temperature is in m, K is needed"),
        ("no units", "2m_temperature has no attribute units"),
        ("twice", "2020-02-28T06:00:00 is given twice"),
        ("unsorted", "2020-02-28T06:00:00 comes after a later one"),
        ("nan", r"2m_temperature .*2020-02-28T18:00:00, latitude 40, longitude 90"),
        ("other name", "standard name eastward_wind, air_temperature is expected"),
        ("members", "an ensemble of 2 members"),
        ("calendar", "360_day"),
    ],
)
def test_a_flaw_is_named_in_one_line(flaw: str, message: str, tmp_path: Path) -> None:
    path = kept(tmp_path / "a.nc", flawed(flaw))
    source = Reanalysis(path, variables=("2m_temperature",))
    with pytest.raises(InputError, match=message) as caught:
        write_windows(tmp_path / "s", source.segments(), source.layout, fingerprint="a")
    assert "\n" not in str(caught.value)


def test_what_is_missing_can_be_dropped_or_filled(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.nc", flawed("nan"))
    dropped = Reanalysis(path, variables=("2m_temperature",), missing="drop")
    assert [len(s.times) for s in dropped.segments()] == [3, 2]
    filled = Reanalysis(path, variables=("2m_temperature",), fill={"2m_temperature": 270.0})
    assert states(filled)[3, 3, 2, 0] == 270.0


def test_a_chunk_that_is_missing_or_cut_short_is_named(tmp_path: Path) -> None:
    dataset().to_zarr(tmp_path / "a.zarr", zarr_format=3, encoding={"t2m": {"chunks": (1, 5, 8), "compressors": None}})
    chunk = tmp_path / "a.zarr" / "t2m" / "c" / "2" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-4])
    with pytest.raises(CorruptStoreError, match="cut short"):
        open_source(str(tmp_path / "a.zarr"))
    chunk.write_bytes(whole)
    compressed = next(f for f in (tmp_path / "a.zarr" / "t" / "c").rglob("*") if f.is_file())
    content = compressed.read_bytes()
    compressed.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptStoreError, match=r"temperature of 2020-02-28T00:00 to .* cannot be read"):
        states(Reanalysis(str(tmp_path / "a.zarr")))
    chunk.unlink()
    with pytest.raises(CorruptStoreError, match="missing"):
        open_source(str(tmp_path / "a.zarr"))


GRID_SHAPES = st.tuples(st.integers(2, 9), st.integers(3, 12), st.booleans())


@settings(max_examples=25, deadline=None)
@given(GRID_SHAPES, GRID_SHAPES, st.integers(0, 1000))
def test_conservative_regridding_keeps_the_mean_over_the_sphere(
    old: tuple[int, int, bool], new: tuple[int, int, bool], seed: int
) -> None:
    source, target = global_grid(*old), global_grid(*new)
    values = np.random.default_rng(seed).normal(size=source.shape)
    rows, columns = weights(source, target)
    regridded = rows @ values @ columns.T
    assert (regridded * target.weights).mean() == pytest.approx((values * source.weights).mean(), abs=1e-9)
    np.testing.assert_allclose(rows @ np.ones(source.shape) @ columns.T, 1.0)
    assert edges(target)[0][0] == -90
    assert regridded.max() <= values.max() + 1e-9


def test_bilinear_regridding_is_exact_for_what_is_linear_and_closes_the_circle() -> None:
    source, target = global_grid(9, 12, True), global_grid(16, 30)
    data = xr.Dataset(
        {"a": (("latitude", "longitude"), np.array(source.latitude)[:, None] + np.zeros((9, 12)))},
        {"latitude": list(source.latitude), "longitude": list(source.longitude)},
    )
    regridded = regrid(data, source, target, "bilinear")
    np.testing.assert_allclose(regridded.a.values, np.array(target.latitude)[:, None] + np.zeros((16, 30)), atol=1e-9)
    _, columns = weights(source, WeatherGrid(target.latitude, (345.0, 352.5)), "bilinear")
    np.testing.assert_allclose(columns[:, [0, 11]], [[0.5, 0.5], [0.75, 0.25]])
    region = WeatherGrid((0.0, 10.0), (0.0, 10.0))
    with pytest.raises(InputError, match="reaches beyond"):
        weights(region, global_grid(4, 8))
