"""Conserved quantities of an atmosphere: mass and, without forcing, energy and axial angular momentum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from data.errors import InputError
from data.sphere.weather_layout import LATITUDE, LEVEL, LONGITUDE, SIGMA_UNITS, WeatherGrid

#: Radius (m), angular velocity (1/s) and gravity (m/s2) of the Earth, with the values that dinosaur uses.
RADIUS, ROTATION, GRAVITY = 6.37122e6, 7.292e-5, 9.80616
#: Specific heat at constant pressure and gas constant of dry air, J/(kg K), with the values that dinosaur uses.
HEAT_CAPACITY, GAS_CONSTANT = 1004.0, 1004.0 * 2 / 7


@dataclass(frozen=True)
class Budgets:
    """Integrals over an atmosphere above flat ground.

    Attributes:
        mass: total mass, kg.
        energy: internal and potential energy (the integral of heat capacity x temperature) plus kinetic energy, J.
        angular_momentum: axial angular momentum of the wind and of the planet's rotation, kg m2/s.
        wind_momentum: axial angular momentum of the wind alone, about a hundredth of the total, kg m2/s.
    """

    mass: float
    energy: float
    angular_momentum: float
    wind_momentum: float


def areas(grid: WeatherGrid) -> Float[np.ndarray, "latitude longitude"]:
    """Area of each grid point, m2: by Gaussian weights on a Gaussian grid, else by the areas of its cells."""
    rows, columns = grid.shape
    sines, weights = np.polynomial.legendre.leggauss(rows)
    sphere = 4 * np.pi * RADIUS**2
    if np.allclose(np.rad2deg(np.arcsin(sines)), grid.latitude, atol=1e-3):
        return np.repeat(weights[:, None] / (2 * columns), columns, axis=1) * sphere
    return grid.weights / grid.weights.sum() * sphere


def layer_edges(sigma: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer+1"]:
    """Edges of the layers with these midpoints, from 0 at the top; InputError if the lowest layer does not end at 1."""
    edges = np.zeros(len(sigma) + 1)
    for i, middle in enumerate(sigma):
        edges[i + 1] = 2 * middle - edges[i]
    if abs(edges[-1] - 1) > 1e-4 or not (np.diff(edges) > 0).all():
        raise InputError(
            "its levels are not the midpoints of sigma layers", where=LEVEL, remedy="Use all layers of a core"
        )
    return edges


def budgets(state: xr.Dataset, edges: Float[np.ndarray, " edge"] | None = None) -> Budgets:
    """The budgets of one state on sigma layers, in the names and units of `data.sphere.weather_layout`.

    Args:
        state: temperature, winds and surface pressure at one time.
        edges: sigma at the edges of the layers; None: computed from the levels of the state.

    Raises:
        InputError: it is on pressure levels.
    """
    if state[LEVEL].attrs.get("units", SIGMA_UNITS) != SIGMA_UNITS:
        raise InputError("a budget needs sigma layers", where=LEVEL, remedy="Set simulator.levels=[]")
    edges = layer_edges(np.asarray(state[LEVEL].values, float)) if edges is None else edges
    grid = WeatherGrid(*(tuple(float(v) for v in state[d].values) for d in (LATITUDE, LONGITUDE)))

    def values(name: str) -> Float[np.ndarray, "*layer latitude longitude"]:
        dims = (LEVEL, LATITUDE, LONGITUDE) if LEVEL in state[name].dims else (LATITUDE, LONGITUDE)
        return state[name].transpose(*dims).values.astype(np.float64)

    column = values("surface_pressure") / GRAVITY * areas(grid)
    mass = np.diff(edges)[:, None, None] * column
    u, v = values("u_component_of_wind"), values("v_component_of_wind")
    arm = RADIUS * np.cos(np.deg2rad(grid.latitude))[:, None]
    wind = float((mass * u * arm).sum())
    return Budgets(
        mass=float(column.sum()),
        energy=float((mass * (HEAT_CAPACITY * values("temperature") + (u**2 + v**2) / 2)).sum()),
        angular_momentum=wind + float((column * ROTATION * arm**2).sum()),
        wind_momentum=wind,
    )
