"""Recognises special numbers in samples of fields: dates, and codes of missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

#: Numbers that files write in place of a missing value: those of climate data, of 16-bit integers, and NetCDF's own.
CODES = (-999.0, -9999.0, -99999.0, 9999.0, 99999.0, -32767.0, -32768.0, 1e20, -1e20, 1e30, 1e36, 9.969209968386869e36)
#: Ranges of the other values within which a code may be an ordinary value.
FAR = 10.0


def seconds_of_dates(data: xr.Dataset) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The same data with dates and durations along `time` as seconds, and a sentence about the conversion."""
    if "time" not in data.coords or data["time"].dtype.kind not in "mM":
        return data, ()
    dates = data["time"].dtype.kind == "M"
    values = data["time"].values
    durations = values - values[0] if dates else values
    seconds = durations / np.timedelta64(1, "s")
    said = f"time is in seconds since {np.datetime_as_string(values[0], unit='s')}" if dates else "time is in seconds"
    return data.assign_coords(time=("time", seconds, {"units": "s", "long_name": "time"})), (said,)


def missing_codes(data: xr.Dataset, names: Sequence[str]) -> dict[int, str]:
    """Sample -> why it lacks values: it holds a code of missing values, far outside of all other values.

    Args:
        data: with the dim `sample`.
        names: of the variables to look at.
    """
    reasons: dict[int, str] = {}
    for name in names:
        values: Any = data[name].transpose("sample", ...).values
        if values.dtype.kind != "f" or not values.size:
            continue
        coded = np.isin(values, np.array(CODES, values.dtype))
        if not coded.any():
            continue
        others = values[~coded & np.isfinite(values)]
        if not others.size:
            continue
        low, high = float(others.min()), float(others.max())
        reach = FAR * (high - low)
        if reach == 0.0:
            # A variable of two values may be an indicator.
            continue
        coded &= (values < low - reach) | (values > high + reach)
        for row in np.flatnonzero(coded.reshape(len(values), -1).any(axis=1)):
            code = float(values[row][coded[row]].flat[0])
            reasons.setdefault(
                int(row), f"{name} holds {code:g}, which means a missing value: all others lie in [{low:g}, {high:g}]"
            )
    return reasons
