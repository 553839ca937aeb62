"""Test states of the shallow-water equations: a steady flow, a wave, and a jet that breaks up.

Williamson et al., J. Comput. Phys. 102 (1992), 211, tests 2 and 6; Galewsky, Scott and Polvani, Tellus A 56 (2004),
429. Arrays are (latitude, longitude, channel): eastward and northward wind (m/s), thickness of the layer (m).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from data.sphere.weather_layout import WeatherGrid
from simulators.atmosphere.core.budgets import GRAVITY, RADIUS, ROTATION

if TYPE_CHECKING:
    from simulators.atmosphere.shallow_water.equations import ShallowWaterEquations


def steady_zonal_flow(
    grid: WeatherGrid, wind: float = 2 * np.pi * RADIUS / (12 * 86400), thickness: float = 2.94e4 / GRAVITY
) -> Float[np.ndarray, "latitude longitude 3"]:
    """Williamson's test 2, a steady solution: an eastward wind `wind` x cos(latitude) in balance with the thickness.

    Args:
        grid: grid of the state.
        wind: wind at the equator, m/s; the default goes once around the Earth in 12 days.
        thickness: thickness of the layer at the equator, m.
    """
    latitude = np.deg2rad(grid.latitude)[:, None] * np.ones(grid.shape)
    u = wind * np.cos(latitude)
    h = thickness - (RADIUS * ROTATION * wind + wind**2 / 2) * np.sin(latitude) ** 2 / GRAVITY
    return np.stack([u, np.zeros_like(u), h], axis=-1).astype(np.float32)


def rossby_haurwitz_wave(
    grid: WeatherGrid, wavenumber: int = 4, rate: float = 7.848e-6, thickness: float = 8000.0
) -> Float[np.ndarray, "latitude longitude 3"]:
    """Williamson's test 6: a wave that travels eastward almost unchanged for days.

    Args:
        grid: grid of the state.
        wavenumber: waves along a circle of latitude.
        rate: angular velocity of the flow and of the wave, 1/s.
        thickness: thickness of the layer at the poles, m.
    """
    n, k, omega = wavenumber, rate, rate
    longitude, latitude = np.meshgrid(np.deg2rad(grid.longitude), np.deg2rad(grid.latitude))
    c, s = np.cos(latitude), np.sin(latitude)
    u = RADIUS * (omega * c + k * c ** (n - 1) * (n * s**2 - c**2) * np.cos(n * longitude))
    v = -RADIUS * k * n * c ** (n - 1) * s * np.sin(n * longitude)
    mean = omega / 2 * (2 * ROTATION + omega) * c**2 + k**2 / 4 * (
        (n + 1) * c ** (2 * n + 2) + (2 * n**2 - n - 2) * c ** (2 * n) - 2 * n**2 * c ** (2 * n - 2)
    )
    first = 2 * (ROTATION + omega) * k / ((n + 1) * (n + 2)) * c**n * ((n**2 + 2 * n + 2) - (n + 1) ** 2 * c**2)
    second = k**2 / 4 * c ** (2 * n) * ((n + 1) * c**2 - (n + 2))
    h = thickness + RADIUS**2 / GRAVITY * (mean + first * np.cos(n * longitude) + second * np.cos(2 * n * longitude))
    return np.stack([u, v, h], axis=-1).astype(np.float32)


def perturbed_jet(
    equations: ShallowWaterEquations, speed: float, latitude: float, longitude: float, height: float
) -> Float[np.ndarray, "latitude longitude 3"]:
    """A westerly jet of middle latitudes in balance, with a bump of thickness that makes it break up within days.

    Args:
        equations: equations of the core, which define the grid.
        speed: largest wind of the jet, m/s; 80 in the paper.
        latitude, longitude: centre of the bump, degrees; 45 and 0 in the paper.
        height: height of the bump, m; 120 in the paper.
    """
    import jax
    import jax.numpy as jnp
    from dinosaur import shallow_water_states as published

    from simulators.atmosphere.core.equations import UNITS

    grid, nondimensional = equations.coords.horizontal, equations.units.nondimensionalize
    settings = published.get_default_parameters()._replace(
        jet_max_velocity=np.array(speed) * UNITS.meter / UNITS.second,
        bump_lat_location=np.array(np.deg2rad(latitude)) * UNITS.radian,
        bump_lon_location=np.array(np.deg2rad(longitude)) * UNITS.radian,
        bump_height_scale=np.array(height) * UNITS.meter,
    )
    parameters = jax.tree.map(nondimensional, settings)
    east, north = grid.nodal_mesh[0], np.arcsin(grid.nodal_mesh[1])
    wind = published.get_zonal_velocity(north, parameters)
    steady = published.multi_layer(jnp.asarray(wind)[None], np.ones(1), equations.coords)
    bump = published.get_height(east, north, parameters) * equations.units.g
    potential = grid.clip_wavenumbers(steady.potential + grid.to_modal(bump))
    state = steady.replace(vorticity=grid.clip_wavenumbers(steady.vorticity), potential=potential)
    return np.asarray(equations.to_grid(state), np.float32)
