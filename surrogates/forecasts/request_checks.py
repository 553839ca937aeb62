"""Checks of a request to a forecaster: counts, the dims and units of a state, its values, and its time."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.sphere.names import AT_SURFACE, DIMS, ON_LEVELS
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME, WeatherLayout
from data.suggestions import did_you_mean
from surrogates.forecasts.facts import ForecastFacts

#: How far a value may lie beyond the extremes of the training data, in units of their range: without a warning, and at
#: all.
NEAR, FAR = 0.25, 1.0
KNOWN_DIMS = (TIME, LEVEL, LATITUDE, LONGITUDE)
#: Time of the present state where a layout has no calendar.
NOMINAL = np.datetime64("2001-01-01", "ns")


def whole_number(value: Any, name: str) -> int:
    """A value as a whole number of 1 or more.

    Raises:
        InputError: the value is less, or no whole number; names the key.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise InputError(f"must be a whole number of 1 or more, got {value!r}", where=name)
    return number


def labelled_state(state: Any, layout: WeatherLayout) -> xr.Dataset:
    """The variables of the layout in a Dataset, along the dims of a state; other dims of length 1 are dropped.

    Variables without the attribute `units` are assumed to have the units of the layout, with a warning.

    Raises:
        InputError: the state is no Dataset, a variable or a dim is missing or has another name, or a variable has a dim
            that a state does not have.
    """
    if not isinstance(state, xr.Dataset):
        remedy = f"Give a Dataset of {', '.join(layout.variables)}"
        if isinstance(state, xr.DataArray):
            remedy += f", such as array.to_dataset(name={layout.variables[0]!r})"
        raise InputError(f"a state is a Dataset, got a {type(state).__name__}", where="state", remedy=remedy)
    _refuse_other_names(state, layout)
    variables = state[list(layout.variables)]
    variables = variables.squeeze(
        [d for d in variables.dims if d not in KNOWN_DIMS and variables.sizes[d] == 1], drop=True
    )
    for name, array in variables.data_vars.items():
        strange = [str(d) for d in array.dims if d not in KNOWN_DIMS]
        if strange:
            raise InputError(
                f"{name} has a dim {strange[0]} of {array.sizes[strange[0]]}, a state has one value at each point",
                where="state",
                remedy=f"Forecast from one of them, such as state.isel({strange[0]}=0)",
            )
    bare = [
        str(name)
        for name, array in variables.data_vars.items()
        if not array.attrs.get("units") and layout.variable(str(name)).units != "1"
    ]
    if bare:
        taken = ", ".join(f"{name} in {layout.variable(name).units}" for name in bare)
        warnings.warn(f"the state has no units, taken are {taken}", UserWarning, stacklevel=4)
    # Dims in one order for all variables, as the channels of an array need them.
    return variables.transpose(TIME, LEVEL, LATITUDE, LONGITUDE, missing_dims="ignore")


def _refuse_other_names(state: xr.Dataset, layout: WeatherLayout) -> None:
    """Refuse a state without a variable or dim of the layout, and suggest the renaming that provides it.

    Raises:
        InputError: names what is missing, and what the state has.
    """
    present = [str(name) for name in (*state.data_vars, *state.coords)]
    lacking = [v for v in layout.variables if v not in state]
    dims = [LATITUDE, LONGITUDE, *([LEVEL] if any(map(layout.levels, layout.variables)) else [])]
    absent = [d for d in dims if d not in state.dims]
    if not lacking and not absent:
        return
    renamed: dict[str, str] = {}
    for name in lacking:
        short = ON_LEVELS if layout.levels(name) else AT_SURFACE
        renamed |= {old: name for old in present if short.get(old) == name}
    renamed |= {str(d): DIMS[str(d)] for d in state.dims if DIMS.get(str(d)) in absent}
    problems = [f"no variable {' and no '.join(lacking)} in it"] if lacking else []
    problems += [f"no dim {d} in it" for d in absent]
    remedy = f"Forecast from state.rename({renamed}). " if renamed else ""
    unknown = [name for name in (*lacking, *absent) if name not in renamed.values()]
    if unknown:
        near = did_you_mean(unknown[0], [name for name in present if name not in (*layout.variables, *dims)])
        remedy += f"{near} " if near else ""
        remedy += f"It has {', '.join(present) or 'nothing'}; {', '.join((*layout.variables, *dims))} are needed"
    raise InputError("; ".join(problems), where="state", remedy=remedy.strip(" ."))


def beyond_learned(
    states: Float[np.ndarray, "*any latitude longitude channel"], facts: ForecastFacts
) -> tuple[list[str], list[str]]:
    """Channels whose values lie beyond those of the training data: by more than `NEAR`, and by more than `FAR` ranges.

    Each is a phrase with the numbers.
    """
    flat = states.reshape(-1, states.shape[-1])
    least, most = flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    low, high = np.array(facts.low), np.array(facts.high)
    # A channel that never varied in the training has no range, but its spread is a unit.
    room = np.where(high > low, high - low, np.array(facts.scale.std))
    off = np.maximum(low - least, most - high) / room
    near: list[str] = []
    far: list[str] = []
    for k, channel in enumerate(facts.layout.channels):
        if off[k] <= NEAR:
            continue
        units = facts.layout.variable(channel.variable).units
        text = (
            f"{channel.label} is from {least[k]:.6g} to {most[k]:.6g}, in the training from {low[k]:.6g} to "
            f"{high[k]:.6g} {units}"
        )
        (far if off[k] > FAR else near).append(text)
    return near, far


