"""Dates, codes of missing values and repeated inputs in files of fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.fields.samples import Fields

X = (np.arange(8) + 0.5) / 8
Q = np.linspace(1.0, 2.0, 12)


def read(data: xr.Dataset, folder: Path, *inputs: str) -> tuple[Fields, list[tuple[int, str]]]:
    data.to_netcdf(folder / "a.nc", engine="scipy")
    return read_fields(folder / "a.nc", output="T", inputs=list(inputs))


def steady(values: np.ndarray, q: np.ndarray = Q) -> xr.Dataset:
    return xr.Dataset({"T": (("sample", "x"), values), "q": ("sample", q)}, {"x": X})


@pytest.mark.parametrize("hours", [1, 24])
def test_dates_are_seconds_since_the_first(tmp_path: Path, hours: int) -> None:
    times = np.datetime64("2020-02-28", "ns") + np.arange(4) * np.timedelta64(hours, "h")
    states = Q[:, None, None] * np.exp(-np.arange(4))[:, None] * np.sin(2 * np.pi * X)
    data = xr.Dataset(
        {"T": (("sample", "time", "x"), states), "initial": (("sample", "x"), states[:, 0])},
        {"time": times, "x": X},
    )
    fields, _ = read(data, tmp_path, "initial")
    axis = fields.layout.axis("time")
    assert (axis.values, axis.units) == (tuple(3600.0 * hours * i for i in range(4)), "s")
    assert fields.reading is not None
    assert "time is in seconds since 2020-02-28T00:00:00" in fields.reading.assumed


@pytest.mark.parametrize("code", [-9999.0, 1e20, 9.969209968386869e36])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_code_of_missing_values_costs_its_sample_and_is_named(tmp_path: Path, code: float, dtype: type) -> None:
    values = (Q[:, None] * np.cos(X)).astype(dtype)
    values[3, 2] = code
    fields, bad = read(steady(values), tmp_path, "q")
    assert len(fields) == len(Q) - 1
    assert np.abs(fields.states).max() <= 2.0
    assert [row for row, _ in bad] == [3]
    assert f"T holds {np.dtype(dtype).type(code):g}, which means a missing value" in bad[0][1]
    # Such a number among values like it is one of them.
    fields, bad = read(steady(code * (1 + 0.1 * np.arange(96).reshape(12, 8))), tmp_path, "q")
    assert (len(fields), bad) == (12, [])
    values[:, 2] = code
    with pytest.raises(InputError, match=r"no sample of it can be used: T holds .* which means a missing value"):
        read(steady(values), tmp_path, "q")


def test_inputs_that_come_again_are_counted(tmp_path: Path) -> None:
    values = Q[:, None] * np.cos(X)
    single, _ = read(steady(values), tmp_path, "q")
    again = np.r_[Q[:6], Q[:6]]
    double, _ = read(steady(again[:, None] * np.cos(X), again), tmp_path, "q")
    assert single.reading is not None
    assert double.reading is not None
    assert single.reading.assumed == ()
    assert any("6 of 12 samples have the inputs of an earlier one: each counts" in s for s in double.reading.assumed)
