"""The linear step on which a forecaster can stand: damped persistence, and a linear model of patterns on top of it.

Damped persistence keeps a share of the anomaly of each point and channel and adds the annual cycle, so that a forecast
decays towards the climatology (a red-noise process; Hasselmann 1976, doi:10.3402/tellusa.v28i6.11316). The linear model
adds a ridge regression of what that leaves, within the leading patterns (empirical orthogonal functions) of anomalies,
on their coefficients in the last states, as a linear inverse model does (Penland and Sardeshmukh 1995, J. Climate 8,
1999). Of the numbers of patterns and ridge parameters with almost the least error of one step in cross-validation over
consecutive blocks of the training, the most regularised ones are taken, among those whose forecasts do not grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.errors import InputError
from data.sphere.window_store import WindowStore
from surrogates.forecasts.networks.layers import Usual
from surrogates.forecasts.sun import clock, year_phase

Part = tuple[int, int]
LINEAR, DAMPED = "linear", "damped_persistence"
#: Values of `on` for a forecaster.
NAMES = frozenset({LINEAR, DAMPED})
#: Ridge parameters, as shares of the mean variance of a coefficient, and numbers of patterns to choose from.
RIDGES, PATTERNS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0), (10, 20, 40, 80)
#: Ratio of the mean square error to the least one up to which a more regularised model is preferred.
ALMOST = 1.02
#: Blocks of the cross-validation.
BLOCKS = 5
#: Most states from which patterns are computed, bytes of these, and bytes of the patterns.
STATES, STATES_BYTES, PATTERN_BYTES = 2000, 1 << 29, 1 << 26
#: Most windows on which the size of what a step leaves is measured, and windows that are read at a time.
MEASURED, AT_A_TIME = 500, 50
#: Largest growth of an anomaly in a step of the linear model.
MOST_GROWTH = 1.0


@dataclass(frozen=True)
class LinearStepFacts:
    """What is saved with a forecaster of the linear step on which it stands; the arrays are with its weights.

    Attributes:
        name: one of `NAMES`.
        patterns: number of patterns; 0 for damped persistence.
    """

    name: str
    patterns: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES or not 0 <= self.patterns <= max(PATTERNS):
            raise ValueError(f"name must be one of {', '.join(sorted(NAMES))}, and patterns 0 to {max(PATTERNS)}")


@dataclass(frozen=True)
class LinearStep:
    """A linear estimate of the next anomaly.

    Attributes:
        name: one of `NAMES`.
        kept: share of its anomaly that each value keeps in a step.
        cycle: what is added for the sine and cosine of the phase in the year of the next state.
        weight: weight of each value in the patterns.
        vectors: orthonormal patterns of weighted anomalies.
        maps: from the coefficients of the last states, the oldest first, to what is added to those of the next one.
    """

    name: str
    kept: Float[np.ndarray, " value"]
    cycle: Float[np.ndarray, "2 value"]
    weight: Float[np.ndarray, " value"]
    vectors: Float[np.ndarray, "value pattern"]
    maps: Float[np.ndarray, "past_pattern pattern"]

    @property
    def facts(self) -> LinearStepFacts:
        """What is saved of it beside the weights."""
        return LinearStepFacts(self.name, self.vectors.shape[1])

    def apply(
        self, past: Float[np.ndarray, "batch past value"], phase: Float[np.ndarray, "batch 2"]
    ) -> Float[np.ndarray, "batch value"]:
        """The next anomalies.

        Args:
            past: anomalies, the present ones last.
            phase: sine and cosine of the phase in the year of the next states; see `sun.year_phase`.
        """
        coefficients = (past * self.weight) @ self.vectors
        added = coefficients.reshape(past.shape[0], -1) @ self.maps @ self.vectors.T / self.weight
        return past[:, -1] * self.kept + phase @ self.cycle + added


class LinearStepModule(nnx.Module):
    """The arrays of a `LinearStep` in a model, where they are saved with the weights and not trained.

    Args:
        facts: name and number of patterns.
        shape: shape of a state: latitude, longitude, channel.
        history: number of past anomalies that it sees.
    """

    def __init__(self, facts: LinearStepFacts, shape: tuple[int, int, int], history: int) -> None:
        values = int(np.prod(shape))
        self.kept, self.cycle = Usual(jnp.zeros(shape)), Usual(jnp.zeros((2, *shape)))
        count = facts.patterns
        self.weight = Usual(jnp.ones(values)) if count else None
        self.vectors = Usual(jnp.zeros((values, count))) if count else None
        self.maps = Usual(jnp.zeros((history * count, count))) if count else None

    def take(self, step: LinearStep) -> None:
        """Take over the arrays of a step that was fitted."""
        self.kept[...] = jnp.asarray(step.kept.reshape(self.kept.shape), jnp.float32)
        self.cycle[...] = jnp.asarray(step.cycle.reshape(self.cycle.shape), jnp.float32)
        if self.weight is not None and self.vectors is not None and self.maps is not None:
            self.weight[...] = jnp.asarray(step.weight, jnp.float32)
            self.vectors[...] = jnp.asarray(step.vectors, jnp.float32)
            self.maps[...] = jnp.asarray(step.maps, jnp.float32)

    def __call__(
        self, anomalies: list[Float[Array, "batch latitude longitude channel"]], phase: Float[Array, "batch 2"]
    ) -> Float[Array, "batch latitude longitude channel"]:
        """The next anomalies; see `LinearStep.apply`."""
        present = anomalies[-1]
        cycle = jnp.einsum("bk,kxyc->bxyc", phase, self.cycle[...])
        first: Array = present * self.kept[...] + cycle
        if self.weight is not None and self.vectors is not None and self.maps is not None:
            weight, vectors = self.weight[...], self.vectors[...]
            seen = [(a.reshape(len(a), -1) * weight) @ vectors for a in anomalies]
            added = jnp.concatenate(seen, axis=-1) @ self.maps[...] @ vectors.T / weight
            first = first + added.reshape(present.shape)
        return first


@dataclass(frozen=True)
class Anomalies:
    """The anomalies of a part of a store from its usual states.

    Attributes:
        store, part: the states, and [start, stop) of those that are used.
        usual, hours: usual states, and the hours of the day that they belong to.
        seasons: whether there is an annual cycle to learn.
    """

    store: WindowStore
    part: Part
    usual: Float[np.ndarray, "hour latitude longitude channel"]
    hours: tuple[int, ...]
    seasons: bool

    def of(self, states: np.ndarray, times: np.ndarray) -> Float[np.ndarray, "*time value"]:
        """Anomalies of states at some times, float32."""
        at = np.zeros(times.shape, int)
        if len(self.hours) > 1:
            at = np.searchsorted(self.hours, times.astype("datetime64[h]").astype(int) % 24)
        return (states - self.usual[at]).reshape(*times.shape, -1)

    def phase(self, times: np.ndarray) -> Float[np.ndarray, "time 2"]:
        """Sine and cosine of the phase in the year; 0 without seasons."""
        if not self.seasons:
            return np.zeros((len(times), 2), np.float32)
        return np.asarray(year_phase(jnp.asarray(clock(times)[0])))

    def pairs(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Blocks of states that have a next one: their rows, their anomalies, and those a step later."""
        begins = {a for a, _ in self.store.segments}
        last = np.zeros((0, 0), np.float32)
        for rows, states in self.store.blocks(self.part):
            anomalies = self.of(states, self.store.times[rows])
            start = rows.start
            if rows.start not in begins and len(last):
                anomalies, start = np.concatenate([last, anomalies]), rows.start - 1
            last = anomalies[-1:]
            if len(anomalies) > 1:
                yield slice(start, rows.stop - 1), anomalies[:-1], anomalies[1:]

    def sample(self) -> Float[np.ndarray, "state value"]:
        """Anomalies of states that are spread evenly over the part."""
        low, high = self.part
        size = 4 * self.usual[0].size
        count = min(high - low, STATES, max(100, STATES_BYTES // size))
        rows = low + np.unique(np.linspace(0, high - low - 1, count).round().astype(int))
        return self.of(self.store.read(rows, 1)[:, 0], self.store.times[rows])


def fit_linear_step(name: str, anomalies: Anomalies, history: int) -> LinearStep:
    """Fit the step to the anomalies of a training part.

    Args:
        name: one of `NAMES`.
        anomalies: the anomalies.
        history: number of past states that the linear model sees.

    Raises:
        InputError: the part has no two states that follow one another.
    """
    kept, cycle = _damped(anomalies)
    values = len(kept)
    damped = LinearStep(name, kept, cycle, np.ones(values), np.zeros((values, 0)), np.zeros((0, 0)))
    return damped if name == DAMPED else _with_patterns(damped, anomalies, history)


def left_over(step: LinearStep, anomalies: Anomalies, history: int, channels: int) -> tuple[float, ...]:
    """Root mean square of what a step leaves to a network, by channel, in its unit."""
    starts = anomalies.store.starts(history + 1, anomalies.part)
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(len(starts), MEASURED)).round().astype(int))]
    total = np.zeros(channels)
    for at in range(0, len(starts), AT_A_TIME):
        rows = starts[at : at + AT_A_TIME]
        times = anomalies.store.times[rows[:, None] + np.arange(history + 1)]
        window = anomalies.of(anomalies.store.read(rows, history + 1), times)
        error = window[:, -1] - step.apply(window[:, :-1], anomalies.phase(times[:, -1]))
        total += (error.astype(np.float64) ** 2).reshape(-1, channels).sum(axis=0)
    size = np.sqrt(total / (len(starts) * len(step.kept) / channels))
    # A channel that the step predicts exactly has no size; its unit may be any.
    return tuple(float(s) if s > 0 else 1.0 for s in size)


