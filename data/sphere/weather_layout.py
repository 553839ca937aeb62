"""States of the atmosphere on latitude-longitude grids: names, units, and what an array of channels means.

Names are those of WeatherBench 2 (Rasp et al. 2024, arXiv:2308.15560), units those of ERA5. A state is one array
(latitude, longitude, channel), in which a channel is a variable, or a variable at one level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.plain import OMIT_DEFAULT, written_as
from data.sphere.units import same_units

LATITUDE, LONGITUDE, TIME, LEVEL, LEAD = "latitude", "longitude", "time", "level", "prediction_timedelta"
#: Units of a level: hPa for pressure, 1 for the sigma levels of a dynamical core.
PRESSURE_UNITS, SIGMA_UNITS = "hPa", "1"


@dataclass(frozen=True)
class WeatherVariable:
    """A quantity by its name in WeatherBench 2.

    Attributes:
        name: such as `temperature`.
        units: such as K.
        standard_name: of the CF conventions; "" where they have none.
        long_name: a phrase for axes and tables.
        levels: whether it has a dim `level`.
        accumulated: whether it is a sum over the time before, and so never negative.
        odd: whether its sign changes where a state is mirrored at the equator.
    """

    name: str
    units: str
    standard_name: str
    long_name: str
    levels: bool = False
    accumulated: bool = False
    odd: bool = False

    def attrs(self) -> dict[str, str]:
        """CF attributes."""
        attributes = {"units": self.units, "standard_name": self.standard_name, "long_name": self.long_name}
        return {k: v for k, v in attributes.items() if v}


def _table() -> dict[str, WeatherVariable]:
    def level(name: str, units: str, standard: str, long: str, odd: bool = False) -> WeatherVariable:
        return WeatherVariable(name, units, standard, long, levels=True, odd=odd)

    variables = [
        level("temperature", "K", "air_temperature", "temperature"),
        level("geopotential", "m2 s-2", "geopotential", "geopotential"),
        level("u_component_of_wind", "m s-1", "eastward_wind", "eastward wind"),
        level("v_component_of_wind", "m s-1", "northward_wind", "northward wind", odd=True),
        level("vertical_velocity", "Pa s-1", "lagrangian_tendency_of_air_pressure", "vertical velocity"),
        level("specific_humidity", "kg kg-1", "specific_humidity", "specific humidity"),
        level("vorticity", "s-1", "atmosphere_relative_vorticity", "relative vorticity", odd=True),
        level("divergence", "s-1", "divergence_of_wind", "divergence"),
        WeatherVariable("2m_temperature", "K", "air_temperature", "temperature at 2 m"),
        WeatherVariable("10m_u_component_of_wind", "m s-1", "eastward_wind", "eastward wind at 10 m"),
        WeatherVariable("10m_v_component_of_wind", "m s-1", "northward_wind", "northward wind at 10 m", odd=True),
        WeatherVariable("mean_sea_level_pressure", "Pa", "air_pressure_at_mean_sea_level", "mean sea level pressure"),
        WeatherVariable("surface_pressure", "Pa", "surface_air_pressure", "surface pressure"),
        WeatherVariable("sea_surface_temperature", "K", "sea_surface_temperature", "sea surface temperature"),
        WeatherVariable("total_precipitation", "m", "", "precipitation of one hour", accumulated=True),
        WeatherVariable("total_precipitation_6hr", "m", "", "precipitation of six hours", accumulated=True),
        WeatherVariable("total_precipitation_24hr", "m", "", "precipitation of 24 hours", accumulated=True),
        WeatherVariable("layer_thickness", "m", "", "thickness of the layer of shallow water"),
        WeatherVariable("geopotential_at_surface", "m2 s-2", "surface_geopotential", "geopotential at the surface"),
        WeatherVariable("land_sea_mask", "1", "land_binary_mask", "share of land"),
    ]
    return {v.name: v for v in variables}


#: The known variables by name.
VARIABLES: Mapping[str, WeatherVariable] = _table()


def is_amount(variable: str) -> bool:
    """Whether a variable is a sum over the time before, which is never negative."""
    return variable in VARIABLES and VARIABLES[variable].accumulated


@dataclass(frozen=True)
class WeatherChannel:
    """A variable, or a variable at one level.

    Attributes:
        variable: its name.
        level: in hPa or sigma; None for a variable without levels.
    """

    variable: str
    level: float | None = None

    @property
    def label(self) -> str:
        """Name of the channel, such as "temperature_500"."""
        return self.variable if self.level is None else f"{self.variable}_{self.level:g}"


@dataclass(frozen=True)
class WeatherGrid:
    """Where the points of a state lie.

    Attributes:
        latitude: degrees north, ascending.
        longitude: degrees east, ascending and evenly spaced; within 0 to 360, or a region that may begin below 0.

    Raises:
        ValueError: values are not ascending, not finite, out of range, or longitudes unevenly spaced.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in (("latitude", self.latitude), ("longitude", self.longitude)):
            if len(values) < 2 or not np.isfinite(values).all() or not (np.diff(values) > 0).all():
                raise ValueError(f"{name} must be two or more finite numbers that ascend")
        if self.latitude[0] < -90.001 or self.latitude[-1] > 90.001:
            raise ValueError(f"latitude must lie within -90 and 90, got {self.latitude[0]} to {self.latitude[-1]}")
        steps = np.diff(self.longitude)
        if not np.allclose(steps, steps[0], rtol=1e-3):
            raise ValueError("longitude must be evenly spaced")
        if self.longitude[0] < -180.001 or self.longitude[-1] - self.longitude[0] > 360 - 0.5 * steps[0]:
            raise ValueError("longitude must begin at -180 or above and span no more than the circle")

    @property
    def shape(self) -> tuple[int, int]:
        """Points along latitude and longitude."""
        return len(self.latitude), len(self.longitude)

    @property
    def periodic(self) -> bool:
        """Whether the longitudes close a circle."""
        step = self.longitude[1] - self.longitude[0]
        return bool(abs(step * len(self.longitude) - 360) < 0.01 * step)

    @property
    def is_global(self) -> bool:
        """Whether it covers the sphere: a circle of longitudes, and latitudes within one spacing of both poles."""
        spacing = max(np.diff(self.latitude))
        return self.periodic and bool(self.latitude[0] + 90 <= spacing and 90 - self.latitude[-1] <= spacing)

    @cached_property
    def weights(self) -> Float[np.ndarray, "latitude longitude"]:
        """Area of each cell, with mean 1: sin of its northern less sin of its southern edge, as WeatherBench 2 has it.

        Edges lie midway between latitudes; the outermost at the poles where the grid is global, else as far out as
        the nearest edge is in.
        """
        latitude = np.asarray(self.latitude, np.float64)
        middle = (latitude[1:] + latitude[:-1]) / 2
        first, last = 2 * latitude[0] - middle[0], 2 * latitude[-1] - middle[-1]
        if self.is_global:
            first, last = -90.0, 90.0
        edges = np.clip(np.concatenate([[first], middle, [last]]), -90, 90)
        rows = np.diff(np.sin(np.deg2rad(edges)))
        return np.repeat((rows / rows.mean())[:, None], len(self.longitude), axis=1)


