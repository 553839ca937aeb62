"""dinosaur's shallow-water equations: a time step in spectral space, and the transforms (see `core_equations`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from dinosaur import shallow_water, time_integration
from dinosaur.coordinate_systems import CoordinateSystem
from dinosaur.sigma_coordinates import SigmaCoordinates
from dinosaur.spherical_harmonic import uv_nodal_to_vor_div_modal, vor_div_to_uv_nodal
from dinosaur.units import SimUnits
from jaxtyping import Array, Float

from simulators.atmosphere.core.equations import UNITS, Diffusion, Spectral, constants, spherical_grid


@dataclass(frozen=True)
class ShallowWaterEquations:
    """A layer of fluid of uniform density on a rotating sphere, above flat ground.

    Channels: eastward and northward wind (m/s), thickness of the layer (m).

    Attributes:
        truncation: largest wavenumber, triangular.
        depth_m: mean thickness, m, about which the implicit terms are linearised.
        step_minutes: time step, min.
        diffusion: hyperdiffusion of all fields.
    """

    truncation: int
    depth_m: float
    step_minutes: float
    diffusion: Diffusion

    @cached_property
    def units(self) -> SimUnits:
        """Nondimensional constants and scales."""
        return constants()

    @cached_property
    def coords(self) -> CoordinateSystem:
        """Horizontal grid and one layer."""
        return CoordinateSystem(spherical_grid(self.truncation), SigmaCoordinates(np.array([0.0, 1.0])))

    @cached_property
    def step(self) -> Callable[[Spectral], Spectral]:
        """The state one time step later."""
        grid = self.coords.horizontal
        equation = shallow_water.ShallowWaterEquations(
            self.coords, self.units, None, np.array([self.depth_m * self.metre])
        )
        seconds = self.units.nondimensionalize(self.step_minutes * UNITS.minute)
        step = time_integration.imex_rk_sil3(equation, seconds)
        return time_integration.step_with_filters(step, [self.diffusion.filter(grid, seconds, self.units)])

    def to_spectral(self, fields: Float[Array, "latitude longitude channel"]) -> Spectral:
        """Transform a state on the grid to spectral space, truncated."""
        grid = self.coords.horizontal
        nodal = fields.T
        u, v = nodal[:1] * self._speed, nodal[1:2] * self._speed
        vorticity, divergence = uv_nodal_to_vor_div_modal(grid, u, v)
        potential = grid.to_modal((nodal[2:] - self.depth_m) * self.metre)
        return shallow_water.State(vorticity, divergence, grid.clip_wavenumbers(potential))

    def to_grid(self, state: Spectral) -> Float[Array, "latitude longitude channel"]:
        """Transform a state in spectral space to fields on the grid."""
        grid = self.coords.horizontal
        u, v = vor_div_to_uv_nodal(grid, state.vorticity, state.divergence, clip=False)
        thickness = grid.to_nodal(state.potential) / self.metre + self.depth_m
        return jnp.concatenate([u / self._speed, v / self._speed, thickness]).T

    @cached_property
    def _speed(self) -> float:
        return float(self.units.nondimensionalize(1 * UNITS.meter / UNITS.second))

    @cached_property
    def metre(self) -> float:
        """Nondimensional geopotential of one metre."""
        return float(self.units.nondimensionalize(1 * UNITS.meter) * self.units.g)
