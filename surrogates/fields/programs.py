"""A field surrogate as a program of StableHLO: from the inputs to the mean answer, on the grid of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from data.errors import InputError
from surrogates.fields.surrogate import FieldSurrogate
from surrogates.stablehlo import Program


def programs(surrogate: FieldSurrogate, sizes: Sequence[int], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """One program, and what the card says beside it.

    The answer is the mean of the members, in the units of the samples; bands and the domain are left out.

    Args:
        surrogate: the surrogate.
        sizes: empty, because the grid is that of training.
        batch: samples of a batch.

    Raises:
        InputError: sizes are named; the surrogate stands on a cheaper method; or float32 lacks digits for its values.
    """
    facts, layout = surrogate.facts, surrogate.facts.layout
    if sizes:
        raise InputError("the grid is that of training", where="sizes", remedy="Leave it out")
    if facts.coarse is not None or facts.on is not None:
        raise InputError(
            f"the surrogate takes the answers of {'a coarse solver' if facts.on is None else facts.on.name}, which no "
            "program has", where="surrogate", remedy="Train one without on",
        )  # fmt: skip
    units = facts.units
    if units is not None and (units.states.delicate or units.static.delicate):
        raise InputError(
            "its values differ by too little for float32, in which programs take and give them", where="surrogate",
            remedy="Train it on values without their mean, in units in which they are near 1",
        )  # fmt: skip
    steps = len(layout.axis("time").values) - 1 + layout.lead if layout.evolves else 0

    def function(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        samples = next(iter(arrays.values())).shape[0]
        initial = arrays.get("initial", jnp.zeros((samples, *layout.points, layout.channels), jnp.float32))
        static = arrays.get("static", jnp.zeros((samples, *layout.points, 0), jnp.float32))
        parameters = arrays.get("parameters", jnp.zeros((samples, 0), jnp.float32))
        return {"answer": surrogate.predict_traced(initial, static, parameters, steps)[:, layout.lead :]}

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *shape), jnp.float32)

    inputs: dict[str, jax.ShapeDtypeStruct] = {}
    space = ", ".join(layout.space)
    meanings = {"answer": f"{layout.output.units}; {layout.output.name} (sample, time, {space}, channel)"}
    if layout.initial is not None:
        inputs["initial"] = array(*layout.points, layout.channels)
        meanings["initial"] = f"{layout.initial.units}; {layout.initial.name} (sample, {space}, channel)"
    if layout.static:
        inputs["static"] = array(*layout.points, len(layout.static))
        meanings["static"] = f"(sample, {space}, field): " + ", ".join(f"{v.name} in {v.units}" for v in layout.static)
    if layout.parameters:
        inputs["parameters"] = array(len(layout.parameters))
        meanings["parameters"] = ", ".join(f"{v.name} in {v.units}" for v in layout.parameters)
    grid = {
        axis.name: [float(v) if isinstance(v, int | float) else str(v) for v in axis.values] for axis in layout.axes
    }
    return [Program("grid", function, inputs, meanings)], {"axes": grid, "steps": steps}