@dataclass(frozen=True)
class WeatherLayout:
    """What the arrays of states mean.

    Attributes:
        grid: where the points lie.
        channels: what a model advances, in the order of the last axis.
        static: variables that do not change with time, such as orography, in the order of the last axis.
        step_hours: hours from one state to the next.
        level_units: `PRESSURE_UNITS` or `SIGMA_UNITS`.
        calendar: whether times are dates, so that the sun's place is known; False for a core without seasons.
        attrs: where the data comes from.
        declared_variables: variables among the channels that are not in `VARIABLES`, with the units that its
            file declares.
    """

    grid: WeatherGrid
    channels: tuple[WeatherChannel, ...]
    static: tuple[str, ...] = ()
    step_hours: float = 6.0
    level_units: str = PRESSURE_UNITS
    calendar: bool = True
    attrs: Mapping[str, str] = field(default_factory=dict)
    declared_variables: tuple[WeatherVariable, ...] = field(default=(), metadata={**OMIT_DEFAULT, **written_as("own")})

    def variable(self, name: str) -> WeatherVariable:
        """What a variable is; one that is not known at all has the unit 1."""
        declared = next((v for v in self.declared_variables if v.name == name), None)
        return declared or VARIABLES.get(name) or WeatherVariable(name, "1", "", name)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables among the channels, in order, each once."""
        return tuple(dict.fromkeys(c.variable for c in self.channels))

    def levels(self, variable: str) -> tuple[float, ...]:
        """Levels of a variable; empty where it has none."""
        return tuple(c.level for c in self.channels if c.variable == variable and c.level is not None)

    def index(self, variable: str) -> list[int]:
        """Channels of a variable."""
        return [i for i, c in enumerate(self.channels) if c.variable == variable]

    def mirror(
        self, states: Float[np.ndarray, "*lead latitude longitude channel"]
    ) -> Float[np.ndarray, "*lead latitude longitude channel"]:
        """States mirrored at the equator: north and south change places, and what points north then points south.

        An atmosphere whose two hemispheres are alike, with a sun that stands over the equator, does after the mirrored
        state what mirrors what it does after the state itself.

        Raises:
            ValueError: a latitude has none opposite, or how a variable mirrors is not known.
        """
        latitude = np.asarray(self.grid.latitude)
        if not np.allclose(latitude, -latitude[::-1], atol=1e-3):
            raise ValueError("the grid does not mirror at the equator")
        unknown = [v for v in self.variables if v not in VARIABLES]
        if unknown:
            raise ValueError(f"how {unknown[0]} mirrors is not known")
        signs = np.array([-1.0 if VARIABLES[c.variable].odd else 1.0 for c in self.channels], states.dtype)
        return states[..., ::-1, :, :] * signs

    def _is_known(self, name: str) -> bool:
        """Whether the units of a variable are known."""
        return name in VARIABLES or any(v.name == name for v in self.declared_variables)

    def with_attrs(self, **attrs: str) -> WeatherLayout:
        """The same with more attributes."""
        return replace(self, attrs={**self.attrs, **attrs})

    # Between arrays and Datasets

    def stack(self, data: xr.Dataset, where: str = "") -> Float[np.ndarray, "*lead latitude longitude channel"]:
        """The channels of a Dataset as one float32 array; dims other than level and the grid's come first.

        Raises:
            InputError: a variable or level is missing, the grid is another, or units differ.
        """
        lacking = [v for v in self.variables if v not in data]
        if lacking:
            raise InputError(
                f"no variable {' and no '.join(lacking)} in it",
                where=where,
                remedy=f"It has {', '.join(map(str, data.data_vars))}",
            )
        self.refuse_other_grid(data, where)
        lead = tuple(str(d) for d in data[self.variables[0]].dims if d not in (LEVEL, LATITUDE, LONGITUDE))
        parts = []
        for name in self.variables:
            array = data[name]
            units, needed_units = array.attrs.get("units"), self.variable(name).units
            if units is not None and self._is_known(name) and not same_units(units, needed_units):
                raise InputError(f"{name} is in {units}, {needed_units} is needed", where=where, remedy="Convert it")
            levels = self.levels(name)
            if levels:
                have = np.asarray(data[LEVEL].values, float) if LEVEL in array.dims else np.zeros(0)
                missing = [v for v in levels if not np.isclose(have, v, rtol=1e-5).any()]
                if missing:
                    shown = ", ".join(f"{v:g}" for v in missing)
                    raise InputError(
                        f"{name} lacks the levels {shown} {self.level_units}",
                        where=where,
                        remedy=f"It has {', '.join(f'{v:g}' for v in have) or 'none'}",
                    )
                at = [int(np.argmin(np.abs(have - v))) for v in levels]
                array = array.isel({LEVEL: at}).transpose(*lead, LATITUDE, LONGITUDE, LEVEL)
                parts.append(array.values.astype(np.float32))
            else:
                parts.append(array.transpose(*lead, LATITUDE, LONGITUDE).values.astype(np.float32)[..., None])
        return np.concatenate(parts, axis=-1)

    def unstack(
        self,
        values: Float[np.ndarray, "*lead latitude longitude channel"],
        dims: Sequence[str] = (),
        coords: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """A Dataset of variables with CF attributes from an array of channels.

        Where variables have different levels, one is NaN at the levels that are not among its channels.

        Args:
            values: the array, whose last axes are latitude, longitude and channel.
            dims: names of the axes before them.
            coords: coordinates of these axes.
        """
        arrays: dict[str, xr.DataArray] = {}
        levels = sorted({c.level for c in self.channels if c.level is not None})
        for name in self.variables:
            at = self.index(name)
            attrs = self.variable(name).attrs()
            variable_levels = self.levels(name)
            if variable_levels:
                array = xr.DataArray(
                    np.moveaxis(values[..., at], -1, -3), dims=(*dims, LEVEL, LATITUDE, LONGITUDE), attrs=attrs
                ).assign_coords({LEVEL: list(variable_levels)})
                arrays[name] = array.reindex({LEVEL: levels}) if list(variable_levels) != levels else array
            else:
                arrays[name] = xr.DataArray(values[..., at[0]], dims=(*dims, LATITUDE, LONGITUDE), attrs=attrs)
        dataset = xr.Dataset(arrays, attrs={"Conventions": "CF-1.11", **self.attrs})
        return dataset.assign_coords({**self.coordinates(), **(coords or {})})

    def coordinates(self) -> dict[str, xr.Variable]:
        """Latitude, longitude and, where there is one, level, with CF attributes."""
        grid = self.grid
        coordinates = {
            LATITUDE: xr.Variable(
                (LATITUDE,), np.array(grid.latitude), {"units": "degrees_north", "standard_name": "latitude"}
            ),
            LONGITUDE: xr.Variable(
                (LONGITUDE,), np.array(grid.longitude), {"units": "degrees_east", "standard_name": "longitude"}
            ),
        }
        levels = sorted({c.level for c in self.channels if c.level is not None})
        if levels:
            name = "air_pressure" if self.level_units == PRESSURE_UNITS else "atmosphere_sigma_coordinate"
            attrs = {"units": self.level_units, "standard_name": name, "positive": "down"}
            coordinates[LEVEL] = xr.Variable((LEVEL,), np.array(levels, float), attrs)
        return coordinates

    def refuse_other_states(self, other: WeatherLayout, where: str, these: str) -> None:
        """Refuse states of another layout than this one, which would be taken for other than they are.

        Args:
            other: layout of the states.
            where: store that they come from, for errors.
            these: whose states this layout describes, such as "those of the surrogate".

        Raises:
            InputError: channels, units of levels, step, calendar or grid differ; says what is there and what is needed.
        """

        def refuse(problem: str, remedy: str) -> None:
            raise InputError(f"its states are not {these}: {problem}", where=where, remedy=remedy)

        expected, labels = [c.label for c in self.channels], [c.label for c in other.channels]
        lacking, more = [c for c in expected if c not in labels], [c for c in labels if c not in expected]
        if self.level_units != other.level_units and any(c.level is not None for c in self.channels):
            refuse(f"levels in {other.level_units}, {self.level_units} is needed", "Give windows of the same levels")
        if lacking or more:
            said = [f"without {', '.join(lacking)}"] if lacking else []
            said += [f"with {', '.join(more)}"] if more else []
            refuse(" and ".join(said), f"Write windows of {', '.join(expected)}, by source.variables and source.levels")
        for name in self.variables:
            theirs, ours = other.variable(name).units, self.variable(name).units
            if not same_units(theirs, ours):
                refuse(f"{name} in {theirs}, {ours} is needed", f"Write windows with 'source.units={{{name}: {ours}}}'")
        if expected != labels:
            refuse("the same channels in another order", f"Write windows with {', '.join(expected)} in this order")
        if abs(self.step_hours - other.step_hours) * 3600 > 0.5:
            refuse(
                f"{other.step_hours:g} h from one to the next, {self.step_hours:g} h are needed",
                f"Write windows with source.step_hours={self.step_hours:g}",
            )
        if self.calendar != other.calendar:
            words = {True: "with dates", False: "without dates"}
            refuse(f"{words[other.calendar]}, {words[self.calendar]} are needed", "Give windows of the same kind")
        for name, values, needed in (
            (LATITUDE, other.grid.latitude, self.grid.latitude),
            (LONGITUDE, other.grid.longitude, self.grid.longitude),
        ):
            if len(values) != len(needed) or not np.allclose(values, needed, atol=1e-3):
                refuse(
                    f"{len(values)} {name}s from {values[0]:g} to {values[-1]:g}, {len(needed)} from {needed[0]:g} to "
                    f"{needed[-1]:g} are needed",
                    "Write windows of this grid, by source.region or source.grid",
                )

    def refuse_other_grid(self, data: xr.Dataset, where: str = "") -> None:
        """Refuse a Dataset on another grid.

        Raises:
            InputError: latitudes or longitudes are missing or differ.
        """
        for name, expected in ((LATITUDE, self.grid.latitude), (LONGITUDE, self.grid.longitude)):
            if name not in data.coords:
                raise InputError(f"no coordinate {name} in it", where=where, remedy="Name it so")
            values = np.asarray(data[name].values, float)
            if len(values) != len(expected) or not np.allclose(values, expected, atol=1e-3):
                raise InputError(
                    f"its {name}s run from {values[0]:g} to {values[-1]:g} in {len(values)}, "
                    f"{expected[0]:g} to {expected[-1]:g} in {len(expected)} are needed",
                    where=where,
                    remedy="Regrid it, or give ascending latitudes and longitudes of the same range",
                )
