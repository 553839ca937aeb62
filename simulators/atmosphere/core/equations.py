"""dinosaur's primitive equations: one time step in spectral space, and the transforms from and to the grid.

Fields on the grid are in SI units, with axes (latitude, longitude, channel); dinosaur's are dimensionless, with axes
(layer, longitude, latitude) or, in spectral space, (layer, zonal, total wavenumber). Kochkov et al., Neural general
circulation models, Nature 632 (2024), describe the discretisation; steps are SIL3 of Whitaker and Kar (Mon. Weather
Rev. 141, 2013), which treats gravity waves implicitly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from dinosaur import primitive_equations, scales, time_integration
from dinosaur.coordinate_systems import CoordinateSystem
from dinosaur.held_suarez import HeldSuarezForcingSigma
from dinosaur.sigma_coordinates import SigmaCoordinates
from dinosaur.spherical_harmonic import (
    FastSphericalHarmonics,
    Grid,
    uv_nodal_to_vor_div_modal,
    vor_div_to_uv_nodal,
)
from dinosaur.units import SimUnits
from jaxtyping import Array, Float

from simulators.atmosphere.core.settings import gaussian_rows

#: Temperature of the resting atmosphere and of the linear terms, K: the value of dinosaur, as Held and Suarez (1994)
#: prescribe none.
REFERENCE_TEMPERATURE = 288.0
#: Surface pressure of the resting atmosphere, Pa.
REFERENCE_PRESSURE = 1e5
#: A state in spectral space: one of dinosaur's structures of arrays.
Spectral = Any
UNITS = scales.units


def constants() -> SimUnits:
    """Nondimensional physical constants of the Earth.

    The scale of mass makes `REFERENCE_PRESSURE` 1, so that the logarithm of surface pressure is near 0, where float32
    has its finest resolution: with dinosaur's default scale it is 45, and pressure has a relative resolution of 4e-6.
    """
    mass = REFERENCE_PRESSURE * UNITS.pascal * scales.RADIUS / (2 * scales.OMEGA) ** 2
    return SimUnits.from_si(
        scale=scales.Scale(scales.RADIUS, 1 / 2 / scales.OMEGA, mass.to(UNITS.kilogram), 1 * UNITS.degK)
    )


def spherical_grid(truncation: int) -> Grid:
    """dinosaur's Gaussian grid of a truncation."""
    return Grid.construct(truncation, gaussian_rows(truncation) // 2, spherical_harmonics_impl=FastSphericalHarmonics)


class SpectralEquations(Protocol):
    """The equations that `simulators.atmosphere.core.time_integration.SpectralRun` integrates in time."""

    def to_spectral(self, fields: Float[Array, "latitude longitude channel"]) -> Spectral:
        """Transform a state on the grid to spectral space, truncated."""
        ...

    def to_grid(self, state: Spectral) -> Float[Array, "latitude longitude channel"]:
        """Transform a state in spectral space to fields on the grid."""
        ...

    @property
    def step(self) -> Callable[[Spectral], Spectral]:
        """The state one time step later."""
        ...


@dataclass(frozen=True)
class Diffusion:
    """Hyperdiffusion of all fields, applied after each step.

    Attributes:
        hours: time in which the smallest wave decays by a factor of e, h.
        order: power of the Laplacian.
    """

    hours: float
    order: int

    def filter(self, grid: Grid, step: float, units: SimUnits) -> Any:
        """dinosaur's filter for one step; `step` is its nondimensional length."""
        hours = units.nondimensionalize(self.hours * UNITS.hour)
        return time_integration.horizontal_diffusion_step_filter(grid, step, hours, order=self.order)


@dataclass(frozen=True)
class PrimitiveEquations:
    """Dry hydrostatic primitive equations on sigma layers above a flat planet.

    Channels: temperature (K), eastward and northward wind (m/s) of each layer from the top, and surface pressure (Pa).

    Attributes:
        truncation: largest wavenumber, triangular.
        boundaries: sigma at the edges of layers.
        step_minutes: time step, min.
        held_suarez: whether to apply the forcing of Held and Suarez (Bull. Am. Meteorol. Soc. 75, 1994).
        diffusion: hyperdiffusion of all fields.
        conserve_mass: whether each step adds a constant to the logarithm of surface pressure that restores the mass of
            the atmosphere. Without it, about 1e-6 of the mass is lost per day, because the prognostic variable is the
            logarithm.
    """

    truncation: int
    boundaries: tuple[float, ...]
    step_minutes: float
    held_suarez: bool
    diffusion: Diffusion
    conserve_mass: bool = True

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.boundaries) - 1

    @cached_property
    def units(self) -> SimUnits:
        """Nondimensional constants and scales."""
        return constants()

    @cached_property
    def coords(self) -> CoordinateSystem:
        """Horizontal grid and layers."""
        return CoordinateSystem(spherical_grid(self.truncation), SigmaCoordinates(np.array(self.boundaries)))

    @cached_property
    def forcing(self) -> HeldSuarezForcingSigma:
        """Relaxation of temperature and friction near the ground."""
        return HeldSuarezForcingSigma(self.coords, self.units, self._reference)

    @cached_property
    def step(self) -> Callable[[Spectral], Spectral]:
        """The state one time step later."""
        grid = self.coords.horizontal
        flat = np.zeros(grid.modal_shape)
        terms: list[Any] = [primitive_equations.PrimitiveEquationsSigma(self._reference, flat, self.coords, self.units)]
        if self.held_suarez:
            terms.append(self.forcing)
        seconds = self.units.nondimensionalize(self.step_minutes * UNITS.minute)
        # The forcing fills one total wavenumber beyond the truncation, which a state on the grid cannot represent.
        filters = [lambda _, after: grid.clip_wavenumbers(after), self.diffusion.filter(grid, seconds, self.units)]
        if self.conserve_mass:
            filters.append(self._keep_mass)
        equation = time_integration.compose_equations(terms)
        return time_integration.step_with_filters(time_integration.imex_rk_sil3(equation, seconds), filters)

    def to_spectral(self, fields: Float[Array, "latitude longitude channel"]) -> Spectral:
        """Transform a state on the grid to spectral space, truncated."""
        n, grid = self.layers, self.coords.horizontal
        nodal = fields.T
        u, v = nodal[n : 2 * n] * self._speed, nodal[2 * n : 3 * n] * self._speed
        vorticity, divergence = uv_nodal_to_vor_div_modal(grid, u, v)
        return primitive_equations.State(
            vorticity,
            divergence,
            grid.clip_wavenumbers(grid.to_modal(nodal[:n] - REFERENCE_TEMPERATURE)),
            grid.clip_wavenumbers(grid.to_modal(jnp.log(nodal[3 * n :] / REFERENCE_PRESSURE))),
        )

    def to_grid(self, state: Spectral) -> Float[Array, "latitude longitude channel"]:
        """Transform a state in spectral space to fields on the grid."""
        grid = self.coords.horizontal
        # Winds have one more wavenumber than vorticity; without it the vorticity could not be recovered from them.
        u, v = vor_div_to_uv_nodal(grid, state.vorticity, state.divergence, clip=False)
        temperature = grid.to_nodal(state.temperature_variation) + REFERENCE_TEMPERATURE
        pressure = jnp.exp(grid.to_nodal(state.log_surface_pressure)) * REFERENCE_PRESSURE
        return jnp.concatenate([temperature, u / self._speed, v / self._speed, pressure]).T

    def equilibrium_temperature(self) -> Float[np.ndarray, "latitude longitude layer"]:
        """The temperature (K) to which Held and Suarez relax, where surface pressure is `REFERENCE_PRESSURE`."""
        pressure = jnp.ones((1, *self.coords.horizontal.nodal_shape))
        return np.asarray(self.forcing.equilibrium_temperature(pressure)).T

    @cached_property
    def _reference(self) -> np.ndarray:
        return np.full(self.layers, REFERENCE_TEMPERATURE)

    @cached_property
    def _speed(self) -> float:
        return float(self.units.nondimensionalize(1 * UNITS.meter / UNITS.second))

    def _keep_mass(self, before: Spectral, after: Spectral) -> Spectral:
        grid = self.coords.horizontal

        def mass(state: Spectral) -> Float[Array, " 1"]:
            # Relative to the mass for a surface pressure of 1 everywhere, which leaves more digits of float32.
            return grid.integrate(jnp.expm1(grid.to_nodal(state.log_surface_pressure)))

        area = 4 * np.pi * grid.radius**2
        gain = jnp.log1p((mass(before) - mass(after)) / (area + mass(after)))
        # In spectral space a constant c is sqrt(4 pi) c in the first coefficient.
        first = after.log_surface_pressure[:, 0, 0] + np.sqrt(4 * np.pi) * gain
        return after.replace(log_surface_pressure=after.log_surface_pressure.at[:, 0, 0].set(first))
