"""Zonal means of trajectories, and the jets in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xarray as xr

from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME

Data = TypeVar("Data", xr.Dataset, xr.DataArray)


@dataclass(frozen=True)
class Jet:
    """The strongest mean westerly of a hemisphere.

    Attributes:
        speed: zonal-mean eastward wind at the maximum, m/s.
        latitude: latitude of the maximum, degrees north.
        level: level of the maximum, in the units of the data.
    """

    speed: float
    latitude: float
    level: float


def zonal_mean(data: Data) -> Data:
    """The mean over all longitudes and, if the data has a time axis, over time."""
    return data.mean([d for d in (TIME, LONGITUDE) if d in data.dims], keep_attrs=True)


def jets(data: xr.Dataset) -> tuple[Jet, Jet]:
    """The southern and the northern jet: where the zonal mean of the eastward wind is largest."""
    mean = zonal_mean(data["u_component_of_wind"]).transpose(LEVEL, LATITUDE)

    def strongest(half: xr.DataArray) -> Jet:
        level, row = np.unravel_index(int(np.argmax(half.values)), half.shape)
        return Jet(float(half.values.max()), float(half[LATITUDE][row]), float(half[LEVEL][level]))

    south = strongest(mean.isel({LATITUDE: mean[LATITUDE].values < 0}))
    return south, strongest(mean.isel({LATITUDE: mean[LATITUDE].values > 0}))
