"""Error against cost of a forecaster and of the dynamical core that it learned from, at coarser truncations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from jaxtyping import Float

from data.costs import label_core_seconds, training_core_seconds
from data.errors import InputError
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from experiments.comparison.contenders import Contender, Problem, Settings
from experiments.comparison.result import Comparison, compare
from simulators.atmosphere.core.regrid import regrid
from surrogates.forecasts.networks.architectures import ARCHITECTURES
from surrogates.forecasts.surrogate import ForecastSurrogate

#: Variables whose errors are compared.
COMPARED = ("temperature", "u_component_of_wind", "v_component_of_wind")


@runtime_checkable
class SteppingCore(Protocol):
    """A dynamical core that continues states of the atmosphere, and has coarser versions of itself.

    Attributes:
        name: short readable name.
        truncation: largest wavenumber.
        step: time step, min.
        save_hours: time between saved states, h.
        state_layout: layout of the states of `run`.
    """

    @property
    def name(self) -> str: ...
    @property
    def truncation(self) -> int: ...
    @property
    def step(self) -> float: ...
    @property
    def save_hours(self) -> float: ...
    @property
    def state_layout(self) -> WeatherLayout: ...

    def at(self, *, points: int | None = None, dt: float | None = None) -> Self:
        """See `simulators.adapter.HasResolutions`; `points` is the truncation, `dt` the time step in minutes."""
        ...

    def run(
        self, states: Float[np.ndarray, "batch latitude longitude channel"], hours: float, save_hours: float
    ) -> Float[np.ndarray, "batch time latitude longitude channel"]:
        """Integrate a batch of states in `state_layout` over `hours`; returns a state after each `save_hours`."""
        ...


@dataclass(frozen=True)
class CoreForecasts:
    """Forecasts by a dynamical core, at its own truncation or a coarser one.

    Attributes:
        core: core whose `state_layout` is that of the initial and forecast states.
        truncation: truncation at which it runs.
        history: number of states that a forecast begins with.
    """

    core: SteppingCore
    truncation: int
    history: int = 1

    @property
    def runner(self) -> SteppingCore:
        """The core at the truncation at which it runs."""
        return self.core.at(points=self.truncation)

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """States at leads 1 to `steps`; between the grids they are converted by spectral truncation."""
        native, runner = self.core.state_layout, self.runner
        same = self.truncation == self.core.truncation
        start = history[:, -1] if same else regrid(history[:, -1], native, runner.state_layout)
        states = runner.run(start, steps * self.core.save_hours, self.core.save_hours)
        return (states if same else regrid(states, runner.state_layout, native))[:, None]


def relative_error(store: WindowStore) -> Any:
    """A function for the error of each request: root mean square over leads, area, temperature and winds, by spread."""
    layout = store.layout
    at = [i for i, c in enumerate(layout.channels) if c.variable in COMPARED]
    spread = np.array(store.statistics.std)[at]
    area = layout.grid.weights / layout.grid.weights.mean()

    def error(prediction: np.ndarray, truth: np.ndarray) -> Float[np.ndarray, " request"]:
        off = (np.asarray(prediction, np.float64)[:, :, at] - truth[:, :, at]) / spread[:, None, None]
        return np.sqrt((off**2 * area).mean(axis=(1, 2, 3, 4)))

    return error


def compare_with_core(
    forecaster: ForecastSurrogate,
    core: SteppingCore,
    store: WindowStore,
    part: tuple[int, int],
    truncations: tuple[int, ...],
    *,
    steps: int,
    requests: int,
    cores: int,
    batch_sizes: tuple[int, ...] = (1, 16),
    repeats: int = 3,
) -> Comparison:
    """Compare a forecaster with its core, as `experiments.comparison` does; coarser truncations are the rungs.

    The truth is the core at the truncation of the records. It is compared with the core run again from the same states
    in float32; their difference is the error that no forecast can avoid.

    Raises:
        InputError: the store's states are not those of the core.
    """
    if store.layout.channels != core.state_layout.channels:
        raise InputError("the states are not those of the core", where="core", remedy="Give sigma levels: levels=[]")
    starts = store.starts(1 + steps, part)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, requests).round().astype(int))]
    states = store.read(starts, 1 + steps)
    initial, truth = states[:, 0], np.moveaxis(states[:, 1:], -1, 2)
    times = store.times[starts]

    def channels_first(forecasts: np.ndarray) -> np.ndarray:
        return np.moveaxis(forecasts[:, 0], -1, 2)

    few = slice(0, 4)
    again = channels_first(CoreForecasts(core, core.truncation).forecast_arrays(initial[few, None], times[few], steps))
    error = relative_error(store)
    difference = float(error(again, truth[few]).mean())

    def rung(truncation: int) -> Contender:
        system = CoreForecasts(core, truncation)
        return Contender(
            f"T{truncation}, {system.runner.step:g} min", "solver",
            lambda x, _: channels_first(system.forecast_arrays(np.moveaxis(x, 1, -1)[:, None], np.resize(times, len(x)),
                steps)),
        )  # fmt: skip

    scores = forecaster.scores
    ours = Contender(
        "mixture" if forecaster.others else ARCHITECTURES.name_of(forecaster.facts.config.network),
        "surrogate",
        lambda x, _: channels_first(
            forecaster.forecast_arrays(np.moveaxis(x, 1, -1)[:, None], np.resize(times, len(x)), steps)
        ),
        label_core_seconds=label_core_seconds(scores),
        training_core_seconds=training_core_seconds(scores, cores),
        note=f"{scores.get('train/states', 0):,.0f} states to learn from",
    )
    return compare(
        f"Forecasts of {steps * core.save_hours / 24:g} days of the {core.name} core",
        [*(rung(t) for t in truncations), ours],
        Problem(np.moveaxis(initial, -1, 1), truth),
        reference=f"the core at T{core.truncation}, steps of {core.step:g} min",
        reference_difference=difference,
        settings=Settings(
            cores=cores, batch_sizes=batch_sizes, trials=1, repeats=repeats, least_seconds=0.0, error=error,
            error_name="RMS error in units of spread",
        ),
    )  # fmt: skip


def years_per_minute(
    forecaster: ForecastSurrogate,
    core: SteppingCore,
    state: Float[np.ndarray, "latitude longitude channel"],
    batch: int,
) -> tuple[float, float]:
    """Simulated years per minute of forecaster and core, summed over a batch, on the same processor cores."""
    states, times = np.repeat(state[None], batch, axis=0), np.repeat(np.datetime64("2001-01-01"), batch)
    days = core.save_hours / 24
    rates = []
    for steps, run in (
        (20, lambda n: forecaster.forecast_arrays(states[:, None], times, n)),
        (2 if batch > 8 else 10, lambda n: core.run(states, n * core.save_hours, core.save_hours)),
    ):
        run(steps)
        began = time.perf_counter()
        run(steps)
        seconds = time.perf_counter() - began
        rates.append(batch * steps * days / 365.25 / (seconds / 60))
    return rates[0], rates[1]
