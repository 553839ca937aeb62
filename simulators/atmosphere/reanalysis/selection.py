"""What is selected from a record of the atmosphere: variables, levels, grid and step, checked against the source.

Only coordinates are read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.sphere.weather_layout import (
    LEVEL,
    PRESSURE_UNITS,
    TIME,
    VARIABLES,
    WeatherChannel,
    WeatherGrid,
    WeatherLayout,
    WeatherVariable,
)
from simulators.atmosphere.reanalysis.cf import (
    check_variable,
    declared_units,
    ordered_grid,
    pressure_levels,
    refuse_lacking_dims,
    unknown_variables,
)
from simulators.atmosphere.reanalysis.joining import SourceData
from simulators.atmosphere.reanalysis.precipitation import HOURLY, SUMMED
from simulators.atmosphere.reanalysis.regrid import global_grid
from simulators.atmosphere.reanalysis.settings import ReanalysisSettings
from simulators.atmosphere.reanalysis.sources import open_source
from simulators.atmosphere.reanalysis.times import TimeAxis, read_times, time_axis


@dataclass(frozen=True)
class ReanalysisSelection(ReanalysisSettings):
    """A source with the settings of what is read from it.

    Raises:
        ValueError: a setting is invalid.
    """

    @property
    def where(self) -> str:
        """The path as one text, for errors."""
        return self.path if isinstance(self.path, str) else ", ".join(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.where.split("/")[-1]

    @cached_property
    def _opened(self) -> SourceData:
        opened = open_source(self.path, self.member, self.names)
        refuse_lacking_dims(opened.data, self.where)
        opened.data = declared_units(opened.data, self.units, self.declared_names, self.where)
        return opened

    @cached_property
    def source(self) -> xr.Dataset:
        """The source with the names of WeatherBench 2, whose arrays have not been read."""
        return self._opened.data

    @cached_property
    def _axis(self) -> TimeAxis:
        times, notes = read_times(self.source, self.where)
        axis = time_axis(times)
        return replace(axis, notes=(*notes, *axis.notes))

    @property
    def _all_times(self) -> np.ndarray:
        return self._axis.times

    @cached_property
    def _grid(self) -> tuple[WeatherGrid, Int[np.ndarray, " latitude"], Int[np.ndarray, " longitude"]]:
        return ordered_grid(self.source, self.where, self.region or None)

    @cached_property
    def target(self) -> WeatherGrid:
        """The grid of the states."""
        return global_grid(self.grid[0], self.grid[1], self.poles) if self.grid else self._grid[0]

    @cached_property
    def hours(self) -> float:
        """Time from one state to the next, h."""
        axis = self._axis
        if self.step_hours is None or len(axis.times) < 2:
            return axis.hours if self.step_hours is None else self.step_hours
        self._stride()
        return float(self.step_hours)

    def _stride(self) -> int:
        """Number of steps of the source from one state to the next.

        Raises:
            InputError: the requested step is no multiple of that of the source.
        """
        axis = self._axis
        if self.step_hours is None or len(axis.times) < 2:
            return 1
        stride = self.step_hours / axis.hours
        if abs(stride - round(stride)) > 1e-6 or round(stride) < 1:
            raise InputError(
                f"steps of {self.step_hours:g} h are asked for, and its states lie {axis.hours:g} h apart",
                where="source.step_hours",
                remedy=f"Give a multiple of {axis.hours:g}",
            )
        return round(stride)

    @cached_property
    def _chosen(self) -> tuple[str, ...]:
        data = self.source
        recognised = {*VARIABLES, *self.declared_names}
        available = [str(n) for n in data.data_vars if str(n) in recognised and TIME in data[n].dims]
        lacking = [v for v in self.variables if v not in available and not (v in SUMMED and HOURLY in available)]
        if lacking or not available:
            reasons = [] if lacking else [f"{name} is {reason}" for name, reason in unknown_variables(data).items()]
            raise InputError(
                f"no variable {', '.join(lacking)} in it" if lacking else "it has no known variable",
                where=self.where,
                remedy=". ".join([f"It has {', '.join(map(str, data.data_vars))}", *reasons[:2]]),
            )
        chosen = self.variables or tuple(v for v in available if v not in self.static)
        for name in chosen:
            check_variable(data[self._read_as(name)], self.where)
            if name in self._opened.mixed:
                raise InputError(f"its files have {name} in different units", where=self.where, remedy="Convert them")
            self.variable(name)
        if isinstance(self.levels, Mapping) and (idle := [v for v in self.levels if v not in chosen]):
            raise InputError(f"levels of {idle[0]} are asked for, and it is not in it", where=self.where)
        return chosen

    def variable(self, name: str) -> WeatherVariable:
        """What a variable of the states is; one of the user's own has the units of `units`, or those of the file.

        Raises:
            InputError: the units of one of the user's own are not known.
        """
        if name in VARIABLES:
            return VARIABLES[name]
        array = self.source[name]
        units = self.units.get(name) or array.attrs.get("units")
        if not units:
            raise InputError(
                f"{name} has no attribute units",
                where=self.where,
                remedy=f"Give source.units={{{name}: UNIT}}",
            )
        standard, long = (str(array.attrs.get(k, "")) for k in ("standard_name", "long_name"))
        return WeatherVariable(name, str(units), standard, long or name, levels=LEVEL in array.dims)

    def _read_as(self, name: str) -> str:
        """Name of the source's variable from which a variable is read."""
        return HOURLY if name in SUMMED and name not in self.source else name

    @cached_property
    def _summed(self) -> dict[str, int]:
        """Variable that is summed from hourly precipitation -> number of hours.

        Raises:
            InputError: the source is not hourly.
        """
        sums = {name: SUMMED[name] for name in self._chosen if self._read_as(name) != name}
        if sums and (len(self._all_times) < 2 or self._axis.hours != 1):
            raise InputError(
                f"{next(iter(sums))} is the sum of each hour's precipitation, and its times are no hours",
                where=self.where,
                remedy=f"Ask for {HOURLY}, or leave precipitation out",
            )
        return sums

    def _levels_of(self, name: str) -> tuple[float, ...]:
        """The requested levels of a variable, hPa; empty for all."""
        if isinstance(self.levels, Mapping):
            return tuple(self.levels.get(name, ()))
        return self.levels

    @cached_property
    def _levels(self) -> np.ndarray:
        """Levels of the source in its order, hPa.

        Raises:
            InputError: they are not in a unit of pressure.
        """
        return pressure_levels(self.source, self.where)[0]

    @cached_property
    def layout(self) -> WeatherLayout:
        """Layout of the states: grid, channels and static variables.

        Raises:
            InputError: a variable or a level is missing.
        """
        channels: list[WeatherChannel] = []
        for name in self._chosen:
            if LEVEL not in self.source[self._read_as(name)].dims:
                channels.append(WeatherChannel(name))
                continue
            have = list(self._opened.levels.get(self._read_as(name), self._levels.tolist()))
            requested = self._levels_of(name)
            lacking = [v for v in requested if not np.isclose(have, v).any()]
            if lacking:
                raise InputError(
                    f"no level {lacking[0]:g} hPa in it", where=self.where,
                    remedy=f"It has {', '.join(f'{v:g}' for v in have)}",
                )  # fmt: skip
            channels += [WeatherChannel(name, float(v)) for v in (requested or sorted(have))]
        static = tuple(v for v in self.static if v in self.source and v not in self._chosen)
        return WeatherLayout(
            self.target,
            tuple(channels),
            static,
            self.hours,
            PRESSURE_UNITS,
            attrs={"source": self.where.split("/")[-1]},
            declared_variables=tuple(self.variable(name) for name in (*self._chosen, *static) if name not in VARIABLES),
        )
