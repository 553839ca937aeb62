"""Joins several files to one Dataset, along time, by variable and by level.

Each file is converted to the units and the grid order of WeatherBench 2 first, because files under one pattern may
differ in these. A file that does not fit is refused by name; states that are left out are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import xarray as xr

from data.errors import InputError
from data.extras import install_command
from data.spec import SimulationError
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME, VARIABLES
from simulators.atmosphere.reanalysis.cf import STATE_DIMS, STATIC, conversion_of

INSTALL = f"Install it with `{install_command('weather')}`"
BLOCK_BYTES = 16 << 20
#: Coordinates of two files count as equal if they differ by at most this fraction of the spacing (rounding).
SAME = 1e-2
#: Values of two files at one time count as equal up to this fraction of their spread; times that are compared at once.
SPREAD, BLOCK_TIMES = 1e-3, 32


@dataclass
class SourceData:
    """A Dataset with a report of how it was opened.

    Attributes:
        data: the Dataset with the names of WeatherBench 2, whose arrays have not been read.
        assumed: assumptions and choices, one sentence each.
        left_out: reason -> number of states that were left out.
        mixed: names of unknown variables whose units differ between files.
        levels: name of a variable that lacks some levels of the Dataset -> the levels that it has, hPa.
    """

    data: xr.Dataset
    assumed: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    levels: dict[str, tuple[float, ...]] = field(default_factory=dict)
    mixed: set[str] = field(default_factory=set)


def join_files(parts: list[tuple[str, xr.Dataset]], where: str) -> SourceData:
    """Join files to one Dataset.

    Args:
        parts: name of each file, and its content with the names of WeatherBench 2.
        where: pattern that the files match, for errors.

    Raises:
        InputError: units, grids or levels do not fit, or a time is in two files with different values.
        SimulationError: `missing_component`: dask, which joins arrays lazily, is not installed.
    """
    result = SourceData(parts[0][1])
    if len(parts) == 1:
        return result
    _refuse_unlike_times(parts)
    parts = [(name, _to_the_minute(_open_circle(part))) for name, part in parts]
    alike: dict[frozenset[str], list[tuple[str, xr.Dataset]]] = {}
    first = parts[0][1]
    mixed, result.mixed = _mixed_units(parts)
    for name, part in parts:
        bare = part.drop_vars([c for c in part.coords if c not in STATE_DIMS])
        if set(bare.data_vars) <= set(STATIC) and bare.sizes.get(TIME) == 1:
            bare = bare.isel({TIME: 0}, drop=True)
        unread = _on_one_grid(_in_our_units(_unread(bare, where), mixed, name, result), first, name)
        alike.setdefault(frozenset(map(str, bare.data_vars)), []).append((name, unread))
    groups = [_along_levels_and_time(group, result) for group in alike.values()]
    groups = _at_common_times(groups, result)
    try:
        result.data = xr.merge(_same_levels(groups, result), join="exact", compat="no_conflicts")
    except ValueError as error:
        # The rest of xarray's message is advice about its own arguments.
        text = str(error).splitlines()[0].split(" You can skip")[0].strip(" .")
        raise InputError(
            f"its files do not fit together: {text}", where=where, remedy="Open them one by one"
        ) from error
    return result


def _refuse_unlike_times(parts: list[tuple[str, xr.Dataset]]) -> None:
    """Refuse files of which only some have dates, or whose calendars differ."""
    kinds: dict[str, str] = {}
    for name, part in parts:
        if TIME not in part.dims:
            kinds.setdefault("no times", name)
        elif TIME not in part.indexes:
            raise InputError(f"its dim {TIME} has no values", where=name, remedy=f"Give it a coordinate {TIME}")
        elif isinstance(part.indexes[TIME], pd.DatetimeIndex):
            kinds.setdefault("dates", name)
        elif isinstance(part.indexes[TIME], xr.CFTimeIndex):
            kinds.setdefault(f"dates of the calendar {part[TIME].dt.calendar}", name)
        else:
            raise InputError("its times are no dates", where=name, remedy="Give units such as `hours since 1900-01-01`")
    fixed = kinds.pop("no times", None)
    if fixed is not None and kinds and not all(set(p.data_vars) <= set(STATIC) for _, p in parts if TIME not in p.dims):
        raise InputError(f"no {TIME} in it, which other files have", where=fixed, remedy="Open them one by one")
    if len(kinds) > 1:
        (one, first), (other, second), *_ = kinds.items()
        raise InputError(f"it has {other}, and {first} has {one}", where=second, remedy="Open them one by one")


def _unread(data: xr.Dataset, where: str) -> xr.Dataset:
    """Turn arrays into dask arrays, which are joined lazily, in the file's chunks or in blocks of some megabytes."""
    chunk_lengths = [
        v.encoding["preferred_chunks"].get(TIME, 1) for v in data.data_vars.values() if "preferred_chunks" in v.encoding
    ]
    each = max(chunk_lengths, default=max(1, BLOCK_BYTES * data.sizes.get(TIME, 1) // max(1, data.nbytes)))
    try:
        return data.chunk({TIME: each} if TIME in data.dims else {})
    except ImportError as error:
        raise SimulationError("missing_component", f"{where} needs dask, to join its files. {INSTALL}") from error


def _open_circle(data: xr.Dataset) -> xr.Dataset:
    """Drop a meridian that is repeated, as 0 and 360 or as -180 and 180."""
    if LONGITUDE not in data.dims or LONGITUDE not in data.coords:
        return data
    turned = np.round(np.asarray(data[LONGITUDE].values, np.float64), 4) % 360.0
    columns = np.sort(np.unique(turned, return_index=True)[1])
    return data if len(columns) == len(turned) else data.isel({LONGITUDE: columns})


def _to_the_minute(data: xr.Dataset) -> xr.Dataset:
    """Round times to minutes if they are at least ten minutes apart: files in days and in hours round differently."""
    if TIME not in data.dims or TIME not in data.indexes or data.sizes[TIME] == 0:
        return data
    index = data.indexes[TIME]
    if not isinstance(index, pd.DatetimeIndex | xr.CFTimeIndex):
        return data
    apart = np.diff(np.asarray(index.values))
    if any(step < timedelta(minutes=10) for step in apart.astype("timedelta64[us]").astype(object)):
        return data
    return data.assign_coords({TIME: index.round("min")})


def _mixed_units(parts: list[tuple[str, xr.Dataset]]) -> tuple[set[str], set[str]]:
    """Names of the known variables whose units differ between files, and of the unknown ones."""
    units: dict[str, set[str | None]] = {}
    for _, part in parts:
        for key, array in part.data_vars.items():
            units.setdefault(str(key), set()).add(array.attrs.get("units"))
    unlike = {name for name, spellings in units.items() if len(spellings) > 1}
    return unlike & {*VARIABLES}, unlike - {*VARIABLES}


def _in_our_units(data: xr.Dataset, mixed: set[str], file: str, result: SourceData) -> xr.Dataset:
    for name in sorted(mixed & set(map(str, data.data_vars))):
        array = data[name]
        factor, offset = conversion_of(name, array.attrs.get("units"), file)
        if (factor, offset) != (1.0, 0.0):
            result.assumed.append(
                f"{name} of {file} was converted from {array.attrs['units']} to {VARIABLES[name].units}"
            )
            array = array.astype(np.float32) * np.float32(factor) + np.float32(offset)
        data = data.assign({name: array.assign_attrs(data[name].attrs | {"units": VARIABLES[name].units})})
    return data


def _on_one_grid(data: xr.Dataset, first: xr.Dataset, file: str) -> xr.Dataset:
    """Reorder a file to the coordinates of the first file if they differ in order or rounding only.

    Raises:
        InputError: the files have different grid points.
    """
    for dim, period in ((LATITUDE, None), (LONGITUDE, 360.0)):
        if dim not in data.dims or dim not in first.dims:
            continue
        reference, points = (np.asarray(d[dim].values, np.float64) for d in (first, data))
        if len(reference) != len(points):
            raise InputError(
                f"{len(points)} {dim}s, the first file has {len(reference)}", where=file, remedy="Regrid it first"
            )
        spacing = np.abs(np.diff(reference)).min() if len(reference) > 1 else 1.0
        away = np.abs(points[None, :] - reference[:, None])
        if period is not None:
            away = np.minimum(away % period, period - away % period)
        order = away.argmin(axis=1)
        if away.min(axis=1).max() > SAME * spacing or len(np.unique(order)) != len(order):
            bad = int(np.argmax(away.min(axis=1)))
            raise InputError(
                f"no {dim} {reference[bad]:g}, which the first file has", where=file, remedy="Regrid it first"
            )
        if (order != np.arange(len(order))).any():
            data = data.isel({dim: order})
        data = data.assign_coords({dim: first[dim].reset_coords(drop=True)})
    return data


def _along_levels_and_time(group: list[tuple[str, xr.Dataset]], result: SourceData) -> xr.Dataset:
    """Join files with the same variables along time and levels."""
    by_level: dict[tuple[float, ...], list[tuple[str, xr.Dataset]]] = {}
    for name, part in group:
        levels = tuple(np.asarray(part[LEVEL].values, float).tolist()) if LEVEL in part.dims else ()
        by_level.setdefault(levels, []).append((name, part))
    parts = [_in_time(files, result) for files in by_level.values()]
    if len(parts) == 1:
        return parts[0]
    parts = _at_common_times(parts, result)
    every = [float(v) for part in parts for v in part[LEVEL].values]
    if len(set(every)) != len(every):
        raise InputError(
            "files share some of their levels and not all", where=group[0][0], remedy="Give each level in one file"
        )
    return xr.concat(parts, LEVEL, data_vars="minimal", coords="minimal", compat="override", join="exact").sortby(LEVEL)


def _in_time(files: list[tuple[str, xr.Dataset]], result: SourceData) -> xr.Dataset:
    """Join files along time; a time that two files share is taken once.

    Raises:
        InputError: two files have different values at the same time.
    """
    if len(files) == 1 or TIME not in files[0][1].dims:
        return files[0][1]
    ordered = sorted(files, key=lambda item: item[1][TIME].values.min())
    kept: list[xr.Dataset] = [ordered[0][1]]
    for (before_name, _), (name, part) in pairwise(ordered):
        seen = np.concatenate([p[TIME].values for p in kept])
        twice = np.isin(part[TIME].values, seen)
        if twice.any():
            stamps = part[TIME].values[twice]
            _refuse_unlike(kept, part.isel({TIME: np.flatnonzero(twice)}), before_name, name)
            reason = "in two files with the same values, taken once"
            result.left_out[reason] = result.left_out.get(reason, 0) + len(stamps)
            part = part.isel({TIME: np.flatnonzero(~twice)})
        if part.sizes[TIME]:
            kept.append(part)
    whole = xr.concat(kept, TIME, data_vars="minimal", coords="minimal", compat="override", join="exact")
    return whole if len(kept) == 1 else whole.sortby(TIME)


def _refuse_unlike(kept: list[xr.Dataset], part: xr.Dataset, before: str, name: str) -> None:
    """Refuse files whose values differ at a time that they share; times are compared in blocks."""
    whole = xr.concat(kept, TIME, data_vars="minimal", coords="minimal", compat="override", join="exact")
    for start in range(0, part.sizes[TIME], BLOCK_TIMES):
        other = part.isel({TIME: slice(start, start + BLOCK_TIMES)}).load()
        one = whole.sel({TIME: other[TIME].values}).load()
        for key in part.data_vars:
            if TIME not in other[key].dims:
                continue
            left, right = (data[key].transpose(TIME, ...).values for data in (one, other))
            finite = left[np.isfinite(left)]
            # Packing rounds values by a fraction of their spread, independent of their offset.
            most = SPREAD * float(np.ptp(finite)) if finite.size else 0.0
            unlike = ~np.isclose(left, right, rtol=1e-6, atol=most, equal_nan=True)
            if unlike.any():
                stamp = other[TIME].values[int(np.argmax(unlike.reshape(len(unlike), -1).any(axis=1)))]
                raise InputError(
                    f"{key} at {str(stamp)[:16]} differs from that of {before}",
                    where=name,
                    remedy="Take this time out of one of them",
                )


def _at_common_times(parts: list[xr.Dataset], result: SourceData) -> list[xr.Dataset]:
    """Restrict parts with different variables or levels to the times that all of them have.

    Raises:
        InputError: they have no time in common.
    """
    timed = [part for part in parts if TIME in part.dims]
    if len(timed) < 2:
        return parts
    common = timed[0][TIME].values
    for part in timed[1:]:
        common = np.intersect1d(common, part[TIME].values)
    every = len(np.unique(np.concatenate([part[TIME].values for part in timed])))
    if not len(common):
        names = "; ".join(", ".join(map(str, part.data_vars)) for part in timed)
        raise InputError(
            f"its files have different variables or levels ({names}) and no time in common",
            remedy="Give files of the same times",
        )
    if len(common) < every:
        names = "; ".join(", ".join(map(str, part.data_vars)) for part in timed)
        reason = f"not in all of the files that lie beside each other ({names})"
        result.left_out[reason] = result.left_out.get(reason, 0) + every - len(common)
    return [part.sel({TIME: common}) if TIME in part.dims else part for part in parts]


def _same_levels(parts: list[xr.Dataset], result: SourceData) -> list[xr.Dataset]:
    """Extend all variables to the union of their levels, with NaN on the added ones, and record the original levels."""
    levels = sorted({float(v) for part in parts if LEVEL in part.dims for v in part[LEVEL].values})
    for part in parts:
        if LEVEL in part.dims and part.sizes[LEVEL] != len(levels):
            part_levels = tuple(np.asarray(part[LEVEL].values, float).tolist())
            result.levels |= {str(name): part_levels for name, array in part.data_vars.items() if LEVEL in array.dims}
    return [
        part.reindex({LEVEL: levels}) if LEVEL in part.dims and part[LEVEL].values.tolist() != levels else part
        for part in parts
    ]
