"""Reanalysis and other records of the atmosphere, as states in the order of time.

ERA5 from the stores of WeatherBench 2 or ARCO-ERA5, or anything that xarray opens: see `sources`. Nothing but
coordinates is read until a block of states is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.weather import (
    LATITUDE,
    LEVEL,
    LONGITUDE,
    PRESSURE_UNITS,
    TIME,
    VARIABLES,
    Channel,
    WeatherGrid,
    WeatherLayout,
)
from data.windows import Segment
from simulators.base import content_hash
from simulators.weather.cf import (
    STATIC,
    checked_times,
    checked_variable,
    converted,
    ordered_grid,
    pressure_levels,
    refuse_lacking_dims,
)
from simulators.weather.chunks import ChunkReader, loaded, plain
from simulators.weather.regrid import METHODS, global_grid, regrid
from simulators.weather.sources import open_source

MISSING = ("refuse", "drop")
#: Precipitation of each hour, and what is summed of it over so many hours up to the time of a state.
HOURLY = "total_precipitation"
SUMMED: Mapping[str, int] = {"total_precipitation_6hr": 6, "total_precipitation_24hr": 24}
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")


@dataclass(frozen=True)
class Reanalysis:
    """States of a source.

    Attributes:
        path: see `sources.open_source`.
        variables: by their names in WeatherBench 2; empty: all that are known. Precipitation of six or 24 hours is
            summed where the source has that of each hour.
        levels: in hPa, for all variables or by variable, such as {"geopotential": [500]}; empty, or a variable that is
            not named: all.
        start, stop: dates, ISO 8601, both included; None: from the first, to the last.
        step_hours: from one state to the next; None: as in the source.
        region: south, north, west, east in degrees; empty: all.
        grid: latitudes and longitudes of an even global grid to go to; empty: that of the source.
        poles: whether the first and last of these latitudes are the poles.
        regrid: "conservative" or "bilinear".
        missing: what to do about a state of which a value is missing: "refuse" it, or "drop" the state.
        fill: a value for what is missing of a variable, such as of sea surface temperature over land.
        static: variables that do not change with time, of those that are there.

    Raises:
        ValueError: a setting makes no sense.
    """

    path: str
    variables: tuple[str, ...] = ()
    levels: tuple[float, ...] | Mapping[str, Sequence[float]] = ()
    start: str | None = None
    stop: str | None = None
    step_hours: float | None = None
    region: tuple[float, ...] = ()
    grid: tuple[int, ...] = ()
    poles: bool = False
    regrid: str = "conservative"
    missing: str = "refuse"
    fill: Mapping[str, float] = field(default_factory=dict)
    static: tuple[str, ...] = STATIC

    def __post_init__(self) -> None:
        for name in ("variables", "region", "grid", "static"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        levels = self.levels or ()
        if isinstance(levels, Mapping):
            levels = {str(k): tuple(float(v) for v in values) for k, values in levels.items()}
            strange = [v for v in levels if v not in VARIABLES or (self.variables and v not in self.variables)]
            if strange:
                raise ValueError(f"levels names {strange[0]!r}, which is no variable that is wanted")
        else:
            levels = tuple(float(v) for v in levels)
        object.__setattr__(self, "levels", levels)
        for name, known in (("regrid", METHODS), ("missing", MISSING)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if len(self.region) not in (0, 4) or len(self.grid) not in (0, 2):
            raise ValueError("region must be [south, north, west, east], and grid [latitudes, longitudes]")
        if self.step_hours is not None and self.step_hours <= 0:
            raise ValueError(f"step_hours must be above 0, got {self.step_hours}")
        strange = [v for v in (*self.variables, *self.static) if v not in VARIABLES]
        if strange:
            raise ValueError(f"no variable {strange[0]!r} in WeatherBench 2; known are {', '.join(VARIABLES)}")

    @cached_property
    def source(self) -> xr.Dataset:
        """The source with our names, unread."""
        found = open_source(self.path)
        refuse_lacking_dims(found, self.path)
        return found

    @cached_property
    def _all_times(self) -> np.ndarray:
        return checked_times(self.source, self.path)

    @cached_property
    def _grid(self) -> tuple[WeatherGrid, Int[np.ndarray, " latitude"], Int[np.ndarray, " longitude"]]:
        return ordered_grid(self.source, self.path, self.region or None)

    @cached_property
    def target(self) -> WeatherGrid:
        """The grid of the states."""
        return global_grid(self.grid[0], self.grid[1], self.poles) if self.grid else self._grid[0]

    @cached_property
    def hours(self) -> float:
        """From one state to the next."""
        if self.step_hours is not None:
            return self.step_hours
        steps = np.diff(self._all_times)
        return float(steps.min() / HOUR) if len(steps) else 6.0

    @cached_property
    def _chosen(self) -> tuple[str, ...]:
        data = self.source
        there = [str(n) for n in data.data_vars if str(n) in VARIABLES and TIME in data[n].dims]
        lacking = [v for v in self.variables if v not in there and not (v in SUMMED and HOURLY in there)]
        if lacking or not there:
            raise InputError(
                f"no variable {', '.join(lacking)} in it" if lacking else "no variable of it is known",
                where=self.path,
                remedy=f"It has {', '.join(map(str, data.data_vars))}",
            )
        chosen = self.variables or tuple(v for v in there if v not in self.static)
        for name in chosen:
            checked_variable(data[self._read_as(name)], self.path)
        if isinstance(self.levels, Mapping) and (idle := [v for v in self.levels if v not in chosen]):
            raise InputError(f"levels of {idle[0]} are asked for, and it is not in it", where=self.path)
        return chosen

    def _read_as(self, name: str) -> str:
        """The variable of the source that one is read from."""
        return HOURLY if name in SUMMED and name not in self.source else name

    @cached_property
    def _summed(self) -> dict[str, int]:
        """Variables that are sums over so many hours of the source.

        Raises:
            InputError: the source has no state at each hour.
        """
        found = {name: SUMMED[name] for name in self._chosen if self._read_as(name) != name}
        steps = np.diff(self._all_times)
        if found and (not len(steps) or steps.min() != HOUR):
            raise InputError(
                f"{next(iter(found))} is the sum of each hour's precipitation, and its times are no hours",
                where=self.path,
                remedy=f"Ask for {HOURLY}, or leave precipitation out",
            )
        return found

    def _levels_of(self, name: str) -> tuple[float, ...]:
        """The levels of a variable that are wanted; empty for all."""
        if isinstance(self.levels, Mapping):
            return tuple(self.levels.get(name, ()))
        return self.levels

    @cached_property
    def _levels(self) -> np.ndarray:
        """In hPa, as they lie in the source.

        Raises:
            InputError: they are in other units.
        """
        return pressure_levels(self.source, self.path)

    @cached_property
    def layout(self) -> WeatherLayout:
        """What the channels are.

        Raises:
            InputError: a variable or a level is missing.
        """
        channels: list[Channel] = []
        for name in self._chosen:
            if LEVEL not in self.source[self._read_as(name)].dims:
                channels.append(Channel(name))
                continue
            have = self._levels.tolist()
            wanted = self._levels_of(name)
            lacking = [v for v in wanted if not np.isclose(have, v).any()]
            if lacking:
                raise InputError(
                    f"no level {lacking[0]:g} hPa in it", where=self.path,
                    remedy=f"It has {', '.join(f'{v:g}' for v in have)}",
                )  # fmt: skip
            channels += [Channel(name, float(v)) for v in (wanted or sorted(have))]
        static = tuple(v for v in self.static if v in self.source and v not in self._chosen)
        return WeatherLayout(
            self.target, tuple(channels), static, self.hours, PRESSURE_UNITS, attrs={"source": self.path.split("/")[-1]}
        )

    @cached_property
    def _runs(self) -> list[Int[np.ndarray, " time"]]:
        """Positions in the source of each run of states that follow one another by the step.

        Raises:
            InputError: no time lies in the range.
        """
        times = self._all_times
        low = times.min() if self.start is None else _date(self.start, "source.start")
        high = times.max() if self.stop is None else _date(self.stop, "source.stop", end=True)
        inside = np.flatnonzero((times >= low) & (times <= high))
        if not len(inside):
            raise InputError(
                f"no time from {low} to {high}", where=self.path,
                remedy=f"It has {times[0].astype('datetime64[s]')} to {times[-1].astype('datetime64[s]')}",
            )  # fmt: skip
        step = round(self.hours * 3600) * np.timedelta64(1, "s").astype("timedelta64[ns]")
        # States lie at whole steps from the first one; what lies between is left out.
        on = inside[((times[inside] - times[inside[0]]) % step) == np.timedelta64(0, "ns")]
        for hours in self._summed.values():
            # The first states, and those behind a gap, have not all of the hours before them.
            whole = on[on >= hours - 1]
            on = whole[times[whole] - times[whole - hours + 1] == (hours - 1) * HOUR]
        if not len(on):
            raise InputError("no state has the hours before it that precipitation is summed of", where=self.path)
        if self.missing == "drop":
            on = np.array([i for i in on if np.isfinite(self._state(np.array([i]))).all()], int)
            if not len(on):
                raise InputError("a value is missing in every state", where=self.path, remedy="Leave variables out")
        cuts = np.flatnonzero(np.diff(times[on]) != step) + 1
        return np.split(on, cuts)

    @property
    def gaps(self) -> list[str]:
        """Each gap in time, for people."""
        times, runs = self._all_times, self._runs
        shown = [(times[a[-1]], times[b[0]]) for a, b in pairwise(runs)]
        return [f"{a.astype('datetime64[m]')} to {b.astype('datetime64[m]')}" for a, b in shown]

    @property
    def states(self) -> int:
        """How many there are."""
        return sum(len(r) for r in self._runs)

    def segments(self) -> Iterator[Segment]:
        """Each run of states without a gap."""
        for run in self._runs:
            yield Segment(self._all_times[run], partial(self._part, run))

    def static_fields(self) -> xr.Dataset | None:
        """The static variables on the grid of the states."""
        names = list(self.layout.static)
        if not names:
            return None
        data = self.source[names]
        data = data.isel({TIME: 0}) if TIME in data.dims else data
        return self._presented(loaded(self._cut(data), self.path))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the settings but for the path, of the times, and of the first and last state."""
        runs = self._runs
        settings = {k: v for k, v in vars(replace(self, path="")).items() if k in self.__dataclass_fields__}
        ends = [self._state(np.array([i])).tobytes().hex() for i in (runs[0][0], runs[-1][-1])]
        times = [str(t) for r in runs for t in (self._all_times[r[0]], self._all_times[r[-1]])]
        return content_hash([{**settings, "fill": dict(self.fill)}, times, ends])

    def _state(self, rows: Int[np.ndarray, " time"]) -> np.ndarray:
        return self.layout.stack(self._read(rows), self.path)

    def _part(self, run: Int[np.ndarray, " time"], start: int, stop: int) -> xr.Dataset:
        return self._read(run[start:stop])

    @cached_property
    def _reader(self) -> ChunkReader:
        return ChunkReader(self._cut(self.source[[v for v in self._chosen if v not in self._summed]]), self.path)

    @cached_property
    def _hourly(self) -> ChunkReader:
        return ChunkReader(self._cut(self.source[[HOURLY]]), self.path)

    def _read(self, rows: Int[np.ndarray, " time"]) -> xr.Dataset:
        """States at some times, in memory."""
        alone = len(self._summed) == len(self._chosen)
        data = xr.Dataset(coords={TIME: self._all_times[rows]}) if alone else self._reader.read(rows)
        for name, hours in self._summed.items():
            before = rows[:, None] - np.arange(hours)
            every = np.unique(before)
            each = self._hourly.read(every)[HOURLY].transpose(TIME, ...)
            total = each.values[np.searchsorted(every, before)].sum(axis=1)
            data = data.assign({name: (each.dims, total, dict(each.attrs))})
        return self._presented(data)

    def _cut(self, data: xr.Dataset) -> xr.Dataset:
        """What is wanted of a Dataset, unread: levels and region, in the order of the states."""
        _, rows, columns = self._grid
        at: dict[str, Any] = {LATITUDE: plain(rows), LONGITUDE: plain(columns)}
        if LEVEL in data.dims:
            data = data.assign_coords({LEVEL: self._levels})
            wanted = {v for name in self._chosen for v in self._levels_of(name)}
            if wanted and all(self._levels_of(n) for n in self._chosen if LEVEL in self.source[self._read_as(n)].dims):
                # Of all variables together: a Dataset has one set of levels.
                at[LEVEL] = sorted({int(np.argmin(np.abs(self._levels - v))) for v in wanted})
        return data.isel({k: v for k, v in at.items() if k in data.dims})

    def _presented(self, data: xr.Dataset) -> xr.Dataset:
        """What was read, in the units and on the grid of the states."""
        made = {}
        for key, array in data.data_vars.items():
            name = str(key)
            values = converted(array.values.astype(np.float32), name, array.attrs.get("units"), self.path)
            if name in self.fill:
                values = np.where(np.isnan(values), np.float32(self.fill[name]), values)
            made[name] = (array.dims, values, VARIABLES[name].attrs())
        coords = {k: v for k, v in data.coords.items() if k in (TIME, LEVEL) and k in data.dims}
        grid = self._grid[0]
        found = xr.Dataset(made, coords).assign_coords({LATITUDE: list(grid.latitude), LONGITUDE: list(grid.longitude)})
        return regrid(found, grid, self.target, self.regrid) if self.grid else found


def _date(text: str, where: str, *, end: bool = False) -> np.datetime64:
    try:
        found = np.datetime64(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is no date", where=where, remedy="Give it as 2019-03-01 or 2019-03-01T06"
        ) from error
    if end:
        # A day, or an hour, is meant as a whole.
        return (found + 1).astype("datetime64[ns]") - np.timedelta64(1, "ns")
    return found.astype("datetime64[ns]")
