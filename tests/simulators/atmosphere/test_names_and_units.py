"""Names and units that the user declares: other names for known variables, and variables that are not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.sphere.window_store import WindowStore
from experiments.forecasting.issuing import selected
from simulators.atmosphere.reanalysis.reanalysis import Reanalysis

LATITUDE, LONGITUDE = np.linspace(60, -60, 5), np.arange(8) * 45.0
TIMES = np.datetime64("2020-01-01", "ns") + np.arange(6) * np.timedelta64(6, "h")


def renamed_file(path: Path, **units: str | None) -> Path:
    """Waves, temperature and wind under names of nobody's table, with units as asked."""
    random, shape = np.random.default_rng(0), (6, 5, 8)
    values = {"tas_mean": 280 + random.normal(0, 5, shape), "swh": 2 + random.random(shape), "pm": random.random(shape)}
    variables = {
        name: (("t", "y", "x"), v.astype(np.float32), {"units": units[name]} if units.get(name) else {})
        for name, v in values.items()
    }
    xr.Dataset(variables, {"t": TIMES, "y": LATITUDE, "x": LONGITUDE}).to_netcdf(path)
    return path


DIMS = {"t": "time", "y": "latitude", "x": "longitude"}
NAMES = {**DIMS, "tas_mean": "2m_temperature", "swh": "wave_height"}


def test_names_and_units_go_into_windows_and_values_stay(tmp_path: Path) -> None:
    file = renamed_file(tmp_path / "a.nc", tas_mean="K", swh="m", pm="ug m-3")
    source = Reanalysis(str(file), names=NAMES)
    assert source.layout.variables == ("2m_temperature", "wave_height")
    source.write(tmp_path / "w")
    kept = WindowStore.open(tmp_path / "w")
    assert kept.layout.variable("wave_height").units == "m"
    data = kept.dataset()
    assert data["wave_height"].attrs["units"] == "m"
    truth = xr.open_dataset(file).isel(y=slice(None, None, -1))
    for name, here in (("tas_mean", "2m_temperature"), ("swh", "wave_height")):
        np.testing.assert_array_equal(data[here].values, truth[name].values)
    reading = source.reading()
    assert reading.quantities["wave_height"] == "m"
    assert "name it by source.names" in reading.unused["pm"]
    # A forecast reads a file in other units of length by the units of the training.
    other = renamed_file(tmp_path / "cm.nc", tas_mean="K", swh="cm")
    again = selected(Reanalysis(str(other), names=NAMES), kept.layout)
    got = next(again.segments()).read(0, 1)["wave_height"]
    assert got.attrs["units"] == "m"
    np.testing.assert_allclose(got.values[0], 0.01 * xr.open_dataset(other)["swh"].values[0, ::-1], rtol=1e-6)


def test_declared_units_stand_for_missing_ones_alone(tmp_path: Path) -> None:
    file = renamed_file(tmp_path / "a.nc", tas_mean=None, swh=None)
    units = {"2m_temperature": "K", "wave_height": "m"}
    source = Reanalysis(str(file), names=NAMES, units=units)
    assert next(source.segments()).read(0, 1)["2m_temperature"].attrs["units"] == "K"
    assert source.fingerprint != Reanalysis(str(file), names=NAMES, units={**units, "wave_height": "mm"}).fingerprint


@pytest.mark.parametrize(
    ("stated", "settings", "words"),
    [
        ({"tas_mean": "K"}, {"names": NAMES}, "wave_height has no attribute units"),
        ({"tas_mean": "K", "swh": "m"}, {"names": {**NAMES, "hs": "height"}}, "no variable hs in it"),
        ({"tas_mean": "K", "swh": "m"}, {"names": {**NAMES, "pm": "swh", "swh": "pm"}}, "swh has no attribute units"),
        ({"tas_mean": "K", "swh": "m"}, {"names": {**DIMS, "tas_mean": "pm"}}, "two variables would be called pm"),
        ({"tas_mean": "degC", "swh": "m"}, {"names": NAMES, "units": {"2m_temperature": "K"}}, "in degC by its file"),
        ({"tas_mean": "K", "swh": "m"}, {"names": NAMES, "units": {"wave_height": "s"}}, "in m, s is needed"),
        ({"tas_mean": "K", "swh": "m"}, {"names": NAMES, "units": {"height": "m"}}, "no variable height"),
    ],
)
def test_what_is_not_certain_is_refused(
    stated: dict[str, str], settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    source = Reanalysis(str(renamed_file(tmp_path / "a.nc", **stated)), **settings)
    with pytest.raises(InputError, match=words):
        next(source.segments()).read(0, 1)


def test_one_name_for_two_variables_and_an_undeclared_one_are_refused() -> None:
    with pytest.raises(ValueError, match="names gives wave_height to two variables"):
        Reanalysis("a.nc", names={"a": "wave_height", "b": "wave_height"})
    with pytest.raises(ValueError, match=r"no variable 'wave_height'.*units=\{wave_height: m\}"):
        Reanalysis("a.nc", variables=("wave_height",))
