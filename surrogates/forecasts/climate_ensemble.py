"""The climatological ensemble, a reference of probabilistic forecasts: states of this time of the year in other years.

Its CRPS is that of the climatological distribution. The climatological mean, whose CRPS is its absolute error, would be
too easy to beat (Rasp et al. 2024, arXiv:2308.15560, section 2.2: probabilistic climatology).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from data.sphere.statistics import YEAR_DAYS, day_of_year, hour_of_day
from data.sphere.window_store import WindowStore
from surrogates.forecasts.references import leads

Part = tuple[int, int]
#: Half widths, in days, of the window around a day of the year; the first one with enough states is taken.
AROUND = (15, 30, 60, 184)
#: Number of states that are enough for a valid time to draw from.
ENOUGH = 20


@dataclass(frozen=True)
class ClimatologicalEnsemble:
    """An ensemble of training states at the hour of the day and around the day of the year of the valid time.

    Attributes:
        store: windows of the training.
        part: [start, stop) of the states of the training part.
        kind: what the climate depends on, as in `Climatology.kind`: "day_of_year", "hour" or "mean".
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
        """Rows of the states that a valid time (datetime64) draws from."""
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
        """The largest number of members that each of some valid times can draw."""
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
        """Ensembles of states drawn at random; at each lead they are drawn anew.

        Raises:
            ValueError: there are fewer states than members.
        """
        valid = leads(times, self.store.layout, steps)
        rows = np.empty((members, *valid.shape), int)
        for at in np.ndindex(*valid.shape):
            pool = self.pool(valid[at])
            if len(pool) < members:
                raise ValueError(f"there are {len(pool)} states to draw {members} members from")
            # The draw depends on the valid time alone, so that batches do not change it.
            moment = int(valid[at].astype("datetime64[s]").astype(np.int64)) % (1 << 62)
            rows[(slice(None), *at)] = np.random.default_rng((seed, moment)).choice(pool, members, replace=False)
        unique, inverse = np.unique(rows, return_inverse=True)
        states = self.store.read(unique, 1)[:, 0]
        return np.moveaxis(states[inverse.reshape(rows.shape)], 0, 1)
