"""Variables and coordinates of files, converted to the names, units and axis order of WeatherBench 2.

Nothing is read here, so that a store of terabytes can be opened; `convert_units` converts values that have been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.errors import InputError
from data.sphere.names import AT_SURFACE, DIMS, ON_LEVELS
from data.sphere.units import conversion, is_rate, same_units
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME, VARIABLES, WeatherGrid

STATE_DIMS = (TIME, LEVEL, LATITUDE, LONGITUDE)
#: Variables that do not change with time.
STATIC = ("geopotential_at_surface", "land_sea_mask")
#: Pressure levels of ERA5, hPa.
ERA5_LEVELS = (
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700,
    750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000,
)  # fmt: skip


#: Longitudes count as evenly spaced if rounding moved them by at most this fraction of the spacing.
ROUNDED = 0.02


def rename_to_weatherbench(data: xr.Dataset, where: str, chosen: Mapping[str, str] | None = None) -> xr.Dataset:
    """Rename variables and dims to those of WeatherBench 2; unknown variables keep their names.

    Other dims of length 1 are removed; a scalar time or level becomes a dim of length 1.

    Args:
        data: Dataset of a file.
        where: name of the file, for errors.
        chosen: name of a variable or dim of the file -> its name, whatever the tables say; others are left out.

    Raises:
        InputError: two variables would have one name.
    """
    dataset = data
    fixed = {k: v for k, v in (chosen or {}).items() if k in data.variables or k in data.dims}
    if taken := [v for k, v in fixed.items() if v != k and v in data.variables and v not in fixed]:
        raise InputError(
            f"two variables would be called {taken[0]}", where=where, remedy="Give the other one a name in source.names"
        )
    dataset = dataset.rename({k: v for k, v in fixed.items() if k != v})
    capitals = {
        str(d): str(d).lower() for d in dataset.dims if str(d).lower() in STATE_DIMS and str(d) not in STATE_DIMS
    }
    dataset = dataset.rename({old: new for old, new in capitals.items() if new not in dataset.variables})
    for old, new in DIMS.items():
        if (old in dataset.dims or (old in dataset.coords and dataset[old].ndim == 0)) and new not in dataset.variables:
            dataset = dataset.rename({old: new})
    dataset = levels_in_hpa(dataset)
    dataset = dataset.squeeze([d for d in dataset.dims if d not in STATE_DIMS and dataset.sizes[d] == 1], drop=True)
    if TIME not in dataset.dims and TIME in dataset.coords:
        dataset = dataset.expand_dims(TIME)
    if LEVEL in dataset.coords and LEVEL not in dataset.dims:
        on = [k for k, v in dataset.data_vars.items() if _on_levels(v)]
        dataset = dataset.assign({k: dataset[k].expand_dims(LEVEL) for k in on}) if on else dataset.drop_vars(LEVEL)
    standard_names = {str(k): _name(str(k), v) for k, v in dataset.data_vars.items() if k not in fixed.values()}
    names = {k: new for k, new in standard_names.items() if new is not None and new != k}
    values = [*names.values(), *(str(v) for v in dataset.data_vars if str(v) not in names)]
    twice = sorted({v for v in values if values.count(v) > 1})
    if twice:
        raise InputError(f"two variables would be called {twice[0]}", where=where, remedy="Take one of them out")
    return dataset.rename(names)


def refuse_lacking_dims(data: xr.Dataset, where: str) -> None:
    """Refuse a Dataset without a time, a latitude or a longitude.

    Raises:
        InputError: names it.
    """
    for dim in (LATITUDE, LONGITUDE, TIME):
        if dim not in data.dims:
            raise InputError(
                f"no coordinate {dim} in it", where=where, remedy=f"It has {', '.join(map(str, data.dims))}"
            )
        if dim not in data.coords:
            raise InputError(f"its dim {dim} has no values", where=where, remedy=f"Give it a coordinate {dim}")
        if data.sizes[dim] == 0:
            raise InputError(
                f"no {dim} in it: its dim has length 0", where=where, remedy="Give a file that holds states"
            )


def _name(name: str, array: xr.DataArray) -> str | None:
    """The name of a variable in WeatherBench 2, or None if it has none."""
    if name in VARIABLES:
        return name
    if name == "z" and not _is_orography(array):
        return ON_LEVELS[name] if LEVEL in array.dims else None
    table = ON_LEVELS if LEVEL in array.dims else AT_SURFACE
    standard_name = table.get(str(array.attrs.get("GRIB_shortName", name)), table.get(name))
    if standard_name is None and LEVEL in array.dims and array.attrs.get("standard_name"):
        standard = array.attrs["standard_name"]
        standard_name = next((v.name for v in VARIABLES.values() if v.levels and v.standard_name == standard), None)
    return standard_name


def _is_orography(array: xr.DataArray) -> bool:
    """Whether a "z" is certainly the geopotential of the surface, by its attributes or because it has no time."""
    if LEVEL in array.dims:
        return False
    surface = array.attrs.get("GRIB_typeOfLevel") == "surface" or array.attrs.get("standard_name") in (
        "surface_geopotential",
        "surface_altitude",
    )
    return surface or array.sizes.get(TIME, 1) == 1


def levels_in_hpa(data: xr.Dataset) -> xr.Dataset:
    """Convert levels whose attribute `units` is a unit of pressure to hPa; leave others unchanged."""
    if LEVEL not in data.coords or "units" not in data[LEVEL].attrs:
        return data
    pair = conversion(str(data[LEVEL].attrs["units"]), "hPa")
    if pair is None or pair == (1.0, 0.0):
        return data
    values = np.round(np.asarray(data[LEVEL].values, np.float64) * pair[0] + pair[1], 6)
    return data.assign_coords({LEVEL: (data[LEVEL].dims, values, data[LEVEL].attrs | {"units": "hPa"})})


def unknown_variables(data: xr.Dataset) -> dict[str, str]:
    """Variables of a Dataset that are not used -> the reason."""
    reasons = {}
    for key, array in data.data_vars.items():
        if str(key) in VARIABLES or not {LATITUDE, LONGITUDE} <= set(array.dims):
            continue
        bare = LEVEL not in array.dims and str(key) in ON_LEVELS
        reasons[str(key)] = (
            "on a level that the file does not name; give it a coordinate `level` with units"
            if bare
            else "no name of WeatherBench 2, ECMWF or CMIP that is known; name it by source.names to use it"
        )
    return reasons


def _on_levels(array: xr.DataArray) -> bool:
    """Whether a file's single level applies to a variable; "z" is at the surface if GRIB says so."""
    name = str(array.name)
    if array.attrs.get("GRIB_typeOfLevel", "isobaricInhPa") != "isobaricInhPa":
        return False
    return VARIABLES[name].levels if name in VARIABLES else name in ON_LEVELS


