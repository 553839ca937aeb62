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
from simulators.atmosphere.core.budgets import Budgets, budgets
from simulators.atmosphere.core.core_spec import core_spec
from simulators.atmosphere.core.settings import INSTALL, STATE, CoreSettings, dinosaur_version
from simulators.requests import DrawSettings

if TYPE_CHECKING:
    from simulators.atmosphere.core.time_integration import SpectralRun

#: Plausible values of a state of the Earth's atmosphere, K, m/s and Pa.
BOUNDS = {
    "temperature": (50.0, 500.0),
    "u_component_of_wind": (-400.0, 400.0),
    "v_component_of_wind": (-400.0, 400.0),
    "surface_pressure": (3e4, 2e5),
}


@dataclass(frozen=True)
class DynamicalCore(CoreSettings):
    """Trajectories of the atmosphere of a flat, dry planet; the settings are those of `CoreSettings`.

    Raises:
        InputError: a setting is invalid; the message names valid values.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled programs are not pickled.
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    @cached_property
    def spec(self) -> Spec:
        """The input is a seed or a state on sigma layers; the outputs are states at all saved times."""
        return core_spec(self)

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
        from simulators.atmosphere.core.initial_states import draw_states

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
            from simulators.atmosphere.core.time_integration import PlausibleRanges, spectral_run
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
        limits = PlausibleRanges(tuple(c.label for c in channels), low, high)
        return spectral_run(equations, limits, self.step, self.dtype)

    def _first(self, inputs: xr.Dataset) -> Float[np.ndarray, "latitude longitude channel"]:
        from simulators.atmosphere.core import initial_states as core_states

        if self.start == "state":
            initial = {v.name.removeprefix("initial_"): inputs[v.name].values for v in self.spec.inputs}
            parts = [np.moveaxis(initial[name], 0, -1) for name in STATE]
            return np.concatenate([*parts, initial["surface_pressure"][..., None]], axis=-1).astype(np.float32)
        seed = int(inputs["seed"])
        if seed < 0:
            raise SimulationError("invalid_input", f"seed must be 0 or more, got {seed}")
        equations: Any = self.spectral.equations
        return core_states.resting_state(self, equations, np.random.default_rng(seed))
