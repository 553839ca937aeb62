"""Scores of forecasts of several systems from the same starts, by lead, region and channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.sphere.statistics import Climatology
from data.sphere.weather_layout import LEAD
from data.sphere.window_store import WindowStore
from surrogates.forecasts.block_bootstrap import COVERAGE, block_length, intervals
from surrogates.forecasts.metrics import EnsembleScores, ForecastScores
from surrogates.forecasts.references import Forecasts, leads
from surrogates.forecasts.seeps import PrecipitationClimate, SeepsScores

Part = tuple[int, int]
#: Name of the system whose CRPS is that of the climatological distribution.
CLIMATE = "climatological_ensemble"


@dataclass(frozen=True)
class Protocol:
    """Which forecasts are scored: their starts and their leads.

    Attributes:
        store: windows with the truth.
        part: [start, stop) of the states in which histories and leads lie.
        steps: number of leads.
        most: largest number of starts, spread evenly over the part; None for all.
        batch: number of starts at a time.
        only: rows of present states from which forecasts may begin; None for all.
        leads: leads among 1 to `steps` that are scored; None for all.
    """

    store: WindowStore
    part: Part
    steps: int
    most: int | None = None
    batch: int = 16
    only: Int[np.ndarray, " start"] | None = None
    leads: tuple[int, ...] | None = None

    @property
    def scored(self) -> Int[np.ndarray, " lead"]:
        """Leads that are scored, in steps."""
        return np.arange(1, self.steps + 1) if self.leads is None else np.array(self.leads)

    @property
    def lead_times(self) -> np.ndarray:
        """Leads that are scored, as timedelta64[ns]."""
        return (
            (self.scored * round(self.store.layout.step_hours * 3600))
            .astype("timedelta64[s]")
            .astype("timedelta64[ns]")
        )

    def starts(self, history: int) -> Int[np.ndarray, " start"]:
        """Rows of the present state of each forecast of systems with up to `history` past states.

        Raises:
            InputError: no forecast lies in the part.
        """
        starts = self.store.starts(history + self.steps, self.part) + history - 1
        if not len(starts):
            low, high = self.part
            raise InputError(
                f"none of its {high - low:,} states that are to be forecast begins {history + self.steps} states that "
                "follow one another", where=str(self.store.path), remedy="Give more states, or ask for fewer leads",
            )  # fmt: skip
        if self.only is not None:
            starts = starts[np.isin(starts, self.only)]
            if not len(starts):
                raise InputError(
                    f"no forecast has all of its truth, {history} states before its first lead and {self.steps} steps "
                    "after", where=str(self.store.path), remedy="Give more states, or ask for fewer leads",
                )  # fmt: skip
        if self.most is not None and len(starts) > self.most:
            starts = starts[np.unique(np.linspace(0, len(starts) - 1, self.most).round().astype(int))]
        return starts


def score(
    systems: Mapping[str, Forecasts],
    protocol: Protocol,
    climatology: Climatology,
    *,
    members: Mapping[str, int] | None = None,
    precipitation: Sequence[PrecipitationClimate] = (),
    bounds: bool = False,
    advance: Callable[[], None] | None = None,
) -> xr.Dataset:
    """Scores of each system from the same starts.

    Args:
        systems: names -> systems.
        protocol: which forecasts are scored.
        climatology: climatology of the anomaly correlation.
        members: names of the ensembles -> number of members; an ensemble is scored, and its mean as a forecast.
        precipitation: climates of the channels that are also scored by SEEPS.
        bounds: whether to add confidence intervals; see `surrogates.forecasts.block_bootstrap`.
        advance: called after each batch of each system.

    Returns:
        A dataset with rmse, bias, mae, acc along (system, region, prediction_timedelta, channel); for ensembles also
        crps, spread_skill and others, NaN for other systems; seeps if there is precipitation; and rank_histogram along
        (ensemble, prediction_timedelta, rank, channel) if there is an ensemble. With `bounds` also rmse_low, rmse_high,
        the ratio of the first system's error to that of each (rmse_ratio, rmse_ratio_low, rmse_ratio_high) and, for
        ensembles, crps_low and crps_high, in the first region. The attribute `forecasts` is the number of starts,
        `first_start` and `last_start` their dates.
    """
    store, layout, steps = protocol.store, protocol.store.layout, protocol.steps
    longest = max(s.history for s in systems.values())
    starts, scored = protocol.starts(longest), protocol.scored
    count = len(scored)
    members = members or {}
    by_system: dict[str, dict[str, np.ndarray]] = {}
    ranks: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    crps: dict[str, np.ndarray] = {}
    regions: tuple[str, ...] = ()
    for name, system in systems.items():
        plain = ForecastScores(layout.grid, count, len(layout.channels))
        several = EnsembleScores(layout.grid, members[name]) if members.get(name, 1) > 1 else None
        classes = [SeepsScores(layout.grid, climate) for climate in precipitation]
        regions = plain.regions
        for at in range(0, len(starts), protocol.batch):
            rows = starts[at : at + protocol.batch]
            full = np.resize(rows, min(protocol.batch, len(starts)))
            states = store.read(full - system.history + 1, system.history + steps)
            times = store.times[full]
            past, truth = states[:, : system.history], states[: len(rows), system.history + scored - 1]
            valid = leads(times[: len(rows)], layout, steps)[:, scored - 1]
            usual = climatology.at(valid.ravel()).reshape(truth.shape)
            several_members = {} if several is None else {"members": members[name], "seed": at}
            forecasts = system.forecast_arrays(past, times, steps, **several_members)[: len(rows)][:, :, scored - 1]
            if several is not None:
                several.add(forecasts, truth)
            mean = forecasts.mean(axis=1)
            plain.add(mean, truth, usual)
            for one in classes:
                one.add(mean, truth)
            if advance is not None:
                advance()
        by_system[name] = plain.scores()
        squares[name] = np.concatenate(plain.squares)
        if several is not None:
            by_system[name] |= several.scores()
            crps[name] = np.concatenate(several.crps)
            ranks[name] = several.rank_histogram()
        if classes:
            by_system[name]["seeps"] = np.full((len(regions), count, len(layout.channels)), np.nan)
            for one in classes:
                by_system[name]["seeps"][..., one.climate.channel] = one.score()
    attrs: dict[str, Any] = {"forecasts": len(starts)}
    if layout.calendar:
        attrs |= {k: str(store.times[starts[at]])[:16] for k, at in (("first_start", 0), ("last_start", -1))}
    if bounds and (limits := intervals(squares, crps, store.times[starts], protocol.lead_times[-1])):
        for key, by in limits.items():
            for name, values in by.items():
                # In the first region alone, as the page shows it.
                whole = np.full((len(regions), *values.shape), np.nan)
                whole[0] = values
                by_system[name][key] = whole
        attrs |= {"coverage": COVERAGE, "block": block_length(store.times[starts], protocol.lead_times[-1])}
    keys = sorted({k for s in by_system.values() for k in s})
    shape = (len(regions), count, len(layout.channels))
    arrays: dict[str, Any] = {
        key: (
            ("system", "region", LEAD, "channel"),
            np.stack([s.get(key, np.full(shape, np.nan)) for s in by_system.values()]),
        )
        for key in keys
    }
    arrays |= histograms(ranks)
    coords: dict[str, Any] = {
        "system": list(by_system),
        "region": list(regions),
        LEAD: protocol.lead_times,
        "channel": [c.label for c in layout.channels],
    }
    if ranks:
        coords["ensemble"] = list(ranks)
    return xr.Dataset(arrays, coords, attrs)


def histograms(ranks: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Rank histograms of ensembles as one variable, padded with NaN for smaller ensembles; empty without ensembles."""
    if not ranks:
        return {}
    most = max(values.shape[1] for values in ranks.values())
    filled = [np.pad(v, ((0, 0), (0, most - v.shape[1]), (0, 0)), constant_values=np.nan) for v in ranks.values()]
    return {"rank_histogram": (("ensemble", LEAD, "rank", "channel"), np.stack(filled))}


