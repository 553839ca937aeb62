"""What a forecaster is asked, held to what it learned: counts, dims and units of a state, its values, its time."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.near import did_you_mean
from data.weather import LATITUDE, LEVEL, LONGITUDE, TIME, VARIABLES, WeatherLayout
from data.weather_names import AT_SURFACE, DIMS, ON_LEVELS
from surrogates.weather.config import WeatherFacts

#: How far beyond the extremes of the training a value may lie, in units of their distance: without a word, and at all.
NEAR, FAR = 0.25, 1.0
KNOWN_DIMS = (TIME, LEVEL, LATITUDE, LONGITUDE)


def whole_number(value: Any, name: str) -> int:
    """A count of 1 or more.

    Raises:
        InputError: it is less, or no whole number; says which key.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or number < 1:
        raise InputError(f"must be a whole number of 1 or more, got {value!r}", where=name)
    return number


def labelled_state(state: Any, layout: WeatherLayout) -> xr.Dataset:
    """The layout's variables of a Dataset, whose dims are those of a state; other dims of length 1 are taken away.

    Variables without the attribute `units` are taken to be in those of the layout, with a warning.

    Raises:
        InputError: it is no Dataset, a variable or a dim is missing or has another name, or a variable has a dim that a
            state has not.
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
        str(name) for name, array in variables.data_vars.items() if not array.attrs.get("units") and name in VARIABLES
    ]
    if bare:
        taken = ", ".join(f"{name} in {VARIABLES[name].units}" for name in bare)
        warnings.warn(f"the state has no units, taken are {taken}", UserWarning, stacklevel=4)
    # Dims in one order for all variables, as the channels of an array need them.
    return variables.transpose(TIME, LEVEL, LATITUDE, LONGITUDE, missing_dims="ignore")


def _refuse_other_names(state: xr.Dataset, layout: WeatherLayout) -> None:
    """Refuse a state that lacks a variable or a dim, with the renaming that gives it, where that is known.

    Raises:
        InputError: names what is missing, and what there is.
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
    states: Float[np.ndarray, "*any latitude longitude channel"], facts: WeatherFacts
) -> tuple[list[str], list[str]]:
    """Channels whose values lie beyond those of the training: a little (`NEAR`), and by more than their range (`FAR`).

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
        units = VARIABLES[channel.variable].units if channel.variable in VARIABLES else "1"
        text = (
            f"{channel.label} is from {least[k]:.6g} to {most[k]:.6g}, in the training from {low[k]:.6g} to "
            f"{high[k]:.6g} {units}"
        )
        (far if off[k] > FAR else near).append(text)
    return near, far


def refuse_beyond(states: Float[np.ndarray, "*any latitude longitude channel"], facts: WeatherFacts) -> list[str]:
    """Refuse states that lie far from those of the training; what lies somewhat beyond them is handed back as phrases.

    Raises:
        InputError: a channel lies beyond the extremes of the training by more than their distance.
    """
    near, far = beyond_learned(states, facts)
    if far:
        raise InputError(
            f"{far[0]}{f', and {len(far) - 1} more' if len(far) > 1 else ''}: no state that it could have learned of",
            where="state", remedy="Check the units; the state must be of the kind that it was trained on",
        )  # fmt: skip
    return near


def clock_text(hour: float) -> str:
    """Such as "06:00"."""
    minutes = round(hour * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def refuse_other_times(times: np.ndarray, steps: int, facts: WeatherFacts) -> list[str]:
    """Refuse times of the day whose usual state was not learned; other times without a like are handed back as phrases.

    Args:
        times: datetime64 of present states.
        steps: of the forecasts.
        facts: of the forecaster. Those of older trainings do not tell times of the day and months.

    Raises:
        InputError: the present state, or one to come, is of an hour that the training had no states of, and each hour
            has usual states of its own.
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
    """Times of the day, hours, and months that are among some datetime64."""
    stamps = times.astype("datetime64[s]")
    hours = np.unique(stamps.astype(np.int64) % 86_400) / 3600
    months = np.unique(stamps.astype("datetime64[M]").astype(np.int64) % 12 + 1)
    return tuple(float(h) for h in hours), tuple(int(m) for m in months)
