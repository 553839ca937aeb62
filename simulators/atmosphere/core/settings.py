"""Settings of a dynamical core, which check themselves, with the grid, the layers and the time step that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.extras import install_command
from data.spec import SimulationError
from data.sphere.weather_layout import PRESSURE_UNITS, SIGMA_UNITS, WeatherChannel, WeatherGrid, WeatherLayout
from simulators.atmosphere.core.checks import check_common, choice, not_negative, positive, whole_steps

INSTALL = f"Install it with `{install_command('weather')}`"
#: Time steps that divide an hour, in minutes.
STEPS = (60.0, 30.0, 20.0, 15.0, 12.0, 10.0, 7.5, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
#: Upper limit of minutes x truncation for the default step: 30 min at T21, 15 min at T42.
STEP_PRODUCT = 645.0
#: Variables of a state, in the order of its channels.
STATE = ("temperature", "u_component_of_wind", "v_component_of_wind")
FORCINGS = ("held_suarez", "none")
STARTS = ("rest", "equilibrium", "state")


def gaussian_rows(truncation: int) -> int:
    """Number of latitudes of the smallest Gaussian grid on which products of two fields are free of aliasing.

    The grid has twice as many longitudes as latitudes, more than 3 x truncation: 32 latitudes for T21, 64 for T42.
    """
    return 2 * math.ceil((3 * truncation + 1) / 4)


def truncation_of(rows: int) -> int:
    """The largest truncation that a Gaussian grid with this many latitudes resolves without aliasing."""
    return (2 * rows - 1) // 3


def gaussian_grid(truncation: int) -> WeatherGrid:
    """The Gaussian grid of a truncation, from south to north and from 0 degrees east."""
    rows = gaussian_rows(truncation)
    sines, _ = np.polynomial.legendre.leggauss(rows)
    return WeatherGrid(
        tuple(float(v) for v in np.rad2deg(np.arcsin(sines))), tuple(180.0 * i / rows for i in range(2 * rows))
    )


def default_step(truncation: int) -> float:
    """Time step (min) at which the core is stable for winds of the atmosphere; it divides an hour."""
    return next(step for step in STEPS if step * truncation <= STEP_PRODUCT or step == STEPS[-1])


def layer_boundaries(layers: int, boundaries: Sequence[float]) -> Float[np.ndarray, " edge"]:
    """Sigma (pressure over surface pressure) at the edges of the layers, from 0 at the top to 1 at the ground."""
    return np.asarray(boundaries, float) if boundaries else np.linspace(0.0, 1.0, layers + 1)


def dinosaur_version() -> str:
    """Version of the installed dinosaur; raises SimulationError `missing_component` if there is none."""
    try:
        return version("dinosaur")
    except PackageNotFoundError as error:
        raise SimulationError("missing_component", f"dinosaur is not installed. {INSTALL}") from error


@dataclass(frozen=True)
class CoreSettings:
    """Settings of trajectories of the atmosphere of a flat, dry planet; see `core.dycore.DynamicalCore`.

    Attributes:
        truncation: largest wavenumber; 21, 31, 42, 63 and 85 are the usual ones, on grids of 32 to 128 latitudes.
        layers: number of sigma layers, of equal thickness unless `boundaries` is set.
        boundaries: sigma at the edges of layers of unequal thickness, from 0 to 1; empty: equal thickness.
        step_minutes: time step, min; None: 30 at T21, 15 at T42, 7.5 at T85.
        forcing: "held_suarez", or "none" for the adiabatic core.
        start: "rest": an isothermal atmosphere at rest at 288 K, which needs a spin-up of 150 days to reach the
            statistics of the forcing; "equilibrium": at rest with the forcing's equilibrium temperature, which needs 30
            days; "state": each request holds an initial state.
        perturbation_k: standard deviation of the noise on the initial temperature, K, which the seed of a request
            determines.
        spin_up_days: simulated time before the first saved state, days.
        days: simulated time from the first saved state to the last, days.
        save_hours: time between saved states, h.
        levels: pressure levels of the answer, hPa, ascending; empty: sigma layers. Interpolation is linear in the
            logarithm of pressure; above the middle of the top layer and below that of the lowest, temperature and wind
            are constant and geopotential is extrapolated hydrostatically.
        geopotential: whether the answer includes geopotential.
        diffusion_hours: time in which hyperdiffusion damps the smallest wave by a factor of e, h.
        diffusion_order: power of the Laplacian in the hyperdiffusion.
        conserve_mass: whether each step restores the mass of the atmosphere; otherwise about 1e-6 is lost per day.
        mass_tolerance: largest relative change of mass from the first saved state to the last; a larger change is
            `not_converged`.
        dtype: precision of the computation, "float32" or "float64"; the answer is float32 in either case.

    Raises:
        InputError: a setting is invalid; the message names valid values.
    """

    truncation: int = 21
    layers: int = 12
    boundaries: tuple[float, ...] = ()
    step_minutes: float | None = None
    forcing: str = "held_suarez"
    start: str = "rest"
    perturbation_k: float = 0.5
    spin_up_days: float = 0.0
    days: float = 10.0
    save_hours: float = 24.0
    levels: tuple[float, ...] = ()
    geopotential: bool = False
    diffusion_hours: float = 2.4
    diffusion_order: int = 4
    conserve_mass: bool = True
    mass_tolerance: float = 1e-3
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("boundaries", "levels"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        check_common(self)
        choice("forcing", self.forcing, FORCINGS)
        choice("start", self.start, STARTS)
        if self.layers < 2:
            raise InputError(f"must be at least 2, got {self.layers}", where="simulator.layers")
        if edges := self.boundaries:
            if len(edges) < 3 or edges[0] != 0 or edges[-1] != 1 or not (np.diff(edges) > 0).all():
                raise InputError(
                    f"must ascend from 0 to 1 over two layers or more, got {list(edges)}", where="simulator.boundaries"
                )
            if self.layers != len(edges) - 1:
                raise InputError(
                    f"{len(edges)} boundaries are of {len(edges) - 1} layers, not of {self.layers}",
                    where="simulator.layers",
                    remedy=f"Use {len(edges) - 1}",
                )
        if self.levels and not (self.levels[0] > 0 and (np.diff(self.levels) > 0).all()):
            raise InputError(f"must ascend from above 0 hPa, got {list(self.levels)}", where="simulator.levels")
        for name in ("perturbation_k", "spin_up_days"):
            not_negative(name, getattr(self, name))
        positive("mass_tolerance", self.mass_tolerance)
        whole_steps("spin_up_days", self.spin_up_days * 24 * 60, self.step)

    @property
    def step(self) -> float:
        """The time step, minutes."""
        return self.step_minutes or default_step(self.truncation)

    @property
    def saves(self) -> int:
        """Number of saved states after the first."""
        return round(self.days * 24 / self.save_hours)

    @property
    def simulated_days(self) -> float:
        """Simulated time with the spin-up, days."""
        return self.spin_up_days + self.days

    @property
    def name(self) -> str:
        """Such as "dinosaur:T21L12"."""
        return f"dinosaur:T{self.truncation}L{self.layers}"

    @cached_property
    def grid(self) -> WeatherGrid:
        """The Gaussian grid."""
        return gaussian_grid(self.truncation)

    @cached_property
    def edges(self) -> Float[np.ndarray, " edge"]:
        """Sigma at the edges of the layers, from the top."""
        return layer_boundaries(self.layers, self.boundaries)

    @cached_property
    def sigma(self) -> tuple[float, ...]:
        """Sigma at the middle of each layer, from the top."""
        return tuple(float(v) for v in (self.edges[1:] + self.edges[:-1]) / 2)

    @cached_property
    def state_layout(self) -> WeatherLayout:
        """Layout of the states of `run`: temperature and winds of all layers, and surface pressure."""
        channels = (
            *(WeatherChannel(v, level) for v in STATE for level in self.sigma),
            WeatherChannel("surface_pressure"),
        )
        return self._layout(channels, SIGMA_UNITS)

    @cached_property
    def layout(self) -> WeatherLayout:
        """Layout of the states of an answer."""
        names = (*STATE, *(("geopotential",) if self.geopotential else ()))
        levels = self.levels or self.sigma
        channels = (*(WeatherChannel(v, level) for v in names for level in levels), WeatherChannel("surface_pressure"))
        return self._layout(channels, PRESSURE_UNITS if self.levels else SIGMA_UNITS)

    @property
    def facts(self) -> dict[str, str]:
        """Attributes of every answer: solver and forcing."""
        forced = "Held and Suarez 1994" if self.forcing == "held_suarez" else "none"
        return {"solver": f"dinosaur {dinosaur_version()}, {self.name}, steps of {self.step:g} min", "forcing": forced}

    def _layout(self, channels: tuple[WeatherChannel, ...], units: str) -> WeatherLayout:
        return WeatherLayout(
            self.grid, channels, step_hours=self.save_hours, level_units=units, calendar=False, attrs=self.facts
        )
