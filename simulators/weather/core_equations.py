"""dinosaur's equations of the atmosphere between grid and spectral space: one step of time, and the way in and out.

Fields on the grid are in SI units, with axes (latitude, longitude, channel); dinosaur's are dimensionless, with axes
(layer, longitude, latitude) or, in spectral space, (layer, zonal, total wavenumber). Kochkov et al., Neural general
circulation models, Nature 632 (2024), describe the discretisation; steps are SIL3 of Whitaker and Kar (Mon. Weather
Rev. 141, 2013), which takes gravity waves implicitly.
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

from simulators.weather.core_settings import gaussian_rows

#: Of the resting atmosphere and of the linear terms, K (Held and Suarez 1994 leave it open; dinosaur has it so).
REFERENCE_TEMPERATURE = 288.0
#: Of the resting atmosphere, Pa.
REFERENCE_PRESSURE = 1e5
#: A state in spectral space: one of dinosaur's structures of arrays.
Spectral = Any
UNITS = scales.units


def constants() -> SimUnits:
    """Physical constants of the Earth, without dimension.

    The scale of mass makes `REFERENCE_PRESSURE` 1, so that the logarithm of surface pressure is near 0, where float32
    is finest: with dinosaur's own, it is 45 and pressure is known to 4e-6 at best.
    """
    mass = REFERENCE_PRESSURE * UNITS.pascal * scales.RADIUS / (2 * scales.OMEGA) ** 2
    return SimUnits.from_si(
        scale=scales.Scale(scales.RADIUS, 1 / 2 / scales.OMEGA, mass.to(UNITS.kilogram), 1 * UNITS.degK)
    )


def spherical_grid(truncation: int) -> Grid:
    """dinosaur's Gaussian grid of a truncation."""
    return Grid.construct(truncation, gaussian_rows(truncation) // 2, spherical_harmonics_impl=FastSphericalHarmonics)


class SpectralEquations(Protocol):
    """What `simulators.weather.core_run.SpectralRun` takes forward."""

    def to_spectral(self, fields: Float[Array, "latitude longitude channel"]) -> Spectral:
        """A state on the grid, truncated."""
        ...

    def to_grid(self, state: Spectral) -> Float[Array, "latitude longitude channel"]:
        """Its fields."""
        ...

    @property
    def step(self) -> Callable[[Spectral], Spectral]:
        """The state one time step later."""
        ...


@dataclass(frozen=True)
class Diffusion:
    """Hyperdiffusion of all fields, applied after each step.

    Attributes:
        hours: in which the smallest wave falls by a factor of e.
        order: power of the Laplacian.
    """

    hours: float
    order: int

    def filter(self, grid: Grid, step: float, units: SimUnits) -> Any:
        """dinosaur's filter of a step, whose length is without dimension."""
        hours = units.nondimensionalize(self.hours * UNITS.hour)
        return time_integration.horizontal_diffusion_step_filter(grid, step, hours, order=self.order)


@dataclass(frozen=True)
class PrimitiveEquations:
    """Dry hydrostatic primitive equations on sigma layers above a flat planet.

    Channels: temperature (K), eastward and northward wind (m/s) of each layer from the top, and surface pressure (Pa).

    Attributes:
        truncation: largest wavenumber, triangular.
        boundaries: sigma at the edges of layers.
        step_minutes: of time.
        held_suarez: whether to force as Held and Suarez (Bull. Am. Meteorol. Soc. 75, 1994).
        diffusion: of all fields.
        conserve_mass: whether each step adds a constant to the logarithm of surface pressure that keeps the mass of
            the atmosphere. The logarithm as a variable does not conserve it: about 1e-6 of it is lost a day.
    """

    truncation: int
    boundaries: tuple[float, ...]
    step_minutes: float
    held_suarez: bool
    diffusion: Diffusion
    conserve_mass: bool = True

    @property
    def layers(self) -> int:
        """How many."""
        return len(self.boundaries) - 1

    @cached_property
    def units(self) -> SimUnits:
        """Constants and scales."""
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
        # The forcing fills the one total wavenumber beyond the truncation, which a state on the grid cannot give back.
        filters = [lambda _, after: grid.clip_wavenumbers(after), self.diffusion.filter(grid, seconds, self.units)]
        if self.conserve_mass:
            filters.append(self._keep_mass)
        equation = time_integration.compose_equations(terms)
        return time_integration.step_with_filters(time_integration.imex_rk_sil3(equation, seconds), filters)

    def to_spectral(self, fields: Float[Array, "latitude longitude channel"]) -> Spectral:
        """A state on the grid, truncated."""
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
        """Its fields."""
        grid = self.coords.horizontal
        # Winds have one wavenumber more than vorticity; without it they would not give the vorticity back.
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

        def mass(state: Spectral) -> Float[Array, 1]:
            # Less what a surface pressure of 1 everywhere gives, so that float32 holds the rest with more digits.
            return grid.integrate(jnp.expm1(grid.to_nodal(state.log_surface_pressure)))

        area = 4 * np.pi * grid.radius**2
        gain = jnp.log1p((mass(before) - mass(after)) / (area + mass(after)))
        # A constant c is sqrt(4 pi) c in the first coefficient.
        first = after.log_surface_pressure[:, 0, 0] + np.sqrt(4 * np.pi) * gain
        return after.replace(log_surface_pressure=after.log_surface_pressure.at[:, 0, 0].set(first))
