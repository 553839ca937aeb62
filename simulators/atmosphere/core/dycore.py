"""dinosaur's dry dynamical core of the atmosphere: primitive equations on sigma layers with Held-Suarez forcing.

Held and Suarez, Bull. Am. Meteorol. Soc. 75 (1994), 1825: the temperature of a flat planet relaxes to a radiative
equilibrium and friction slows the wind near the ground. Jets and storms form without seasons, water or mountains.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.spec import SimulationError, Spec, check, content_hash
from data.sphere.states import PRESSURE_UNITS, SIGMA_UNITS, Channel, WeatherGrid, WeatherLayout
from simulators.atmosphere.core.budgets import Budgets, budgets
from simulators.atmosphere.core.settings import (
    INSTALL,
    check_core,
    default_step,
    dinosaur_version,
    gaussian_grid,
    layer_boundaries,
)
from simulators.atmosphere.core.spec import core_spec
from simulators.requests import DrawSettings

if TYPE_CHECKING:
    from simulators.atmosphere.core.run import SpectralRun

#: Variables of a state, in the order of its channels.
STATE = ("temperature", "u_component_of_wind", "v_component_of_wind")
#: Plausible values of a state of the Earth's atmosphere, K, m/s and Pa.
BOUNDS = {
    "temperature": (50.0, 500.0),
    "u_component_of_wind": (-400.0, 400.0),
    "v_component_of_wind": (-400.0, 400.0),
    "surface_pressure": (3e4, 2e5),
}


@dataclass(frozen=True)
class DynamicalCore:
    """Trajectories of the atmosphere of a flat, dry planet.

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
        check_core(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled programs are not pickled.
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

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
        channels = (*(Channel(v, level) for v in STATE for level in self.sigma), Channel("surface_pressure"))
        return self._layout(channels, SIGMA_UNITS)

    @cached_property
    def layout(self) -> WeatherLayout:
        """Layout of the states of an answer."""
        names = (*STATE, *(("geopotential",) if self.geopotential else ()))
        levels = self.levels or self.sigma
        channels = (*(Channel(v, level) for v in names for level in levels), Channel("surface_pressure"))
        return self._layout(channels, PRESSURE_UNITS if self.levels else SIGMA_UNITS)

    @cached_property
    def spec(self) -> Spec:
        """The input is a seed or a state on sigma layers; the outputs are states at all saved times."""
        return core_spec(self)

    @property
    def facts(self) -> dict[str, str]:
        """Attributes of every answer: solver and forcing."""
        forced = "Held and Suarez 1994" if self.forcing == "held_suarez" else "none"
        return {"solver": f"dinosaur {dinosaur_version()}, {self.name}, steps of {self.step:g} min", "forcing": forced}

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings."""
        settings = json.loads(json.dumps(asdict(self)))
        return {"simulator": self.name, "version": f"dinosaur {dinosaur_version()}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def draw(self, settings: DrawSettings, seed: int) -> Iterator[xr.Dataset]:
        """Requests with states or seeds; see `core.states.draw_states` and `simulators.adapter.DrawsRequests`."""
        from simulators.atmosphere.core.states import draw_states

        yield from draw_states(self, settings, seed)

    def at(self, *, points: int | None = None, dt: float | None = None) -> DynamicalCore:
        """A coarser or finer copy with the same saved times; see `simulators.adapter.HasResolutions`.

        Args:
            points: truncation; None: unchanged.
            dt: time step, min; None: the default of the truncation.

        Raises:
            InputError: the truncation is out of range, or the step does not divide the saved times.
        """
        return replace(self, truncation=points or self.truncation, step_minutes=dt)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One trajectory; see `simulators.adapter.Simulator`.

        The answer's log holds the budgets of its first and last state.

        Raises:
            SimulationError: `invalid_input`; `not_converged`: it blew up, or its mass drifted; `missing_component`:
                dinosaur is not installed.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        run = self.spectral
        from simulators.atmosphere.core import levels as core_levels

        first = self._first(inputs)
        if fault := run.limits.fault(first[None]):
            raise SimulationError("invalid_input", fault)
        outputs = {v.name: np.empty([self.spec.sizes[d] for d in v.dims], np.float32) for v in self.spec.outputs}
        ends: list[Budgets] = []
        for index, states in enumerate(run.states(first[None], self.saves, self.save_hours, 24 * self.spin_up_days)):
            state = self.state_layout.unstack(states[0])
            if index in (0, self.saves):
                ends.append(budgets(state, self.edges))
            for name, values in core_levels.answer_fields(state, self.edges, self.levels, self.geopotential).items():
                outputs[name][index] = values
        drift = ends[-1].mass / ends[0].mass - 1
        if abs(drift) > self.mass_tolerance:
            raise SimulationError(
                "not_converged",
                f"the mass of the atmosphere changed by {drift:.2g} of itself in {self.days:g} days, "
                f"{self.mass_tolerance:g} is allowed; set conserve_mass, or a smaller step_minutes",
            )
        log = {"first": asdict(ends[0]), "last": asdict(ends[-1]), "mass_drift": drift}
        return self.spec.answer(outputs).assign_attrs(log=json.dumps(log))

    def run(
        self, states: Float[np.ndarray, "batch latitude longitude channel"], hours: float, save_hours: float
    ) -> Float[np.ndarray, "batch time latitude longitude channel"]:
        """Integrate a batch of states in one program, which is compiled once per batch size.

        Args:
            states: initial states in `state_layout`.
            hours: length of the integration, a multiple of `save_hours`.
            save_hours: time between the returned states, a multiple of the time step.

        Returns:
            States after `save_hours`, 2 x `save_hours` and so on; the initial states are not included.

        Raises:
            SimulationError: `invalid_input`: a wrong shape, or times that are not multiples; `not_converged`: a
                trajectory blew up.
        """
        layout = self.state_layout
        shape = (*layout.grid.shape, len(layout.channels))
        if np.ndim(states) != 4 or np.shape(states)[1:] != shape:
            raise SimulationError("invalid_input", f"states must have shape (batch, {shape}), got {np.shape(states)}")
        saves, steps = hours / save_hours, save_hours * 60 / self.step
        if round(saves) < 1 or abs(saves - round(saves)) > 1e-6 or abs(steps - round(steps)) > 1e-6 or steps < 1:
            raise SimulationError(
                "invalid_input", f"{hours:g} h by {save_hours:g} h are no whole numbers of steps of {self.step:g} min"
            )
        if fault := self.spectral.limits.fault(np.asarray(states)):
            raise SimulationError("invalid_input", fault)
        later: Iterator[Any] = self.spectral.states(np.asarray(states), round(saves), save_hours)
        next(later)
        return np.stack(list(later), axis=1)

    def advance(
        self, states: Float[np.ndarray, "batch latitude longitude channel"], hours: float
    ) -> Float[np.ndarray, "batch latitude longitude channel"]:
        """Integrate as `run` does, and return the last states only."""
        return self.run(states, hours, hours)[:, 0]

    def restart(self, answer: xr.Dataset) -> xr.Dataset:
        """The request that resumes from the last state of an answer on sigma layers; `start` must be "state"."""
        last = answer.isel(time=-1) if "time" in answer.dims else answer
        names = [v.name.removeprefix("initial_") for v in self.spec.inputs]
        return self.spec.request({f"initial_{n}": last[n].values for n in names})

    @cached_property
    def spectral(self) -> SpectralRun:
        """The equations with their compiled programs; raises SimulationError `missing_component` without dinosaur."""
        try:
            from simulators.atmosphere.core.equations import Diffusion, PrimitiveEquations
            from simulators.atmosphere.core.run import Limits, spectral_run
        except ImportError as error:
            raise SimulationError("missing_component", f"dinosaur cannot be loaded: {error}. {INSTALL}") from error
        equations = PrimitiveEquations(
            self.truncation,
            tuple(float(v) for v in self.edges),
            self.step,
            self.forcing == "held_suarez",
            Diffusion(self.diffusion_hours, self.diffusion_order),
            self.conserve_mass,
        )
        channels = self.state_layout.channels
        low, high = (tuple(BOUNDS[c.variable][end] for c in channels) for end in (0, 1))
        limits = Limits(tuple(c.label for c in channels), low, high)
        return spectral_run(equations, limits, self.step, self.dtype)

    def _first(self, inputs: xr.Dataset) -> Float[np.ndarray, "latitude longitude channel"]:
        from simulators.atmosphere.core import states as core_states

        if self.start == "state":
            initial = {v.name.removeprefix("initial_"): inputs[v.name].values for v in self.spec.inputs}
            parts = [np.moveaxis(initial[name], 0, -1) for name in STATE]
            return np.concatenate([*parts, initial["surface_pressure"][..., None]], axis=-1).astype(np.float32)
        seed = int(inputs["seed"])
        if seed < 0:
            raise SimulationError("invalid_input", f"seed must be 0 or more, got {seed}")
        return core_states.resting_state(self, np.random.default_rng(seed))

    def _layout(self, channels: tuple[Channel, ...], units: str) -> WeatherLayout:
        return WeatherLayout(
            self.grid, channels, step_hours=self.save_hours, level_units=units, calendar=False, attrs=self.facts
        )
