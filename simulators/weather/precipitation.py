"""Precipitation of single hours, from records of each hour or of what fell since 00 UTC, as in ERA5-Land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.weather import TIME
from simulators.weather.cf import conversion_of
from simulators.weather.chunks import ChunkReader
from simulators.weather.times import TimeAxis

#: Precipitation of each hour, and what is summed of it over so many hours up to the time of a state.
HOURLY = "total_precipitation"
SUMMED: Mapping[str, int] = {"total_precipitation_6hr": 6, "total_precipitation_24hr": 24}
#: Days that are looked at to tell sums from single hours; dry ones tell nothing.
DAYS = 5
#: What a sum may fall by, m: packing makes small steps down.
PACKED = 2e-5


@dataclass(frozen=True)
class HourlyRain:
    """Precipitation of each hour.

    Attributes:
        reader: of the variable in the source.
        axis: times of the source.
        since_midnight: whether the source holds what fell since 00 UTC; its value at 00 UTC is that of the whole day
            before, and at 01 UTC a new sum begins (documentation of ERA5-Land).
        where: it comes from, for errors.
    """

    reader: ChunkReader
    axis: TimeAxis
    since_midnight: bool
    where: str

    def answerable(self, rows: Int[np.ndarray, " time"]) -> np.ndarray:
        """Whether what fell in the hour before each time is known: not where a sum lacks the hour before it."""
        if not self.since_midnight:
            return np.ones(len(rows), bool)
        step = self.axis.step
        first = _hour_of_day(self.axis.times[rows]) == 1
        return np.asarray(first | ((rows > 0) & (step[rows] - step[np.maximum(rows - 1, 0)] == 1)))

    def read(self, rows: Int[np.ndarray, " time"]) -> xr.DataArray:
        """What fell in the hour before each time, in the units of the source, 0 or more; dims (time, ...).

        Args:
            rows: positions in the source, each `answerable`.

        Raises:
            InputError: what should be a sum since 00 UTC falls within a day.
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
        """Refuse differences far below 0, which single hours have and sums have not."""
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
        """Refuse values that are sums since 00 UTC, which would be summed again.

        What falls in single hours is less in one hour than in the hour before somewhere and at some time; sums of a
        day never fall from 01 UTC to 00 UTC.

        Raises:
            InputError: every wet day of those that are looked at grows from hour to hour at every point.
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
            # Packing makes small steps down of what does not change.
            if (np.nan_to_num(np.diff(day, axis=0)) < -1e-3 * most).any():
                return
            # Rain that begins late in a day grows too: another day may tell.
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