def check_variable(array: xr.DataArray, where: str) -> None:
    """Refuse a variable whose standard name contradicts its name, or that has more dims than a state.

    Raises:
        InputError: its standard name belongs to another variable, or it has a dim that states do not have.
    """
    name, standard = str(array.name), str(array.attrs.get("standard_name", ""))
    expected = VARIABLES[name].standard_name if name in VARIABLES else standard
    # Files call the geopotential of the surface by the general name.
    others = {v.standard_name for v in VARIABLES.values()} - {expected, "", "geopotential", "surface_geopotential"}
    if standard in others:
        raise InputError(
            f"{name} has the standard name {standard}, {expected or 'none'} is expected",
            where=where,
            remedy="Rename it",
        )
    strange = [str(d) for d in array.dims if d not in STATE_DIMS]
    if strange:
        raise InputError(
            f"{name} has a dim {strange[0]} of {array.sizes[strange[0]]}, but a state has no such dim",
            where=where,
            remedy='Write a file of one of them: python -c "import xarray; '
            f"xarray.open_dataset('{where}').isel({strange[0]}=0).to_netcdf('one.nc')\"",
        )


def pressure_levels(data: xr.Dataset, where: str) -> tuple[Float[np.ndarray, " level"], str | None]:
    """The levels of a Dataset in hPa, and the assumption that was made about their units, if any.

    Levels without units are taken as hPa only if all of them are standard levels of ERA5 and one of them is at least
    50 hPa, which excludes numbers of model levels and pressures in Pa.

    Raises:
        InputError: their units are not units of pressure, or are missing and cannot be inferred.
    """
    values, units = np.asarray(data[LEVEL].values, np.float64), data[LEVEL].attrs.get("units")
    if units is None:
        if np.isin(values, ERA5_LEVELS).all() and values.max() >= 50:
            return values, "levels without units were taken for hPa, because all are standard pressure levels"
        raise InputError(
            f"its levels ({', '.join(f'{v:g}' for v in values[:5])}) have no units",
            where=where,
            remedy="Set the attribute units of the coordinate to hPa or Pa; levels of a model are not supported",
        )
    if not same_units(str(units), "hPa"):
        raise InputError(f"its levels are in {units}, hPa is needed", where=where, remedy="Interpolate to pressure")
    return values, None


