"""Forecasts from states of a file: the states before each start are read, and what follows is written with valid times.

The file follows the CF conventions, with the dims of WeatherBench 2: `time` is the time of the state that a forecast
starts from, `prediction_timedelta` the lead, and `valid_time` their sum.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from data.errors import InputError
from data.files import make_directory
from data.spec import SimulationError
from data.sphere.weather_layout import LEAD, LEVEL, PRESSURE_UNITS, TIME
from data.terminal import progress_bar
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import show_readings
from experiments.forecasting.grib_output import SUFFIXES, refuse_without_grib, write_grib
from experiments.prediction.array_output import AnswerArray, AnswerStore, array_kind, write_arrays
from experiments.prediction.delivery import Delivered
from experiments.prediction.rows import PARTS
from surrogates.forecasts.surrogate import MEMBER

if TYPE_CHECKING:
    from surrogates.forecasts.surrogate import ForecastSurrogate

SECONDS = "seconds since 1970-01-01 00:00:00"
#: Whether there is a forecast from a state, by number.
STATUS = ("forecast", "not_finite")


def issue_forecasts(
    surrogate: ForecastSurrogate, source: Any, starts: Sequence[str], steps: int | None, members: int, seed: int,
    out: Path, run_dir: Path,
) -> Delivered:  # fmt: skip
    """Write forecasts from states of a source.

    Args:
        surrogate: the forecaster.
        source: a `simulators.atmosphere.reanalysis.reanalysis.Reanalysis`, of which the variables, levels and step
            that the forecaster needs are read, unless its settings choose others.
        starts: dates of the states to start from; empty for the last state of the source.
        steps: steps of each forecast; None for those of the settings of the forecaster.
        members: members of an ensemble.
        seed: seed of its noise.
        out: .nc, .zarr, .h5, .npz or .grib.
        run_dir: directory of the run.

    Raises:
        InputError: a state is missing, or is not what the forecaster takes.
    """
    grib = out.suffix.lower() in SUFFIXES
    if grib:
        refuse_without_grib(surrogate, forecast_variables(surrogate))
    else:
        array_kind(out)
    began, layout = time.perf_counter(), surrogate.layout
    steps = surrogate.facts.config.steps if steps is None else steps
    surrogate.refuse_members(members)
    source = selected(source, layout)
    times = [last_time(source)] if not starts else [as_time(text) for text in starts]
    first = past_states(source, times[0], surrogate.history, layout.step_hours)
    arrays = arrays_of(surrogate, times, steps, members)
    held_to = {"surrogate": surrogate.fingerprint, "times": [str(t) for t in times], "steps": steps, "members": members,
               "seed": seed, "source": source.where}  # fmt: skip
    make_directory(run_dir / PARTS)
    store = AnswerStore(run_dir / PARTS, arrays, held_to, 1)
    with progress_bar("forecasts", len(times)) as bar:
        bar.advance(store.done)
        for number in range(store.done, len(times)):
            states = first if number == 0 else past_states(source, times[number], surrogate.history, layout.step_hours)
            store.write(number, _forecast(surrogate, states, steps, members, seed, arrays))
            bar.advance(1)
    if (reading := source.reading()) is not None:
        show_readings([reading], run_dir)
    configuration_checked(run_dir)
    if grib:
        write_grib(store, out, surrogate)
    else:
        write_arrays(store, out, {"Conventions": "CF-1.11", "surrogate": surrogate.fingerprint[:12], **layout.attrs},
                     forecast_variables(surrogate)[0])  # fmt: skip
    status = np.concatenate(list(store.blocks(next(a for a in arrays if a.name == "status"))))
    seconds = time.perf_counter() - began
    counted = {"forecasts": len(times), "steps": steps, "members": members, "failed": int((status != 0).sum()),
               "seconds": seconds}  # fmt: skip
    said = {
        "forecasts": f"{len(times)}, from {times[0]} to {times[-1]}", "steps": f"{steps} of {layout.step_hours:g} h",
        "members": members, "without an answer": counted["failed"], "time": f"{seconds:.1f} s",
    }  # fmt: skip
    units = {a.name: str(a.attrs.get("units", "")) for a in arrays}
    return Delivered({f"forecast/{k}": float(v) for k, v in counted.items()}, said, {}, units)


def selected(source: Any, layout: Any) -> Any:
    """The source with the variables, levels and step of a layout, where its settings leave them open."""
    changes: dict[str, Any] = {}
    if not source.variables:
        changes["variables"] = list(layout.variables)
    leveled = {name: list(layout.levels(name)) for name in layout.variables if layout.levels(name)}
    if source.levels is None and leveled and layout.level_units == PRESSURE_UNITS:
        changes["levels"] = leveled
    declared_units = {v.name: v.units for v in layout.declared_variables}
    if declared_units:
        # Values are converted to the units of the training from those that the file states.
        changes["units"] = {**declared_units, **source.units}
    if source.step_hours is None:
        changes["step_hours"] = layout.step_hours
    return replace(source, static=[], **changes)


def as_time(text: str) -> np.datetime64:
    """A date as nanoseconds.

    Raises:
        InputError: it is no date.
    """
    try:
        moment = np.datetime64(str(text).replace(" ", "T"), "ns")
    except ValueError as error:
        raise InputError(f"{text!r} is no date", where="time", remedy="Write time=2019-03-01T06") from error
    if np.isnat(moment):
        raise InputError("is no date", where="time", remedy="Write time=2019-03-01T06")
    return moment


def forecast_variables(surrogate: ForecastSurrogate) -> list[str]:
    """The variables that are forecast: all but those that are inputs alone."""
    return [name for name in surrogate.layout.variables if name not in surrogate.facts.config.forcing]


def last_time(source: Any) -> np.datetime64:
    """The time of the last state of a source."""
    *_, last = source.segments()
    return np.datetime64(last.times[-1], "ns")


def past_states(source: Any, moment: np.datetime64, history: int, step_hours: float) -> xr.Dataset:
    """The states of a source that a forecast from one time begins with.

    Raises:
        InputError: a state is not in the source.
    """
    step = np.timedelta64(round(step_hours * 3600), "s")
    start = moment - (history - 1) * step
    around = replace(source, start=str(start.astype("datetime64[s]")), stop=str(moment.astype("datetime64[s]")))
    segments = list(around.segments())
    times = np.concatenate([segment.times for segment in segments])
    needed = (start + np.arange(history) * step).astype(times.dtype)
    if len(segments) != 1 or len(times) != history or (times != needed).any():
        lacking = [str(t.astype("datetime64[m]")) for t in needed if t not in times]
        raise InputError(
            f"the state of {' and '.join(lacking) or str(moment)} is missing",
            where=source.where,
            remedy=f"A forecast needs {history} states {step_hours:g} h apart; name another time",
        )
    return segments[0].read(0, history)


def arrays_of(
    surrogate: ForecastSurrogate, times: Sequence[np.datetime64], steps: int, members: int
) -> list[AnswerArray]:
    """The arrays of a file of forecasts, with CF attributes."""
    layout = surrogate.layout
    starts = np.array([t.astype("datetime64[s]").astype(np.int64) for t in times])
    leads = np.arange(1, steps + 1) * round(layout.step_hours * 3600)
    calendar = {"units": SECONDS, "calendar": "proleptic_gregorian"}
    valid = starts[:, None] + leads
    arrays = [
        AnswerArray(TIME, (TIME,), starts.shape, "int64", {**calendar, "standard_name": "forecast_reference_time"},
                    starts),
        AnswerArray(LEAD, (LEAD,), leads.shape, "int64", {"units": "seconds", "standard_name": "forecast_period",
                                                          "long_name": "lead time"}, leads),
        AnswerArray("valid_time", (TIME, LEAD), valid.shape, "int64", {**calendar, "standard_name": "time"}, valid),
    ]  # fmt: skip
    if members > 1:
        numbers = np.arange(members)
        arrays.append(AnswerArray(MEMBER, (MEMBER,), (members,), "int64", {"standard_name": "realization"}, numbers))
    for name, axis in layout.coordinates().items():
        arrays.append(AnswerArray(name, (name,), axis.shape, "float64", dict(axis.attrs), np.asarray(axis.values)))
    sizes = {a.name: a.shape[0] for a in arrays if len(a.shape) == 1}
    example = layout.unstack(np.zeros((*layout.grid.shape, len(layout.channels)), np.float32))
    for name in forecast_variables(surrogate):
        dims = (TIME, *((MEMBER,) if members > 1 else ()), LEAD, *map(str, example[name].dims))
        shape = tuple(sizes[d] for d in dims)
        attrs = {**example[name].attrs, "coordinates": "valid_time"}
        arrays.append(AnswerArray(name, dims, shape, "float32", attrs))
    flags = {"flag_values": list(range(len(STATUS))), "flag_meanings": " ".join(STATUS)}
    arrays.append(AnswerArray("status", (TIME,), (len(times),), "int8", flags))
    return arrays


def _forecast(
    surrogate: ForecastSurrogate, states: xr.Dataset, steps: int, members: int, seed: int, arrays: Sequence[AnswerArray]
) -> dict[str, np.ndarray]:
    """The arrays of one forecast, each with an axis of length 1 in front."""
    try:
        answer = surrogate.forecast(states, steps, members=members, seed=seed)
    except SimulationError as error:
        if error.kind != "not_converged":
            raise
        empty = {a.name: np.full((1, *a.shape[1:]), np.nan, np.float32) for a in arrays if a.dtype == "float32"}
        return {**empty, "status": np.ones(1, np.int8)}
    named: dict[str, np.ndarray] = {}
    for array in arrays:
        if array.dtype == "float32":
            one = answer[array.name]
            one = one.sortby(LEVEL) if LEVEL in one.dims else one
            named[array.name] = one.transpose(*array.dims[1:]).values[None]
    return {**named, "status": np.zeros(1, np.int8)}
