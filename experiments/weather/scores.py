"""Forecasts of several systems over the same starts, scored by lead, region and channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import InputError
from data.weather import LEAD
from data.window_statistics import Climatology
from data.windows import WindowStore
from surrogates.weather.metrics import EnsembleScores, ForecastScores
from surrogates.weather.references import Forecasts, leads

Part = tuple[int, int]
SCORES = ("rmse", "bias", "mae", "acc")


@dataclass(frozen=True)
class Protocol:
    """What is forecast, from when on, and how far.

    Attributes:
        store: truth.
        part: [start, stop) that histories and leads lie in.
        steps: leads.
        most: starts, spread evenly over the part; None for all.
        batch: starts at a time.
    """

    store: WindowStore
    part: Part
    steps: int
    most: int | None = None
    batch: int = 16

    def starts(self, history: int) -> Int[np.ndarray, " start"]:
        """The present state of each forecast, the same for all systems with no longer history.

        Raises:
            InputError: none fits in the part.
        """
        found = self.store.starts(history + self.steps, self.part) + history - 1
        if not len(found):
            raise InputError(
                f"the part has no {history + self.steps} states that follow one another", where="data.parts",
                remedy="Give it more states, or ask for fewer leads",
            )  # fmt: skip
        if self.most is not None and len(found) > self.most:
            found = found[np.unique(np.linspace(0, len(found) - 1, self.most).round().astype(int))]
        return found


def score(
    systems: Mapping[str, Forecasts],
    protocol: Protocol,
    climatology: Climatology,
    *,
    members: Mapping[str, int] | None = None,
    advance: Callable[[], None] | None = None,
) -> xr.Dataset:
    """Scores of each system from the same starts.

    Args:
        systems: by their names.
        protocol: what is forecast.
        climatology: for the anomaly correlation.
        members: of the ensembles among them; their mean is scored as a forecast, and they as an ensemble.
        advance: called after each batch of each system.

    Returns:
        rmse, bias, mae, acc with dims (system, region, prediction_timedelta, channel), and for ensembles crps,
        spread_skill and others, NaN for systems that are none; attribute `forecasts` is the number of starts.
    """
    store, layout, steps = protocol.store, protocol.store.layout, protocol.steps
    longest = max(s.history for s in systems.values())
    starts = protocol.starts(longest)
    members = members or {}
    found: dict[str, dict[str, np.ndarray]] = {}
    regions: tuple[str, ...] = ()
    for name, system in systems.items():
        plain = ForecastScores(layout.grid, steps, len(layout.channels))
        several = EnsembleScores(layout.grid, members[name]) if members.get(name, 1) > 1 else None
        regions = plain.regions
        for at in range(0, len(starts), protocol.batch):
            rows = starts[at : at + protocol.batch]
            full = np.resize(rows, min(protocol.batch, len(starts)))
            states = store.read(full - system.history + 1, system.history + steps)
            times = store.times[full]
            past, truth = states[:, : system.history], states[: len(rows), system.history :]
            usual = climatology.at(leads(times[: len(rows)], layout, steps).ravel()).reshape(truth.shape)
            if several is None:
                given = system.forecast_arrays(past, times, steps)[: len(rows)]
            else:
                given = system.forecast_arrays(past, times, steps, members=members[name], seed=at)[: len(rows)]  # type: ignore[call-arg]
                several.add(given, truth)
            plain.add(given.mean(axis=1), truth, usual)
            if advance is not None:
                advance()
        found[name] = plain.scores() | (several.scores() if several is not None else {})
    keys = sorted({k for s in found.values() for k in s})
    shape = (len(regions), steps, len(layout.channels))
    arrays = {
        key: (
            ("system", "region", LEAD, "channel"),
            np.stack([s.get(key, np.full(shape, np.nan)) for s in found.values()]),
        )
        for key in keys
    }
    lead = (np.arange(1, steps + 1) * layout.step_hours * 3600 * 1e9).astype("timedelta64[ns]")
    coords = {"system": list(found), "region": list(regions), LEAD: lead, "channel": [c.label for c in layout.channels]}
    return xr.Dataset(arrays, coords, {"forecasts": len(starts)})


def plain(scores: xr.Dataset, system: str, prefix: str) -> dict[str, float]:
    """Flat metrics of one system over its first region: `prefix/<score>/<channel>/<lead>h`, and means over leads."""
    one = scores.sel(system=system).isel(region=0)
    hours = (one[LEAD].values / np.timedelta64(1, "h")).astype(float)
    found: dict[str, float] = {}
    for name in ("rmse", "acc"):
        for channel in one["channel"].values:
            values = one[name].sel(channel=channel).values
            found |= {f"{prefix}/{name}/{channel}/{h:g}h": float(v) for h, v in zip(hours, values, strict=True)}
    return found
