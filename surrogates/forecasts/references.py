"""Reference forecasts: persistence, climatology, and linear models of the leading patterns of anomalies.

Each has `forecast_arrays` as a `ForecastSurrogate` does, so that an evaluation treats all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from data.sphere.statistics import Climatology
from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore

Part = tuple[int, int]
#: Ridge parameters, as shares of the variance, and numbers of patterns among which the validation part chooses.
RIDGES, PATTERNS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0), (10, 20, 40, 80)


class Forecasts(Protocol):
    """A system that forecasts arrays; that of an ensemble also takes `members` and `seed`."""

    @property
    def history(self) -> int:
        """Number of past states that it sees, the present one included."""
        ...

    @property
    def forecast_arrays(self) -> Callable[..., Float[np.ndarray, "batch member lead latitude longitude channel"]]:
        """A function (history, times, steps) -> forecasts at leads 1 to `steps`."""
        ...


def mean_forecast(
    system: Forecasts,
    history: Float[np.ndarray, "batch history latitude longitude channel"],
    times: np.ndarray,
    steps: int,
    members: int,
) -> Float[np.ndarray, "batch lead latitude longitude channel"]:
    """The forecast of a system; that of an ensemble is the mean of `members` members.

    The seed of their noise depends on the time of the first forecast, so that batches have different noise.
    """
    if members == 1:
        return system.forecast_arrays(history, times, steps).mean(axis=1)
    seed = int(times[0].astype("datetime64[h]").astype(np.int64)) % (1 << 31)
    return system.forecast_arrays(history, times, steps, members=members, seed=seed).mean(axis=1)


def leads(times: np.ndarray, layout: WeatherLayout, steps: int) -> np.ndarray:
    """Valid times (batch, lead) of forecasts that begin at `times`, datetime64[s]."""
    step = np.timedelta64(round(layout.step_hours * 3600), "s")
    return times.astype("datetime64[s]")[:, None] + np.arange(1, steps + 1)[None] * step


@dataclass(frozen=True)
class Persistence:
    """A forecast that keeps the present state."""

    history: int = 1

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`."""
        return np.repeat(history[:, None, -1:], steps, axis=2)