def _damped(anomalies: Anomalies) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, "2 value"]]:
    """Share that each value keeps, and annual cycle: least squares of the next anomaly on the present one and phase."""
    gram: np.ndarray = np.zeros(())
    moment: np.ndarray = np.zeros(())
    for rows, now, then in anomalies.pairs():
        phase = anomalies.phase(anomalies.store.times[rows.start + 1 : rows.stop + 1])
        wave = [np.broadcast_to(p[:, None], now.shape) for p in phase.T] if anomalies.seasons else []
        seen = np.stack([now, *wave])
        gram = gram + np.einsum("itv,jtv->vij", seen, seen, dtype=np.float64)
        moment = moment + np.einsum("itv,tv->vi", seen, then, dtype=np.float64)
    if not gram.ndim:
        raise InputError("no two states of the training follow one another", where="on", remedy="Leave it out")
    # A value that never changes has an anomaly of 0, for which any share will do.
    least = 1e-9 * np.trace(gram, axis1=1, axis2=2) + 1e-30
    gram = gram + least[:, None, None] * np.eye(gram.shape[1])
    solution = np.linalg.solve(gram, moment[..., None])[..., 0]
    cycle = np.zeros((2, len(solution)))
    if anomalies.seasons:
        cycle = solution[:, 1:].T.copy()
    return np.clip(solution[:, 0], 0.0, 1.0), cycle


