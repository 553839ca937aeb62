"""Forecasts from elsewhere: a Dataset of initial times by leads as in WeatherBench 2, which is scored like ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from data.errors import InputError
from data.formats.netcdf import open_netcdf
from data.formats.zarr_files import open_zarr
from data.reading_summary import Reading
from data.sphere.names import AT_SURFACE, ON_LEVELS
from data.sphere.names import DIMS as PLACES
from data.sphere.weather_layout import LATITUDE, LEAD, LEVEL, LONGITUDE, TIME, VARIABLES, WeatherLayout
from data.sphere.window_store import WindowStore
from experiments.forecasting.lead_layouts import LEADS, STARTS, starts_by_leads
from simulators.atmosphere.reanalysis.cf import convert_own, convert_units, levels_in_hpa
from simulators.atmosphere.reanalysis.ensemble_member import MEMBER_DIMS
from simulators.atmosphere.reanalysis.sources import GRIB, grib_datasets
from surrogates.forecasts.streaming import verify_forecasts

MEMBER = "number"
#: Scalar coordinates of GRIB that say at which height a variable of the surface lies.
FLAT = ("surface", "heightAboveGround", "meanSea")
#: Names of the dims of forecasts in files -> names of WeatherBench 2.
DIMS: Mapping[str, str] = {
    **STARTS, **LEADS,
    **{name: dim for name, dim in PLACES.items() if dim != TIME},
    **{name: MEMBER for name in MEMBER_DIMS if name != MEMBER},
}  # fmt: skip


@dataclass(frozen=True)
class ExternalForecasts:
    """Forecasts in a file, looked up by their initial times.

    Attributes:
        data: variables with the names of the layout along time, lead, level, latitude and longitude, and for an
            ensemble `number`.
        layout: layout of the truth, to whose units and points the forecasts are converted.
        source: path of the file.
        steps: leads in steps of the truth, ascending; other leads are NaN in an answer and are not scored.
        at: positions in the file of these leads, of the latitudes and of the longitudes of the layout.
        notes: assumptions, and what was left out, in sentences.
        history: number of states that a forecast begins with.
    """

    data: xr.Dataset
    layout: WeatherLayout
    source: str
    steps: tuple[int, ...]
    at: tuple[Int[np.ndarray, " lead"], Int[np.ndarray, " latitude"], Int[np.ndarray, " longitude"]]
    notes: tuple[str, ...] = ()
    history: int = 1

    @staticmethod
    def open(
        path: Path, truth: WindowStore, most: int | None = None, names: Mapping[str, str] | None = None
    ) -> ExternalForecasts:
        """Open the forecasts in a Zarr store, a NetCDF or a GRIB file.

        Args:
            path: path of the store or file.
            truth: windows with the truth.
            most: largest lead, in steps of the truth; None for all.
            names: name of a variable or dim in the file -> its name in WeatherBench 2.

        Raises:
            InputError: a dim, a variable, a level or a point is missing, an initial time or a lead occurs twice, no
                lead is a whole number of steps, or values are far from those of the truth.
        """
        where, layout = str(path), truth.layout
        data = opened_forecasts(path, names)
        lacking = [d for d in (TIME, LEAD, LATITUDE, LONGITUDE) if d not in data.dims or d not in data.coords]
        if lacking:
            raise InputError(
                f"no coordinate {lacking[0]} in it", where=where,
                remedy=f"Forecasts lie along time, prediction_timedelta, latitude, longitude; it has {list(data.dims)}",
            )  # fmt: skip
        empty = [str(d) for d, size in data.sizes.items() if size == 0]
        if empty:
            raise InputError(f"it holds nothing: {empty[0]} has no entry", where=where, remedy="Give forecasts")
        missing = [v for v in layout.variables if v not in data]
        if missing:
            raise InputError(f"no variable {missing[0]} in it", where=where, remedy=f"It has {list(data.data_vars)}")
        _refuse_other_dims(data, layout, where)
        if not np.issubdtype(data[TIME].dtype, np.datetime64) or not np.issubdtype(data[LEAD].dtype, np.timedelta64):
            raise InputError(
                "its initial times are no dates, or its leads have no unit", where=where,
                remedy="Give units such as `hours since 2020-01-01`, and `hours`",
            )  # fmt: skip
        for dim in (TIME, LEAD):
            values, count = np.unique(data[dim].values, return_counts=True)
            if (count > 1).any():
                shown = str(
                    values[int(np.argmax(count > 1))].astype("datetime64[m]" if dim == TIME else "timedelta64[h]")
                )
                raise InputError(f"{dim} {shown} occurs twice", where=where, remedy="Remove one of the two")
        seconds = data[LEAD].values.astype("timedelta64[s]").astype(np.int64)
        step = round(layout.step_hours * 3600)
        fits = (seconds > 0) & (seconds % step == 0) & (seconds // step <= (most or seconds.max()))
        if not fits.any():
            raise InputError(
                f"none of its leads, {_hours(seconds)}, is a whole number of steps of {layout.step_hours:g} h up to "
                "the last lead that is asked for", where=where, remedy="Give windows of a step that divides them",
            )  # fmt: skip
        notes = []
        if not fits.all():
            notes.append(f"Leads of {_hours(seconds[~fits])} are not scored.")
        at = np.flatnonzero(fits)[np.argsort(seconds[fits])]
        rows = _nearest(data[LATITUDE].values, layout.grid.latitude, LATITUDE, where)
        columns = _nearest(data[LONGITUDE].values, layout.grid.longitude, LONGITUDE, where, 360.0)
        bare = [v for v in layout.variables if not data[v].attrs.get("units")]
        if bare:
            taken = ", ".join(f"{v} in {layout.variable(v).units}" for v in bare)
            notes.append(f"The forecasts made elsewhere have no units: assumed are {taken}.")
        if LEVEL in data.coords and not data[LEVEL].attrs.get("units") and any(map(layout.levels, layout.variables)):
            notes.append("The levels of the forecasts made elsewhere have no units: they are assumed to be hPa.")
        steps = tuple(int(v) for v in seconds[at] // step)
        forecasts = ExternalForecasts(data, layout, where, steps, (at, rows, columns), tuple(notes))
        forecasts._refuse_other_values(truth)
        return forecasts

    @property
    def members(self) -> int:
        """Number of members of the ensemble; 1 for a single forecast."""
        return int(self.data.sizes.get(MEMBER, 1))

    @property
    def times(self) -> np.ndarray:
        """Initial times, datetime64[s]."""
        return self.data[TIME].values.astype("datetime64[s]")

    def _refuse_other_values(self, truth: WindowStore) -> None:
        """Refuse values far from those of the truth, which have other units than the file states.

        Raises:
            InputError: names the variable, with its range.
        """
        values = self._read(0)
        statistics = truth.statistics
        for k, channel in enumerate(self.layout.channels):
            low, high = statistics.low[k], statistics.high[k]
            one = values[..., k][np.isfinite(values[..., k])]
            if one.size and max(low - one.min(), one.max() - high) > (high - low or statistics.std[k]):
                raise InputError(
                    f"{channel.label} is from {one.min():.6g} to {one.max():.6g}, in the truth from {low:.6g} to "
                    f"{high:.6g}", where=self.source, remedy="Give its units, or convert it",
                )  # fmt: skip

    def _read(self, number: int) -> Float[np.ndarray, "member lead latitude longitude channel"]:
        """One forecast, in the units of the layout."""
        lead, rows, columns = self.at
        parts = []
        for name in self.layout.variables:
            array = self.data[name].isel({TIME: number, LEAD: lead, LATITUDE: rows, LONGITUDE: columns})
            if MEMBER not in array.dims:
                array = array.expand_dims(MEMBER)
            levels = self.layout.levels(name)
            array = array.isel({LEVEL: self._levels(name, levels)}) if levels else _at_surface(array)
            array = array.transpose(MEMBER, LEAD, LATITUDE, LONGITUDE, LEVEL)
            needed, raw = self.layout.variable(name).units, array.values.astype(np.float32)
            units = str(array.attrs.get("units") or needed)
            standard = name in VARIABLES
            values = (
                convert_units(raw, name, units, self.source)
                if standard
                else convert_own(raw, name, units, needed, self.source)
            )
            parts.append(np.asarray(values))
        return np.concatenate(parts, axis=-1)

    def _levels(self, name: str, levels: tuple[float, ...]) -> list[int]:
        have = np.asarray(self.data[LEVEL].values, float) if LEVEL in self.data[name].dims else np.zeros(0)
        lacking = [v for v in levels if not np.isclose(have, v, rtol=1e-5).any()]
        if lacking:
            raise InputError(
                f"{name} lacks the level {lacking[0]:g}", where=self.source, remedy=f"It has {have.tolist()}"
            )
        return [int(np.argmin(np.abs(have - v))) for v in levels]

    def starts(self, truth: WindowStore, part: tuple[int, int], most: int | None) -> tuple[np.ndarray, Reading]:
        """Rows of the truth from which scored forecasts begin, and the reading of the file.

        Args:
            truth: windows with the truth.
            part: [start, stop) of the states that are forecast.
            most: largest number of forecasts, spread evenly; None for all.

        Raises:
            InputError: no forecast can be scored.
        """
        rows = truth.starts(1 + self.steps[-1], part)
        within = rows[np.isin(truth.times[rows].astype("datetime64[s]"), self.times)]
        absent = np.sort(self.times[~np.isin(self.times, truth.times[within].astype("datetime64[s]"))])
        dates = f", the first of them from {str(absent[0])[:16]}" if len(absent) else ""
        left_out = {f"no truth at all of its times among the windows{dates}": len(absent)}
        if most is not None and len(within) > most:
            left_out["not among those that are asked for by forecasts.starts"] = len(within) - most
            within = within[np.unique(np.linspace(0, len(within) - 1, most).round().astype(int))]
        number = {t: k for k, t in enumerate(self.times.tolist())}
        whole = [
            bool(np.isfinite(self._read(number[t])).all()) for t in truth.times[within].astype("datetime64[s]").tolist()
        ]
        left_out["a value is missing or not finite"] = whole.count(False)
        within = within[np.array(whole, bool)]
        if not len(within):
            reasons = "; ".join(f"{count} with {reason}" for reason, count in left_out.items() if count)
            raise InputError(f"none of its {len(self.times)} forecasts can be scored: {reasons}", where=self.source)
        reading = Reading(
            self.source, "initial times by leads", "forecasts", len(self.times), len(within),
            {"leads": _hours(np.array(self.steps) * self.layout.step_hours * 3600), "members": str(self.members)},
            {k: v for k, v in left_out.items() if v}, assumed=self.notes,
        )  # fmt: skip
        return within, reading

    def forecast_arrays(
        self,
        history: Float[np.ndarray, " ..."],
        times: np.ndarray,
        steps: int,
        *,
        members: int = 1,
        seed: int = 0,
    ) -> Float[np.ndarray, "batch member lead latitude longitude channel"]:
        """All members of the forecasts that begin at `times`; leads that are not in the file are NaN.

        Past states, `history`, are not read.
        """
        number = {t: k for k, t in enumerate(self.times.tolist())}
        shape = (len(times), self.members, steps, *self.layout.grid.shape, len(self.layout.channels))
        states = np.full(shape, np.nan, np.float32)
        scored = [k for k, s in enumerate(self.steps) if s <= steps]
        for row, time in enumerate(times.astype("datetime64[s]").tolist()):
            states[row][:, [self.steps[k] - 1 for k in scored]] = self._read(number[time])[:, scored]
        return states


def opened_forecasts(path: Path, names: Mapping[str, str] | None = None) -> xr.Dataset:
    """The forecasts of a file with the names of WeatherBench 2, along initial times and leads; nothing is read.

    Args:
        path: a Zarr store, a NetCDF or a GRIB file.
        names: name of a variable or dim in the file -> its name in WeatherBench 2.

    Raises:
        InputError: a name of `names` is not in the file, or two variables would get the same name.
    """
    data, where = _opened(path), str(path)
    lacking = [name for name in names or {} if name not in data.variables and name not in data.dims]
    if lacking:
        raise InputError(
            f"no variable {lacking[0]} in it, which forecasts.names renames", where=where,
            remedy=f"It has {', '.join(map(str, data.data_vars))}",
        )  # fmt: skip
    return _named(data.rename(dict(names or {})), where)


def _opened(path: Path) -> xr.Dataset:
    if path.suffix.lower() in GRIB:
        parts = grib_datasets(str(path))
        # Where two levels of the surface differ, their values are not needed: variables have names of their own.
        return xr.merge(
            [p.drop_vars([c for c in p.coords if p[c].ndim == 0 and c in FLAT]) for p in parts], join="outer"
        )
    remedy = "Give Zarr or NetCDF"
    if path.is_dir():
        verify_forecasts(path)
        return open_zarr(path, remedy=remedy, decode_timedelta=True, consolidated=False)
    return open_netcdf(path, decode_timedelta=True)


def _named(data: xr.Dataset, where: str) -> xr.Dataset:
    """Convert names to those of WeatherBench 2 and levels to hPa; single times, leads, members and levels get dims.

    Raises:
        InputError: two variables would get the same name.
    """
    data = starts_by_leads(data, where)
    for old, new in DIMS.items():
        if (old in data.dims or old in data.coords) and new not in data.variables and new not in data.dims:
            data = data.rename({old: new})
    dims = (TIME, LEAD, LATITUDE, LONGITUDE, LEVEL, MEMBER)
    data = levels_in_hpa(data).squeeze([d for d in data.dims if d not in dims and data.sizes[d] == 1], drop=True)
    single = [d for d in (TIME, LEAD, MEMBER) if d in data.coords and data[d].ndim == 0]
    data = data.expand_dims(single)
    if LEVEL in data.coords and data[LEVEL].ndim == 0:
        on = [k for k in data.data_vars if str(k) in ON_LEVELS or getattr(VARIABLES.get(str(k)), "levels", False)]
        data = data.assign({k: data[k].expand_dims(LEVEL) for k in on})
    names = {
        str(k): (ON_LEVELS if LEVEL in v.dims else AT_SURFACE).get(str(k), str(k)) for k, v in data.data_vars.items()
    }
    values = list(names.values())
    if twice := sorted({v for v in values if values.count(v) > 1}):
        both = " and ".join(k for k, v in names.items() if v == twice[0])
        raise InputError(f"{both} would both be {twice[0]}", where=where, remedy="Remove one of them")
    return data.rename({k: v for k, v in names.items() if k != v})


def _refuse_other_dims(data: xr.Dataset, layout: WeatherLayout, where: str) -> None:
    """Refuse variables without the dims of forecasts, and files in which only some variables are ensembles.

    Raises:
        InputError: names the variable and the dim.
    """
    if data.sizes.get(MEMBER) == 0:
        raise InputError("its ensemble has no members", where=where, remedy="Give a file that holds some")
    several = data.sizes.get(MEMBER, 1) > 1
    for name in layout.variables:
        needed = [TIME, LEAD, LATITUDE, LONGITUDE, *([LEVEL] if layout.levels(name) else [])]
        needed += [MEMBER] if several else []
        sizes = {str(d): n for d, n in data[name].sizes.items()}
        if lacking := [d for d in needed if d not in sizes]:
            raise InputError(f"{name} has no dim {lacking[0]}", where=where, remedy=f"It lies along {', '.join(sizes)}")
        if strange := [d for d, n in sizes.items() if d not in (*needed, MEMBER) and (d != LEVEL or n > 1)]:
            raise InputError(
                f"{name} has a dim {strange[0]} of {sizes[strange[0]]}, which forecasts do not have", where=where,
                remedy=f"Give it along {', '.join(needed)}",
            )  # fmt: skip


def _at_surface(array: xr.DataArray) -> xr.DataArray:
    return array if LEVEL in array.dims else array.expand_dims(LEVEL)


def _nearest(
    values: np.ndarray, needed: tuple[float, ...], name: str, where: str, period: float | None = None
) -> Int[np.ndarray, " point"]:
    """Positions in a file of the coordinates of the truth, in any order; longitudes are compared around the circle."""
    apart = np.abs(np.asarray(values, np.float64)[:, None] - np.array(needed)[None])
    apart = apart if period is None else np.minimum(apart % period, period - apart % period)
    at = apart.argmin(axis=0)
    off = apart[at, np.arange(len(needed))]
    if off.max() > 1e-3:
        raise InputError(
            f"no {name} {needed[int(off.argmax())]:g} among its {len(values)} from {values[0]:g} to {values[-1]:g}",
            where=where, remedy="Regrid the forecasts to the truth, or write windows of their grid",
        )  # fmt: skip
    return at


def _hours(seconds: np.ndarray) -> str:
    shown = [f"{s / 3600:g} h" for s in seconds]
    return ", ".join(shown) if len(shown) <= 6 else f"{shown[0]} to {shown[-1]} ({len(shown)})"
