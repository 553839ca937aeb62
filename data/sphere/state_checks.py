"""Checks states before they enter a store of windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.sphere.weather_layout import WeatherLayout


def refuse_not_finite(block: np.ndarray, layout: WeatherLayout, stamps: np.ndarray) -> None:
    """Refuse states with a value that is missing.

    Args:
        block: (time, latitude, longitude, channel).
        layout: names the channels and the places.
        stamps: datetime64 of each.

    Raises:
        InputError: a value is missing; the message names the first one.
    """
    if np.isfinite(block).all():
        return
    time, row, column, channel = (int(v) for v in np.argwhere(~np.isfinite(block))[0])
    grid = layout.grid
    raise InputError(
        f"{layout.channels[channel].label} is missing or not finite at {stamps[time].astype('datetime64[s]')}, "
        f"latitude {grid.latitude[row]:g}, longitude {grid.longitude[column]:g}",
        remedy="Leave the variable or these times out, or fill them: source.missing=drop or source.fill",
    )


def static_fields(
    static: xr.Dataset | None, layout: WeatherLayout, path: Path
) -> Float[np.ndarray, "latitude longitude s"]:
    """The fields that do not change, float32, in the order of the layout's.

    Raises:
        InputError: one is not there, is on another grid or is not finite.
    """
    if not layout.static:
        return np.zeros((*layout.grid.shape, 0), np.float32)
    lacking = [n for n in layout.static if static is None or n not in static]
    if static is None or lacking:
        raise InputError(f"no static variable {', '.join(lacking)}", where=str(path), remedy="Leave it out")
    layout.refuse_other_grid(static, str(path))
    fields = [static[n].transpose("latitude", "longitude").values.astype(np.float32) for n in layout.static]
    stacked = np.stack(fields, axis=-1)
    if not np.isfinite(stacked).all():
        raise InputError("a static variable holds values that are not finite", where=str(path), remedy="Leave it out")
    return stacked