def _with_patterns(damped: LinearStep, anomalies: Anomalies, history: int) -> LinearStep:
    """Damped persistence with the linear model of what it leaves."""
    weight, vectors = _patterns(anomalies)
    past, left, kept = _coefficients(damped, anomalies, history, weight, vectors)
    # Blocks follow one another, so that the states of a tested block are not those next to a training one.
    block = np.arange(len(past)) * BLOCKS // len(past)
    counts = sorted({min(count, vectors.shape[1]) for count in PATTERNS})
    tested: dict[tuple[int, float], float] = {}
    for count in counts:
        x, y = past[:, :, :count].reshape(len(past), -1), left[:, :count]
        beyond = float((left[:, count:] ** 2).sum())
        grams = [(x[block == k].T @ x[block == k], x[block == k].T @ y[block == k]) for k in range(BLOCKS)]
        whole = sum(g for g, _ in grams), sum(m for _, m in grams)
        for ridge in RIDGES:
            if _growth(_ridge(*whole, ridge), kept[:count, :count], history) > MOST_GROWTH:
                continue
            error = beyond
            for k, (gram, moment) in enumerate(grams):
                maps = _ridge(whole[0] - gram, whole[1] - moment, ridge)
                error += float(((y[block == k] - x[block == k] @ maps) ** 2).sum())
            tested[count, ridge] = error
    least = min(tested.values(), default=np.inf)
    if least >= float((left**2).sum()):
        return damped
    # Of almost equal ones the most regularised, whose errors grow least over several steps.
    count, ridge = max((key for key in tested if tested[key] <= ALMOST * least), key=lambda key: (key[1], -key[0]))
    x = past[:, :, :count].reshape(len(past), -1)
    maps = _ridge(x.T @ x, x.T @ left[:, :count], ridge)
    return LinearStep(LINEAR, damped.kept, damped.cycle, weight, vectors[:, :count], maps)


