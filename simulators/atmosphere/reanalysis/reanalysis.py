"""Reanalysis and other records of the atmosphere, as states in the order of time.

A source is ERA5 from the stores of WeatherBench 2 or ARCO-ERA5, or anything that xarray opens: see `sources`. Only
coordinates are read until a block of states is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.reading_summary import Reading
from data.spec import content_hash
from data.sphere.units import same_units
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME, VARIABLES
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from simulators.atmosphere.reanalysis.cf import (
    beyond_source,
    convert_own,
    convert_units,
    pressure_levels,
    unknown_variables,
)
from simulators.atmosphere.reanalysis.chunk_reader import ChunkReader, as_slice, load
from simulators.atmosphere.reanalysis.plausible import odd_heights, refuse_implausible
from simulators.atmosphere.reanalysis.precipitation import HOURLY, HourlyRain
from simulators.atmosphere.reanalysis.regrid import regrid
from simulators.atmosphere.reanalysis.selection import ReanalysisSelection
from simulators.atmosphere.reanalysis.times import parse_date

#: Settings that were added later; where they are unset, they do not enter the fingerprint of existing windows.
LATER = ("accumulated", "member", "names", "units")
HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")


@dataclass(frozen=True)
class Reanalysis(ReanalysisSelection):
    """States of a source, as `ReanalysisSettings` describes them.

    Raises:
        ValueError: a setting is invalid.
    """

    @cached_property
    def _runs(self) -> list[Int[np.ndarray, " time"]]:
        """Positions in the source of each run of states that follow one another by the step.

        Raises:
            InputError: no state is left: none lies in the range, or all lack hours of precipitation or values.
        """
        rows = self._rows_with_values(self._rows_with_precipitation(self._rows_on_steps()))
        cuts = np.flatnonzero(np.diff(self._axis.step[rows]) != self._stride()) + 1
        return np.split(rows, cuts)

    def _rows_on_steps(self) -> Int[np.ndarray, " time"]:
        """Positions of the states in the requested range of time that lie on its steps."""
        times, step = self._all_times, self._axis.step
        low = times.min() if self.start is None else parse_date(self.start, "source.start")
        high = times.max() if self.stop is None else parse_date(self.stop, "source.stop", end=True)
        inside = np.flatnonzero((times >= low) & (times <= high))
        if not len(inside):
            shown = [str(v.astype("datetime64[m]")) for v in (low, high)]
            raise InputError(
                f"no time from {shown[0]} to {shown[1]}", where=self.where,
                remedy=f"It has {times[0].astype('datetime64[s]')} to {times[-1].astype('datetime64[s]')}",
            )  # fmt: skip
        stride = self._stride()
        steady = inside[step[inside] >= 0]
        # The first state fixes the steps; states between them are left out.
        on = steady[(step[steady] - step[steady[0]]) % stride == 0]
        self._left_out["outside the range of time that was asked for"] = len(times) - len(inside)
        self._left_out[next(iter(self._axis.left_out), "between steps")] = len(inside) - len(steady)
        self._left_out[f"between the steps of {self.hours:g} h that were asked for"] = len(steady) - len(on)
        return on

    def _rows_with_precipitation(self, rows: Int[np.ndarray, " time"]) -> Int[np.ndarray, " kept"]:
        """Those of the positions for which every hour of precipitation that they need is in the source."""
        times, before = self._all_times, len(rows)
        if self.accumulated is None and HOURLY in {self._read_as(n) for n in self._chosen}:
            self._rain.refuse_growing()
        for hours in self._summed.values():
            # The first states, and the first after a gap, lack some of the hours before them.
            whole = rows[rows >= hours - 1]
            rows = whole[times[whole] - times[whole - hours + 1] == (hours - 1) * HOUR]
        if HOURLY in self._chosen or self._summed:
            # A sum since midnight gives the amount of one hour only together with the sum of the hour before.
            answerable = self._rain.answerable(np.arange(len(times)))
            longest = max(self._summed.values(), default=1)
            rows = rows[[bool(answerable[i - longest + 1 : i + 1].all()) for i in rows]] if len(rows) else rows
        self._left_out["without the hours before it that precipitation is summed of"] = before - len(rows)
        if not len(rows):
            raise InputError("no state has the hours before it that precipitation is summed of", where=self.where)
        return rows

    def _rows_with_values(self, rows: Int[np.ndarray, " time"]) -> Int[np.ndarray, " kept"]:
        """Those of the positions whose states lack no value, where `missing` is "drop"; else all of them."""
        if self.missing != "drop":
            return rows
        complete = np.array([i for i in rows if np.isfinite(self._state(np.array([i]))).all()], int)
        self._left_out["a value is missing (source.missing=drop)"] = len(rows) - len(complete)
        if not len(complete):
            raise InputError("a value is missing in every state", where=self.where, remedy="Leave variables out")
        return complete

    @cached_property
    def _left_out(self) -> dict[str, int]:
        """Reason -> number of states that were left out; filled when the runs are determined."""
        return dict(self._opened.left_out)

    @cached_property
    def _raised(self) -> dict[str, float]:
        """Variable -> largest amount below 0 that was set to 0, in its unit; filled when states are read."""
        return {}

    def reading(self) -> Reading:
        """A report of what is read from the source and what is left out."""
        layout, states = self.layout, self.states
        grid = layout.grid
        units = {n: self.source[self._read_as(n)].attrs.get("units") for n in self._chosen}
        north, east = grid.latitude, grid.longitude
        quantities = {
            "grid": f"{grid.shape[0]} x {grid.shape[1]} points, latitude {north[0]:g} to {north[-1]:g}, "
            f"longitude {east[0]:g} to {east[-1]:g}",
            "step": f"{self.hours:g} h",
        }
        if self.member is not None:
            quantities["member"] = f"{self.member}, that of source.member"
        for name in layout.variables:
            levels = layout.levels(name)
            at = f" at {', '.join(f'{v:g}' for v in levels)} hPa" if levels else ""
            needed = self.variable(name).units
            same = same_units(str(units[name]), needed)
            quantities[name] = f"{needed}{'' if same else f', converted from {units[name]}'}{at}"
        unused = {k: v for k, v in unknown_variables(self.source).items() if k not in layout.variables}
        chosen = {*self._chosen, *(self._read_as(n) for n in self._chosen), *layout.static}
        unused |= {
            str(n): "not asked for" for n in self.source.data_vars if str(n) in VARIABLES and str(n) not in chosen
        }
        levels_assumed = pressure_levels(self.source, self.where)[1] if LEVEL in self.source.coords else None
        first = self.layout.unstack(self._state(self._runs[0][:1])[0])
        assumed = [*self._opened.assumed, *self._axis.notes, *([levels_assumed] if levels_assumed else [])]
        assumed += odd_heights(first) if "geopotential" in first else []
        assumed += beyond_source(self.source, self.region, self._grid[0])
        assumed += [
            f"{name} goes down to -{most:.2g} {VARIABLES[name].units}, and is 0 there"
            for name, most in self._raised.items()
        ]
        if not np.array_equal(np.asarray(self._grid[0].longitude) % 360, self._raw_longitudes()):
            assumed.append("longitudes are rounded in the file and were taken for evenly spaced ones")
        return Reading(
            self.where, "states of the atmosphere", "states", len(self._all_times), states, quantities,
            {reason: count for reason, count in self._left_out.items() if count}, unused, tuple(assumed),
        )  # fmt: skip

    def _raw_longitudes(self) -> np.ndarray:
        columns = np.asarray(self.source[LONGITUDE].values, np.float64)[self._grid[2]]
        return np.asarray(np.round(columns % 360.0, 6))

    @property
    def gaps(self) -> list[str]:
        """A text for each gap in time."""
        times, runs = self._all_times, self._runs
        shown = [(times[a[-1]], times[b[0]]) for a, b in pairwise(runs)]
        return [f"{a.astype('datetime64[m]')} to {b.astype('datetime64[m]')}" for a, b in shown]

    @property
    def states(self) -> int:
        """Number of states."""
        return sum(len(r) for r in self._runs)

    def segments(self) -> Iterator[Segment]:
        """Yield each run of states without a gap in time."""
        for run in self._runs:
            yield Segment(self._all_times[run], partial(self._part, run))

    def write(self, path: Path, advance: Callable[[int], None] | None = None) -> WindowStore:
        """Write the states to a store of windows.

        Args:
            path: directory of the windows.
            advance: called with the number of states that have been written.

        Raises:
            InputError: a state cannot be read, or `path` holds other windows.
        """
        return write_windows(
            path, self.segments(), self.layout, static=self.static_fields(), fingerprint=self.fingerprint,
            advance=advance,
        )  # fmt: skip

    def static_fields(self) -> xr.Dataset | None:
        """The static variables on the grid of the states."""
        names = list(self.layout.static)
        if not names:
            return None
        data = self.source[names]
        data = data.isel({TIME: 0}) if TIME in data.dims else data
        return self._presented(load(self._cut(data), self.where))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the settings without the path, of the times, and of the first and last state."""
        runs = self._runs
        settings = {k: v for k, v in vars(replace(self, path="")).items() if k in self.__dataclass_fields__}
        for name in LATER:
            if settings[name] is None or settings[name] == {}:
                del settings[name]  # keeps the fingerprint from before this setting existed
        ends = [self._state(np.array([i])).tobytes().hex() for i in (runs[0][0], runs[-1][-1])]
        times = [str(t) for r in runs for t in (self._all_times[r[0]], self._all_times[r[-1]])]
        return content_hash([{**settings, "fill": dict(self.fill)}, times, ends])

    def _state(self, rows: Int[np.ndarray, " time"]) -> np.ndarray:
        return self.layout.stack(self._read(rows), self.where)

    def _part(self, run: Int[np.ndarray, " time"], start: int, stop: int) -> xr.Dataset:
        return self._read(run[start:stop])

    @cached_property
    def _reader(self) -> ChunkReader:
        return ChunkReader(self._cut(self.source[[v for v in self._chosen if v not in self._summed]]), self.where)

    @cached_property
    def _rain(self) -> HourlyRain:
        reader = ChunkReader(self._cut(self.source[[HOURLY]]), self.where)
        return HourlyRain(reader, self._axis, self.accumulated == "day", self.where)

    def _read(self, rows: Int[np.ndarray, " time"]) -> xr.Dataset:
        """Read states at some times into memory."""
        alone = len(self._summed) == len(self._chosen)
        data = xr.Dataset(coords={TIME: self._all_times[rows]}) if alone else self._reader.read(rows)
        for name, hours in self._summed.items():
            before = rows[:, None] - np.arange(hours)
            every = np.unique(before)
            each = self._rain.read(every)
            total = each.values[np.searchsorted(every, before)].sum(axis=1)
            data = data.assign({name: (each.dims, total, dict(each.attrs))})
        if HOURLY in data and self.accumulated == "day":
            data = data.assign({HOURLY: self._rain.read(rows)})
        return self._presented(data)

    def _cut(self, data: xr.Dataset) -> xr.Dataset:
        """Select levels and region of a Dataset lazily, in the order of the states."""
        _, rows, columns = self._grid
        at: dict[str, Any] = {LATITUDE: as_slice(rows), LONGITUDE: as_slice(columns)}
        if LEVEL in data.dims:
            data = data.assign_coords({LEVEL: self._levels})
            requested = {v for name in self._chosen for v in self._levels_of(name)}
            if requested and all(
                self._levels_of(n) for n in self._chosen if LEVEL in self.source[self._read_as(n)].dims
            ):
                # The union of the levels of all variables, as a Dataset has one set of levels.
                at[LEVEL] = sorted({int(np.argmin(np.abs(self._levels - v))) for v in requested})
        return data.isel({k: v for k, v in at.items() if k in data.dims})

    def _presented(self, data: xr.Dataset) -> xr.Dataset:
        """Convert values that were read to the units and the grid of the states."""
        variables = {}
        grid = self._grid[0]
        labels: dict[str, Any] = {LATITUDE: grid.latitude, LONGITUDE: grid.longitude}
        labels |= {d: data[d].values for d in (TIME, LEVEL) if d in data.coords}
        for key, array in data.data_vars.items():
            name = str(key)
            what, raw = self.variable(name), array.values.astype(np.float32)
            if name in VARIABLES:
                values = convert_units(raw, name, array.attrs.get("units"), self.where)
            else:
                values = convert_own(raw, name, str(array.attrs.get("units")), what.units, self.where)
            refuse_implausible(values, name, [str(d) for d in array.dims], labels, self.where)
            if what.accumulated and (values < 0).any():
                # Packing and spectral transforms leave some amounts slightly below 0.
                self._raised[name] = max(self._raised.get(name, 0.0), float(-np.nanmin(values)))
                values = np.maximum(values, np.float32(0))
            variables[name] = (array.dims, values, what.attrs())
        coords = {k: v for k, v in data.coords.items() if k in (TIME, LEVEL) and k in data.dims}
        states = xr.Dataset(variables, coords).assign_coords(
            {LATITUDE: list(grid.latitude), LONGITUDE: list(grid.longitude)}
        )
        states = regrid(states, grid, self.target, self.regrid, tuple(self.fill)) if self.grid else states
        filled = {k: states[k].fillna(np.float32(self.fill[str(k)])) for k in states.data_vars if k in self.fill}
        return states.assign(filled)
