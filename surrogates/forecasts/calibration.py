"""Calibrates the bands of a forecaster on a part of the states that it has not learned from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.sphere.window_store import WindowStore
from surrogates.forecasts.facts import LeadBands
from surrogates.forecasts.surrogate import ForecastSurrogate

Part = tuple[int, int]
#: Largest number of forecasts of a calibration, and of those computed at a time.
CALIBRATED, AT_A_TIME = 200, 16


def calibrate_intervals(forecaster: ForecastSurrogate, store: WindowStore, part: Part) -> ForecastSurrogate:
    """The forecaster with bands of each lead that the states [start, stop) of a record calibrate.

    Raises:
        InputError: see `forecast_errors`.
    """
    errors = forecast_errors(forecaster, store, part, forecaster.facts.config.steps)
    return forecaster.with_facts(bands=LeadBands.fit(errors, store.layout.grid.weights))


def forecast_errors(
    forecaster: ForecastSurrogate, store: WindowStore, part: Part, steps: int, most: int = CALIBRATED
) -> Float[np.ndarray, "forecast lead latitude longitude channel"]:
    """Errors (forecast - truth) of forecasts whose starts are spread evenly over a part, in the units of the channels.

    Raises:
        InputError: no window lies in the part, or a forecast has values that are not finite.
    """
    history = forecaster.history
    starts = store.starts(history + steps, part)
    if not len(starts):
        raise InputError(
            f"a part has no {history + steps} states that follow one another", where="data.parts",
            remedy="Give it more, or lower model.steps",
        )  # fmt: skip
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))]
    batches = []
    for at in range(0, len(starts), AT_A_TIME):
        rows = starts[at : at + AT_A_TIME]
        # The last batch is filled, so that it has the shape of the others.
        full = np.resize(rows, min(AT_A_TIME, len(starts)))
        states = store.read(full, history + steps)
        times = store.times[full + history - 1]
        forecasts = forecaster.forecast_arrays(states[:, :history], times, steps)[:, 0]
        batches.append((forecasts - states[:, history:])[: len(rows)])
    errors = np.concatenate(batches)
    if not np.isfinite(errors).all():
        raise InputError(
            "forecasts of a held-out part have values that are not finite", where="surrogate",
            remedy="Train longer, or with model.loss.unroll above 1",
        )  # fmt: skip
    return errors
