"""A long rollout: whether it stays finite and within what the atmosphere does, and how its climate compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.windows import WindowStore
from surrogates.weather.forecaster import Forecaster

#: How far beyond the extremes of the training a value may lie, in units of their distance.
MARGIN = 0.25


@dataclass(frozen=True)
class LongRun:
    """What a rollout did.

    Attributes:
        days: its length.
        left: the day on which it left the finite numbers or the climatological range; None if it never did.
        why: what left, and how far.
        mean, spread: of each channel over time and area, from the first tenth of the run on.
        true_mean, true_spread: of the states of the training.
        zonal_mean, true_zonal_mean: over time and longitude.
        zonal_spread, true_zonal_spread: root of the variance over time and longitude.
    """

    days: float
    left: float | None
    why: str
    zonal_mean: Float[np.ndarray, "latitude channel"]
    zonal_spread: Float[np.ndarray, "latitude channel"]
    true_zonal_mean: Float[np.ndarray, "latitude channel"]
    true_zonal_spread: Float[np.ndarray, "latitude channel"]

    def differences(self, weights: Float[np.ndarray, " latitude"]) -> dict[str, Float[np.ndarray, " channel"]]:
        """How far the climate is off, by channel, area-weighted over latitudes.

        `mean`: root mean square difference of the zonal means over the true spread of the channel about its time mean;
        `variance`: relative difference of the mean variances.
        """
        w = weights / weights.sum()
        spread = np.sqrt((w[:, None] * self.true_zonal_spread**2).sum(axis=0))
        mean = np.sqrt((w[:, None] * (self.zonal_mean - self.true_zonal_mean) ** 2).sum(axis=0)) / spread
        variance = (w[:, None] * self.zonal_spread**2).sum(axis=0) / spread**2 - 1
        return {"mean": mean, "variance": variance}


def long_run(
    forecaster: Forecaster, store: WindowStore, start: int, days: float, truth: tuple[int, int], chunk: int = 16
) -> LongRun:
    """Roll out from one state, some steps at a time, and stop where it leaves the climatological range.

    Args:
        forecaster: whose extremes of training give the range.
        store: has the first state and the truth.
        start: the present state.
        days: to go.
        truth: [start, stop) of the states whose climate is the true one.
        chunk: steps at a time.
    """
    layout, history = store.layout, forecaster.history
    steps = round(days * 24 / layout.step_hours)
    low, high = np.array(forecaster.facts.low), np.array(forecaster.facts.high)
    room = MARGIN * (high - low)
    past = store.read(np.array([start - history + 1]), history)
    left, why, done = None, "", 0
    total = square = np.zeros((layout.grid.shape[0], len(layout.channels)))
    count = 0
    for states in forecaster.chunks(past, store.times[[start]], steps, chunk=chunk):
        for state in states[0, 0].astype(np.float64):
            done += 1
            ends = np.stack([state.min(axis=(0, 1)), state.max(axis=(0, 1))])
            bad = ~np.isfinite(ends).all(axis=0) | (ends[0] < low - room) | (ends[1] > high + room)
            if bad.any():
                at = int(np.argmax(bad))
                left = done * layout.step_hours / 24
                why = (
                    f"{layout.channels[at].label} from {ends[0, at]:.4g} to {ends[1, at]:.4g}, "
                    f"in the training from {low[at]:.4g} to {high[at]:.4g}"
                )
                break
            if done > steps // 10:
                total, square, count = total + state.mean(axis=1), square + (state**2).mean(axis=1), count + 1
        if left is not None:
            break
    # What has left the range has no climate.
    mean, spread = _climate(total, square, count if left is None else 0)
    true_total = true_square = np.zeros_like(mean)
    true_count = 0
    for _, states in store.blocks(truth):
        wide = states.astype(np.float64)
        true_total, true_square = (
            true_total + wide.mean(axis=2).sum(axis=0),
            true_square + (wide**2).mean(axis=2).sum(axis=0),
        )
        true_count += len(states)
    true_mean, true_spread = _climate(true_total, true_square, true_count)
    return LongRun(days, left, why, mean, spread, true_mean, true_spread)


def _climate(total: np.ndarray, square: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    if not count:
        return np.full_like(total, np.nan), np.full_like(total, np.nan)
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 0.0))