def plain(scores: xr.Dataset, system: str, prefix: str) -> dict[str, float]:
    """Flat rmse and acc of one system in the first region, with keys `prefix/<score>/<channel>/<lead>h`."""
    one = scores.sel(system=system).isel(region=0)
    hours = (one[LEAD].values / np.timedelta64(1, "h")).astype(float)
    metrics: dict[str, float] = {}
    for name in ("rmse", "acc"):
        for channel in one["channel"].values:
            values = one[name].sel(channel=channel).values
            metrics |= {f"{prefix}/{name}/{channel}/{h:g}h": float(v) for h, v in zip(hours, values, strict=True)}
    return metrics


def ensemble_metrics(scores: xr.Dataset, system: str = "forecast") -> dict[str, float]:
    """Means over leads of the scores of an ensemble in the first region, with keys `ensemble/<score>/<channel>`."""
    if "crps" not in scores or system not in scores.get("ensemble", xr.DataArray([])).values:
        return {}
    one = scores.sel(system=system).isel(region=0)
    metrics = {
        f"ensemble/{name}/{channel}": float(one[name].sel(channel=channel).mean())
        for name in ("crps", "spread_skill")
        for channel in one["channel"].values
    }
    if CLIMATE in scores["ensemble"].values:
        climate = scores["crps"].sel(system=CLIMATE).isel(region=0)
        for channel in one["channel"].values:
            metrics[f"ensemble/crps_of_climate/{channel}"] = float(climate.sel(channel=channel).mean())
    return metrics
