"""A forecaster as a program of StableHLO: one step, from the past states and the time to the next ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from data.errors import InputError
from data.sphere.weather_layout import is_amount
from surrogates.forecasts.sun import later
from surrogates.forecasts.surrogate import ForecastSurrogate
from surrogates.stablehlo import Program


def programs(surrogate: ForecastSurrogate, sizes: Sequence[int], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """One program, and what the card says beside it.

    A step takes `past`, `days` and `seconds`, and returns them as the next step takes them, so that a forecast of any
    length repeats the program; `state` is the forecast. Each network goes its own way in `past`, which begins with the
    same states for all. Variables of `forcing` are replaced in `past` between steps. Blending with references, bands
    and the domain are left out.

    Args:
        surrogate: the surrogate.
        sizes: empty, because the grid is that of training.
        batch: forecasts of a batch.

    Raises:
        InputError: sizes are named, or the forecaster is a mixture.
    """
    if sizes:
        raise InputError("the grid is that of training", where="sizes", remedy="Leave it out")
    if surrogate.others:
        raise InputError(
            "a mixture of forecasters is no single program", where="surrogate",
            remedy="Export each of its forecasters, in members of its directory or where it was trained",
        )  # fmt: skip
    layout, model = surrogate.facts.layout, surrogate.model
    amounts = jnp.array([is_amount(c.variable) for c in layout.channels])

    def function(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        step = nnx.merge(surrogate._graph, jax.tree.map(jnp.asarray, surrogate._state))
        past, days, seconds = arrays["past"], arrays["days"], arrays["seconds"]
        new = step(past, days, seconds, arrays.get("noise"))
        mean = new.mean(axis=0)
        days, seconds = later(days, seconds, model.step_s)
        return {
            "past": jnp.concatenate([past[:, :, 1:], new[:, :, None]], axis=2),
            "days": days,
            "seconds": seconds,
            "state": jnp.where(amounts, jnp.maximum(mean, 0.0), mean),
        }

    shape = (*layout.grid.shape, len(layout.channels))
    inputs = {
        "past": jax.ShapeDtypeStruct((model.members, batch, model.frames, *shape), jnp.float32),
        "days": jax.ShapeDtypeStruct((batch,), jnp.int32),
        "seconds": jax.ShapeDtypeStruct((batch,), jnp.int32),
    }
    if model.noise:
        inputs["noise"] = jax.ShapeDtypeStruct((model.members, batch, model.noise), jnp.float32)
    meanings = {
        "past": "states of each network, the present one last (network, sample, time, latitude, longitude, channel)",
        "days": "days from 1970-01-01 to the present state, universal time",
        "seconds": "s; of the day of the present state",
        "state": "forecast, the mean of the networks (sample, latitude, longitude, channel)",
        "noise": "1; standard normal numbers, new ones in each step",
    }
    grid = layout.grid
    card = {
        "channels": [{"name": c.label, "units": layout.variable(c.variable).units} for c in layout.channels],
        "step_hours": layout.step_hours,
        "latitude": [float(v) for v in grid.latitude],
        "longitude": [float(v) for v in grid.longitude],
        "forcing": list(surrogate.facts.config.forcing),
        "blended": surrogate.facts.blend is not None,
    }
    return [Program("step", function, inputs, meanings)], card
