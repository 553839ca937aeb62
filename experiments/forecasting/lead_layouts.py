"""Layouts of files of forecasts, brought to initial times by leads.

A file may lie along initial times and leads, along valid times of one or of several initial times, or along valid times
and leads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from data.errors import InputError
from data.sphere.weather_layout import LEAD, TIME

VALID = "valid_time"
#: Names of initial times and of leads in files -> names of WeatherBench 2.
STARTS: Mapping[str, str] = dict.fromkeys(
    ("init_time", "initial_time", "forecast_reference_time", "reference_time", "init"), TIME
)
LEADS: Mapping[str, str] = dict.fromkeys(("lead_time", "step", "forecast_period", "lead", "leadtime"), LEAD)


def starts_by_leads(data: xr.Dataset, where: str) -> xr.Dataset:
    """The forecasts along `time`, the initial time, and `prediction_timedelta`; other layouts are left as they are.

    Raises:
        InputError: a valid time lies before the initial time of all forecasts.
    """
    start = next((n for n in STARTS if n in data.coords), None)
    if start is not None and TIME in data.dims and TIME not in (start, data[start].dims):
        # The initial time has a name of its own, so that `time` is the valid one.
        data = data.rename({TIME: VALID}) if VALID not in data.variables else data
    lead = next((n for n in LEADS if n in data.coords), None)
    new = {old: to for old, to in ((start, TIME), (lead, LEAD)) if old is not None and to not in data.variables}
    data = data.rename(new)
    if VALID not in data.dims or VALID not in data.coords:
        return data
    if LEAD in data.dims and LEAD in data.coords and TIME not in data.variables:
        parts = [
            data.isel({LEAD: k}).assign_coords({VALID: data[VALID].values - v}).rename({VALID: TIME})
            for k, v in enumerate(_leads(data, where))
        ]
        return xr.concat(parts, LEAD, join="outer", coords="minimal", compat="override", data_vars="all")
    if LEAD in data.variables or TIME not in data.coords:
        return data
    starts = np.atleast_1d(data[TIME].values)
    parts = []
    for k, begin in enumerate(starts):
        one = data.isel({TIME: k}) if TIME in data.dims else data
        ahead = one[VALID].values - begin
        one = one.drop_vars([TIME]).assign_coords({LEAD: (VALID, ahead)}).swap_dims({VALID: LEAD}).drop_vars([VALID])
        parts.append(one.isel({LEAD: np.flatnonzero(ahead > np.timedelta64(0))}).expand_dims({TIME: [begin]}))
    if not any(part.sizes[LEAD] for part in parts):
        raise InputError("no valid time comes after an initial time", where=where, remedy="Check its times")
    whole = xr.concat(parts, TIME, join="outer", coords="minimal", compat="override", data_vars="all")
    return whole.isel({LEAD: _leads_with_forecasts(whole)})


def _leads_with_forecasts(data: xr.Dataset) -> np.ndarray:
    """Positions of the leads that any forecast has: most pairs of an initial and a valid time are empty.

    They are looked up in the first variable at one point.
    """
    array = next(iter(data.data_vars.values()))
    point = array.isel({d: 0 for d in array.dims if d not in (TIME, LEAD)}).transpose(LEAD, ...)
    return np.flatnonzero(point.notnull().values.reshape(data.sizes[LEAD], -1).any(axis=1))


def _leads(data: xr.Dataset, where: str) -> np.ndarray:
    """The leads of a Dataset as timedelta64."""
    values = data[LEAD].values
    if not np.issubdtype(values.dtype, np.timedelta64):
        raise InputError("its leads have no unit", where=where, remedy="Give units such as `hours`")
    return np.asarray(values)
