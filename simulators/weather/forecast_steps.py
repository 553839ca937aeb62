"""Records along two times, the start of a forecast and the step in it, as one record along the valid time.

ECMWF delivers what is accumulated, such as precipitation, as steps of forecasts; and while the last months of ERA5 are
preliminary, along `expver`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

#: Pairs of dims that together say a time, by the names of cfgrib and of the climate data store.
PAIRS = (("time", "step"), ("forecast_reference_time", "forecast_period"))
EXPVER = "expver"


def along_valid_time(data: xr.Dataset, notes: list[str]) -> xr.Dataset:
    """A Dataset along `time`, the valid time, where it lies along the start and the step of forecasts.

    Where two forecasts are valid at one time, that of the later start is taken. `expver` is combined: final values
    where there are some, else preliminary ones.

    Args:
        data: as the file has it.
        notes: gets a sentence about each choice.
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
    # Pairs that no message fills are NaN throughout; a step of 0 of what is accumulated is one of them.
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
