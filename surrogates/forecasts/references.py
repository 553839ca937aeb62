"""Reference forecasts: persistence, climatology, and a linear inverse model of the leading patterns of anomalies.

The linear autoregression is in `autoregression`.

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
#: Numbers of patterns among which the validation part chooses.
PATTERNS = (10, 20, 40, 80)
#: Most states from which patterns are computed, and most bytes of these.
PATTERN_STATES, PATTERN_BYTES = 4000, 1 << 30
#: Most windows from which the share of an anomaly that is left at each lead is computed.
SHARE_WINDOWS = 1000


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
        """The `count` leading patterns of the states of a part, or of states that are spread evenly over it.

        They are computed from the covariance of times or of values, whichever are fewer (Sirovich 1987).
        """
        layout, (low, high) = store.layout, part
        size = 4 * int(np.prod(layout.grid.shape)) * len(layout.channels)
        most = min(high - low, PATTERN_STATES, max(100, PATTERN_BYTES // size))
        rows = low + np.unique(np.linspace(0, high - low - 1, most).round().astype(int))
        anomalies = store.read(rows, 1)[:, 0] - climatology.at(store.times[rows])
        spread = anomalies.std(axis=(0, 1, 2))
        spread = np.where(spread > 0, spread, 1.0)
        weight = (np.sqrt(layout.grid.weights)[..., None] / spread).ravel()
        flat = anomalies.reshape(len(anomalies), -1) * weight.astype(np.float32)
        across = flat.shape[1] > len(flat)
        values, vectors = np.linalg.eigh((flat @ flat.T if across else flat.T @ flat).astype(np.float64))
        best = np.argsort(values)[::-1][: min(count, len(flat) - 1)]
        # Patterns of next to no variance are rounding, which is larger where they follow from the times.
        best = best[values[best] > 1e-6 * values[best[0]]]
        vectors = vectors[:, best].astype(np.float32)
        if across:
            vectors = flat.T @ (vectors / np.sqrt(values[best]).astype(np.float32))
        return Patterns(climatology, weight, vectors)

    def coefficients(
        self, states: Float[np.ndarray, "*lead latitude longitude channel"], times: np.ndarray
    ) -> Float[np.ndarray, "*lead pattern"]:
        """Coefficients of the patterns in states; `times` has the shape of the leading axes of `states`."""
        usual = self.climatology.at(times.ravel()).reshape(states.shape)
        flat = (states - usual).reshape(*times.shape, -1) * self.weight.astype(np.float32)
        return flat @ self.vectors

    def beyond(
        self, states: Float[np.ndarray, "*lead latitude longitude channel"], times: np.ndarray
    ) -> Float[np.ndarray, "*lead latitude longitude channel"]:
        """What the patterns do not represent of the anomalies of states, in the units of the states."""
        anomalies = states - self.climatology.at(times.ravel()).reshape(states.shape)
        weight = self.weight.astype(np.float32)
        flat = anomalies.reshape(*times.shape, -1) * weight
        return ((flat - (flat @ self.vectors) @ self.vectors.T) / weight).reshape(states.shape).astype(np.float32)

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
            c = series(store, train, patterns)
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


def series(store: WindowStore, part: Part, patterns: Patterns) -> Float[np.ndarray, "time pattern"]:
    """Coefficients of the patterns in all states of a part, in the order of time."""
    blocks = [patterns.coefficients(states, store.times[rows]) for rows, states in store.blocks(part)]
    coefficients: Float[np.ndarray, "time pattern"] = np.concatenate(blocks).astype(np.float64)
    return coefficients


def anomaly_share(
    store: WindowStore, part: Part, climatology: Climatology, steps: int, patterns: Patterns | None = None
) -> Float[np.ndarray, "lead channel"]:
    """Share of the anomaly of each channel that is left at each lead: the slope of a regression, within 0 and 1.

    Args:
        store: states.
        part: [start, stop) of those that the regression is fitted to.
        climatology: mean states, from which anomalies are differences.
        steps: number of leads.
        patterns: patterns whose share of the anomalies is left out of them; None to leave out nothing.

    Raises:
        ValueError: no window of 1 + `steps` states lies in the part.
    """
    starts = store.starts(1 + steps, part)
    if not len(starts):
        raise ValueError(f"the part has no {1 + steps} states that follow one another")
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(SHARE_WINDOWS, len(starts))).round().astype(int))]
    area = store.layout.grid.weights[..., None]
    covariance, variance = np.zeros((steps, len(store.layout.channels))), np.zeros(len(store.layout.channels))
    for at in range(0, len(starts), 16):
        rows = starts[at : at + 16]
        states, times = store.read(rows, 1 + steps), store.times[rows[:, None] + np.arange(1 + steps)]
        if patterns is None:
            anomalies = states - climatology.at(times.ravel()).reshape(states.shape)
        else:
            anomalies = patterns.beyond(states, times)
        now, then = anomalies[:, :1], anomalies[:, 1:]
        covariance += (now * then * area).sum(axis=(0, 2, 3))
        variance += (now[:, 0].astype(np.float64) ** 2 * area).sum(axis=(0, 1, 2))
    return np.clip(np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 0), 0.0, 1.0)


@dataclass(frozen=True)
class DampedPersistence:
    """Persistence that decays towards the climatology: each channel keeps a share of its anomaly at each lead.

    The shares are those of the training, so that the decay is as fast as it was there (a red-noise process if they
    fall exponentially; Hasselmann 1976, doi:10.3402/tellusa.v28i6.11316).

    Attributes:
        layout: layout of the states.
        climatology: mean states, from which anomalies are differences.
        shares: share of the anomaly that is left at each lead.
        history: number of past states.
    """

    layout: WeatherLayout
    climatology: Climatology
    shares: Float[np.ndarray, "lead channel"]
    history: int = 1

    @staticmethod
    def fit(store: WindowStore, train: Part, climatology: Climatology, steps: int) -> DampedPersistence:
        """Fit the shares to a training part; see `anomaly_share`."""
        return DampedPersistence(store.layout, climatology, anomaly_share(store, train, climatology, steps))

    def forecast_arrays(
        self, history: Float[np.ndarray, "batch history latitude longitude channel"], times: np.ndarray, steps: int
    ) -> Float[np.ndarray, "batch 1 lead latitude longitude channel"]:
        """Forecasts at leads 1 to `steps`.

        Raises:
            ValueError: more leads are asked for than were fitted.
        """
        if steps > len(self.shares):
            raise ValueError(f"{len(self.shares)} leads were fitted, {steps} are asked for")
        usual = self.climatology.at(leads(times, self.layout, steps).ravel())
        anomaly = history[:, None, -1] - self.climatology.at(times)[:, None]
        shares = self.shares[:steps, None, None].astype(np.float32)
        return (usual.reshape(len(times), steps, *usual.shape[1:]) + shares * anomaly)[:, None]


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
