"""Forecasts as GRIB 2, by ecCodes: a message for each forecast, member, lead, variable and level.

Messages have ECMWF's short names. Values are packed in 24 bits, which rounds them by less than a ten millionth of the
range of a field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.files import atomic_path
from data.spec import SimulationError
from data.sphere.weather_layout import LEAD, LEVEL, PRESSURE_UNITS, TIME, WeatherGrid
from experiments.prediction.array_output import AnswerStore
from simulators.atmosphere.reanalysis.joining import INSTALL
from surrogates.forecasts.surrogate import MEMBER

if TYPE_CHECKING:
    from surrogates.forecasts.surrogate import ForecastSurrogate

SUFFIXES = (".grib", ".grb", ".grib2", ".grb2")
#: Short names of ECMWF.
SHORT_NAMES: Mapping[str, str] = {
    "temperature": "t", "geopotential": "z", "u_component_of_wind": "u", "v_component_of_wind": "v",
    "vertical_velocity": "w", "specific_humidity": "q", "vorticity": "vo", "divergence": "d", "2m_temperature": "2t",
    "10m_u_component_of_wind": "10u", "10m_v_component_of_wind": "10v", "mean_sea_level_pressure": "msl",
    "surface_pressure": "sp",
}  # fmt: skip
BITS = 24
#: Largest departure of a latitude from even spacing, in spacings.
EVEN = 1e-3


def refuse_without_grib(surrogate: ForecastSurrogate, names: Sequence[str]) -> None:
    """Refuse forecasts that have no message of GRIB.

    Args:
        surrogate: the forecaster.
        names: variables that it forecasts.

    Raises:
        InputError: a variable has no short name, levels are no pressures, the grid is no regular one, or steps
            are no whole hours.
        SimulationError: `missing_component`: ecCodes is not installed.
    """
    layout, remedy = surrogate.layout, "Write .nc or .zarr"
    try:
        import eccodes  # type: ignore[import-untyped]  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise SimulationError("missing_component", f"GRIB needs ecCodes. {INSTALL}") from error
    problem = ""
    if strange := [name for name in names if name not in SHORT_NAMES]:
        problem = f"{strange[0]} has no message of GRIB here"
    elif any(map(layout.levels, names)) and layout.level_units != PRESSURE_UNITS:
        problem = "its levels are no pressures"
    elif abs(layout.step_hours - round(layout.step_hours)) > 1e-9:
        problem = f"its steps of {layout.step_hours:g} h are no whole hours"
    else:
        spacing = np.diff(layout.grid.latitude)
        if np.abs(spacing - spacing.mean()).max() > EVEN * spacing.mean():
            problem = "its latitudes are unevenly spaced"
    if problem:
        raise InputError(problem, where="out", remedy=remedy)


def write_grib(store: AnswerStore, out: Path, surrogate: ForecastSurrogate) -> None:
    """Write finished forecasts; those that are not finite are left out.

    Args:
        store: the forecasts.
        out: path of the file.
        surrogate: the forecaster.
    """
    import eccodes

    arrays = {a.name: a for a in store.arrays}
    starts, leads = (np.asarray(arrays[name].values) for name in (TIME, LEAD))
    members = 1 if MEMBER not in arrays else arrays[MEMBER].shape[0]
    names = [a.name for a in store.arrays if a.values is None and a.dtype == "float32"]
    levels = [] if LEVEL not in arrays else np.asarray(arrays[LEVEL].values).tolist()
    with atomic_path(out) as temporary, open(temporary, "wb") as file:
        for number, fields in enumerate(_by_start(store, names)):
            moment = np.datetime64(int(starts[number]), "s")
            for name, values in fields.items():
                of_name = surrogate.layout.levels(name)
                for index in np.ndindex(members, len(leads), max(1, len(of_name))):
                    member, lead, k = index
                    field = values if members > 1 else values[None]
                    level = of_name[k] if of_name else None
                    field = field[member, lead] if level is None else field[member, lead, levels.index(level)]
                    if not np.isfinite(field).all():
                        continue
                    date, clock = str(moment)[:10].replace("-", ""), str(moment)[11:16].replace(":", "")
                    keys: dict[str, Any] = {
                        "dataDate": int(date), "dataTime": int(clock),
                        "stepUnits": 1, "endStep": int(leads[lead]) // 3600, "shortName": SHORT_NAMES[name],
                    }  # fmt: skip
                    if level is not None:
                        keys |= {"typeOfLevel": "isobaricInhPa", "level": round(level)}
                    if members > 1:
                        keys = {"productDefinitionTemplateNumber": 1, "perturbationNumber": member,
                                "numberOfForecastsInEnsemble": members} | keys  # fmt: skip
                    _put(eccodes, file, surrogate.layout.grid, keys, field)


def _by_start(store: AnswerStore, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """The fields of each forecast by name, one forecast in memory at a time."""
    chosen = [next(a for a in store.arrays if a.name == name) for name in names]
    for blocks in zip(*(store.blocks(a) for a in chosen), strict=True):
        for row in range(len(blocks[0])):
            yield {a.name: block[row] for a, block in zip(chosen, blocks, strict=True)}


def _put(
    eccodes: Any, file: Any, grid: WeatherGrid, keys: Mapping[str, Any], field: Float[np.ndarray, "latitude longitude"]
) -> None:
    """Append one message; GRIB has latitudes from north to south."""
    message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2" if "level" in keys else "regular_ll_sfc_grib2")
    try:
        rows, columns = grid.shape
        south, north, west, east = grid.latitude[0], grid.latitude[-1], grid.longitude[0], grid.longitude[-1]
        place = {
            "Ni": columns, "Nj": rows, "latitudeOfFirstGridPointInDegrees": north,
            "latitudeOfLastGridPointInDegrees": south, "longitudeOfFirstGridPointInDegrees": west % 360,
            "longitudeOfLastGridPointInDegrees": east % 360,
            "iDirectionIncrementInDegrees": (east - west) / (columns - 1),
            "jDirectionIncrementInDegrees": (north - south) / (rows - 1), "bitsPerValue": BITS,
        }  # fmt: skip
        for key, value in {**place, **keys}.items():
            eccodes.codes_set(message, key, value)
        eccodes.codes_set_values(message, np.asarray(field[::-1], np.float64).ravel())
        eccodes.codes_write(message, file)
    finally:
        eccodes.codes_release(message)
