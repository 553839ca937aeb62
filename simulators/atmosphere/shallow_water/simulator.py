"""dinosaur's shallow-water equations on the sphere: the atmosphere as one layer of fluid."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.spec import SimulationError, Spec, Variable, check, content_hash
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from simulators.atmosphere.core.budgets import areas
from simulators.atmosphere.core.checks import check_common, choice, positive
from simulators.atmosphere.core.core_spec import horizontal, initial, output, times
from simulators.atmosphere.core.settings import INSTALL, default_step, dinosaur_version, gaussian_grid

if TYPE_CHECKING:
    from simulators.atmosphere.core.time_integration import SpectralRun

STATE = ("u_component_of_wind", "v_component_of_wind", "layer_thickness")
#: Inputs of a simulator with `start` "jet"; see `simulators.atmosphere.shallow_water.states.perturbed_jet`.
JET = (
    Variable("jet_speed", (), "m s-1", "float64", "largest wind of the jet"),
    Variable("bump_latitude", (), "degrees_north", "float64", "latitude of the bump"),
    Variable("bump_longitude", (), "degrees_east", "float64", "longitude of the bump"),
    Variable("bump_height", (), "m", "float64", "height of the bump"),
)
#: Plausible values of the channels of a state: m/s, m/s and m.
BOUNDS = ((-400.0, 400.0), (-400.0, 400.0), (0.0, 1e5))


@dataclass(frozen=True)
class ShallowWater:
    """Trajectories of a layer of fluid of uniform density on a rotating sphere.

    Attributes:
        truncation: largest wavenumber.
        depth_m: mean thickness of the layer, m.
        step_minutes: time step, min; None: 15 at T42, 7.5 at T85.
        start: "jet": a westerly jet with a bump (Galewsky et al. 2004), whose parameters are the inputs of a request;
            "state": each request holds an initial state.
        days: simulated time from the first saved state to the last, days.
        save_hours: time between saved states, h.
        diffusion_hours: time in which hyperdiffusion damps the smallest wave by a factor of e, h.
        diffusion_order: power of the Laplacian in the hyperdiffusion.
        dtype: precision of the computation, "float32" or "float64"; the answer is float32 in either case.

    Raises:
        InputError: a setting is invalid; the message names valid values.
    """

    truncation: int = 42
    depth_m: float = 10_000.0
    step_minutes: float | None = None
    start: str = "jet"
    days: float = 6.0
    save_hours: float = 6.0
    diffusion_hours: float = 2.4
    diffusion_order: int = 4
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_common(self)
        choice("start", self.start, ("jet", "state"))
        positive("depth_m", self.depth_m)

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
        """Simulated time, days; there is no spin-up."""
        return self.days

    @property
    def name(self) -> str:
        """Such as "dinosaur:shallow-water-T42"."""
        return f"dinosaur:shallow-water-T{self.truncation}"

    @cached_property
    def grid(self) -> WeatherGrid:
        """The Gaussian grid."""
        return gaussian_grid(self.truncation)

    @cached_property
    def layout(self) -> WeatherLayout:
        """Layout of the states."""
        channels = tuple(WeatherChannel(name) for name in STATE)
        return WeatherLayout(self.grid, channels, step_hours=self.save_hours, calendar=False, attrs=self.facts)

    @cached_property
    def spec(self) -> Spec:
        """The inputs are parameters of the jet, or a state; the outputs are states at all saved times."""
        inputs = JET if self.start == "jet" else tuple(initial(name, None) for name in STATE)
        coords = (times(self.saves, self.save_hours), *horizontal(self.grid))
        return Spec(inputs, tuple(output(name, False) for name in STATE), coords, self.facts)

    @property
    def facts(self) -> dict[str, str]:
        """Attributes of every answer: the solver."""
        return {"solver": f"dinosaur {dinosaur_version()}, {self.name}, steps of {self.step:g} min"}

    @property
    def provenance(self) -> dict[str, Any]:
        """Program, version and settings."""
        settings = json.loads(json.dumps(asdict(self)))
        return {"simulator": self.name, "version": f"dinosaur {dinosaur_version()}", "settings": settings}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """One trajectory; see `simulators.adapter.Simulator`.

        Raises:
            SimulationError: `invalid_input`; `not_converged`: it blew up; `missing_component`: dinosaur is missing.
        """
        check(inputs, self.spec.inputs, sizes=self.spec.sizes)
        first = self._first(inputs)
        if fault := self.spectral.limits.fault(first[None]):
            raise SimulationError("invalid_input", fault)
        states = np.concatenate(list(self.spectral.states(first[None], self.saves, self.save_hours)))
        outputs = {name: states[..., i] for i, name in enumerate(STATE)}
        volume = (states[[0, -1], ..., 2].astype(np.float64) * areas(self.grid)).sum((1, 2))
        log = {"volume_m3": volume.tolist()}
        return self.spec.answer(outputs).assign_attrs(log=json.dumps(log))

    @cached_property
    def spectral(self) -> SpectralRun:
        """The equations with their compiled programs; raises SimulationError `missing_component` without dinosaur."""
        try:
            from simulators.atmosphere.core.equations import Diffusion
            from simulators.atmosphere.core.time_integration import PlausibleRanges, spectral_run
            from simulators.atmosphere.shallow_water.equations import ShallowWaterEquations
        except ImportError as error:
            raise SimulationError("missing_component", f"dinosaur cannot be loaded: {error}. {INSTALL}") from error
        diffusion = Diffusion(self.diffusion_hours, self.diffusion_order)
        equations = ShallowWaterEquations(self.truncation, self.depth_m, self.step, diffusion)
        low, high = zip(*BOUNDS, strict=True)
        return spectral_run(equations, PlausibleRanges(STATE, low, high), self.step, self.dtype)

    def _first(self, inputs: xr.Dataset) -> Float[np.ndarray, "latitude longitude 3"]:
        if self.start == "state":
            return np.stack([inputs[f"initial_{name}"].values for name in STATE], axis=-1)
        equations: Any = self.spectral.equations
        from simulators.atmosphere.shallow_water.states import perturbed_jet

        speed, latitude, longitude, height = (float(inputs[v.name]) for v in JET)
        return perturbed_jet(equations, speed, latitude, longitude, height)
