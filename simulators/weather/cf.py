"""What files call their variables and coordinates, brought to the names, units and order of WeatherBench 2.

Only views are made here, so that a store of terabytes stays unread; `converted` changes units of what has been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.errors import InputError
from data.weather import LATITUDE, LEVEL, LONGITUDE, TIME, VARIABLES, WeatherGrid, same_units

#: Names of dims that files use.
DIMS: Mapping[str, str] = {
    "lat": LATITUDE, "lon": LONGITUDE, "isobaricInhPa": LEVEL, "pressure_level": LEVEL, "plev": LEVEL, "lev": LEVEL,
    "valid_time": TIME,
}  # fmt: skip
KNOWN = (TIME, LEVEL, LATITUDE, LONGITUDE)
#: What does not change with time.
STATIC = ("geopotential_at_surface", "land_sea_mask")
#: Short names of ECMWF, on levels and at the surface.
ON_LEVELS: Mapping[str, str] = {
    "t": "temperature", "z": "geopotential", "u": "u_component_of_wind", "v": "v_component_of_wind",
    "w": "vertical_velocity", "q": "specific_humidity", "vo": "vorticity", "d": "divergence",
}  # fmt: skip
AT_SURFACE: Mapping[str, str] = {
    "t2m": "2m_temperature", "2t": "2m_temperature", "u10": "10m_u_component_of_wind", "msl": "mean_sea_level_pressure",
    "10u": "10m_u_component_of_wind", "v10": "10m_v_component_of_wind", "10v": "10m_v_component_of_wind",
    "sp": "surface_pressure", "sst": "sea_surface_temperature", "z": "geopotential_at_surface", "lsm": "land_sea_mask",
    "tp": "total_precipitation",
}  # fmt: skip
#: (units of the file, ours) to the factor and offset that bring one to the other.
CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("degc", "K"): (1.0, 273.15), ("celsius", "K"): (1.0, 273.15), ("c", "K"): (1.0, 273.15),
    ("hpa", "Pa"): (100.0, 0.0), ("mbar", "Pa"): (100.0, 0.0), ("kpa", "Pa"): (1000.0, 0.0),
    ("gpm", "m2 s-2"): (9.80665, 0.0), ("m", "m2 s-2"): (9.80665, 0.0),
    ("mm", "m"): (1e-3, 0.0), ("g kg-1", "kg kg-1"): (1e-3, 0.0), ("%", "1"): (1e-2, 0.0),
}  # fmt: skip


def named(data: xr.Dataset, where: str) -> xr.Dataset:
    """Variables and dims under their names in WeatherBench 2; variables that are not known stay as they are.

    Other dims of length 1 are taken away; a time, or a level, that a file has but one of becomes a dim.

    Raises:
        InputError: two variables would have one name.
    """
    found = data
    for old, new in DIMS.items():
        if (old in found.dims or (old in found.coords and found[old].ndim == 0)) and new not in found.variables:
            found = found.rename({old: new})
    found = found.squeeze([d for d in found.dims if d not in KNOWN and found.sizes[d] == 1], drop=True)
    if TIME not in found.dims and TIME in found.coords:
        found = found.expand_dims(TIME)
    if LEVEL in found.coords and LEVEL not in found.dims:
        on = [k for k, v in found.data_vars.items() if _on_levels(v)]
        found = found.assign({k: found[k].expand_dims(LEVEL) for k in on}) if on else found.drop_vars(LEVEL)
    known = {str(k): _name(str(k), v) for k, v in found.data_vars.items()}
    names = {k: new for k, new in known.items() if new is not None and new != k}
    values = [*names.values(), *(str(v) for v in found.data_vars if str(v) not in names)]
    twice = sorted({v for v in values if values.count(v) > 1})
    if twice:
        raise InputError(f"two variables would be called {twice[0]}", where=where, remedy="Take one of them out")
    return found.rename(names)


def refuse_lacking_dims(data: xr.Dataset, where: str) -> None:
    """Refuse a Dataset without a time, a latitude or a longitude.

    Raises:
        InputError: names it.
    """
    for dim in (LATITUDE, LONGITUDE, TIME):
        if dim not in data.dims or dim not in data.coords:
            raise InputError(
                f"no coordinate {dim} in it", where=where, remedy=f"It has {', '.join(map(str, data.dims))}"
            )


def _name(name: str, array: xr.DataArray) -> str | None:
    """What WeatherBench 2 calls a variable; None where it does not."""
    if name in VARIABLES:
        return name
    table = ON_LEVELS if LEVEL in array.dims else AT_SURFACE
    found = table.get(str(array.attrs.get("GRIB_shortName", name)), table.get(name))
    if found is None and LEVEL in array.dims and array.attrs.get("standard_name"):
        standard = array.attrs["standard_name"]
        found = next((v.name for v in VARIABLES.values() if v.levels and v.standard_name == standard), None)
    return found


def _on_levels(array: xr.DataArray) -> bool:
    """Whether the one level of a file is that of a variable; "z" is at the surface where GRIB says so."""
    name = str(array.name)
    if array.attrs.get("GRIB_typeOfLevel", "isobaricInhPa") != "isobaricInhPa":
        return False
    return VARIABLES[name].levels if name in VARIABLES else name in ON_LEVELS


def checked_variable(array: xr.DataArray, where: str) -> None:
    """Refuse a variable that is another than its name says, or that has more dims than a state.

    Raises:
        InputError: its standard name is another variable's, or it has a dim that we have not.
    """
    name, standard = str(array.name), str(array.attrs.get("standard_name", ""))
    own = VARIABLES[name].standard_name
    # Files call the geopotential of the surface by the general name.
    others = {v.standard_name for v in VARIABLES.values()} - {own, "", "geopotential", "surface_geopotential"}
    if standard in others:
        raise InputError(
            f"{name} has the standard name {standard}, {own or 'none'} is expected", where=where, remedy="Rename it"
        )
    strange = [str(d) for d in array.dims if d not in KNOWN]
    if strange:
        raise InputError(
            f"{name} has a dim {strange[0]} of {array.sizes[strange[0]]}",
            where=where,
            remedy=f"Choose one with xarray's isel({strange[0]}=0) and save it",
        )


def pressure_levels(data: xr.Dataset, where: str) -> Float[np.ndarray, " level"]:
    """The levels of a Dataset in hPa, which they are taken to be in where nothing else is said.

    Raises:
        InputError: they are in units other than of pressure.
    """
    values, units = np.asarray(data[LEVEL].values, np.float64), str(data[LEVEL].attrs.get("units", "hPa"))
    if same_units(units, "Pa"):
        return values / 100
    if not same_units(units, "hPa"):
        raise InputError(f"its levels are in {units}, hPa is needed", where=where, remedy="Interpolate to pressure")
    return values


def checked_times(data: xr.Dataset, where: str) -> np.ndarray:
    """Times as datetime64[ns], ascending.

    Raises:
        InputError: the calendar has other days than ours, or times are missing, unsorted or given twice.
    """
    times = data[TIME].values
    if times.dtype == object:
        calendar = str(data[TIME].dt.calendar)
        if calendar == "360_day":
            raise InputError(
                "the calendar 360_day has days that ours has not", where=where, remedy="Convert it with xarray"
            )
        times = np.array([np.datetime64(t.isoformat(), "ns") for t in times])
    if not np.issubdtype(times.dtype, np.datetime64):
        raise InputError("its times are no dates", where=where, remedy="Give units such as `hours since 1900-01-01`")
    times = times.astype("datetime64[ns]")
    if np.isnat(times).any():
        raise InputError(f"time number {int(np.argmax(np.isnat(times)))} is missing", where=where, remedy="Take it out")
    steps = np.diff(times)
    zero = np.timedelta64(0, "ns")
    for bad, what in ((steps == zero, "is given twice"), (steps < zero, "comes after a later one")):
        if bad.any():
            shown = times[int(np.argmax(bad)) + 1].astype("datetime64[s]")
            raise InputError(f"the time {shown} {what}", where=where, remedy="Sort its times, each once")
    return times


def ordered_grid(
    data: xr.Dataset, where: str, region: Sequence[float] | None = None
) -> tuple[WeatherGrid, Int[np.ndarray, " latitude"], Int[np.ndarray, " longitude"]]:
    """The grid in our order, and where its rows and columns lie in the file.

    Latitudes ascend. Longitudes ascend from 0 where they close a circle; else they begin after the gap between the
    easternmost and the westernmost, which may be below 0.

    Args:
        data: has the coordinates.
        where: it comes from.
        region: south, north, west and east, degrees; west may exceed east, across the meridian of Greenwich.

    Raises:
        InputError: coordinates are no numbers in range, or the region holds fewer than two of them.
    """
    latitude, longitude = (np.asarray(data[d].values, np.float64) for d in (LATITUDE, LONGITUDE))
    for name, values, limit in ((LATITUDE, latitude, 90.0), (LONGITUDE, longitude, 360.0)):
        if not np.isfinite(values).all() or np.abs(values).max() > limit + 1e-3:
            raise InputError(f"{name} is not within {-limit:g} and {limit:g}", where=where, remedy="Give degrees")
        if len(np.unique(values)) != len(values):
            raise InputError(f"a {name} is given twice", where=where, remedy="Take one out")
    rows = np.argsort(latitude, kind="stable")
    turned = longitude % 360.0
    columns = np.argsort(turned, kind="stable")
    if region is not None:
        south, north, west, east = (float(v) for v in region)
        rows = rows[(latitude[rows] >= south - 1e-6) & (latitude[rows] <= north + 1e-6)]
        width = (east - west) % 360.0 or 360.0
        columns = columns[(turned[columns] - west) % 360.0 <= width + 1e-6]
        if len(rows) < 2 or len(columns) < 2:
            raise InputError(
                "fewer than two latitudes or longitudes lie in it", where="source.region", remedy="Enlarge it"
            )
    values = turned[columns]
    gaps = np.append(np.diff(values), values[0] + 360 - values[-1])
    if gaps.max() > 1.5 * np.median(gaps):
        first = (int(np.argmax(gaps)) + 1) % len(values)
        columns, values = np.roll(columns, -first), np.roll(values, -first)
        values = np.where(values < values[0], values + 360.0, values)
        if values[-1] >= 360.0 or (values[0] >= 180.0 and values[-1] > 180.0 and values[0] > 180.0):
            values = values - 360.0
    try:
        grid = WeatherGrid(tuple(latitude[rows].tolist()), tuple(np.round(values, 6).tolist()))
    except ValueError as error:
        raise InputError(str(error), where=where, remedy="Regrid it before") from error
    return grid, rows, columns


def converted(values: Float[np.ndarray, ...], name: str, units: str | None, where: str) -> Float[np.ndarray, ...]:
    """Values in the units of WeatherBench 2.

    Raises:
        InputError: they are in units from which there is no way.
    """
    wanted = VARIABLES[name].units
    if units is None:
        raise InputError(f"{name} has no attribute units", where=where, remedy=f"Say which; {wanted} is needed")
    if same_units(units, wanted):
        return values
    factor = CONVERSIONS.get((" ".join(units.replace("**", "").lower().split()), wanted))
    if factor is None:
        raise InputError(f"{name} is in {units}, {wanted} is needed", where=where, remedy="Convert it")
    return values * np.float32(factor[0]) + np.float32(factor[1])
