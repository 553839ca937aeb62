"""Time axis of a record: regular steps, months or years, and the states that lie between them.

Files store times with limited precision, and some have extra states between the regular ones. Times are snapped to the
nearest step of the most common spacing; states between steps are left out and counted in the report.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.sphere.weather_layout import TIME

HOUR_S, DAY_S = 3600, 86400
#: Mean length of a month and of a year of the Gregorian calendar, hours.
MONTH_HOURS, YEAR_HOURS = 365.2425 * 24 / 12, 365.2425 * 24
#: A time is snapped to a step if it is at most this fraction of the step away.
NEAR = 0.1
CALENDARS = ("standard", "gregorian", "proleptic_gregorian", "noleap", "365_day")
FIRST_YEAR, LAST_YEAR = 1678, 2261


@dataclass(frozen=True)
class TimeAxis:
    """Times and step numbers of the states of a source.

    Attributes:
        times: time of each state of the source, datetime64[ns].
        step: number of the step of each state, from an arbitrary origin; -1 for a state between steps.
        hours: length of a step, h; for months and years their mean length.
        kind: "even", "month" or "year".
        left_out: reason -> number of states that are not on a step.
        notes: assumptions and choices, one sentence each.
    """

    times: np.ndarray
    step: Int[np.ndarray, " time"]
    hours: float
    kind: str = "even"
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_times(data: xr.Dataset, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Ascending times as datetime64[ns], and notes about them.

    Raises:
        InputError: the calendar is not supported, years lie outside 1678 to 2261, or times are missing, unsorted or
            repeated.
    """
    values = data[TIME].values
    notes: tuple[str, ...] = ()
    if values.dtype == object:
        calendar = str(data[TIME].dt.calendar)
        if calendar not in CALENDARS:
            raise InputError(
                f"the calendar {calendar} has other days than ours",
                where=where,
                remedy="Convert it with xarray: data.convert_calendar('standard', align_on='year')",
            )
        if calendar in ("noleap", "365_day"):
            notes = (f"the calendar {calendar} has no 29 February: records have a gap there in leap years",)
        named = [int(t.year) for t in values]
        if min(named) < FIRST_YEAR or max(named) > LAST_YEAR:
            raise InputError(
                f"years from {min(named)} to {max(named)}; only {FIRST_YEAR} to {LAST_YEAR} can be represented",
                where=where,
                remedy="Shift its years with xarray, by a multiple of 400 to keep leap years in place",
            )
        values = np.array([np.datetime64(t.isoformat(), "s") for t in values])
    if not np.issubdtype(values.dtype, np.datetime64):
        raise InputError("its times are no dates", where=where, remedy="Give units such as `hours since 1900-01-01`")
    if np.isnat(values).any():
        raise InputError(
            f"time number {int(np.argmax(np.isnat(values)))} is missing", where=where, remedy="Take it out"
        )
    seconds = values.astype("datetime64[s]").astype(np.int64)
    years = values.astype("datetime64[Y]").astype(int) + 1970
    if len(seconds) and (years.min() < FIRST_YEAR or years.max() > LAST_YEAR):
        raise InputError(
            f"years from {years.min()} to {years.max()}; only {FIRST_YEAR} to {LAST_YEAR} can be represented",
            where=where,
            remedy="Shift its years with xarray, by a multiple of 400 to keep leap years in place",
        )
    times = values.astype("datetime64[ns]")
    steps = np.diff(times)
    zero = np.timedelta64(0, "ns")
    for bad, what in ((steps == zero, "is given twice"), (steps < zero, "comes after a later one")):
        if bad.any():
            shown = times[int(np.argmax(bad)) + 1].astype("datetime64[s]")
            raise InputError(f"the time {shown} {what}", where=where, remedy="Sort its times, each once")
    return times, notes


