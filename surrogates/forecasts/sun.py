"""Position of the sun, and its light at the top of the atmosphere.

The formulas are the low-precision ones of the Astronomical Almanac, as in Michalsky 1988 (Solar Energy 40, 227), with
an error of 0.01 degrees between 1950 and 2050. Time is a day number and a second of the day, both whole numbers, so
that a rollout over years is exact in time.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

#: Solar constant in W/m2 at the mean distance of the Earth (Kopp and Lean 2011, Geophys. Res. Lett. 38, L01706).
SOLAR_CONSTANT = 1361.0
DAY_S = 86_400
#: Days from 1970-01-01 to 2000-01-01, from whose noon the formulas count.
EPOCH_DAY = 10_957


def clock(times: np.ndarray) -> tuple[Int[np.ndarray, " time"], Int[np.ndarray, " time"]]:
    """Day number since 1970-01-01 and second of the day (both int32) of datetime64 values."""
    seconds = times.astype("datetime64[s]").astype(np.int64)
    return (seconds // DAY_S).astype(np.int32), (seconds % DAY_S).astype(np.int32)


def later(days: Int[Array, " *n"], seconds: Int[Array, " *n"], step: int) -> tuple[Array, Array]:
    """Day and second after `step` seconds."""
    total = seconds + step % DAY_S
    return days + step // DAY_S + total // DAY_S, total % DAY_S


def insolation(
    days: Int[Array, " batch"],
    seconds: Int[Array, " batch"],
    latitude: Float[np.ndarray, " latitude"],
    longitude: Float[np.ndarray, " longitude"],
) -> Float[Array, "batch latitude longitude"]:
    """Sunlight in W/m2 on a horizontal surface at the top of the atmosphere.

    Args:
        days, seconds: universal time, see `clock`.
        latitude, longitude: coordinates in degrees.
    """
    hours = seconds.astype(jnp.float32) / 3600.0
    n = (days - EPOCH_DAY).astype(jnp.float32) + (hours - 12.0) / 24.0
    mean_longitude = (280.460 + 0.9856474 * n) % 360.0
    anomaly = jnp.deg2rad((357.528 + 0.9856003 * n) % 360.0)
    ecliptic = jnp.deg2rad(mean_longitude + 1.915 * jnp.sin(anomaly) + 0.020 * jnp.sin(2 * anomaly))
    obliquity = jnp.deg2rad(23.439)
    declination = jnp.arcsin(jnp.sin(obliquity) * jnp.sin(ecliptic))
    ascension = jnp.arctan2(jnp.cos(obliquity) * jnp.sin(ecliptic), jnp.cos(ecliptic))
    distance = 1.00014 - 0.01671 * jnp.cos(anomaly) - 0.00014 * jnp.cos(2 * anomaly)
    # The equation of time, wrapped to half a turn.
    lag = jnp.deg2rad(mean_longitude) - ascension
    lag = (lag + jnp.pi) % (2 * jnp.pi) - jnp.pi
    turn = 2 * jnp.pi * (hours - 12.0) / 24.0 + lag
    hour_angle = turn[:, None, None] + jnp.deg2rad(jnp.asarray(longitude, jnp.float32))[None, None]
    phi = jnp.deg2rad(jnp.asarray(latitude, jnp.float32))[None, :, None]
    delta = declination[:, None, None]
    cosine = jnp.sin(phi) * jnp.sin(delta) + jnp.cos(phi) * jnp.cos(delta) * jnp.cos(hour_angle)
    return SOLAR_CONSTANT / distance[:, None, None] ** 2 * jnp.maximum(cosine, 0.0)


def year_phase(days: Int[Array, " batch"]) -> Float[Array, "batch 2"]:
    """Sine and cosine of the phase in the tropical year."""
    angle = 2 * jnp.pi * ((days - EPOCH_DAY).astype(jnp.float32) % 365.2422) / 365.2422
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
