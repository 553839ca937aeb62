"""What is asked of a record of the atmosphere: variables, levels, times, place and grid, and what to do with gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from data.weather import VARIABLES
from data.weather_names import SHORT_NAMES
from simulators.weather.cf import STATIC
from simulators.weather.regrid import METHODS

MISSING = ("refuse", "drop")


@dataclass(frozen=True)
class ReanalysisSettings:
    """Which states of a source are read, and how.

    Attributes:
        path: see `sources.open_source`.
        variables: by their names in WeatherBench 2; empty: all that are known. Precipitation of six or 24 hours is
            summed where the source has that of each hour.
        levels: in hPa, for all variables or by variable, such as {"geopotential": [500]}; empty, or a variable that is
            not named: all.
        start, stop: dates, ISO 8601, both included; None: from the first, to the last.
        step_hours: from one state to the next; None: as in the source.
        region: south, north, west, east in degrees; empty: all.
        grid: latitudes and longitudes of an even global grid to go to; empty: that of the source.
        poles: whether the first and last of these latitudes are the poles.
        regrid: "conservative" or "bilinear".
        missing: what to do about a state of which a value is missing: "refuse" it, or "drop" the state.
        fill: a value for what is missing of a variable, such as of sea surface temperature over land; where the grid
            changes, a new cell is the mean over what is there, and gets the value where nothing is.
        accumulated: of hourly precipitation: "hour" if each value is that of one hour, "day" if values grow from 00 UTC
            on, as in ERA5-Land; None: "hour", and values that grow are refused.
        static: variables that do not change with time, of those that are there.
        member: of an ensemble, as its coordinate calls it (`number`, `realization`, `member`, ...), or its number
            from 0 on where that has no values; None where there is but one.

    Raises:
        ValueError: a setting makes no sense.
    """

    path: str | Sequence[str]
    variables: tuple[str, ...] = ()
    levels: tuple[float, ...] | Mapping[str, Sequence[float]] = ()
    start: str | int | None = None
    stop: str | int | None = None
    step_hours: float | None = None
    region: tuple[float, ...] = ()
    grid: tuple[int, ...] = ()
    poles: bool = False
    regrid: str = "conservative"
    missing: str = "refuse"
    fill: Mapping[str, float] = field(default_factory=dict)
    accumulated: str | None = None
    static: tuple[str, ...] = STATIC
    member: int | str | None = None

    def __post_init__(self) -> None:
        for name in ("variables", "region", "grid", "static"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        levels = self.levels or ()
        if isinstance(levels, Mapping):
            levels = {str(k): tuple(float(v) for v in values) for k, values in levels.items()}
            strange = [v for v in levels if v not in VARIABLES or (self.variables and v not in self.variables)]
            if strange:
                raise ValueError(f"levels names {strange[0]!r}, which is no variable that is wanted")
        else:
            levels = tuple(float(v) for v in levels)
        object.__setattr__(self, "levels", levels)
        for name, choices in (("regrid", METHODS), ("missing", MISSING)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if len(self.region) not in (0, 4) or len(self.grid) not in (0, 2):
            raise ValueError("region must be [south, north, west, east], and grid [latitudes, longitudes]")
        if not isinstance(self.path, str):
            object.__setattr__(self, "path", tuple(str(p) for p in self.path))
        if self.accumulated not in (None, "hour", "day"):
            raise ValueError(f"accumulated must be hour or day, got {self.accumulated!r}")
        if self.step_hours is not None and self.step_hours <= 0:
            raise ValueError(f"step_hours must be above 0, got {self.step_hours}")
        for name in ("variables", "static"):
            object.__setattr__(self, name, tuple(SHORT_NAMES.get(v, v) for v in getattr(self, name)))
        strange = [v for v in (*self.variables, *self.static) if v not in VARIABLES]
        if strange:
            near = get_close_matches(strange[0], [*VARIABLES, *SHORT_NAMES], n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ValueError(f"no variable {strange[0]!r} in WeatherBench 2{hint} Known are {', '.join(VARIABLES)}")
