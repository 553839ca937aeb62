"""Windows with the truth of forecasts, made of a file of states where the user has no windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from data.errors import InputError
from data.reading_summary import Reading
from data.sphere.weather_layout import LEVEL, WeatherLayout
from data.sphere.window_store import CARD, PROGRESS, WindowStore
from experiments.forecasting.issuing import selected
from simulators.atmosphere.reanalysis.reanalysis import Reanalysis


def truth_windows(
    path: Path,
    folder: Path,
    layout: WeatherLayout | None,
    forecasts: xr.Dataset | None,
    readings: list[Reading],
    training: Path | None = None,
) -> WindowStore:
    """The windows at a path, or those written of a file of states.

    Args:
        path: a store of windows, or a Zarr store, a NetCDF or a GRIB file that `understudy windows` reads.
        folder: directory of the windows that are written of a file.
        layout: layout of a forecaster that is scored; its variables, levels and step are read.
        forecasts: forecasts with our names; without a layout, the variables and levels that both have are read.
        readings: gets what was read of a file.
        training: windows of the training, whose order of variables those of a file get.

    Raises:
        InputError: the file cannot be read, or shares no variable with the forecasts.
    """
    if (path / CARD).is_file() or (path / PROGRESS).is_file():
        return WindowStore.open(path)
    source = Reanalysis(str(path))
    if layout is not None:
        source = selected(source, layout)
    elif forecasts is not None:
        source = _shared(source, forecasts, WindowStore.open(training).layout.variables if training else ())
    store = source.write(folder)
    readings.append(source.reading())
    return store


def _shared(source: Reanalysis, forecasts: xr.Dataset, order: Sequence[str]) -> Reanalysis:
    """The source with the variables and levels that forecasts have too, those of `order` first and in this order."""
    layout = source.layout
    variables, levels = [], {}
    for name in layout.variables:
        if name not in forecasts:
            continue
        stored_levels = forecasts[name][LEVEL].values.tolist() if LEVEL in forecasts[name].dims else []
        both = [v for v in layout.levels(name) if any(abs(v - float(w)) <= 1e-5 * abs(v) for w in stored_levels)]
        if layout.levels(name) and not both:
            continue
        variables.append(name)
        if both:
            levels[name] = both
    if not variables:
        raise InputError(
            f"it has {', '.join(layout.variables)}, and the forecasts have {', '.join(map(str, forecasts.data_vars))}",
            where=source.where, remedy="Give the truth of one of their variables, or forecasts.names={OLD: NEW}",
        )  # fmt: skip
    # A store and a file of the same states may list their variables in another order.
    ranks = {name: rank for rank, name in enumerate(order)}
    variables.sort(key=lambda name: ranks.get(name, len(ranks)))
    return Reanalysis(source.path, variables=tuple(variables), levels=levels or ())
