"""Long rollouts: whether they stay finite and within the climatological range, and how their climate compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from data.sphere.weather_layout import WeatherLayout
from data.sphere.window_store import WindowStore
from surrogates.forecasts.request_checks import NEAR
from surrogates.forecasts.surrogate import ForecastSurrogate

#: How far beyond the extremes of the training data a value may lie, in units of their range.
MARGIN = NEAR
#: Share at the beginning of a rollout that still depends on its initial state and is left out of its climate.
FORGOTTEN = 0.1


@dataclass(frozen=True)
class Climate:
    """Statistics of a series of states.

    Attributes:
        states: number of states.
        mean: mean over time and longitude, in the units of the channels.
        spread: standard deviation over time and longitude, in the units of the channels.
    """

    states: int
    mean: Float[np.ndarray, "latitude channel"]
    spread: Float[np.ndarray, "latitude channel"]

    @staticmethod
    def of(blocks: Iterable[Float[np.ndarray, "time latitude longitude channel"]]) -> Climate:
        """The climate of states that come in blocks.

        Raises:
            ValueError: there are no states.
        """
        sums = Sums()
        for states in blocks:
            sums.add(states)
        return sums.climate()

    @staticmethod
    def pooled(parts: Sequence[Climate]) -> Climate:
        """The climate of all states of several climates together."""
        share = np.array([p.states for p in parts]) / sum(p.states for p in parts)
        mean = sum(s * p.mean for s, p in zip(share, parts, strict=True))
        square = sum(s * (p.spread**2 + p.mean**2) for s, p in zip(share, parts, strict=True))
        return Climate(sum(p.states for p in parts), mean, np.sqrt(np.maximum(square - mean**2, 0.0)))

    def and_mirrored(self, layout: WeatherLayout) -> Climate:
        """The climate of these states and their mirror images at the equator."""
        mean = layout.mirror(self.mean[:, None])[:, 0]
        return Climate.pooled([self, Climate(self.states, mean, self.spread[::-1])])

    def off(self, truth: Climate, weights: Float[np.ndarray, " latitude"]) -> dict[str, Float[np.ndarray, " channel"]]:
        """Differences from another climate, by channel, area-weighted over latitudes.

        `mean`: root mean square difference of the zonal means in units of the contrast between latitudes, the root mean
        square of the true zonal mean from its area mean; `mean_in_spreads`: the same in units of the true spread about
        the zonal mean; `variance`: relative difference of the mean variances. Not finite where the truth has no
        contrast or no spread.
        """
        w = (weights / weights.sum())[:, None]
        difference = np.sqrt((w * (self.mean - truth.mean) ** 2).sum(axis=0))
        centre = (w * truth.mean).sum(axis=0)
        contrast = np.sqrt((w * (truth.mean - centre) ** 2).sum(axis=0))
        variance = (w * truth.spread**2).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "mean": difference / contrast,
                "mean_in_spreads": difference / np.sqrt(variance),
                "variance": (w * self.spread**2).sum(axis=0) / variance - 1,
            }

    def section_off(
        self, truth: Climate, weights: Float[np.ndarray, " latitude"], channels: Sequence[int]
    ) -> dict[str, float]:
        """Differences of one variable from another climate, over latitudes by area and all levels alike.

        `section_mean`: the L2 norm of the difference of the zonal means over that of the true ones; `section_contrast`:
        over that of the true ones from their area means; `section_variance`: relative difference of the mean variance.
        Not finite where the truth is 0 or does not vary.
        """
        w, at = (weights / weights.sum())[:, None], list(channels)
        mean, true = self.mean[:, at], truth.mean[:, at]
        contrast = true - (w * true).sum(axis=0)
        square, size, spread = (float((w * v**2).sum()) for v in (mean - true, true, contrast))
        variance, true_variance = (float((w * c.spread[:, at] ** 2).sum()) for c in (self, truth))
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "section_mean": float(np.sqrt(np.float64(square) / size)),
                "section_contrast": float(np.sqrt(np.float64(square) / spread)),
                "section_variance": float(np.float64(variance) / true_variance - 1),
            }


class Sums:
    """Sums over a series of states, from which its climate is computed."""

    def __init__(self) -> None:
        self.count, self.total, self.square = 0, np.zeros(()), np.zeros(())

    def add(self, states: Float[np.ndarray, "time latitude longitude channel"]) -> None:
        """Add some states."""
        wide = states.astype(np.float64)
        self.total = self.total + wide.mean(axis=2).sum(axis=0)
        self.square = self.square + (wide**2).mean(axis=2).sum(axis=0)
        self.count += len(states)

    def climate(self) -> Climate:
        """The climate of all states that were added.

        Raises:
            ValueError: no states were added.
        """
        if not self.count:
            raise ValueError("no states have no climate")
        mean = self.total / self.count
        return Climate(self.count, mean, np.sqrt(np.maximum(self.square / self.count - mean**2, 0.0)))


@dataclass(frozen=True)
class LongRun:
    """The outcome of long rollouts from one or more states.

    Attributes:
        days: length of the rollouts in days.
        ends: the day on which each rollout left the climatological range or was not finite; None if it never was.
        why: the first channel outside of the range, with its values.
        climate: climate of the rollouts that stayed within the range, without their beginnings; None if none did.
        truth: of the states of the training; where that was mirrored, of their mirror images too, so that what a record
            tells the hemispheres apart by, which is chance, is not asked of a forecast.
        unseen: climate of states that were not learned from, whose distance from `truth` is what chance alone may cause
            in a record of their length; None if there are none.
        mirrored: whether the truth is of mirror images too.
    """

    days: float
    ends: tuple[float | None, ...]
    why: str
    climate: Climate | None
    truth: Climate
    unseen: Climate | None
    mirrored: bool = False

    @property
    def left(self) -> float | None:
        """The day on which the first rollout left the range; None if all stayed."""
        return min((day for day in self.ends if day is not None), default=None)

    @property
    def stayed(self) -> int:
        """Number of rollouts that stayed within the range to the end."""
        return self.ends.count(None)


def out_of_range(
    forecaster: ForecastSurrogate, states: Float[np.ndarray, "run time latitude longitude channel"]
) -> Bool[np.ndarray, "run time channel"]:
    """Whether each channel of each state is not finite, or lies more than `MARGIN` beyond the training data."""
    low, high = np.array(forecaster.facts.low), np.array(forecaster.facts.high)
    room = MARGIN * (high - low)
    least, most = states.min(axis=(2, 3)), states.max(axis=(2, 3))
    return ~(np.isfinite(least) & np.isfinite(most)) | (least < low - room) | (most > high + room)


def runs_apart(store: WindowStore, states: int | None = None, mirror: bool = False) -> list[tuple[Climate, Climate]]:
    """Pairs of the climate of a run of a simulator and that of its other runs; empty for fewer than two runs.

    The two differ by chance alone, as the climate of a perfect surrogate over that length may differ too.

    Args:
        store: windows of the runs.
        states: number of states of the pieces into which runs are cut; None for whole runs.
        mirror: whether the climate of the other runs includes mirror images; see `LongRun.truth`.
    """
    runs = []
    for start, stop in store.segments:
        count = 1 if states is None else max(1, (stop - start) // states)
        ends = np.linspace(start, stop, count + 1).astype(int)
        runs.append([Climate.of(s for _, s in store.blocks((int(a), int(b)))) for a, b in pairwise(ends)])
    if len(runs) < 2:
        return []
    pairs = []
    for run in runs:
        others = Climate.pooled([piece for other in runs if other is not run for piece in other])
        pairs += [(piece, others.and_mirrored(store.layout) if mirror else others) for piece in run]
    return pairs


def long_run(
    forecaster: ForecastSurrogate,
    store: WindowStore,
    starts: Sequence[int],
    days: float,
    truth: tuple[int, int],
    unseen: tuple[int, int] | None = None,
    chunk: int = 16,
    learned: WindowStore | None = None,
) -> LongRun:
    """Roll out from some states, a few steps at a time, each until it leaves the climatological range.

    Args:
        forecaster: forecaster; the extremes of its training give the range.
        store: windows with the initial states, and with the truth if `learned` is None.
        starts: row of the present state of each rollout.
        days: length of the rollouts in days.
        truth: [start, stop) of the states whose climate is the true one.
        unseen: [start, stop) of states of `store` that were not learned from; see `LongRun.unseen`.
        chunk: number of steps at a time.
        learned: windows of the states `truth`; None for `store`.
    """
    layout, history = store.layout, forecaster.history
    present = np.array(starts)
    steps = round(days * 24 / layout.step_hours)
    low, high = np.array(forecaster.facts.low), np.array(forecaster.facts.high)
    past = store.read(present - history + 1, history)
    first = round(FORGOTTEN * steps)
    ends: list[float | None] = [None] * len(present)
    reasons: dict[float, str] = {}
    done, sums = 0, [Sums() for _ in present]
    for states in forecaster.chunks(past, store.times[present], steps, chunk=chunk, blended=False):
        least, most = states[:, 0].min(axis=(2, 3)), states[:, 0].max(axis=(2, 3))
        bad = out_of_range(forecaster, states[:, 0])
        for row in (r for r, end in enumerate(ends) if end is None):
            if not bad[row].any():
                sums[row].add(states[row, 0, max(0, first - done) :])
                continue
            step, at = np.argwhere(bad[row])[0]
            day = ends[row] = (done + step + 1) * layout.step_hours / 24
            reasons.setdefault(
                day,
                f"{layout.channels[at].label} from {least[row, step, at]:.4g} to {most[row, step, at]:.4g}, "
                f"in the training from {low[at]:.4g} to {high[at]:.4g}",
            )
        if None not in ends:
            break
        done += states.shape[2]
    stayed = [s.climate() for s, end in zip(sums, ends, strict=True) if end is None and s.count]
    true, other = (
        None if part is None or part[1] <= part[0] else Climate.of(states for _, states in source.blocks(part))
        for source, part in ((learned or store, truth), (store, unseen))
    )
    assert true is not None
    mirror = forecaster.facts.config.mirror
    true = true.and_mirrored(layout) if mirror else true
    climate = Climate.pooled(stayed) if stayed else None
    return LongRun(days, tuple(ends), reasons[min(reasons)] if reasons else "", climate, true, other, mirror)
