"""Conversion of forecasts along start and step to records along the valid time, and of preliminary ERA5 data.

ECMWF delivers accumulated variables such as precipitation as steps of forecasts. Files with the last months of ERA5,
which are preliminary, have a dim `expver`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

#: Pairs of dims, start and step of a forecast, with the names of cfgrib and of the Climate Data Store.
PAIRS = (("time", "step"), ("forecast_reference_time", "forecast_period"))
EXPVER = "expver"


def along_valid_time(data: xr.Dataset, notes: list[str]) -> xr.Dataset:
    """Convert a Dataset with dims for the start and the step of forecasts to one along `time`, the valid time.

    If two forecasts are valid at the same time, the one with the later start is taken. Along `expver`, final values are
    taken where they exist, else preliminary ones.

    Args:
        data: Dataset as the file holds it.
        notes: receives a sentence about each choice.
    """
    if EXPVER in data.dims:
        order = np.argsort([int(v) for v in data[EXPVER].values])
        parts = [data.isel({EXPVER: int(i)}, drop=True) for i in order]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.combine_first(part)
        for name, array in whole.data_vars.items():
            array.attrs = dict(data[name].attrs)
        notes.append("of expver, final values (1) were taken where there are some, else preliminary ones (5)")
        data = whole
    for start, step in PAIRS:
        if step in data.dims and start in data.coords and data[start].ndim == 0:
            data = data.expand_dims(start)  # a single forecast
        if start in data.dims and step in data.dims:
            return _stack_along_valid_time(data, start, step, notes)
    return data


def _stack_along_valid_time(data: xr.Dataset, start: str, step: str, notes: list[str]) -> xr.Dataset:
    flat = data.drop_vars("valid_time", errors="ignore").stack(_both=(start, step))
    starts, steps = flat[start].values, flat[step].values
    valid = starts + steps.astype("timedelta64[ns]")
    flat = flat.drop_vars(["_both", start, step])
    # Pairs of start and step without data are NaN throughout, such as step 0 of an accumulated variable.
    present = np.zeros(len(valid), bool)
    for array in flat.data_vars.values():
        rest = [d for d in array.dims if d != "_both"]
        present |= np.asarray(array.notnull().any(rest).values)
    order = np.lexsort((starts, valid))
    order = order[present[order]]
    last = np.append(valid[order][1:] != valid[order][:-1], True)
    chosen = order[last]
    if len(chosen) < len(order):
        notes.append(f"{len(order) - len(chosen)} times are in two forecasts: that of the later start was taken")
    notes.append("forecasts were laid along their valid time, start plus step")
    return flat.isel(_both=chosen).rename(_both="time").assign_coords(time=("time", valid[chosen]))