@dataclass(frozen=True)
class ClimatologyForecast:
    """A forecast of the climatology of the training states at the valid time."""

    layout: WeatherLayout
    climatology: Climatology
    history: int = 1

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`."""
        valid = leads(times, self.layout, steps)
        states = self.climatology.at(valid.ravel())
        return states.reshape(len(times), 1, steps, *states.shape[1:])


@dataclass(frozen=True)
class Patterns:
    """Leading patterns (empirical orthogonal functions) of anomalies, weighted by area and by each channel's spread.

    Attributes:
        climatology: mean states, from which anomalies are differences.
        weight: weight of each point and channel.
        vectors: orthonormal patterns of weighted anomalies.
    """

    climatology: Climatology
    weight: Float[np.ndarray, " value"]
    vectors: Float[np.ndarray, "value pattern"]

    @staticmethod
    def fit(store: WindowStore, part: Part, count: int, climatology: Climatology) -> Patterns:
        """The `count` leading patterns of the states of a part.

        They are computed from the covariance of times, of which there are fewer than of values (Sirovich 1987).
        """
        layout = store.layout
        states = store.read(np.array([part[0]]), part[1] - part[0])[0]
        anomalies = states - climatology.at(store.times[part[0] : part[1]])
        spread = anomalies.std(axis=(0, 1, 2))
        spread = np.where(spread > 0, spread, 1.0)
        weight = (np.sqrt(layout.grid.weights)[..., None] / spread).ravel()
        flat = anomalies.reshape(len(anomalies), -1) * weight.astype(np.float32)
        values, times = np.linalg.eigh((flat @ flat.T).astype(np.float64))
        best = np.argsort(values)[::-1][: min(count, len(flat) - 1)]
        best = best[values[best] > 1e-9 * values[best[0]]]
        vectors = flat.T @ (times[:, best] / np.sqrt(values[best])).astype(np.float32)
        return Patterns(climatology, weight, vectors)

    def coefficients(
        self, states: Float[np.ndarray, "*lead latitude longitude channel"], times: np.ndarray
    ) -> Float[np.ndarray, "*lead pattern"]:
        """Coefficients of the patterns in states; `times` has the shape of the leading axes of `states`."""
        usual = self.climatology.at(times.ravel()).reshape(states.shape)
        flat = (states - usual).reshape(*times.shape, -1) * self.weight.astype(np.float32)
        return flat @ self.vectors

    def states(
        self, coefficients: Float[np.ndarray, "*lead pattern"], times: np.ndarray, layout: WeatherLayout
    ) -> Float[np.ndarray, "*lead latitude longitude channel"]:
        """The states of some coefficients at some times."""
        shape = (*times.shape, *layout.grid.shape, len(layout.channels))
        anomalies = (coefficients @ self.vectors.T) / self.weight.astype(np.float32)
        return anomalies.reshape(shape).astype(np.float32) + self.climatology.at(times.ravel()).reshape(shape)


@dataclass(frozen=True)
class LinearInverseModel:
    """A linear inverse model of the patterns: c(t + n steps) = G^n c(t), with G = C(1) C(0)^-1 of one step.

    Penland and Sardeshmukh 1995, J. Climate 8, 1999, section 2.
    """

    layout: WeatherLayout
    patterns: Patterns
    step: Float[np.ndarray, "pattern pattern"]
    history: int = 1

    @staticmethod
    def fit(store: WindowStore, train: Part, valid: Part, climatology: Climatology, steps: int) -> LinearInverseModel:
        """Fit the model, with the number of patterns that has the least validation error up to `steps` leads."""
        most = Patterns.fit(store, train, max(PATTERNS), climatology)
        candidates = []
        for count in PATTERNS:
            patterns = Patterns(climatology, most.weight, most.vectors[:, :count])
            c = _series(store, train, patterns)
            now, then = c[store.starts(2, train) - train[0]], c[store.starts(2, train) - train[0] + 1]
            step = np.linalg.solve(now.T @ now + 1e-9 * np.trace(now.T @ now) * np.eye(now.shape[1]), now.T @ then)
            model = LinearInverseModel(store.layout, patterns, step)
            candidates.append((_error(model, store, valid, steps), -count, model))
        return min(candidates, key=lambda f: f[:2])[2]

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`."""
        c = self.patterns.coefficients(history[:, -1], times)
        series = []
        for _ in range(steps):
            c = c @ self.step
            series.append(c)
        return self.patterns.states(np.stack(series, axis=1), leads(times, self.layout, steps), self.layout)[:, None]


@dataclass(frozen=True)
class LinearAutoregression:
    """Ridge regressions, one for each lead, of the patterns at the lead on those of some past states.

    Attributes:
        maps: coefficients of the regression for each lead; the past states are in order of time.
    """

    layout: WeatherLayout
    patterns: Patterns
    maps: Float[np.ndarray, "lead past pattern"]
    history: int

    @staticmethod
    def fit(
        store: WindowStore, train: Part, valid: Part, climatology: Climatology, steps: int, history: int = 2
    ) -> LinearAutoregression:
        """Fit the model, with the ridge parameter and number of patterns that have the least validation error."""
        most = Patterns.fit(store, train, max(PATTERNS), climatology)
        candidates = []
        for count in PATTERNS:
            patterns = Patterns(climatology, most.weight, most.vectors[:, :count])
            c = _series(store, train, patterns)
            starts = store.starts(history + steps, train) - train[0]
            past = np.concatenate([c[starts + k] for k in range(history)], axis=1)
            for ridge in RIDGES:
                square = past.T @ past
                square += ridge * np.trace(square) / len(square) * np.eye(len(square))
                maps = np.stack(
                    [np.linalg.solve(square, past.T @ c[starts + history - 1 + lead]) for lead in range(1, steps + 1)]
                )
                model = LinearAutoregression(store.layout, patterns, maps, history)
                candidates.append((_error(model, store, valid, steps), -count, -ridge, model))
        return min(candidates, key=lambda f: f[:3])[3]

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`.

        Raises:
            ValueError: more leads are asked for than were fitted.
        """
        if steps > len(self.maps):
            raise ValueError(f"{len(self.maps)} leads were fitted, {steps} are asked for")
        step = np.timedelta64(round(self.layout.step_hours * 3600), "s")
        before = times[:, None] + (np.arange(self.history) - self.history + 1) * step
        past = self.patterns.coefficients(history, before).reshape(len(times), -1)
        later = np.einsum("bp,lpq->blq", past, self.maps[:steps])
        return self.patterns.states(later, leads(times, self.layout, steps), self.layout)[:, None]


