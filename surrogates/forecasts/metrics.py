"""Scores of forecasts by the definitions of WeatherBench 2 (Rasp et al. 2024, arXiv:2308.15560, section 3).

Errors are summed over forecasts in float64, one batch at a time, so that no more than a batch is in memory. As in
WeatherBench 2, the root of the mean square error is taken after the mean over forecasts. Weights are the areas of
cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from data.sphere.weather_layout import WeatherGrid

States = Float[np.ndarray, "batch lead latitude longitude channel"]
#: Regions, by the range of latitudes of their points in degrees.
REGIONS: Mapping[str, tuple[float, float]] = {
    "global": (-90.0, 90.0),
    "tropics": (-20.0, 20.0),
    "northern extratropics": (20.0, 90.0),
    "southern extratropics": (-90.0, -20.0),
}


def region_weights(grid: WeatherGrid) -> dict[str, Float[np.ndarray, "latitude longitude"]]:
    """Weights of the points of each region, with sum 1; regions without points are left out.

    A grid that does not cover the sphere has one region, called "region".
    """
    if not grid.is_global:
        return {"region": grid.weights / grid.weights.sum()}
    weights = {}
    latitude = np.asarray(grid.latitude)[:, None]
    for name, (low, high) in REGIONS.items():
        inside = np.where((latitude >= low) & (latitude <= high), grid.weights, 0.0)
        if inside.sum() > 0:
            weights[name] = inside / inside.sum()
    outside = np.where(np.abs(latitude) >= 20.0, grid.weights, 0.0)
    if outside.sum() > 0:
        weights["extratropics"] = outside / outside.sum()
    return weights


@dataclass
class ForecastScores:
    """Sums over forecasts, from which scores by lead, region and channel follow.

    Attributes:
        grid: grid of the states.
        leads, channels: number of leads and of channels.
        squares: mean square error of each forecast in the first region, by batch.
    """

    grid: WeatherGrid
    leads: int
    channels: int
    count: int = 0
    squares: list[Float[np.ndarray, "batch lead channel"]] = field(default_factory=list)
    _sums: dict[str, Float[np.ndarray, "region lead channel"]] = field(default_factory=dict)

    @property
    def regions(self) -> tuple[str, ...]:
        """Names of the regions, in the order of the scores."""
        return tuple(region_weights(self.grid))

    def add(self, forecast: States, truth: States, usual: States) -> None:
        """Add a batch of forecasts.

        Args:
            forecast, truth: states at the leads.
            usual: climatology at their valid times.
        """
        weights = np.stack(list(region_weights(self.grid).values()))
        error = forecast.astype(np.float64) - truth
        said, came = forecast.astype(np.float64) - usual, truth.astype(np.float64) - usual

        def mean(values: States) -> Float[np.ndarray, "region batch lead channel"]:
            return np.einsum("rij,blijc->rblc", weights, values)

        above, below = mean(said * came), np.sqrt(mean(said**2) * mean(came**2))
        scores = {
            "square": mean(error**2),
            "error": mean(error),
            "absolute": mean(np.abs(error)),
            # As in WeatherBench 2, the mean of the correlations of all forecasts; one that is not defined counts as 0.
            "acc": np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0),
        }
        for name, values in scores.items():
            total = values.sum(axis=1)
            self._sums[name] = self._sums.get(name, np.zeros_like(total)) + total
        self.squares.append(scores["square"][0])
        self.count += len(forecast)

    def scores(self) -> dict[str, Float[np.ndarray, "region lead channel"]]:
        """The scores rmse, bias and mae (in the unit of the channel) and acc, the anomaly correlation."""
        mean = {name: total / self.count for name, total in self._sums.items()}
        return {"rmse": np.sqrt(mean["square"]), "bias": mean["error"], "mae": mean["absolute"], "acc": mean["acc"]}


@dataclass
class EnsembleScores:
    """Sums over forecasts, from which the scores of an ensemble follow.

    Attributes:
        grid: grid of the states.
        members: number of members.
        crps: fair CRPS of each forecast in the first region, by batch.
    """

    grid: WeatherGrid
    members: int
    count: int = 0
    crps: list[Float[np.ndarray, "batch lead channel"]] = field(default_factory=list)
    _sums: dict[str, Float[np.ndarray, "region lead channel"]] = field(default_factory=dict)
    _ranks: Float[np.ndarray, "lead rank channel"] | None = None

    def add(self, forecast: Float[np.ndarray, "batch member lead latitude longitude channel"], truth: States) -> None:
        """Add a batch of ensemble forecasts."""
        weights = np.stack(list(region_weights(self.grid).values()))
        m = self.members
        x = np.moveaxis(forecast.astype(np.float64), 1, 0)
        error = np.abs(x - truth[None]).mean(axis=0)
        ranks = (2 * np.arange(1, m + 1) - m - 1).reshape(-1, *(1,) * truth.ndim)
        spread = (ranks * np.sort(x, axis=0)).sum(axis=0) / (m * (m - 1))
        values = {
            "crps": error - spread,
            "variance": x.var(axis=0, ddof=1),
            "square": (x.mean(axis=0) - truth) ** 2,
        }
        for name, array in values.items():
            total = np.einsum("rij,blijc->rlc", weights, array)
            self._sums[name] = self._sums.get(name, np.zeros_like(total)) + total
        self.crps.append(np.einsum("ij,blijc->blc", weights[0], values["crps"]))
        below, equal = (x < truth[None]).sum(axis=0), (x == truth[None]).sum(axis=0)
        # A truth that equals some members, such as no rain, counts in equal shares at each rank among them.
        area = (self.grid.weights / self.grid.weights.sum())[None, None, :, :, None] / (equal + 1)
        ranks_share = np.stack(
            [np.where((below <= k) & (k <= below + equal), area, 0.0).sum(axis=(0, 2, 3)) for k in range(m + 1)], axis=1
        )
        self._ranks = ranks_share if self._ranks is None else self._ranks + ranks_share
        self.count += len(truth)

    def scores(self) -> dict[str, Float[np.ndarray, "region lead channel"]]:
        """Fair CRPS, root mean square error of the mean, spread, and the spread-skill ratio.

        The spread is the root of the mean variance, and the ratio has the factor sqrt((M + 1) / M), with which it is 1
        for a reliable ensemble of M members (Fortin et al. 2014, J. Hydrometeor. 15, 1708).
        """
        mean = {name: total / self.count for name, total in self._sums.items()}
        spread, error = np.sqrt(mean["variance"]), np.sqrt(mean["square"])
        factor = np.sqrt((self.members + 1) / self.members)
        ratio = factor * spread / np.maximum(error, 1e-30)
        return {"crps": mean["crps"], "mean_rmse": error, "spread": spread, "spread_skill": ratio}

    def rank_histogram(self) -> Float[np.ndarray, "lead rank channel"]:
        """Share of area and time by the number of members below the truth; flat if truth and members are exchangeable.

        A truth that equals members counts in equal shares at the ranks that it may have, which is the mean over random
        orders of ties.
        """
        assert self._ranks is not None
        return self._ranks / self.count


def zonal_spectrum(
    states: Float[np.ndarray, "*lead latitude longitude channel"], grid: WeatherGrid
) -> Float[np.ndarray, "*lead wavenumber channel"]:
    """Energy by zonal wavenumber, the mean over latitudes by area; its sum is the mean square of the field.

    As in WeatherBench 2 it is the Fourier transform of each circle of latitude.
    """
    columns = grid.shape[1]
    waves = np.abs(np.fft.rfft(states, axis=-2) / columns) ** 2
    # Each coefficient of rfft stands for two waves, except for the mean and the shortest wave.
    double = np.full(waves.shape[-2], 2.0)
    double[0] = 1.0
    if columns % 2 == 0:
        double[-1] = 1.0
    rows = grid.weights[:, 0] / grid.weights[:, 0].sum()
    return np.einsum("...imc,i,m->...mc", waves, rows, double)
