"""Conservative and bilinear regridding between latitude-longitude grids.

In the first-order conservative method (Jones 1999, Mon. Wea. Rev. 127, 2204) the value of a cell is the mean over the
cells that it overlaps, weighted by the shared area. On such grids this area is a product of an interval of
sin(latitude) and one of longitude, so that both methods are two small matrices, one per dim.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.sphere.weather_layout import LATITUDE, LONGITUDE, WeatherGrid

METHODS = ("conservative", "bilinear")


def global_grid(latitudes: int, longitudes: int, poles: bool = False) -> WeatherGrid:
    """A regular grid of the whole sphere; with `poles` the first and last latitude are the poles."""
    between = -90 + (np.arange(latitudes) + 0.5) * 180 / latitudes
    latitude = np.linspace(-90, 90, latitudes) if poles else between
    return WeatherGrid(tuple(latitude.tolist()), tuple((np.arange(longitudes) * 360 / longitudes).tolist()))


def edges(grid: WeatherGrid) -> tuple[Float[np.ndarray, " latitude_edge"], Float[np.ndarray, " longitude_edge"]]:
    """Edges of the cells, degrees: midway between points; the outer latitudes of a global grid are the poles."""
    latitude, longitude = (np.asarray(v, np.float64) for v in (grid.latitude, grid.longitude))
    middle = (latitude[1:] + latitude[:-1]) / 2
    first, last = 2 * latitude[0] - middle[0], 2 * latitude[-1] - middle[-1]
    if grid.is_global:
        first, last = -90.0, 90.0
    step = longitude[1] - longitude[0]
    return np.clip([first, *middle, last], -90, 90), np.append(longitude, longitude[-1] + step) - step / 2


def weights(
    source: WeatherGrid, target: WeatherGrid, method: str = "conservative"
) -> tuple[Float[np.ndarray, "to_lat from_lat"], Float[np.ndarray, "to_lon from_lon"]]:
    """The weight matrices of latitude and of longitude; each row sums to 1.

    Raises:
        InputError: the method is unknown, or the target extends beyond the source.
    """
    if method not in METHODS:
        raise InputError(f"no method {method!r}", where="source.regrid", remedy=f"There are {', '.join(METHODS)}")
    if method == "bilinear":
        rows = _linear(np.asarray(source.latitude), np.asarray(target.latitude), None, clamp=source.is_global)
        return rows, _linear(
            np.asarray(source.longitude), np.asarray(target.longitude), 360.0 if source.periodic else None, clamp=False
        )
    (lat_from, lon_from), (lat_to, lon_to) = edges(source), edges(target)
    rows = _overlap(np.sin(np.deg2rad(lat_from)), np.sin(np.deg2rad(lat_to)), None)
    columns = _overlap(lon_from, lon_to, 360.0 if source.periodic else None)
    for name, matrix in (("latitude", rows), ("longitude", columns)):
        if not (matrix.sum(axis=1) > 1 - 1e-6).all():
            raise InputError(
                f"the new grid reaches beyond the {name}s of the source", where="source.grid", remedy="Make it smaller"
            )
    return rows / rows.sum(axis=1, keepdims=True), columns / columns.sum(axis=1, keepdims=True)


def regrid(
    data: xr.Dataset,
    source: WeatherGrid,
    target: WeatherGrid,
    method: str = "conservative",
    partial: Collection[str] = (),
) -> xr.Dataset:
    """Regrid a Dataset; variables without a latitude and a longitude are unchanged.

    Args:
        data: Dataset on the source grid.
        source: grid of `data`.
        target: grid of the result.
        method: "conservative" or "bilinear".
        partial: variables for which a new cell is the mean of the values that are present, and missing only if there
            are none; for all others a new cell is missing if any of its source cells is.
    """
    rows, columns = weights(source, target, method)
    variables = {}
    for name, array in data.data_vars.items():
        if LATITUDE not in array.dims or LONGITUDE not in array.dims:
            variables[name] = array
            continue
        lead = [d for d in array.dims if d not in (LATITUDE, LONGITUDE)]
        values = array.transpose(*lead, LATITUDE, LONGITUDE).values
        regridded = _applied(rows, values.astype(np.float64), columns, partial=name in partial)
        coords = {k: v for k, v in array.coords.items() if k in lead}
        variables[name] = xr.DataArray(
            regridded.astype(values.dtype), coords, (*lead, LATITUDE, LONGITUDE), attrs=array.attrs
        )
    return xr.Dataset(variables, attrs=data.attrs).assign_coords(
        {
            LATITUDE: (LATITUDE, list(target.latitude), {"units": "degrees_north", "standard_name": "latitude"}),
            LONGITUDE: (LONGITUDE, list(target.longitude), {"units": "degrees_east", "standard_name": "longitude"}),
        }
    )


def _applied(
    rows: Float[np.ndarray, "to_lat from_lat"], values: Float[np.ndarray, "*lead from_lat from_lon"],
    columns: Float[np.ndarray, "to_lon from_lon"], *, partial: bool,
) -> Float[np.ndarray, "*lead to_lat to_lon"]:  # fmt: skip
    """Weighted means; a missing value (NaN) affects only the new cells in which it has a weight."""
    missing = np.isnan(values)
    if not missing.any():
        return np.asarray(rows @ values @ columns.T)
    total = rows @ np.where(missing, 0.0, values) @ columns.T
    share = rows @ (~missing).astype(np.float64) @ columns.T
    # Weights sum to 1 up to rounding errors.
    least = 1e-9 if partial else 1 - 1e-9
    return np.where(share > least, total / np.maximum(share, 1e-9), np.nan)


def _overlap(old: np.ndarray, new: np.ndarray, period: float | None) -> np.ndarray:
    """Fraction of each new cell that lies in each old cell, from the edges of the cells."""
    total = np.zeros((len(new) - 1, len(old) - 1))
    for shift in (0.0,) if period is None else (-2 * period, -period, 0.0, period, 2 * period):
        low = np.maximum(new[:-1, None], old[None, :-1] + shift)
        high = np.minimum(new[1:, None], old[None, 1:] + shift)
        total += np.maximum(high - low, 0.0)
    return total / np.diff(new)[:, None]


def _linear(old: np.ndarray, new: np.ndarray, period: float | None, *, clamp: bool) -> np.ndarray:
    """Weights of linear interpolation at new points; with `clamp`, values beyond the ends are those at the ends.

    Raises:
        InputError: without `clamp`, a point lies beyond the ends.
    """
    where = np.arange(len(old))
    if period is not None:
        new = (new - old[0]) % period + old[0]
        old, where = np.append(old, old[0] + period), np.append(where, 0)
    if not clamp and (new.min() < old[0] - 1e-6 or new.max() > old[-1] + 1e-6):
        raise InputError(
            "the new grid reaches beyond the points of the source", where="source.grid", remedy="Make it smaller"
        )
    inside = np.clip(new, old[0], old[-1])
    left = np.clip(np.searchsorted(old, inside, side="right") - 1, 0, len(old) - 2)
    share = (inside - old[left]) / (old[left + 1] - old[left])
    matrix = np.zeros((len(new), int(where.max()) + 1))
    np.add.at(matrix, (np.arange(len(new)), where[left]), 1 - share)
    np.add.at(matrix, (np.arange(len(new)), where[left + 1]), share)
    return matrix