def refuse_beyond(states: Float[np.ndarray, "*any latitude longitude channel"], facts: ForecastFacts) -> list[str]:
    """Refuse states far beyond the training data; channels that lie somewhat beyond it are returned as phrases.

    Raises:
        InputError: a channel lies beyond the extremes of the training data by more than their range.
    """
    near, far = beyond_learned(states, facts)
    if far:
        raise InputError(
            f"{far[0]}{f', and {len(far) - 1} more' if len(far) > 1 else ''}: no state that it could have learned of",
            where="state", remedy="Check the units; the state must be of the kind that it was trained on",
        )  # fmt: skip
    return near


def clock_text(hour: float) -> str:
    """An hour of the day as text, such as "06:00"."""
    minutes = round(hour * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def refuse_other_times(times: np.ndarray, steps: int, facts: ForecastFacts) -> list[str]:
    """Refuse hours of the day that have no usual state; other times that the training did not have become phrases.

    Args:
        times: datetime64 of the present states.
        steps: number of steps of the forecasts.
        facts: facts of the forecaster; those of older versions have no times of the day and no months.

    Raises:
        InputError: the usual state depends on the hour, and the present state or a later one has an hour of which the
            training had no states.
    """
    if not facts.layout.calendar or not len(times):
        return []
    step = np.timedelta64(round(facts.layout.step_hours * 3600), "s")
    stamps = np.unique(times).astype("datetime64[s]")
    valid = np.unique(stamps[:, None] + np.arange(min(steps, 24 * 60) + 1) * step)
    hours, learned = np.unique(valid.astype("datetime64[h]").astype(np.int64) % 24), facts.scale.hours
    strange = [int(h) for h in hours if h not in learned] if len(learned) > 1 else []
    if strange:
        raise InputError(
            f"{clock_text(strange[0])} UTC is an hour of which the training had no states; it had those of "
            f"{', '.join(clock_text(h) for h in learned)}",
            where="state",
            remedy="Give states of these hours, or train on windows that have this one",
        )
    phrases = []
    seconds = np.unique(stamps.astype(np.int64) % 86_400)
    other = [s / 3600 for s in seconds if facts.times_of_day and not np.isclose(s / 3600, facts.times_of_day).any()]
    if other:
        phrases.append(
            f"states at {_some(clock_text(h) for h in other)} UTC begin forecasts, the training had those at "
            f"{_some(clock_text(h) for h in facts.times_of_day)}"
        )
    months = np.unique(stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1)
    unlike = [int(m) for m in months if facts.months and m not in facts.months]
    if unlike:
        phrases.append(
            f"states of the months {_some(map(str, unlike))} begin forecasts, the training had those of the months "
            f"{_some(map(str, facts.months))}"
        )
    return phrases


def _some(texts: Iterable[str], most: int = 6) -> str:
    listed = list(texts)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def times_learned(times: np.ndarray) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The times of the day (hours) and the months (1 to 12) that occur among datetime64 values."""
    stamps = times.astype("datetime64[s]")
    hours = np.unique(stamps.astype(np.int64) % 86_400) / 3600
    months = np.unique(stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1)
    return tuple(float(h) for h in hours), tuple(int(m) for m in months)


def past_states(
    state: xr.Dataset, layout: WeatherLayout, history: int
) -> tuple[Float[np.ndarray, "history latitude longitude channel"], np.datetime64]:
    """The states that a forecast begins with, in the units of the variables, and the time of the last one.

    Args:
        state: the state with the names of WeatherBench 2; along `time` where a history is needed.
        layout: layout of the states.
        history: number of states that are needed, the present one included.

    Raises:
        InputError: the time or a state is missing, states are not consecutive, or a value is not finite.
    """
    state = labelled_state(state, layout)
    if TIME not in state.dims:
        stamp = state[TIME].values if TIME in state.coords else NOMINAL
        if layout.calendar and TIME not in state.coords:
            raise InputError("the state has no time", remedy="Give it a coordinate `time`")
        state = state.drop_vars(TIME, errors="ignore").expand_dims({TIME: [stamp]})
    if state.sizes[TIME] < history:
        raise InputError(
            f"the state has {state.sizes[TIME]} of the {history} times that are needed",
            remedy="Give the past states along `time`",
        )
    state = state.isel({TIME: slice(state.sizes[TIME] - history, None)})
    times = state[TIME].values
    if not np.issubdtype(times.dtype, np.datetime64) or np.isnat(times).any():
        raise InputError(
            "a time of the state is missing or no date", where="state",
            remedy="Give numpy's datetime64 as the coordinate `time`",
        )  # fmt: skip
    times = times.astype("datetime64[s]")
    step = np.timedelta64(round(layout.step_hours * 3600), "s")
    if (np.diff(times) != step).any():
        raise InputError(f"the past states are not {layout.step_hours:g} h apart", remedy="Give consecutive ones")
    past = layout.stack(state, "the state")
    if not np.isfinite(past).all():
        channel = layout.channels[int(np.argwhere(~np.isfinite(past))[0][-1])]
        raise InputError(f"{channel.label} holds values that are not finite", remedy="Fill or leave out what lacks")
    return past, times[-1]
