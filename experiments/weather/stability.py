"""A long rollout: whether it stays finite and within what the atmosphere does, and how its climate compares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.windows import WindowStore
from surrogates.weather.forecaster import Forecaster

#: How far beyond the extremes of the training a value may lie, in units of their distance.
MARGIN = 0.25
#: Share at the beginning of a rollout that still remembers its first state and is left out of its climate.
FORGOTTEN = 0.1


@dataclass(frozen=True)
class Climate:
    """Statistics of a series of states.

    Attributes:
        states: how many.
        mean: over time and longitude.
        spread: root of the variance over time and longitude.
    """

    states: int
    mean: Float[np.ndarray, "latitude channel"]
    spread: Float[np.ndarray, "latitude channel"]

    @staticmethod
    def of(blocks: Iterable[Float[np.ndarray, "time latitude longitude channel"]]) -> Climate:
        """Of states that come in blocks.

        Raises:
            ValueError: there are none.
        """
        count, total, square = 0, np.zeros(()), np.zeros(())
        for states in blocks:
            wide = states.astype(np.float64)
            total = total + wide.mean(axis=2).sum(axis=0)
            square = square + (wide**2).mean(axis=2).sum(axis=0)
            count += len(states)
        if not count:
            raise ValueError("no states have no climate")
        mean = total / count
        return Climate(count, mean, np.sqrt(np.maximum(square / count - mean**2, 0.0)))

    def off(self, truth: Climate, weights: Float[np.ndarray, " latitude"]) -> dict[str, Float[np.ndarray, " channel"]]:
        """How far it is from another, by channel, area-weighted over latitudes.

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


@dataclass(frozen=True)
class LongRun:
    """What a rollout did.

    Attributes:
        days: its length.
        left: the day on which it left the finite numbers or the climatological range; None if it never did.
        why: what left, and how far.
        climate: of the rollout without its beginning; None where it left the range.
        truth: of the states of the training.
        held: of states that were not learned from, so as far off as chance alone may put a record of their length; None
            if there are none.
    """

    days: float
    left: float | None
    why: str
    climate: Climate | None
    truth: Climate
    held: Climate | None


def long_run(
    forecaster: Forecaster,
    store: WindowStore,
    start: int,
    days: float,
    truth: tuple[int, int],
    held: tuple[int, int] | None = None,
    chunk: int = 16,
) -> LongRun:
    """Roll out from one state, some steps at a time, and stop where it leaves the climatological range.

    Args:
        forecaster: whose extremes of training give the range.
        store: has the first state and the truth.
        start: the present state.
        days: to go.
        truth: [start, stop) of the states whose climate is the true one.
        held: of states that were not learned from, whose climate is given beside.
        chunk: steps at a time.
    """
    layout, history = store.layout, forecaster.history
    steps = round(days * 24 / layout.step_hours)
    low, high = np.array(forecaster.facts.low), np.array(forecaster.facts.high)
    room = MARGIN * (high - low)
    past = store.read(np.array([start - history + 1]), history)
    done, first = 0, round(FORGOTTEN * steps)
    left: float | None = None
    why = ""

    def inside() -> Iterable[np.ndarray]:
        """Blocks of the rollout without its beginning, up to where it leaves the range."""
        nonlocal done, left, why
        for states in forecaster.chunks(past, store.times[[start]], steps, chunk=chunk):
            block = states[0, 0]
            least, most = block.min(axis=(1, 2)), block.max(axis=(1, 2))
            bad = ~(np.isfinite(least) & np.isfinite(most)) | (least < low - room) | (most > high + room)
            if bad.any():
                step, at = np.argwhere(bad)[0]
                left = (done + step + 1) * layout.step_hours / 24
                why = (
                    f"{layout.channels[at].label} from {least[step, at]:.4g} to {most[step, at]:.4g}, "
                    f"in the training from {low[at]:.4g} to {high[at]:.4g}"
                )
                return
            yield block[max(0, first - done) :]
            done += len(block)

    blocks = inside()
    try:
        climate: Climate | None = Climate.of(blocks)
    except ValueError:
        climate = None
    true, other = (
        None if part is None or part[1] <= part[0] else Climate.of(states for _, states in store.blocks(part))
        for part in (truth, held)
    )
    assert true is not None
    # What has left the range has no climate.
    return LongRun(days, left, why, climate if left is None else None, true, other)
