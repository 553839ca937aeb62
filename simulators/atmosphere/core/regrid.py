"""Regridding of a dynamical core's states between Gaussian grids, by truncation in spectral space."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.sphere.weather_layout import WeatherGrid, WeatherLayout
from simulators.atmosphere.core.settings import gaussian_grid, truncation_of

WINDS = ("u_component_of_wind", "v_component_of_wind")


def regrid(
    states: Float[np.ndarray, "*lead latitude longitude channel"],
    from_layout: WeatherLayout,
    to_layout: WeatherLayout,
) -> Float[np.ndarray, "*lead rows columns channel"]:
    """Regrid states to another Gaussian grid, float32, keeping the waves up to the smaller of the two truncations.

    Winds are regridded as vorticity and divergence and surface pressure as its logarithm, the variables of the core.

    Args:
        states: states in `from_layout`.
        from_layout, to_layout: layouts with the same channels, on Gaussian grids.

    Raises:
        InputError: the channels differ, or a grid is not Gaussian.
    """
    import jax.numpy as jnp
    from dinosaur.coordinate_systems import CoordinateSystem, get_spectral_interpolate_fn
    from dinosaur.sigma_coordinates import SigmaCoordinates
    from dinosaur.spherical_harmonic import uv_nodal_to_vor_div_modal, vor_div_to_uv_nodal

    from simulators.atmosphere.core.equations import spherical_grid

    if from_layout.channels != to_layout.channels:
        raise InputError("the channels of the two layouts differ", where="regrid", remedy="Use the same levels")
    flat = SigmaCoordinates(np.array([0.0, 1.0]))
    source, target = (
        CoordinateSystem(spherical_grid(_truncation(layout.grid)), flat) for layout in (from_layout, to_layout)
    )
    move = get_spectral_interpolate_fn(source, target)
    old, new = source.horizontal, target.horizontal
    lead = np.shape(states)[:-3]
    fields = jnp.asarray(states, jnp.float32).reshape((-1, *np.shape(states)[-3:]))
    nodal = jnp.moveaxis(fields, (1, 2, 3), (3, 2, 1))
    regridded = [jnp.zeros(0)] * nodal.shape[1]
    pairs = dict(zip(*(from_layout.index(name) for name in WINDS), strict=True))
    for u, v in pairs.items():
        waves = (new.clip_wavenumbers(move(x)) for x in uv_nodal_to_vor_div_modal(old, nodal[:, u], nodal[:, v]))
        regridded[u], regridded[v] = vor_div_to_uv_nodal(new, *waves, clip=False)
    for index, channel in enumerate(from_layout.channels):
        if channel.variable in WINDS:
            continue
        logarithmic = channel.variable == "surface_pressure"
        field = jnp.log(nodal[:, index]) if logarithmic else nodal[:, index]
        moved = new.to_nodal(new.clip_wavenumbers(move(old.clip_wavenumbers(old.to_modal(field)))))
        regridded[index] = jnp.exp(moved) if logarithmic else moved
    array = np.asarray(jnp.moveaxis(jnp.stack(regridded, axis=1), (1, 2, 3), (3, 2, 1)), np.float32)
    return array.reshape((*lead, *array.shape[1:]))


def _truncation(grid: WeatherGrid) -> int:
    truncation = truncation_of(grid.shape[0])
    gaussian = gaussian_grid(truncation)
    if gaussian.shape != grid.shape or not (
        np.allclose(gaussian.latitude, grid.latitude, atol=1e-3)
        and np.allclose(gaussian.longitude, grid.longitude, atol=1e-3)
    ):
        raise InputError(
            f"{grid.shape[0]} x {grid.shape[1]} points are no Gaussian grid of a core",
            where="regrid",
            remedy="Use that of simulators.atmosphere.core.settings.gaussian_grid",
        )
    return truncation