def time_axis(times: np.ndarray) -> TimeAxis:
    """Determine the time axis of ascending times.

    Args:
        times: distinct ascending times, datetime64[ns].
    """
    for unit, kind, hours in (("datetime64[M]", "month", MONTH_HOURS), ("datetime64[Y]", "year", YEAR_HOURS)):
        if len(times) >= 3 and (axis := _of_calendar(times, unit, kind, hours)) is not None:
            return axis
    seconds = times.astype("datetime64[s]").astype(np.int64)
    notes: tuple[str, ...] = ()
    if len(seconds) < 2:
        notes = ("a single time has no step: 6 h was taken for it; give source.step_hours for another",)
        return TimeAxis(times, np.zeros(len(times), np.int64), 6.0, notes=notes)
    step = _commonest(seconds)
    # The phase of most states is a circular mean, so that rounding errors on both sides of zero cancel.
    angles = np.exp(2j * np.pi * (seconds % step) / step)
    phase = float(np.angle(angles[np.abs(angles - _mode(angles)) < 2 * np.pi * NEAR].mean())) / (2 * np.pi) * step
    grain = 60 if step >= 600 else 1
    phase = round(phase / grain) * grain
    usual, count = Counter((seconds % step).tolist()).most_common(1)[0]
    if count * 2 > len(seconds):
        phase = usual  # most states have this phase to the second, and a few outliers must not shift them
    number = np.rint((seconds - phase) / step).astype(np.int64)
    away = np.abs(seconds - phase - number * step)
    on = away <= NEAR * step
    # Of two states that would be snapped to one step, only the nearer one is.
    for value in np.unique(number[on])[np.bincount(np.unique(number[on], return_inverse=True)[1]) > 1]:
        rows = np.flatnonzero(on & (number == value))
        on[rows[rows != rows[int(np.argmin(away[rows]))]]] = False
    number[~on] = -1
    number[on] -= number[on].min()
    snapped = times.copy()
    snapped[on] = ((np.rint((seconds[on] - phase) / step) * step + phase).astype(np.int64)).astype("datetime64[s]")
    if away[on].max() >= 1:
        notes = (
            f"times lie up to {away[on].max() / 60:.2g} minutes beside whole steps of {step / HOUR_S:g} h and were "
            "taken for these",
        )
    lost = int((~on).sum())
    left = {f"between the steps of {step / HOUR_S:g} h, the commonest": lost} if lost else {}
    return TimeAxis(snapped, number, step / HOUR_S, "even", left, notes)


def _mode(angles: np.ndarray) -> complex:
    """The most common phase, to a twentieth of the circle."""
    bins = np.round(np.angle(angles) / (2 * np.pi) * 20).astype(int) % 20
    return complex(np.exp(2j * np.pi * Counter(bins.tolist()).most_common(1)[0][0] / 20))


def _commonest(seconds: Int[np.ndarray, " time"]) -> int:
    """The most common spacing, s, rounded to minutes, hours or days if the times are no more precise than that."""
    spacings = np.diff(seconds)
    exact, count = Counter(spacings.tolist()).most_common(1)[0]
    if count * 2 > len(spacings):
        return int(exact)
    # Rounding errors spread one spacing over several values: their median is rounded to whole minutes, hours or days.
    middle = float(np.median(spacings))
    for grain in (DAY_S, HOUR_S, 1800, 900, 600, 300, 60):
        rounded = round(middle / grain) * grain
        if rounded and abs(rounded - middle) <= 0.1 * rounded and _share(spacings, rounded) > 0.5:
            return int(rounded)
    return int(exact)


def _share(spacings: Int[np.ndarray, " n"], step: int) -> float:
    return float((np.abs(spacings - step) <= 2 * NEAR * step).mean())


def _of_calendar(times: np.ndarray, unit: str, kind: str, hours: float) -> TimeAxis | None:
    """An axis of months or years, if most states are one of these apart and no two lie in the same one; else None."""
    number = times.astype(unit).astype(np.int64)
    spacings = np.diff(times.astype("datetime64[s]").astype(np.int64)).astype(np.float64) / HOUR_S
    usual = (spacings > 0.9 * hours) & (spacings < 1.1 * hours)
    if len(np.unique(number)) < len(number) or usual.mean() <= 0.5 or len(np.unique(spacings)) == 1:
        return None
    notes = (f"steps are {kind}s, which differ in length: one counts as {hours:g} h",)
    return TimeAxis(times, number - number.min(), hours, kind, {}, notes)


def parse_date(text: object, where: str, *, end: bool = False) -> np.datetime64:
    """Parse a date to datetime64[ns]; with `end`, the last nanosecond of the year, day or hour that it names.

    Raises:
        InputError: the text is no date.
    """
    try:
        stamp = np.datetime64(str(text))
    except ValueError as error:
        raise InputError(
            f"{text!r} is no date", where=where, remedy="Give it as 2019, 2019-03-01 or 2019-03-01T06"
        ) from error
    if end:
        return (stamp + 1).astype("datetime64[ns]") - np.timedelta64(1, "ns")
    return stamp.astype("datetime64[ns]")
