"""Means and standard deviations of channels and of their increments, and climatologies, each in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from data.checksums import verify
from data.files import listed_path

Numbers = tuple[float, ...]
#: Days of the window over which a climatology is smoothed.
WINDOW_DAYS = 61
YEAR_DAYS = 366
#: Values of a day that are smoothed at once.
COLUMNS = 1 << 16


@dataclass(frozen=True)
class ChannelStatistics:
    """One number a channel, over all points with equal weight.

    Attributes:
        mean, std: mean and standard deviation of the states, in the unit of each channel.
        increment_std: root mean square of what a step adds; 1 where no step is known.
        low, high: smallest and largest value.
    """

    mean: Numbers
    std: Numbers
    increment_std: Numbers
    low: Numbers
    high: Numbers


class Moments:
    """Adds up states, float64; blocks of a segment follow one another, so that a step across two of them counts.

    The sums of blocks are joined as Chan, Golub and LeVeque (1983) do, which loses nothing where the mean is large
    against the spread.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean, self.squares, self.steps_squared = np.zeros((3, channels))
        self.steps = 0
        self.low, self.high = np.full(channels, np.inf), np.full(channels, -np.inf)
        self._last: np.ndarray | None = None

    def new_segment(self) -> None:
        """Begin a segment: the next state does not follow the last one."""
        self._last = None

    def add(self, states: Float[np.ndarray, "time latitude longitude channel"]) -> None:
        """Add a block of states."""
        for state in states:
            flat = state.reshape(-1, state.shape[-1]).astype(np.float64)
            n, mean = len(flat), flat.mean(axis=0)
            delta, total = mean - self.mean, self.count + n
            self.squares += np.square(flat - mean).sum(axis=0) + delta**2 * (self.count * n / total)
            self.mean += delta * (n / total)
            self.count = total
            self.low, self.high = np.minimum(self.low, flat.min(axis=0)), np.maximum(self.high, flat.max(axis=0))
            if self._last is not None:
                self.steps_squared += np.square(flat - self._last).sum(axis=0)
                self.steps += n
            self._last = flat

    def statistics(self) -> ChannelStatistics:
        """The statistics of all added states; a standard deviation that is negligible beside the mean becomes 1."""
        std = np.sqrt(self.squares / max(self.count, 1))
        std = np.where(std > 1e-9 * np.abs(self.mean), std, 1.0)
        step = np.sqrt(self.steps_squared / max(self.steps, 1))
        step = np.where(step > 0, step, 1.0)
        columns = (self.mean, std, step, self.low, self.high)
        return ChannelStatistics(*(tuple(float(v) for v in values) for values in columns))


@dataclass(frozen=True)
class Climatology:
    """Climatological means of states by time.

    Attributes:
        kind: "day_of_year" (and hour of the day), "hour" (of the day alone, for less than a year of data) or "mean".
        hours: hours of the day that are told apart, ascending.
        values: float32, (hour, day of year, latitude, longitude, channel); the axes that `kind` does not tell apart
            have length 1.
    """

    kind: str
    hours: tuple[int, ...]
    values: Float[np.ndarray, "hour day latitude longitude channel"]

    def at(self, times: np.ndarray) -> Float[np.ndarray, "time latitude longitude channel"]:
        """The usual states at some times, datetime64.

        Raises:
            ValueError: an hour of the day was not among the data.
        """
        times = np.asarray(times)
        hour, day = hour_of_day(times), day_of_year(times)
        if self.kind == "mean":
            return np.repeat(self.values[0, 0][None], len(times), axis=0)
        strange = sorted(set(hour.tolist()) - set(self.hours))
        if strange:
            raise ValueError(f"no data at hour {strange[0]} of the day; there are {self.hours}")
        at = np.searchsorted(self.hours, hour)
        return np.asarray(self.values[at, day - 1 if self.kind == "day_of_year" else 0])


def hour_of_day(times: np.ndarray) -> Int[np.ndarray, "*times"]:
    """Whole hours since midnight, of datetime64."""
    return (times.astype("datetime64[h]").astype(np.int64) % 24).astype(int)