def _series(store: WindowStore, part: Part, patterns: Patterns) -> Float[np.ndarray, "time pattern"]:
    blocks = [patterns.coefficients(states, store.times[rows]) for rows, states in store.blocks(part)]
    coefficients: Float[np.ndarray, "time pattern"] = np.concatenate(blocks).astype(np.float64)
    return coefficients


def _error(model: Forecasts, store: WindowStore, part: Part, steps: int, most: int = 100) -> float:
    """Mean over leads and channels of the root mean square error, in units of each channel's spread."""
    starts = store.starts(model.history + steps, part)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))]
    area = store.layout.grid.weights[..., None]
    total = np.zeros((steps, len(store.layout.channels)))
    for start in starts:
        states = store.read(np.array([start]), model.history + steps)
        times = store.times[[start + model.history - 1]]
        forecast = model.forecast_arrays(states[:, : model.history], times, steps)[0, 0]
        total += ((forecast - states[0, model.history :]) ** 2 * area).mean(axis=(1, 2))
    return float((np.sqrt(total / len(starts)) / np.array(store.statistics.std)).mean())


@dataclass(frozen=True)
class Regressed:
    """A forecast regressed towards climatology as its skill decreases, which lowers its mean square error.

    It is a linear regression of the truth's anomalies on the forecast's, for each lead and channel (model output
    statistics: Glahn and Lowry 1972, J. Appl. Meteorol. 11, 1203). Its states are smoother than any state of the
    atmosphere.

    Attributes:
        system: system that makes the forecast; of an ensemble the mean is taken.
        layout: layout of the states.
        climatology: mean states, from which anomalies are differences.
        slopes: slopes of the regressions, within 0 and 1.
        members: members of an ensemble; 1 for a single forecast.
    """

    system: Forecasts
    layout: WeatherLayout
    climatology: Climatology
    slopes: Float[np.ndarray, "lead channel"]
    members: int = 1

    @property
    def history(self) -> int:
        """The history of the system."""
        return self.system.history

    @staticmethod
    def fit(
        system: Forecasts,
        store: WindowStore,
        part: Part,
        climatology: Climatology,
        steps: int,
        most: int = 100,
        members: int = 1,
    ) -> Regressed:
        """Fit the slopes to forecasts of a part that the system has not learned from.

        Raises:
            ValueError: no window lies in the part.
        """
        starts = store.starts(system.history + steps, part)
        if not len(starts):
            raise ValueError(f"the part has no {system.history + steps} states that follow one another")
        starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))]
        area = store.layout.grid.weights[..., None]
        covariance, variance = np.zeros((2, steps, len(store.layout.channels)))
        size = min(16, len(starts))
        for at in range(0, len(starts), size):
            rows = np.resize(starts[at : at + size], size)
            states = store.read(rows, system.history + steps)
            times = store.times[rows + system.history - 1]
            usual = climatology.at(leads(times, store.layout, steps).ravel()).reshape(size, steps, *states.shape[2:])
            said = mean_forecast(system, states[:, : system.history], times, steps, members) - usual
            came = states[:, system.history :] - usual
            real = slice(0, len(starts[at : at + size]))
            covariance += (said[real] * came[real] * area).sum(axis=(0, 2, 3))
            variance += (said[real] ** 2 * area).sum(axis=(0, 2, 3))
        slopes = np.clip(np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0), 0.0, 1.0)
        return Regressed(system, store.layout, climatology, slopes, members)

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`."""
        said = mean_forecast(self.system, history, times, steps, self.members)
        usual = self.climatology.at(leads(times, self.layout, steps).ravel()).reshape(said.shape)
        slopes = self.slopes[:steps, None, None].astype(np.float32)
        return (usual + slopes * (said - usual))[:, None]
