"""Precipitation of single hours, from records of each hour or of what fell since 00 UTC, as in ERA5-Land."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.weather import TIME
from simulators.weather.chunks import ChunkReader
from simulators.weather.times import TimeAxis

#: Precipitation of each hour, and what is summed of it over so many hours up to the time of a state.
HOURLY = "total_precipitation"
SUMMED: Mapping[str, int] = {"total_precipitation_6hr": 6, "total_precipitation_24hr": 24}
#: Days that are looked at to tell sums from single hours; dry ones tell nothing.
DAYS = 5


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

    def read(self, rows: Int[np.ndarray, " time"]) -> xr.DataArray:
        """What fell in the hour before each time, in the units of the source; dims (time, ...).

        Raises:
            InputError: sums since 00 UTC lack the hour before one.
        """
        if not self.since_midnight:
            return self._stored(rows)
        times, step = self.axis.times[rows], self.axis.step
        first = _hour_of_day(times) == 1
        lacking = ~first & ((rows == 0) | (step[rows] - step[np.maximum(rows - 1, 0)] != 1))
        if lacking.any():
            raise InputError(
                f"the hour before {str(times[int(np.argmax(lacking))])[:16]} is missing, without which its own "
                "precipitation is not known",
                where=self.where,
                remedy="Begin with source.start at 01 UTC of a day, and end before a gap",
            )
        every = np.unique(np.concatenate([rows, rows[~first] - 1]))
        stored = self._stored(every)
        value = stored.values[np.searchsorted(every, rows)]
        before = stored.values[np.searchsorted(every, np.where(first, rows, rows - 1))]
        hours = np.where(first.reshape(-1, *[1] * (value.ndim - 1)), value, value - before)
        return xr.DataArray(hours, {TIME: times}, stored.dims, attrs=dict(stored.attrs))

    def refuse_growing(self) -> None:
        """Refuse values that are sums since 00 UTC, which would be summed again.

        What falls in single hours is less in one hour than in the hour before somewhere and at some time; sums of a
        day never fall from 01 UTC to 00 UTC.

        Raises:
            InputError: the first wet day grows from hour to hour at every point.
        """
        times, step = self.axis.times, self.axis.step
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
            raise InputError(
                f"precipitation grows from hour to hour at every point from {str(times[rows[0]])[:16]} on: it is the "
                "sum since 00 UTC, as in ERA5-Land, and not that of each hour",
                where=self.where,
                remedy="Give source.accumulated=day, or source.accumulated=hour if it is that of each hour",
            )

    def _stored(self, rows: Int[np.ndarray, " time"]) -> xr.DataArray:
        return self.reader.read(rows)[HOURLY].transpose(TIME, ...)


def _hour_of_day(times: np.ndarray) -> Int[np.ndarray, " time"]:
    hours: Int[np.ndarray, " time"] = times.astype("datetime64[h]").astype(np.int64) % 24
    return hours
