"""Interpolation between sigma layers and pressure levels, and the geopotential of a dry atmosphere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr
from dinosaur.primitive_equations import get_geopotential_on_sigma
from dinosaur.sigma_coordinates import SigmaCoordinates
from dinosaur.vertical_interpolation import (
    PressureCoordinates,
    interp_pressure_to_sigma,
    interp_sigma_to_pressure,
    vectorize_vertical_interpolation,
)
from jaxtyping import Array, Float

from simulators.atmosphere.core.budgets import GAS_CONSTANT, GRAVITY

PASCAL_PER_HPA = 100.0


def _logarithmic(x: Array, xp: Array, fp: Array) -> Array:
    return jnp.interp(jnp.log(x), jnp.log(jnp.asarray(xp)), fp)


#: Interpolation linear in the logarithm of pressure, constant beyond the first and last value.
_INTERPOLATE = vectorize_vertical_interpolation(_logarithmic)


def geopotential(
    temperature: Float[np.ndarray, "layer latitude longitude"], edges: Float[np.ndarray, " layer+1"]
) -> Float[np.ndarray, "layer latitude longitude"]:
    """Geopotential (m2/s2) at the middle of each layer above flat ground, by the core's hydrostatic equation.

    Args:
        temperature: temperature of each layer, K.
        edges: sigma at the edges of the layers.
    """
    potential = get_geopotential_on_sigma(
        jnp.asarray(temperature, jnp.float32),
        nodal_orography=jnp.zeros((1, *temperature.shape[1:])),
        sigma=SigmaCoordinates(edges),
        gravity_acceleration=GRAVITY,
        ideal_gas_constant=GAS_CONSTANT,
    )
    return np.asarray(potential, np.float32)


def sigma_to_pressure(
    fields: Mapping[str, Float[np.ndarray, "layer latitude longitude"]],
    surface_pressure: Float[np.ndarray, "latitude longitude"],
    edges: Float[np.ndarray, " edge"],
    levels: Sequence[float],
) -> dict[str, Float[np.ndarray, "level latitude longitude"]]:
    """Interpolate fields from sigma layers to pressure levels, linearly in the logarithm of pressure.

    Above the middle of the top layer and below the middle of the lowest (also below the ground) fields are constant,
    except geopotential, which is extrapolated hydrostatically with the temperature of that layer.

    Args:
        fields: name -> field on the layers; `geopotential` requires `temperature` (K).
        surface_pressure: surface pressure, Pa.
        edges: sigma at the edges of the layers.
        levels: pressure levels, hPa.
    """
    pressure = PASCAL_PER_HPA * np.asarray(levels, float)
    sigma = SigmaCoordinates(edges)
    interpolated = interp_sigma_to_pressure(
        {k: jnp.asarray(v) for k, v in fields.items()},
        PressureCoordinates(pressure),
        sigma,
        jnp.asarray(surface_pressure)[None],
        _INTERPOLATE,
    )
    at_levels = {k: np.asarray(v, np.float32) for k, v in interpolated.items()}
    if "geopotential" in at_levels:
        reached = np.log(pressure[:, None, None] / np.asarray(surface_pressure, float))
        beyond = reached - np.clip(reached, *np.log(sigma.centers[[0, -1]]))
        at_levels["geopotential"] = (
            at_levels["geopotential"] - GAS_CONSTANT * at_levels["temperature"] * beyond
        ).astype(np.float32)
    return at_levels


def pressure_to_sigma(
    fields: Mapping[str, Float[np.ndarray, "level latitude longitude"]],
    surface_pressure: Float[np.ndarray, "latitude longitude"],
    levels: Sequence[float],
    edges: Float[np.ndarray, " edge"],
) -> dict[str, Float[np.ndarray, "layer latitude longitude"]]:
    """Interpolate fields from pressure levels (hPa) to sigma layers; beyond the outermost levels they are constant."""
    layered = interp_pressure_to_sigma(
        {k: jnp.asarray(v) for k, v in fields.items()},
        PressureCoordinates(PASCAL_PER_HPA * np.asarray(levels, float)),
        SigmaCoordinates(edges),
        jnp.asarray(surface_pressure)[None],
        _INTERPOLATE,
    )
    return {k: np.asarray(v, np.float32) for k, v in layered.items()}


def answer_fields(
    state: xr.Dataset, edges: Float[np.ndarray, " edge"], levels: Sequence[float], with_geopotential: bool
) -> dict[str, Float[np.ndarray, "*level latitude longitude"]]:
    """The arrays of an answer from a state on sigma layers, interpolated to pressure levels (hPa) if any are set."""
    layered = {str(k): v.values for k, v in state.data_vars.items() if k != "surface_pressure"}
    if with_geopotential:
        layered["geopotential"] = geopotential(layered["temperature"], edges)
    pressure = state["surface_pressure"].values
    if levels:
        layered = sigma_to_pressure(layered, pressure, edges, levels)
    return {**layered, "surface_pressure": pressure}
