"""Initial states of a dynamical core: at rest, from an analysis such as ERA5, or from stored windows of states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.formats.netcdf import open_netcdf
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, SIGMA_UNITS, TIME, WeatherGrid
from data.sphere.window_store import WindowStore
from simulators.atmosphere.core.core_spec import core_spec
from simulators.atmosphere.core.settings import CoreSettings
from simulators.atmosphere.reanalysis.regrid import regrid
from simulators.requests import DrawSettings

if TYPE_CHECKING:
    from simulators.atmosphere.core.equations import PrimitiveEquations

WINDS = ("u_component_of_wind", "v_component_of_wind")


class CoreStates(Protocol):
    """Draws initial states for requests to a core whose `start` is "state"."""

    def sample(
        self, core: CoreSettings, rng: np.random.Generator
    ) -> dict[str, Float[np.ndarray, "*layer latitude longitude"]]:
        """The variables of one state on the core's layers and grid; deterministic in `rng`."""
        ...


def resting_state(
    core: CoreSettings, equations: PrimitiveEquations, rng: np.random.Generator
) -> Float[np.ndarray, "latitude longitude channel"]:
    """A state at rest at 288 K or the forcing's equilibrium temperature, with noise; channels as in `state_layout`."""
    from simulators.atmosphere.core.equations import REFERENCE_PRESSURE, REFERENCE_TEMPERATURE

    layout = core.state_layout
    state = np.zeros((*layout.grid.shape, len(layout.channels)), np.float32)
    warm = equations.equilibrium_temperature() if core.start == "equilibrium" else REFERENCE_TEMPERATURE
    state[..., : core.layers] = warm + noise(core, rng)
    state[..., -1] = REFERENCE_PRESSURE
    return state


def noise(core: CoreSettings, rng: np.random.Generator) -> Float[np.ndarray, "latitude longitude layer"]:
    """White noise with standard deviation `perturbation_k`, K; the truncation keeps about a quarter of its variance."""
    return core.perturbation_k * rng.standard_normal((*core.grid.shape, core.layers))


@dataclass(frozen=True)
class Analysis:
    """A state from a file of an analysis on pressure levels, with noise on its temperature.

    The planet of the core has flat ground: if the file has no surface pressure, the pressure at which geopotential is 0
    is used.

    Attributes:
        path: a file that xarray reads, with temperature, winds, and geopotential or surface_pressure, in the names and
            units of `data.sphere.weather_layout`, on a global grid.
        time: time of the state if the file holds several; None: the first.
    """

    path: str
    time: str | None = None

    def sample(
        self, core: CoreSettings, rng: np.random.Generator
    ) -> dict[str, Float[np.ndarray, "*layer latitude longitude"]]:
        """See `CoreStates`.

        Raises:
            InputError: the file cannot be read, or lacks a variable.
        """
        state = on_core(self._read(), core, self.path)
        state["temperature"] = state["temperature"] + np.moveaxis(noise(core, rng), -1, 0).astype(np.float32)
        return state

    def _read(self) -> xr.Dataset:
        if not Path(self.path).exists():
            raise InputError("no such file", where=self.path, remedy="Name the file of an analysis")
        try:
            with open_netcdf(self.path) as data:
                if TIME in data.dims:
                    data = data.sel({TIME: self.time}) if self.time else data.isel({TIME: 0})
                names = [v for v in (*WINDS, "temperature", "geopotential", "surface_pressure") if v in data]
                return data[names].load()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"cannot be read: {error}", where=self.path) from error


@dataclass(frozen=True)
class Windows:
    """States drawn at random from a store of windows, on pressure levels or on the sigma layers of the core.

    Attributes:
        path: store that `understudy windows` wrote.
    """

    path: str

    def sample(
        self, core: CoreSettings, rng: np.random.Generator
    ) -> dict[str, Float[np.ndarray, "*layer latitude longitude"]]:
        """See `CoreStates`.

        Raises:
            InputError: there are no windows, or they are on sigma layers or a grid other than those of the core.
        """
        store, layout = self._store, core.state_layout
        at = int(rng.integers(len(store)))
        data = store.dataset((at, at + 1)).isel({TIME: 0}, drop=True)
        if store.layout.level_units != SIGMA_UNITS:
            return on_core(data, core, self.path)
        lacking = [c.label for c in layout.channels if c not in store.layout.channels]
        if lacking or store.layout.grid != layout.grid:
            raise InputError(
                f"has no {lacking[0]}" if lacking else "is on another grid", where=self.path,
                remedy=f"Give windows on the grid and layers of {core.name}, or on pressure levels",
            )  # fmt: skip
        return {name: data[name].values for name in layout.variables}

    @cached_property
    def _store(self) -> WindowStore:
        return WindowStore.open(Path(self.path))


