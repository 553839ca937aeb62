"""Inputs and outputs of a dynamical core, with the names of WeatherBench 2 and in SI units."""

from __future__ import annotations

import numpy as np
import xarray as xr

from data.spec import Coordinate, Spec, Variable
from data.sphere.weather_layout import (
    LATITUDE,
    LEVEL,
    LONGITUDE,
    PRESSURE_UNITS,
    SIGMA_UNITS,
    TIME,
    VARIABLES,
    WeatherGrid,
)
from simulators.atmosphere.core.settings import CoreSettings

#: The dim of sigma layers in a request whose answer has pressure levels.
LAYER = "layer"
SEED = Variable("seed", (), "1", "int32", "seed of the noise on the initial temperature")


def horizontal(grid: WeatherGrid) -> tuple[Coordinate, ...]:
    """Coordinates of a grid."""
    return (
        Coordinate(LATITUDE, grid.latitude, "degrees_north", "latitude"),
        Coordinate(LONGITUDE, grid.longitude, "degrees_east", "longitude"),
    )


def times(saves: int, save_hours: float) -> Coordinate:
    """Times of saved states."""
    return Coordinate(TIME, tuple(i * save_hours for i in range(saves + 1)), "h", "time since the first saved state")


def output(name: str, levels: bool) -> Variable:
    """A variable of the answer, at all saved times."""
    dims = (TIME, LEVEL, LATITUDE, LONGITUDE) if levels else (TIME, LATITUDE, LONGITUDE)
    variable = VARIABLES[name]
    return Variable(name, dims, variable.units, "float32", variable.long_name)


def initial(name: str, layer: str | None) -> Variable:
    """An input variable of the initial state."""
    dims = (LATITUDE, LONGITUDE) if layer is None else (layer, LATITUDE, LONGITUDE)
    variable = VARIABLES[name]
    return Variable(f"initial_{name}", dims, variable.units, "float32", f"{variable.long_name} at the start")


def core_spec(core: CoreSettings) -> Spec:
    """The Spec of a core with its settings."""
    sigma = "pressure over surface pressure, at the middle of a layer"
    if core.levels:
        layer = LAYER
        vertical = [Coordinate(LEVEL, core.levels, PRESSURE_UNITS, "pressure")]
        if core.start == "state":
            vertical.append(Coordinate(LAYER, core.sigma, SIGMA_UNITS, sigma))
    else:
        layer, vertical = LEVEL, [Coordinate(LEVEL, core.sigma, SIGMA_UNITS, sigma)]
    inputs: tuple[Variable, ...] = (SEED,)
    if core.start == "state":
        state = core.state_layout
        inputs = tuple(initial(v, layer if state.levels(v) else None) for v in state.variables)
    return Spec(
        inputs,
        tuple(output(v, bool(core.layout.levels(v))) for v in core.layout.variables),
        (times(core.saves, core.save_hours), *vertical, *horizontal(core.grid)),
        core.facts,
    )


def with_dates(answer: xr.Dataset, start: str = "2000-01-01") -> xr.Dataset:
    """An answer with dates from `start` on as times; the planet has no seasons, so that the dates only count hours."""
    hours = np.asarray(answer[TIME].values, float)
    times = np.datetime64(start, "ns") + np.round(hours * 3.6e12).astype("timedelta64[ns]")
    return answer.assign_coords({TIME: times})
