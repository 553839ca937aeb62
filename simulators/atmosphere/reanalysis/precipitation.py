"""Hourly precipitation, from hourly amounts or from sums since 00 UTC as in ERA5-Land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.sphere.weather_layout import TIME
from simulators.atmosphere.reanalysis.cf import conversion_of
from simulators.atmosphere.reanalysis.chunk_reader import ChunkReader
from simulators.atmosphere.reanalysis.times import TimeAxis

#: Hourly precipitation, and variables that are sums of it over this many hours up to the time of a state.
HOURLY = "total_precipitation"
SUMMED: Mapping[str, int] = {"total_precipitation_6hr": 6, "total_precipitation_24hr": 24}
#: Number of days that are examined to distinguish sums from hourly amounts; dry days are no evidence.
DAYS = 5
#: Largest decrease of a sum that counts as a packing error, m.
PACKED = 2e-5


@dataclass(frozen=True)
class HourlyRain:
    """Reads hourly precipitation.

    Attributes:
        reader: reader of the variable in the source.
        axis: times of the source.
        since_midnight: whether the source holds sums since 00 UTC; its value at 00 UTC is the sum of the previous day,
            and a new sum begins at 01 UTC (documentation of ERA5-Land).
        where: name of the source, for errors.
    """

    reader: ChunkReader
    axis: TimeAxis
    since_midnight: bool
    where: str

    def answerable(self, rows: Int[np.ndarray, " time"]) -> np.ndarray:
        """Whether the amount of the hour before each time is computable; a sum requires the sum of an hour before."""
        if not self.since_midnight:
            return np.ones(len(rows), bool)
        step = self.axis.step
        first = _hour_of_day(self.axis.times[rows]) == 1
        return np.asarray(first | ((rows > 0) & (step[rows] - step[np.maximum(rows - 1, 0)] == 1)))

    def read(self, rows: Int[np.ndarray, " time"]) -> xr.DataArray:
        """The amount of the hour before each time, in the units of the source, 0 or more; dims (time, ...).

        Args:
            rows: positions in the source, each `answerable`.

        Raises:
            InputError: a value that should be a sum since 00 UTC decreases within a day.
        """
        if not self.since_midnight:
            return self._stored(rows)
        times = self.axis.times[rows]
        first = _hour_of_day(times) == 1
        every = np.unique(np.concatenate([rows, rows[~first] - 1]))
        stored = self._stored(every)
        value = stored.values[np.searchsorted(every, rows)]
        before = stored.values[np.searchsorted(every, np.where(first, rows, rows - 1))]
        hours = np.where(first.reshape(-1, *[1] * (value.ndim - 1)), value, value - before)
        self._refuse_falling(hours, times, float(np.nanmax(value, initial=0.0)), stored.attrs.get("units"))
        return xr.DataArray(np.maximum(hours, 0), {TIME: times}, stored.dims, attrs=dict(stored.attrs))

    def _refuse_falling(self, hours: np.ndarray, times: np.ndarray, most: float, units: str | None) -> None:
        """Refuse differences far below 0, which hourly amounts have and sums do not."""
        factor, _ = conversion_of(HOURLY, units, self.where)
        falls = hours < -max(1e-3 * most, PACKED / factor)
        if falls.any():
            stamp = times[int(np.argmax(falls.reshape(len(falls), -1).any(axis=1)))]
            raise InputError(
                f"precipitation at {str(stamp)[:16]} is less than an hour before at {int(falls.sum()):,} of "
                f"{falls.size:,} points and times: it is no sum since 00 UTC",
                where=self.where,
                remedy="Leave source.accumulated=day out where each value is that of one hour",
            )

    def refuse_growing(self) -> None:
        """Refuse sums since 00 UTC, which would be summed a second time.

        Hourly amounts decrease at some point and time, whereas sums never decrease from 01 UTC to 00 UTC.

        Raises:
            InputError: on every wet day that is examined, values never decrease from hour to hour at any point.
        """
        times, step = self.axis.times, self.axis.step
        growing: int | None = None
        for start in np.flatnonzero(_hour_of_day(times) == 1)[:DAYS]:
            rows = np.arange(start, min(start + 24, len(times)))
            if len(rows) < 24 or (np.diff(step[rows]) != 1).any():
                continue
            day = self._stored(rows).values
            most = np.nanmax(day, initial=0.0)
            if most <= 0:
                continue
            # Packing causes small decreases of constant values.
            if (np.nan_to_num(np.diff(day, axis=0)) < -1e-3 * most).any():
                return
            # Rain that begins late in a day only increases too, so that other days are examined as well.
            growing = int(rows[0]) if growing is None else growing
        if growing is not None:
            raise InputError(
                f"precipitation grows from hour to hour at every point from {str(times[growing])[:16]} on: it is the "
                "sum since 00 UTC, as in ERA5-Land, and not that of each hour",
                where=self.where,
                remedy="Give source.accumulated=day, or source.accumulated=hour if it is that of each hour",
            )

    def _stored(self, rows: Int[np.ndarray, " time"]) -> xr.DataArray:
        return self.reader.read(rows)[HOURLY].transpose(TIME, ...)


def _hour_of_day(times: np.ndarray) -> Int[np.ndarray, " time"]:
    hours: Int[np.ndarray, " time"] = times.astype("datetime64[h]").astype(np.int64) % 24
    return hours