def on_core(
    analysis: xr.Dataset, core: CoreSettings, where: str = ""
) -> dict[str, Float[np.ndarray, "*layer latitude longitude"]]:
    """Interpolate a state on pressure levels of any global grid to the grid and the layers of a core.

    The horizontal interpolation is conservative, the vertical one linear in the logarithm of pressure.

    Args:
        analysis: temperature, winds, and geopotential or surface_pressure at one time; levels in hPa.
        core: core that defines the grid and the layers.
        where: name of the file, for errors.

    Raises:
        InputError: a variable is missing, or the grid is not global.
    """
    from dinosaur.vertical_interpolation import PressureCoordinates, get_surface_pressure

    from simulators.atmosphere.core.levels import PASCAL_PER_HPA, pressure_to_sigma

    for name in (*WINDS, "temperature"):
        if name not in analysis:
            raise InputError(f"no variable {name} in it", where=where, remedy=f"It has {', '.join(map(str, analysis))}")
    if "surface_pressure" not in analysis and "geopotential" not in analysis:
        raise InputError("neither geopotential nor surface_pressure in it", where=where, remedy="Add one of them")
    data = analysis.sortby([LATITUDE, LEVEL])
    grid = _grid(data, where)
    if grid != core.grid:
        data = regrid(data, grid, core.grid)
    levels = [float(v) for v in data[LEVEL].values]

    def values(name: str) -> Float[np.ndarray, "*level latitude longitude"]:
        dims = (LEVEL, LATITUDE, LONGITUDE) if LEVEL in data[name].dims else (LATITUDE, LONGITUDE)
        return data[name].transpose(*dims).values.astype(np.float32)

    if "surface_pressure" in data:
        pressure = values("surface_pressure")
    else:
        flat = np.zeros((1, *core.grid.shape), np.float32)
        coords = PressureCoordinates(PASCAL_PER_HPA * np.array(levels))
        surface: Any = get_surface_pressure(coords, values("geopotential"), flat, 1.0)
        pressure = np.asarray(surface, np.float32)[0]
    layered = pressure_to_sigma({n: values(n) for n in ("temperature", *WINDS)}, pressure, levels, core.edges)
    return {**layered, "surface_pressure": pressure}


def _grid(data: xr.Dataset, where: str) -> WeatherGrid:
    try:
        grid = WeatherGrid(*(tuple(float(v) for v in data[d].values) for d in (LATITUDE, LONGITUDE)))
    except (KeyError, ValueError) as error:
        raise InputError(f"has no grid of latitudes and longitudes: {error}", where=where) from error
    if not grid.is_global:
        raise InputError("its grid does not cover the globe", where=where, remedy="Give a global analysis")
    return grid


def draw_states(core: CoreSettings, settings: DrawSettings, seed: int) -> Iterator[xr.Dataset]:
    """Requests of the infinite series that `seed` determines: states for a core that starts from them, else seeds.

    Args:
        core: simulator that answers the requests.
        settings: `initial` is a `CoreStates` for a core whose `start` is "state", and None for other cores.
        seed: seed of the series, 0 or more.

    Raises:
        InputError: `initial` is set for a core that takes seeds, or missing for a core that takes states; or shapes or
            ranges are set.
    """
    settings.refuse("shapes", f"{core.name} takes no bodies", "Give sampling.ranges")
    settings.refuse("ranges", f"is not used: {core.name} starts from states")
    settings.refuse_plans(f"{core.name} starts from states")
    states: CoreStates | None = settings.initial
    if (core.start == "state") != (states is not None):
        raise InputError(
            f"{core.name} starts from {core.start}",
            where="sampling.initial",
            remedy="Set simulator.start=state with sampling=analysis or windows, or sampling=seeds without",
        )
    spec = core_spec(core)
    for index in settings.indices:
        if states is None:
            drawn = int(np.random.SeedSequence([seed, index]).generate_state(1)[0] >> 1)
            yield spec.request({"seed": drawn})
        else:
            state = states.sample(core, np.random.default_rng([seed, index]))
            yield spec.request({f"initial_{name}": values for name, values in state.items()})
