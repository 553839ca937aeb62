"""A surrogate of parameters as a program of StableHLO: from the columns of a table to numbers or curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.errors import InputError
from surrogates.parameters.surrogate import ParameterSurrogate
from surrogates.stablehlo import Program, refuse_few_digits


def programs(surrogate: ParameterSurrogate, sizes: Sequence[int], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """One program, and what the card says beside it.

    The outputs are the mean of the members and their standard deviation, before its calibration, in the units of the
    targets. Intervals and the domain are left out.

    Args:
        surrogate: the surrogate.
        sizes: empty, because rows have one size.
        batch: rows of a batch.

    Raises:
        InputError: sizes are named; the surrogate stands on another simulator; or float32 lacks digits for its values.
    """
    facts, quantities = surrogate.facts, surrogate.facts.quantities
    if sizes:
        raise InputError("rows of parameters have one size", where="sizes", remedy="Leave it out")
    if facts.on is not None:
        raise InputError(
            f"the surrogate takes the answers of {facts.on.name}, which no program has", where="surrogate",
            remedy="Train one without on",
        )  # fmt: skip
    scale, outputs = facts.inputs, facts.outputs
    logs, angular = np.array(scale.logarithmic), np.array(scale.angular)
    plain = [0.0 if log else mean for log, mean in zip(logs, scale.mean, strict=True)]
    refuse_few_digits(surrogate.columns, list(zip(plain, scale.scale, strict=True)))
    refuse_few_digits(surrogate.targets, list(zip(outputs.mean, outputs.scale, strict=True)))

    def features(values: jax.Array) -> jax.Array:
        # As `InputScale.apply` does. The least normal number of float32 takes the place of its smaller clip.
        taken = jnp.where(logs, jnp.log(jnp.where(logs, jnp.maximum(values, 1.2e-38), 1.0)), values)
        parts = [(taken - np.array(scale.mean, np.float32)) / np.array(scale.scale, np.float32)]
        for k in range(1, scale.harmonics + 1):
            parts += [jnp.sin(k * values[:, angular]), jnp.cos(k * values[:, angular])]
        if scale.products:
            first, second = np.triu_indices(len(scale.mean))
            parts.append(parts[0][:, first] * parts[0][:, second])
        return jnp.concatenate(parts, axis=1)

    def function(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        inputs = features(arrays["parameters"])
        members = nnx.merge(surrogate._graph, jax.tree.map(jnp.asarray, surrogate._state))(inputs)
        factor = np.array(outputs.scale, np.float32)
        value, std = jnp.mean(members, axis=0) * factor, jnp.std(members, axis=0) * factor
        value = value + np.array(outputs.mean, np.float32)
        if facts.line is not None:
            value += inputs @ np.array(facts.line.weights, np.float32).T + np.array(facts.line.offset, np.float32)
        for columns, floor in quantities.logarithms:
            value = value.at[:, columns].set(jnp.maximum(jnp.exp(value[:, columns]) - floor, 0.0))
        for columns, length in quantities.shares:
            groups = value[:, columns].reshape(value.shape[0], -1, length)
            total = groups.sum(axis=-1, keepdims=True)
            value = value.at[:, columns].set((groups / jnp.where(total > 0, total, 1.0)).reshape(value.shape[0], -1))
        for columns, floor in quantities.logarithms:
            std = std.at[:, columns].multiply(value[:, columns] + floor)
        return {"value": value, "std": std}

    layout = facts.layout
    targets = ", ".join(f"{v.name} in {v.units}" for v in layout.outputs)
    meanings = {
        "parameters": ", ".join(f"{v.name} in {v.units}" for v in layout.inputs) + "; the card names the columns",
        "value": f"mean of the members: {targets}; the card names the columns",
        "std": "standard deviation of the members, before calibration, in the units of the values",
    }
    shape = {"parameters": jax.ShapeDtypeStruct((batch, len(surrogate.columns)), jnp.float32)}
    low, high = facts.domain.low, facts.domain.high
    card = {
        "columns": list(surrogate.columns),
        "targets": list(surrogate.targets),
        "domain": {name: [a, b] for name, a, b in zip(surrogate.columns, low, high, strict=True)},
    }
    return [Program("table", function, shape, meanings)], card
