"""States that a forecaster reaches in free runs, from which its simulator makes further training data.

A forecaster that was trained on trajectories of a simulator has seen no states beside these, and its errors lead it to
such states in a long run. Trajectories of the simulator from there complete its training data, as in the data set
aggregation of Ross, Gordon and Bagnell, AISTATS 2011 (DAgger).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.reading_summary import Reading
from data.settings import existing_file
from data.spec import content_hash
from data.sphere.weather_layout import TIME, WeatherLayout
from data.sphere.window_store import WindowStore
from data.sphere.writing import Segment, write_windows
from experiments.forecasting.long_runs import out_of_range
from experiments.forecasting.reference_states import part_of_training
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.saved import surrogate_directory

#: Days between the nominal times of two states, so that each is a segment of its own.
APART = 10


@dataclass(frozen=True)
class Drift:
    """A source of states of long rollouts, each until it leaves the climatological range.

    Attributes:
        surrogate: directory of the forecaster.
        path: windows with the initial states of the rollouts, spread evenly over `part`.
        part: [start, stop) of these states; None for the training part of the forecaster.
        runs: number of rollouts.
        days: length of each rollout.
        every: days between two states that are kept.
        seed: seed of the noise of a forecaster that has noise.

    Raises:
        InputError: a number is out of range.
    """

    surrogate: str
    path: str
    part: list[int] | None = None
    runs: int = 32
    days: float = 200.0
    every: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("runs", 1), ("seed", 0), ("days", self.every)):
            if getattr(self, name) < least:
                raise InputError(f"must be {least:g} or more, got {getattr(self, name):g}", where=f"source.{name}")
        if self.every <= 0:
            raise InputError(f"must be above 0, got {self.every:g}", where="source.every")

    @property
    def states(self) -> int | None:
        """Not known before the rollouts have run."""
        return None

    def reading(self) -> Reading | None:
        """Nothing is read but windows of this package."""
        return None

    def write(self, path: Path, advance: Callable[[int], None] | None = None) -> WindowStore:
        """Run the rollouts and write the kept states to a store of windows.

        Raises:
            InputError: the forecaster or the windows are missing, do not fit one another, or no state was kept.
        """
        forecaster = ForecastSurrogate.load(surrogate_directory(self.surrogate, "source.surrogate"))
        store = WindowStore.open(existing_file(self.path, "source.path"))
        forecaster.layout.refuse_other_states(store.layout, self.path, "those of the surrogate")
        if store.layout.calendar:
            raise InputError(
                "the states have dates, which states of a free run do not have", where=self.path,
                remedy="Give windows of a dynamical core",
            )  # fmt: skip
        asked = [self.part, self.runs, self.days, self.every, self.seed]
        fingerprint = content_hash([forecaster.fingerprint, store.fingerprint, *asked])
        return write_windows(
            path, _segments(self._states(forecaster, store), store.layout), store.layout, fingerprint=fingerprint,
            advance=advance,
        )  # fmt: skip

    def _states(
        self, forecaster: ForecastSurrogate, store: WindowStore
    ) -> Iterator[Float[np.ndarray, "latitude longitude channel"]]:
        history, hours = forecaster.history, store.layout.step_hours
        every, steps = max(1, round(self.every * 24 / hours)), round(self.days * 24 / hours)
        if self.part is None:
            part = part_of_training(Path(self.surrogate), "train", "source.part")
        else:
            part = self.part[0], self.part[1]
        starts = store.starts(history, part)
        starts = starts[np.linspace(0, len(starts) - 1, self.runs).round().astype(int)]
        alive, done = np.ones(self.runs, bool), 0
        present = store.times[starts + history - 1]
        for states in forecaster.chunks(
            store.read(starts, history), present, steps, seed=self.seed, chunk=every, blended=False
        ):
            alive &= ~out_of_range(forecaster, states[:, 0]).any(axis=(1, 2))
            done += states.shape[2]
            if not alive.any():
                return
            if done % every == 0:
                yield from states[alive, 0, -1]


def _segments(
    states: Iterator[Float[np.ndarray, "latitude longitude channel"]], layout: WeatherLayout
) -> Iterator[Segment]:
    for number, state in enumerate(states):
        time = np.array(["2001-01-01"], "datetime64[ns]") + number * np.timedelta64(APART, "D")
        yield Segment.of(layout.unstack(state[None], (TIME,), {TIME: time}))