def ordered_grid(
    data: xr.Dataset, where: str, region: Sequence[float] | None = None
) -> tuple[WeatherGrid, Int[np.ndarray, " latitude"], Int[np.ndarray, " longitude"]]:
    """The grid in ascending order, and the positions of its rows and columns in the file.

    Latitudes ascend. Longitudes ascend from 0 if they cover the whole circle; else they begin after the largest gap
    between neighbouring longitudes, possibly below 0.

    Args:
        data: Dataset with the coordinates latitude and longitude, degrees.
        where: name of the source, for errors.
        region: south, north, west and east, degrees; a region across the prime meridian has west above east.

    Raises:
        InputError: coordinates are out of range or not in degrees, or the region holds fewer than two latitudes or
            longitudes.
    """
    for name in (LATITUDE, LONGITUDE):
        units = str(data[name].attrs.get("units", "")).strip()
        if units not in ("", "1") and not units.lower().startswith(("deg", "\N{DEGREE SIGN}")):
            raise InputError(
                f"{name} is in {units}, degrees are needed", where=where,
                remedy="Convert it, or correct its attribute units",
            )  # fmt: skip
    latitude, longitude = (np.asarray(data[d].values, np.float64) for d in (LATITUDE, LONGITUDE))
    for name, values, limit in ((LATITUDE, latitude, 90.0), (LONGITUDE, longitude, 360.0)):
        if not np.isfinite(values).all() or np.abs(values).max() > limit + 1e-3:
            raise InputError(f"{name} is not within {-limit:g} and {limit:g}", where=where, remedy="Give degrees")
        if len(np.unique(values)) != len(values):
            raise InputError(f"a {name} is given twice", where=where, remedy="Take one out")
    rows = np.argsort(latitude, kind="stable")
    turned = np.where(np.abs(longitude % 360.0 - 360.0) < 1e-4, 0.0, longitude % 360.0)
    columns = np.argsort(turned, kind="stable")
    # Some files repeat the first meridian at the end, as 0 and 360 or as -180 and 180.
    again = np.append(False, np.diff(turned[columns]) < 1e-4)
    columns = columns[~again]
    if region is not None:
        south, north, west, east = (float(v) for v in region)
        if south > north:
            raise InputError(
                f"from {south:g} in the south to {north:g} in the north",
                where="source.region",
                remedy="Give south, north, west, east, in this order"
                + (f": [{west:g},{south:g},{north:g},{east:g}]" if abs(west) <= 90 and west <= south else ""),
            )
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
    even = np.linspace(values[0], values[-1], len(values))
    if len(values) > 2 and 0 < np.abs(values - even).max() <= ROUNDED * (even[1] - even[0]):
        values = even
    try:
        grid = WeatherGrid(tuple(latitude[rows].tolist()), tuple(np.round(values, 6).tolist()))
    except ValueError as error:
        raise InputError(str(error), where=where, remedy="Regrid it first") from error
    return grid, rows, columns


