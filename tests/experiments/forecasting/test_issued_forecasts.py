"""`understudy forecast`: states in the layout of the climate data store, and forecasts from them with valid times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cfgrib
import numpy as np
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from saved_files import unpack

from data.errors import InputError
from experiments.application.choices import CONF
from experiments.application.run_directory import run_directory
from experiments.forecasting import issuing
from experiments.forecasting.external_forecasts import _named, _opened
from experiments.stages.evaluate import evaluate
from experiments.stages.forecast import forecast
from surrogates.saved import load_surrogate

RNG = np.random.default_rng(0)
TIMES = np.datetime64("2020-03-01", "ns") + 6 * np.arange(5) * np.timedelta64(1, "h")
TEMPERATURE = (280 + RNG.normal(size=(5, 2, 4, 8))).astype(np.float32)
PRESSURE = (1e5 + 50 * RNG.normal(size=(5, 4, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def saved(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The directory of the saved forecaster."""
    return once("saved-forecasts", lambda place: unpack("surrogates/forecasts", place))


@pytest.fixture(scope="module")
def reanalysis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """States as the climate data store writes them: short names, latitudes from north to south, versions of ERA5."""
    path = tmp_path_factory.mktemp("era5") / "era5.nc"
    coords = {
        "valid_time": ("valid_time", TIMES, {"standard_name": "time"}),
        "pressure_level": ("pressure_level", [500.0, 850.0], {"units": "hPa"}),
        "latitude": ("latitude", [67.5, 22.5, -22.5, -67.5], {"units": "degrees_north"}),
        "longitude": ("longitude", 45.0 * np.arange(8), {"units": "degrees_east"}),
        "number": 0,
        "expver": ("valid_time", ["0001"] * 5),
    }
    dims = ("valid_time", "pressure_level", "latitude", "longitude")
    data = {
        "t": (dims, TEMPERATURE[:, :, ::-1], {"units": "K", "standard_name": "air_temperature"}),
        "sp": ((dims[0], *dims[2:]), PRESSURE[:, ::-1], {"units": "Pa", "standard_name": "surface_air_pressure"}),
    }
    xr.Dataset(data, coords).to_netcdf(path, engine="h5netcdf")
    return path


