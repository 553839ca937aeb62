"""Settings of what is read from a record of the atmosphere: variables, levels, times, region, grid and missing data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from data.sphere.names import SHORT_NAMES
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, TIME, VARIABLES
from simulators.atmosphere.reanalysis.cf import STATIC
from simulators.atmosphere.reanalysis.regrid import METHODS

MISSING = ("refuse", "drop")


@dataclass(frozen=True)
class ReanalysisSettings:
    """Which states of a source are read, and how.

    Attributes:
        path: see `sources.open_source`.
        path: path, paths or URL of the source; see `sources.open_source`.
        variables: names in WeatherBench 2; empty: all known variables of the source. Precipitation of 6 or 24 hours is
            summed from hourly precipitation if the source has no such variable.
        levels: levels in hPa, for all variables or by variable, such as {"geopotential": [500]}; empty, or for a
            variable that is not named: all levels.
        start, stop: first and last date, ISO 8601, both included; None: those of the source.
        step_hours: time from one state to the next, h; None: that of the source.
        region: south, north, west, east in degrees; empty: the whole source.
        grid: numbers of latitudes and longitudes of a regular global grid to regrid to; empty: the grid of the source.
        poles: whether the first and last latitude of `grid` are the poles.
        regrid: "conservative" or "bilinear".
        missing: "refuse" to read a state with a missing value, or "drop" such states.
        fill: variable -> value for its missing points, such as of sea surface temperature over land. When regridding, a
            new cell is the mean of the points that are present, and gets the value if there are none.
        accumulated: meaning of hourly precipitation: "hour" if each value is the amount of one hour, "day" if values
            are sums since 00 UTC, as in ERA5-Land; None: "hour", but values that look like sums are refused.
        static: variables that do not change with time; those that the source lacks are ignored.
        names: name of a variable or dim in the files -> its name in WeatherBench 2, or a name of your own. It comes
            before the names that are known.
        units: name of a variable -> its units: of a known one whose file states none, or of one of your own. Values are
            converted to them from units that the file states.
        member: ensemble member, by the value of its coordinate (`number`, `realization`, `member`, ...) or, if the dim
            has no coordinate, by its index from 0 on; None if there is only one.

    Raises:
        ValueError: a setting is invalid.
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
    names: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def declared_names(self) -> tuple[str, ...]:
        """Names of variables that are not in WeatherBench 2, from `names` and `units`."""
        dims = (TIME, LEVEL, LATITUDE, LONGITUDE)
        return tuple(dict.fromkeys(v for v in (*self.names.values(), *self.units) if v not in (*VARIABLES, *dims)))

    def __post_init__(self) -> None:
        for name in ("variables", "region", "grid", "static"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        for name in ("names", "units"):
            object.__setattr__(self, name, {str(k): str(v) for k, v in (getattr(self, name) or {}).items()})
        targets = list(self.names.values())
        if twice := sorted({v for v in targets if targets.count(v) > 1}):
            raise ValueError(f"names gives {twice[0]} to two variables")
        recognised = {*VARIABLES, *self.declared_names}
        levels = self.levels or ()
        if isinstance(levels, Mapping):
            levels = {str(k): tuple(float(v) for v in values) for k, values in levels.items()}
            strange = [v for v in levels if v not in recognised or (self.variables and v not in self.variables)]
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
        strange = [v for v in (*self.variables, *self.static) if v not in recognised]
        if strange:
            near = get_close_matches(strange[0], [*VARIABLES, *SHORT_NAMES], n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"no variable {strange[0]!r} in WeatherBench 2{hint} Known are {', '.join(VARIABLES)}; "
                f"declare one of your own by names or units, such as units={{{strange[0]}: m}}"
            )
