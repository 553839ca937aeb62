"""The lines of the guide to weather, and those of the README for a forecaster, on small records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from guide_lines import NO_STEP, GuideLine, GuideRun, guide_lines, readme_lines

PARTS = "data.parts=[0.5,0.2,0.15,0.15]"
CORE = ["simulator.truncation=7", "simulator.layers=3"]
SIZES = {
    "runs/forecaster": [PARTS],
    "runs/forecaster#2": ["data.parts=[10,5,8,8]", NO_STEP],
    "runs/on-linear": [PARTS, NO_STEP],
    "runs/mixture": [PARTS],
    "runs/long-steps": [
        PARTS,
        "lessons.count=16",
        "model.network.width=8",
        "model.network.blocks=1",
        "train.epochs=1",
        "alone=false",
    ],
    "runs/scores": ["forecasts.starts=3", "forecasts.references=[persistence,climatology]"],
    "runs/theirs": ["forecasts.references=[persistence,climatology]"],
    "runs/core": [*CORE, "simulator.days=30", "simulator.spin_up_days=2", "sampling.count=1"],
    "runs/drift": ["source.runs=1", "source.days=4", "source.every=2"],
    "runs/answers": [*CORE, "simulator.days=2", "simulator.spin_up_days=0", "sampling.count=1"],
}


def is_remote(line: GuideLine) -> bool:
    """Whether a line reads the public store of WeatherBench 2, which tests do not reach."""
    return "source=weatherbench2" in line.words


def era5(days: int) -> xr.Dataset:
    """Temperatures and pressures of the climate data store's layout, every six hours."""
    times = np.datetime64("2020-01-01", "ns") + np.arange(4 * days) * np.timedelta64(6, "h")
    latitude, longitude = np.linspace(67.5, -67.5, 4), 45.0 * np.arange(8)
    rng = np.random.default_rng(0)
    coords = {
        "time": times,
        "level": ("level", [500, 850], {"units": "hPa"}),
        "latitude": ("latitude", latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", longitude, {"units": "degrees_east"}),
    }
    shape = (len(times), 4, 8)
    return xr.Dataset(
        {
            "t": (
                ("time", "level", "latitude", "longitude"),
                270 + rng.normal(size=(shape[0], 2, 4, 8)),
                {"units": "K"},
            ),
            "sp": (("time", "latitude", "longitude"), 1e5 + 100 * rng.normal(size=shape), {"units": "Pa"}),
        },
        coords,
    ).astype(np.float32)


def write_theirs(states: xr.Dataset, folder: Path) -> None:
    """Forecasts by another program: the state that they start from."""
    later = states.isel(time=slice(248, 296))
    starts = later.isel(time=slice(0, 40, 4))
    leads = np.array([6, 12]) * np.timedelta64(1, "h")
    forecasts = xr.concat([starts] * 2, xr.DataArray(leads, dims="prediction_timedelta", name="prediction_timedelta"))
    forecasts.to_netcdf(folder / "theirs.nc", engine="h5netcdf")
    later.to_netcdf(folder / "truth.nc", engine="h5netcdf")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_lines_of_the_forecaster_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    states = era5(75)
    learned = states.isel(time=slice(248))
    learned.to_zarr(tmp_path / "era5.zarr", consolidated=True)
    learned.to_netcdf(tmp_path / "era5.nc", engine="h5netcdf")
    write_theirs(states, tmp_path)
    guide = GuideRun(tmp_path, SIZES)
    lines = [line for line in guide_lines("docs/guides/forecaster.md") if not is_remote(line)]
    readme = readme_lines("forecaster")
    assert [line.words for line in readme[:2]] == [line.words for line in lines[:2]]

    # The core's windows have other variables, so that its forecaster is trained again.
    def train_on_core() -> None:
        again = GuideLine(
            readme[1].page, tuple(w.replace("runs/windows", "runs/core-windows") for w in readme[1].words)
        )
        guide.run(again)

    guide.before = {"runs/drift": train_on_core}
    for line in [*readme, *lines[2:]]:
        guide.run(line)
    assert len(lines) + 1 == len(guide_lines("docs/guides/forecaster.md"))
    with xr.open_dataset("forecast.nc", engine="h5netcdf", decode_timedelta=True) as forecast:
        assert forecast["time"].values.tolist() == [np.datetime64("2020-03-01T00", "ns").astype(int)]
        assert forecast.sizes["prediction_timedelta"] == 40
        assert np.isfinite(forecast["temperature"]).all()
    for name in ("scores", "theirs"):
        rmse = xr.open_zarr(Path("runs") / name / "scores.zarr", consolidated=False)["rmse"]
        assert np.isfinite(rmse.sel(system="forecast")).all()