def beyond_source(data: xr.Dataset, region: Sequence[float], grid: WeatherGrid) -> list[str]:
    """A warning if a region extends beyond the points of the source by more than their spacing; else an empty list.

    Args:
        data: the source.
        region: south, north, west and east, degrees; empty for the whole source.
        grid: the part of the source's grid that lies in the region.
    """
    if not region:
        return []
    south, north, west, east = (float(v) for v in region)
    latitude, longitude = np.asarray(data[LATITUDE].values, np.float64), grid.longitude
    apart, step = max(np.diff(grid.latitude)), longitude[1] - longitude[0]
    sides = {
        "south": latitude.min() - south > 1.01 * apart,
        "north": north - latitude.max() > 1.01 * apart,
        "west": not grid.periodic and (longitude[0] - west) % 360.0 > 1.01 * step,
        "east": not grid.periodic and (east - longitude[-1]) % 360.0 > 1.01 * step,
    }
    beyond = [side for side, reaches in sides.items() if reaches]
    return [f"source.region extends beyond the points of the source to the {', '.join(beyond)}"] if beyond else []


def convert_units(
    values: Float[np.ndarray, "*shape"], name: str, units: str | None, where: str
) -> Float[np.ndarray, "*shape"]:
    """Convert values to the units of WeatherBench 2.

    Raises:
        InputError: their units are missing or cannot be converted.
    """
    factor, offset = conversion_of(name, units, where)
    return values if (factor, offset) == (1.0, 0.0) else values * np.float32(factor) + np.float32(offset)


def conversion_of(name: str, units: str | None, where: str) -> tuple[float, float]:
    """The factor and the offset that convert a variable to the units of WeatherBench 2.

    Raises:
        InputError: its units are missing or cannot be converted.
    """
    needed = VARIABLES[name].units
    if units is None:
        raise InputError(f"{name} has no attribute units", where=where, remedy=f"Say which; {needed} is needed")
    pair = conversion(units, needed)
    if pair is None:
        rate = VARIABLES[name].accumulated and is_rate(units)
        remedy = "It is a rate: multiply it by the time that it is of" if rate else "Convert it"
        raise InputError(f"{name} is in {units}, {needed} is needed", where=where, remedy=remedy)
    return pair


def declared_units(data: xr.Dataset, units: Mapping[str, str], declared_names: Sequence[str], where: str) -> xr.Dataset:
    """A Dataset in which variables have the units that the user declares, where the file states none.

    Args:
        data: Dataset with the names of WeatherBench 2.
        units: name of a variable -> its units.
        declared_names: variables that are not in WeatherBench 2, whose values are converted to the declared units
            later.
        where: name of the source, for errors.

    Raises:
        InputError: a variable is missing, or its file states other units.
    """
    for name, declared in units.items():
        if name not in data.data_vars:
            raise InputError(
                f"no variable {name} in it, which source.units names", where=where,
                remedy=f"It has {', '.join(map(str, data.data_vars))}",
            )  # fmt: skip
        stated = data[name].attrs.get("units")
        if stated is None:
            data = data.assign({name: data[name].assign_attrs(units=declared)})
        elif not same_units(str(stated), declared) and name not in declared_names:
            raise InputError(
                f"{name} is in {stated} by its file and in {declared} by source.units", where=where,
                remedy="Leave it out of source.units, or correct the file",
            )  # fmt: skip
    return data


def convert_own(
    values: Float[np.ndarray, "*shape"], name: str, stated: str, needed: str, where: str
) -> Float[np.ndarray, "*shape"]:
    """Values of a variable of the user's own in the units that are needed.

    Raises:
        InputError: there is no conversion that is certain.
    """
    pair = conversion(stated, needed)
    if pair is None:
        raise InputError(f"{name} is in {stated}, {needed} is needed", where=where, remedy="Convert it")
    return values if pair == (1.0, 0.0) else values * np.float32(pair[0]) + np.float32(pair[1])