def day_of_year(times: np.ndarray) -> Int[np.ndarray, "*times"]:
    """1 to 366, of datetime64."""
    return (times.astype("datetime64[D]") - times.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1


def is_leap(times: np.ndarray) -> Bool[np.ndarray, "*times"]:
    """Whether the year of each of datetime64 has 366 days."""
    years = times.astype("datetime64[Y]")
    return (years + 1).astype("datetime64[D]") - years.astype("datetime64[D]") == np.timedelta64(YEAR_DAYS, "D")


def climatology(
    times: np.ndarray,
    blocks: Iterable[tuple[Int[np.ndarray, " time"], Float[np.ndarray, "time latitude longitude channel"]]],
    shape: tuple[int, int, int],
    *,
    dated: bool,
    file: Path | None = None,
) -> Climatology:
    """The climatology of states that are given block by block.

    With a year of data or more it is that of WeatherBench 2 (Rasp et al. 2024, section 2.2): for each hour of the day
    and day of the year the mean over years and over a window of 61 days around the day, whose weights fall linearly to
    0 at its ends. Day 366 of a year that has none is its day 365.

    Args:
        times: datetime64 of all states.
        blocks: positions in `times`, and the states there.
        shape: latitudes, longitudes and channels.
        dated: whether the times are dates.
        file: where the values of a day-of-year climatology are kept, as they may exceed the memory; None: in memory.
            A file that is there answers, once its checksum was verified.

    Raises:
        CorruptStoreError: the file is not what was written.
    """
    span = (times.max() - times.min()) / np.timedelta64(1, "D") if len(times) else 0.0
    kind = "mean" if not dated else "day_of_year" if span >= 364 else "hour"
    hours = tuple(sorted(set(hour_of_day(times).tolist()))) if kind != "mean" else (0,)
    hour = np.searchsorted(hours, hour_of_day(times)) if kind != "mean" else np.zeros(len(times), int)
    if kind != "day_of_year":
        means = np.zeros((len(hours), 1, *shape))
        _add_means(means, blocks, hour, np.zeros(len(times), int))
        return Climatology(kind, hours, means.astype(np.float32))
    if file is not None and file.is_file():
        return Climatology(kind, hours, _map_file(file))
    size = (len(hours), YEAR_DAYS, *shape)

    def fill(values: np.ndarray) -> None:
        count = _add_means(values, blocks, hour, day_of_year(times) - 1, last_twice=~is_leap(times))
        for h in range(len(hours)):
            _smooth(values[h], count[h])

    if file is None:
        values = np.zeros(size, np.float32)
        fill(values)
        return Climatology(kind, hours, values)
    with listed_path(file) as part:
        mapped = np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=size)
        fill(mapped)
        mapped.flush()
    return Climatology(kind, hours, _map_file(file))


def _map_file(file: Path) -> np.ndarray:
    verify(file, remedy="Remove it, and it is made again")
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _add_means(
    means: Float[np.ndarray, "hour day latitude longitude channel"],
    blocks: Iterable[tuple[Int[np.ndarray, " time"], Float[np.ndarray, "time latitude longitude channel"]]],
    hour: Int[np.ndarray, " time"],
    day: Int[np.ndarray, " time"],
    last_twice: Bool[np.ndarray, " time"] | None = None,
) -> Float[np.ndarray, "hour day"]:
    """Write the mean of the states of each hour and day into `means`; returns how many there were.

    Where `last_twice`, a state of day 365 counts for day 366 too.
    """
    count = np.zeros(means.shape[:2])
    for rows, states in blocks:
        for row, state in zip(rows, states, strict=True):
            again = last_twice is not None and last_twice[row] and day[row] == YEAR_DAYS - 2
            for d in (day[row], YEAR_DAYS - 1) if again else (day[row],):
                count[hour[row], d] += 1
                # A running mean stays exact in float32 where a sum would not.
                means[hour[row], d] += (state - means[hour[row], d]) / count[hour[row], d]
    return count


def window_weights(days: int = WINDOW_DAYS) -> Float[np.ndarray, " day"]:
    """Weights that fall linearly from the middle to 0 at both ends."""
    half = days // 2
    return 1.0 - np.abs(np.arange(-half, half + 1)) / half


def _smooth(means: Float[np.ndarray, "day latitude longitude channel"], count: Float[np.ndarray, " day"]) -> None:
    """Replace means of days by the weighted mean over the window of each, around the turn of the year.

    Each state counts by its weight, so that a day with fewer years counts less.
    """
    weights = window_weights()
    half = len(weights) // 2
    matrix = np.zeros((YEAR_DAYS, YEAR_DAYS))
    for offset, weight in zip(range(-half, half + 1), weights, strict=True):
        matrix[np.arange(YEAR_DAYS), (np.arange(YEAR_DAYS) + offset) % YEAR_DAYS] += weight
    matrix *= count
    norm = matrix.sum(axis=1, keepdims=True)
    # A day so far from all data that no window reaches it takes the mean of the year.
    empty = norm[:, 0] == 0
    matrix[empty], norm[empty] = count, count.sum()
    matrix = (matrix / norm).astype(np.float32)
    flat = means.reshape(YEAR_DAYS, -1)
    for first in range(0, flat.shape[1], COLUMNS):
        part = slice(first, first + COLUMNS)
        flat[:, part] = matrix @ flat[:, part]
