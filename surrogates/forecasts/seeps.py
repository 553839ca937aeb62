"""The score of precipitation in three classes (SEEPS: Rodwell et al. 2010, Q. J. R. Meteorol. Soc. 136, 1344).

As in WeatherBench 2, a time counts as dry up to 0.1 mm in 6 hours or 0.25 mm in 24, and points that are dry less than
10% or more than 85% of the time are left out. The climate here is that of the training states at each point, over all
seasons and hours together; WeatherBench 2 separates these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.sphere.weather_layout import WeatherGrid, WeatherLayout
from surrogates.forecasts.metrics import region_weights

#: Largest amount of precipitation of a dry time, in m.
DRY: Mapping[str, float] = {"total_precipitation_6hr": 1e-4, "total_precipitation_24hr": 2.5e-4}
#: Number of bins of wet amounts, evenly spaced in the logarithm, and their upper end, in m.
BINS, MOST = 192, 0.6


@dataclass(frozen=True)
class PrecipitationClimate:
    """The climate of precipitation at each point.

    Attributes:
        channel: index of the channel.
        dry: largest amount of a dry time, in m.
        dry_share: share of times that are dry.
        heavy: amount that a third of the wet times exceeds, in m; infinite where no time is wet.
    """

    channel: int
    dry: float
    dry_share: Float[np.ndarray, "latitude longitude"]
    heavy: Float[np.ndarray, "latitude longitude"]

    @staticmethod
    def fit(
        blocks: Iterable[Float[np.ndarray, "time latitude longitude channel"]], channel: int, dry: float
    ) -> PrecipitationClimate:
        """The climate of states in blocks; thresholds have the precision of a bin, 2% of the amount."""
        edges = np.geomspace(dry, MOST, BINS + 1)
        counts: np.ndarray | None = None
        times = 0
        for states in blocks:
            values = states[..., channel]
            if counts is None:
                counts = np.zeros((BINS + 1, *values.shape[1:]), np.int64)
            # The first bin is that of dry times.
            which = np.clip(np.searchsorted(edges, values, side="left"), 0, BINS)
            here: np.ndarray = np.indices(values.shape[1:])
            np.add.at(counts, (which, here[0], here[1]), 1)
            times += len(values)
        if counts is None:
            raise ValueError("there is no state to learn a climate from")
        wet = counts[1:].sum(axis=0)
        below = np.cumsum(counts[1:], axis=0) / np.maximum(wet, 1)
        at = np.asarray((below >= 2 / 3).argmax(axis=0))
        before = np.where(at > 0, np.take_along_axis(below, np.maximum(at - 1, 0)[None], 0)[0], 0.0)
        here = np.take_along_axis(below, at[None], 0)[0]
        share = (2 / 3 - before) / np.where(here > before, here - before, 1.0)
        heavy = edges[at] * (edges[at + 1] / edges[at]) ** share
        return PrecipitationClimate(channel, dry, counts[0] / times, np.where(wet > 0, heavy, np.inf))


def climates(
    layout: WeatherLayout, blocks: Iterable[Float[np.ndarray, "time latitude longitude channel"]]
) -> list[PrecipitationClimate]:
    """The climate of each accumulated precipitation of a layout; if there is none, no block is read."""
    precipitations = [(k, DRY[c.variable]) for k, c in enumerate(layout.channels) if c.variable in DRY]
    if not precipitations:
        return []
    # If there are two, which is rare, the blocks are kept for the second one.
    kept = blocks if len(precipitations) == 1 else list(blocks)
    return [PrecipitationClimate.fit(kept, k, dry) for k, dry in precipitations]


class SeepsScores:
    """Sums over forecasts of the SEEPS of one precipitation channel.

    Args:
        grid: grid of the states.
        climate: climate of the precipitation.
    """

    def __init__(self, grid: WeatherGrid, climate: PrecipitationClimate) -> None:
        self.climate = climate
        usable = (climate.dry_share >= 0.1) & (climate.dry_share <= 0.85)
        weights = np.stack(list(region_weights(grid).values())) * usable
        total = weights.sum(axis=(1, 2), keepdims=True)
        self._weights = np.where(total > 0, weights / np.where(total > 0, total, 1.0), np.nan)
        self._sum: np.ndarray | float = 0.0
        self.count = 0

    def add(
        self,
        forecast: Float[np.ndarray, "batch lead latitude longitude channel"],
        truth: Float[np.ndarray, "batch lead latitude longitude channel"],
    ) -> None:
        """Add a batch of forecasts."""
        climate = self.climate
        errors = seeps(
            forecast[..., climate.channel],
            truth[..., climate.channel],
            climate.dry_share,
            climate.heavy,
            dry=climate.dry,
        )
        self._sum = self._sum + np.einsum("rij,blij->rl", self._weights, np.nan_to_num(errors))
        self.count += len(truth)

    def score(self) -> Float[np.ndarray, "region lead"]:
        """The score: 0 for a perfect forecast, 1 for one without skill; NaN for a region without a usable point."""
        return np.asarray(self._sum) / self.count


def seeps(
    forecast: Float[np.ndarray, "*time latitude longitude"],
    truth: Float[np.ndarray, "*time latitude longitude"],
    dry_share: Float[np.ndarray, "latitude longitude"],
    heavy: Float[np.ndarray, "latitude longitude"],
    *,
    dry: float = 2.5e-4,
) -> Float[np.ndarray, "*time latitude longitude"]:
    """The error of precipitation in three classes, dry, light and heavy (Rodwell et al. 2010, Q. J. 136, 1344, eq. 15).

    It is NaN where the climate is so dry or so wet (p1 outside of 0.1 to 0.85) that the score has no meaning.

    Args:
        forecast, truth: accumulated precipitation, in m.
        dry_share: p1, the share of times that are dry.
        heavy: threshold between light and heavy precipitation, in m, which a third of the wet times exceeds.
        dry: amount below which a time counts as dry, in m.
    """
    p1 = dry_share
    p3 = (1 - p1) / 3

    def classes(values: np.ndarray) -> np.ndarray:
        return np.where(values < dry, 0, np.where(values < heavy, 1, 2))

    said, came = classes(forecast), classes(truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = np.zeros_like(p1)
        matrix = 0.5 * np.stack(
            [
                np.stack([zero, 1 / (1 - p1), 1 / p3 + 1 / (1 - p1)]),
                np.stack([1 / p1, zero, 1 / p3]),
                np.stack([1 / p1 + 1 / (1 - p3), 1 / (1 - p3), zero]),
            ]
        )
    # Rows of the matrix are classes of the forecast, columns classes of the truth.
    rows, columns = np.indices(p1.shape)
    errors = matrix[said, came, rows, columns]
    return np.where((p1 >= 0.1) & (p1 <= 0.85), errors, np.nan)