def _patterns(anomalies: Anomalies) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, "value pattern"]]:
    """Weights of the values, and the leading patterns of weighted anomalies.

    They are computed from the covariance of values or of times, whichever are fewer (Sirovich 1987,
    doi:10.1090/qam/910462).
    """
    layout, sample = anomalies.store.layout, anomalies.sample()
    channels = len(layout.channels)
    spread = sample.reshape(-1, channels).std(axis=0)
    weight = (np.sqrt(layout.grid.weights)[..., None] / np.where(spread > 0, spread, 1.0)).ravel()
    flat = sample * weight.astype(np.float32)
    most = max(1, min(max(PATTERNS), len(flat) - 1, flat.shape[1], PATTERN_BYTES // (4 * flat.shape[1])))
    across = flat.shape[1] > len(flat)
    covariance = flat @ flat.T if across else flat.T @ flat
    values, vectors = np.linalg.eigh(covariance.astype(np.float64))
    best = np.argsort(values)[::-1][:most]
    best = best[values[best] > 1e-6 * values[best[0]]]
    vectors = vectors[:, best]
    if across:
        vectors = flat.T @ (vectors / np.sqrt(values[best])).astype(np.float32)
    return weight, vectors


def _coefficients(
    damped: LinearStep,
    anomalies: Anomalies,
    history: int,
    weight: Float[np.ndarray, " value"],
    vectors: Float[np.ndarray, "value pattern"],
) -> tuple[
    Float[np.ndarray, "window past pattern"], Float[np.ndarray, "window pattern"], Float[np.ndarray, "pattern pattern"]
]:
    """Coefficients of past states, of what damped persistence leaves of the next one, and what it keeps of them."""
    low, high = anomalies.part
    series = np.zeros((high - low, vectors.shape[1]))
    left = np.zeros_like(series)
    project = (weight[:, None] * vectors).astype(np.float32)
    for rows, now, then in anomalies.pairs():
        phase = anomalies.phase(anomalies.store.times[rows.start + 1 : rows.stop + 1])
        at = slice(rows.start - low, rows.stop - low)
        series[at] = now @ project
        left[at] = (then - damped.apply(now[:, None], phase)) @ project
    starts = anomalies.store.starts(history + 1, anomalies.part) - low
    if not len(starts):
        raise InputError(
            f"no {history + 1} states of the training follow one another", where="on", remedy="Lower model.history"
        )
    past = np.stack([series[starts + k] for k in range(history)], axis=1)
    kept = vectors.T @ (damped.kept[:, None] * vectors)
    return past, left[starts + history - 1], kept


def _ridge(gram: np.ndarray, moment: np.ndarray, ridge: float) -> np.ndarray:
    """The ridge regression with this Gram matrix and these moments."""
    return np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), moment)


def _growth(maps: np.ndarray, kept: np.ndarray, history: int) -> float:
    """Largest growth of coefficients in a step: the spectral radius of the companion matrix."""
    count = len(kept)
    companion = np.zeros((history * count, history * count))
    companion[: (history - 1) * count, count:] = np.eye((history - 1) * count)
    companion[-count:] = maps.T
    companion[-count:, -count:] += kept.T
    return float(np.abs(np.linalg.eigvals(companion)).max())
