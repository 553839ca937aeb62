"""The ensemble that a probabilistic forecast has to beat: what the weather was at this time of the year in other years.

Its score is that of the climatological distribution, against which a single climatological mean, whose CRPS is its
absolute error, looks worse than it is (Rasp et al. 2024, arXiv:2308.15560, section 2.2: probabilistic climatology).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from data.window_statistics import YEAR_DAYS, day_of_year, hour_of_day
from data.windows import WindowStore
from surrogates.weather.references import leads

Part = tuple[int, int]
#: Days before and after a day of the year whose states are of its climate; wider where there are too few.
AROUND = (15, 30, 60, 184)
#: States that a valid time draws from at the least, where the training has them.
ENOUGH = 20


@dataclass(frozen=True)
class ClimatologicalEnsemble:
    """States of the training at the hour of the day and around the day of the year of the valid time, drawn at random.

    Attributes:
        store: windows of the training.
        part: [start, stop) of the states that it learned from.
        kind: what times are told apart by, as `Climatology.kind`: "day_of_year", "hour" or "mean".
    """

    store: WindowStore
    part: Part
    kind: str
    history: int = 1

    @cached_property
    def _clock(self) -> tuple[Int[np.ndarray, " state"], Int[np.ndarray, " state"]]:
        times = self.store.times[self.part[0] : self.part[1]]
        return hour_of_day(times), day_of_year(times)

    def pool(self, time: np.ndarray) -> Int[np.ndarray, " state"]:
        """Rows of the states that a valid time, datetime64, draws from."""
        rows = np.arange(self.part[0], self.part[1])
        if self.kind == "mean":
            return rows
        hours, days = self._clock
        alike = hours == hour_of_day(np.atleast_1d(time))[0]
        if self.kind == "hour":
            return rows[alike]
        apart = np.abs(days - day_of_year(np.atleast_1d(time))[0])
        apart = np.minimum(apart, YEAR_DAYS - apart)
        near = alike
        for days_around in AROUND:
            near = alike & (apart <= days_around)
            if near.sum() >= ENOUGH:
                break
        return rows[near]

    def most_members(self, times: np.ndarray) -> int:
        """How many members each of some valid times can draw."""
        times = np.unique(times)
        _, first = np.unique(1000 * hour_of_day(times) + day_of_year(times), return_index=True)
        return min(len(self.pool(time)) for time in times[first])

    def forecast_arrays(
        self,
        history: Float[np.ndarray, "batch history latitude longitude channel"],
        times: np.ndarray,
        steps: int,
        *,
        members: int = 2,
        seed: int = 0,
    ) -> Float[np.ndarray, "batch member lead latitude longitude channel"]:
        """Members are other states at each lead; all that is asked of them is to be of the climate.

        Raises:
            ValueError: fewer states are there than members are asked for.
        """
        valid = leads(times, self.store.layout, steps)
        rows = np.empty((members, *valid.shape), int)
        for at in np.ndindex(*valid.shape):
            pool = self.pool(valid[at])
            if len(pool) < members:
                raise ValueError(f"{len(pool)} states are there to draw {members} members from")
            # The same draw for the same valid time, whichever batch it is in.
            moment = int(valid[at].astype("datetime64[s]").astype(np.int64)) % (1 << 62)
            rows[(slice(None), *at)] = np.random.default_rng((seed, moment)).choice(pool, members, replace=False)
        unique, inverse = np.unique(rows, return_inverse=True)
        states = self.store.read(unique, 1)[:, 0]
        return np.moveaxis(states[inverse.reshape(rows.shape)], 0, 1)