def run(saved: Path, reanalysis: Path, out: Path, *arguments: str) -> None:
    """The stage, in this process."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("forecast", [f"surrogate={saved}", f"source.path={reanalysis}", f"out={out}", *arguments])
    OmegaConf.resolve(config)
    with run_directory(config, Path(config.run.dir), "forecast") as run_dir:
        forecast(config, run_dir)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_forecasts_are_those_of_the_surrogate_with_valid_times(
    saved: Path, reanalysis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truly, asked = issuing._forecast, []

    def stopping(surrogate: Any, states: xr.Dataset, *rest: Any) -> Any:
        asked.append(states["time"].values[-1])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return truly(surrogate, states, *rest)

    monkeypatch.setattr(issuing, "_forecast", stopping)
    arguments = ("time=[2020-03-01T06,2020-03-01T18]", "steps=3")
    with pytest.raises(KeyboardInterrupt):
        run(saved, reanalysis, tmp_path / "out.nc", *arguments)
    assert not (tmp_path / "out.nc").exists()
    run(saved, reanalysis, tmp_path / "out.nc", *arguments)
    assert asked == [TIMES[1], TIMES[3], TIMES[3]]
    model: Any = load_surrogate(saved)
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf", decode_timedelta=True) as answer:
        assert answer["temperature"].dims == ("time", "prediction_timedelta", "level", "latitude", "longitude")
        assert answer["time"].values.tolist() == TIMES[[1, 3]].tolist()
        lead = answer["prediction_timedelta"].values
        assert (answer["valid_time"].values == answer["time"].values[:, None] + lead).all()
        assert answer["valid_time"].attrs["standard_name"] == "time"
        assert answer["latitude"].attrs["units"] == "degrees_north"
        assert answer["surface_pressure"].attrs["units"] == "Pa"
        for k, i in enumerate((1, 3)):
            state = model.layout.unstack(
                np.concatenate([TEMPERATURE[i, :1, ..., None][0], PRESSURE[i][..., None]], -1)
            ).assign_coords(time=TIMES[i])
            direct = model.forecast(state, 3)
            for name in ("temperature", "surface_pressure"):
                np.testing.assert_allclose(answer[name].values[k], direct[name].values, rtol=1e-6)
    # What `understudy evaluate forecasts.external=FILE` opens.
    external = _named(_opened(tmp_path / "out.nc"), "out.nc")
    assert np.issubdtype(external["time"].dtype, np.datetime64)
    assert np.issubdtype(external["prediction_timedelta"].dtype, np.timedelta64)
    run(saved, reanalysis, tmp_path / "last.zarr")
    with xr.open_zarr(tmp_path / "last.zarr", decode_timedelta=True, consolidated=False) as answer:
        assert answer["time"].values.tolist() == TIMES[[4]].tolist()
        assert answer.sizes["prediction_timedelta"] == model.facts.config.steps


def test_a_state_that_is_not_there_is_named(saved: Path, reanalysis: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no time from 2020-04-01"):
        run(saved, reanalysis, tmp_path / "out.nc", "time=2020-04-01")
    with pytest.raises(InputError, match="no date"):
        run(saved, reanalysis, tmp_path / "out.nc", "time=tomorrow")
    with pytest.raises(InputError, match="without noise would all be the same"):
        run(saved, reanalysis, tmp_path / "out.nc", "members=3")
    with pytest.raises(InputError, match="cannot tell the kind of file"):
        run(saved, reanalysis, tmp_path / "out.csv")


@pytest.fixture(scope="module")
def issued(saved: Path, reanalysis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same forecasts as NetCDF and as GRIB."""
    folder = tmp_path_factory.mktemp("issued")
    for name in ("a.nc", "a.grib"):
        run(saved, reanalysis, folder / name, "time=[2020-03-01T00,2020-03-01T06,2020-03-01T12]", "steps=2")
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_grib_of_another_hand_has_the_scores_of_netcdf(reanalysis: Path, issued: Path, tmp_path: Path) -> None:
    with xr.open_dataset(reanalysis, engine="h5netcdf") as states:
        states.sel(pressure_level=[500.0]).to_netcdf(tmp_path / "truth.nc", engine="h5netcdf")
    scores = {}
    for name in ("a.nc", "a.grib"):
        arguments = ["surrogate=null", "forecasts=held_out", f"forecasts.file={tmp_path / 'truth.nc'}"]
        arguments += [f"forecasts.external={issued / name}", "forecasts.references=[persistence]"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            evaluate(compose("evaluate", arguments), tmp_path / name)
        read = json.loads((tmp_path / name / "reading.json").read_text())[1]
        assert (read["total"], read["used"]) == (3, 3)
        assert not read["assumed"]
        scores[name] = xr.open_zarr(tmp_path / name / "scores.zarr", consolidated=False).load()
    rmse = scores["a.grib"]["rmse"]
    assert rmse.sizes["prediction_timedelta"] == 2
    for name, ours in scores["a.nc"].data_vars.items():
        np.testing.assert_allclose(scores["a.grib"][name], ours, rtol=1e-4, err_msg=str(name))
    # The error from its definition, of the surface pressure at the second lead.
    with xr.open_dataset(issued / "a.nc", engine="h5netcdf", decode_timedelta=True) as answer:
        apart = answer["surface_pressure"].isel(prediction_timedelta=1).values - PRESSURE[2:5]
        area = np.cos(np.deg2rad(answer["latitude"].values))
    expected = np.sqrt((apart**2 * (area / area.mean())[:, None]).mean())
    label = next(c for c in rmse["channel"].values if "surface_pressure" in str(c))
    error = rmse.sel(system="forecast", channel=label).isel(region=0, prediction_timedelta=1)
    assert float(error) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_grib_is_read_back_by_its_own_library(issued: Path) -> None:
    parts = cfgrib.open_datasets(str(issued / "a.grib"), indexpath="")
    data = xr.merge(
        [part.drop_vars(["isobaricInhPa", "surface"], errors="ignore") for part in parts], compat="override"
    )
    data = data.sortby("latitude").transpose("time", "step", ...)
    with xr.open_dataset(issued / "a.nc", engine="h5netcdf", decode_timedelta=True) as answer:
        assert (data["time"].values == answer["time"].values).all()
        assert (data["step"].values == answer["prediction_timedelta"].values).all()
        assert (data["valid_time"].values == answer["valid_time"].values).all()
        assert np.allclose(data["longitude"], answer["longitude"])
        for short, name in (("t", "temperature"), ("sp", "surface_pressure")):
            values = answer[name].squeeze(drop=True).values
            assert np.abs(data[short].values - values).max() <= 1e-6 * np.ptp(values)
            assert data[short].attrs["units"].replace("**", "") == answer[name].attrs["units"]
