"""Ranges of plausible values, which reveal undeclared missing values and wrong units on reading.

The ranges are wider than any observed record: they distinguish kelvin from degrees Celsius, pascal from hectopascal and
values from fill values, and do not judge the weather.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.sphere.weather_layout import LEVEL, VARIABLES

#: Lowest and highest plausible value in the units of WeatherBench 2; packing causes small negative amounts.
RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (90.0, 400.0), "geopotential": (-2e4, 1.5e6), "u_component_of_wind": (-300.0, 300.0),
    "v_component_of_wind": (-300.0, 300.0), "vertical_velocity": (-200.0, 200.0), "specific_humidity": (-0.01, 0.1),
    "vorticity": (-0.1, 0.1), "divergence": (-0.1, 0.1), "2m_temperature": (150.0, 350.0),
    "10m_u_component_of_wind": (-150.0, 150.0), "10m_v_component_of_wind": (-150.0, 150.0),
    "mean_sea_level_pressure": (8e4, 1.15e5), "surface_pressure": (2e4, 1.15e5),
    "sea_surface_temperature": (200.0, 330.0), "total_precipitation": (-1e-3, 1.0),
    "total_precipitation_6hr": (-1e-3, 3.0), "total_precipitation_24hr": (-1e-3, 5.0),
    "geopotential_at_surface": (-2e4, 1e5), "land_sea_mask": (-0.01, 1.01),
}  # fmt: skip
GRAVITY = 9.80665


def refuse_implausible(
    values: Float[np.ndarray, "*dims"],
    name: str,
    dims: Sequence[str],
    labels: Mapping[str, Sequence[object]],
    where: str,
) -> None:
    """Refuse values outside the plausible range; missing values (NaN) pass.

    Args:
        values: values in the units of WeatherBench 2.
        name: name of the variable.
        dims: dims of the values.
        labels: dim -> its coordinate values, for errors.
        where: name of the source, for errors.

    Raises:
        InputError: names the first such value, its time and place, and its likely cause.
    """
    low, high = RANGES.get(name, (-np.inf, np.inf))
    # NaN compares as false on both sides.
    wrong = (values < low) | (values > high)
    if not wrong.any():
        return
    index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    value, unit = float(values[index]), VARIABLES[name].units
    place = ", ".join(
        f"{dim} {_shown(labels[dim][int(i)])}" for dim, i in zip(dims, index, strict=True) if dim in labels
    )
    raise InputError(
        f"{name} is {value:g} {unit} at {place}, outside {low:g} to {high:g} {unit}; so are "
        f"{int(wrong.sum()):,} of {values.size:,} values read with it",
        where=where,
        remedy=_advice(value, name, unit),
    )


def odd_heights(state: xr.Dataset) -> list[str]:
    """Warnings about levels whose geopotential is far from the standard atmosphere, one sentence each.

    The height of a pressure p in the ICAO standard atmosphere is 44,331 m (1 - (p / 1013.25 hPa)^0.1903) up to 11 km,
    and 11,000 m + 6,342 m ln(226.3 hPa / p) above it. This reveals heights in metres that are named geopotential.

    Args:
        state: `geopotential` (level, latitude, longitude) in m2 s-2, levels in hPa.
    """
    sentences = []
    for level in state[LEVEL].values.tolist():
        values = state["geopotential"].sel({LEVEL: level}).values
        if not np.isfinite(values).any():
            continue
        height = float(np.nanmean(values, dtype=np.float64)) / GRAVITY
        troposphere = 44_331 * (1 - (level / 1013.25) ** 0.1903)
        standard = troposphere if level > 226.3 else 11_000 + 6_342 * float(np.log(226.3 / level))
        if abs(height - standard) > 3_000 + 0.25 * standard:
            sentences.append(
                f"geopotential at {level:g} hPa was taken as it is, though it is a height of {height:,.0f} m in the "
                f"mean where some {standard:,.0f} m are usual: is it geopotential height?"
            )
    return sentences


def _advice(value: float, name: str, unit: str) -> str:
    low, high = RANGES[name]
    if abs(value) > 1e15 or value in (-9999.0, -999.0, -99.0, -32767.0, -32768.0, 9999.0, 99999.0):
        return (
            "If it stands for a missing value, declare it as the attribute _FillValue or missing_value of the variable"
        )
    if unit == "K" and low <= value + 273.15 <= high:
        return "If these are degrees Celsius, set its attribute units to degC"
    if unit == "Pa" and low <= value * 100 <= high:
        return "If these are hPa, set its attribute units to hPa"
    if unit == "m" and low <= value / 1000 <= high:
        return "If these are mm, set its attribute units to mm"
    return "Check its units and its missing values"


def _shown(label: object) -> str:
    if isinstance(label, np.datetime64):
        return str(label.astype("datetime64[m]"))
    return f"{label:g}" if isinstance(label, int | float | np.number) else str(label)
