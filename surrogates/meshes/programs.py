"""A mesh surrogate as programs of StableHLO: from padded graphs of meshes to fields at nodes and global scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.errors import InputError
from data.meshes.graphs import EDGES_PER_NODE, MeshBatch
from surrogates.meshes.surrogate import MeshSurrogate
from surrogates.stablehlo import Program, refuse_few_digits


def programs(surrogate: MeshSurrogate, sizes: Sequence[int], batch: Any) -> tuple[list[Program], dict[str, Any]]:
    """One program for each padded number of nodes, and what the card says beside them.

    The inputs are those of `data.meshes.graphs.pad`, with parameters in their units. The outputs are the mean of the
    members and their standard deviation, before its calibration; 0 at padding. Intervals and the domain are left out.

    Args:
        surrogate: the surrogate.
        sizes: padded numbers of nodes.
        batch: meshes of a batch.

    Raises:
        InputError: no size is named; the surrogate stands on a cheaper method; or float32 lacks digits for its values.
    """
    facts, layout, scale = surrogate.facts, surrogate.facts.layout, surrogate.facts.scale
    if facts.on is not None:
        raise InputError(
            f"the surrogate takes the answers of {facts.on.name}, which no program has", where="surrogate",
            remedy="Train one without on",
        )  # fmt: skip
    if not sizes or min(sizes) < 1:
        raise InputError("the numbers of nodes are not named", where="sizes", remedy="Give sizes=[1024], for example")
    groups = (scale.parameters, scale.fields, scale.scalars)
    names = ([v.name for v in layout.parameters], layout.channels, [v.name for v in layout.scalars])
    for columns, pairs in zip(names, groups, strict=True):
        refuse_few_digits(columns, pairs)
    (p_mean, p_std), (f_mean, f_std), (s_mean, s_std) = (np.array(g, np.float32).reshape(-1, 2).T for g in groups)

    def function(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        meshes, nodes = arrays["node_features"].shape[:2]
        mask = arrays["node_mask"]
        parameters = (arrays["parameters"] - p_mean) / p_std if p_mean.size else jnp.zeros((meshes, 0), jnp.float32)
        spread = jnp.broadcast_to(parameters[:, None], (meshes, nodes, p_mean.size)) * mask[..., None]
        graphs = MeshBatch(
            jnp.concatenate([arrays["node_features"], spread], axis=2),
            arrays["edge_features"], arrays["senders"], arrays["receivers"], mask, arrays["edge_mask"],
            mask.any(axis=1), jnp.zeros((meshes, nodes, 0)), jnp.zeros((meshes, 0)),
        )  # fmt: skip
        fields, scalars = nnx.merge(surrogate._graph, jax.tree.map(jnp.asarray, surrogate._state))(graphs)
        answer: dict[str, jax.Array] = {}
        if f_mean.size:
            answer["fields"] = jnp.where(mask[..., None], f_mean + f_std * fields.mean(0), 0.0)
            answer["fields_std"] = jnp.where(mask[..., None], f_std * fields.std(0), 0.0)
        if s_mean.size:
            answer["scalars"] = jnp.asarray(s_mean + s_std * scalars.mean(0))
            answer["scalars_std"] = jnp.asarray(s_std * scalars.std(0))
        return answer

    def shapes(nodes: int) -> dict[str, jax.ShapeDtypeStruct]:
        edges = EDGES_PER_NODE * nodes
        inputs = {
            "node_features": jax.ShapeDtypeStruct((batch, nodes, 2 * layout.kinds - 1), jnp.float32),
            "edge_features": jax.ShapeDtypeStruct((batch, edges, layout.plane + 1), jnp.float32),
            "senders": jax.ShapeDtypeStruct((batch, edges), jnp.int32),
            "receivers": jax.ShapeDtypeStruct((batch, edges), jnp.int32),
            "node_mask": jax.ShapeDtypeStruct((batch, nodes), jnp.bool_),
            "edge_mask": jax.ShapeDtypeStruct((batch, edges), jnp.bool_),
        }
        if p_mean.size:
            inputs["parameters"] = jax.ShapeDtypeStruct((batch, p_mean.size), jnp.float32)
        return inputs

    fields = ", ".join(f"{name} in {units}" for name, units in zip(layout.channels, _units(surrogate), strict=True))
    scalars = ", ".join(f"{v.name} in {v.units}" for v in layout.scalars)
    meanings = {
        "node_features": "1; one-hot kind of the node, distances to kinds 1, 2, ... in units of length; 0 for padding",
        "edge_features": "1; receiver minus sender and the length of this step, in units of length; 0 for padding",
        "senders": "1; node at which each edge begins; each edge in both directions",
        "receivers": "1; node at which each edge ends",
        "node_mask": "1; whether there is a node",
        "edge_mask": "1; whether there is an edge",
        "parameters": ", ".join(f"{v.name} in {v.units}" for v in layout.parameters),
        "fields": f"mean of the members: {fields}",
        "fields_std": f"standard deviation of the members, before calibration: {fields}",
        "scalars": f"mean of the members: {scalars}",
        "scalars_std": f"standard deviation of the members, before calibration: {scalars}",
    }
    card = {"length": scale.length, "length_units": layout.geometry[0].units, "kinds": layout.kinds}
    return [Program(f"nodes-{n}", function, shapes(n), meanings) for n in sorted(set(sizes))], card


def _units(surrogate: MeshSurrogate) -> list[str]:
    """The unit of each channel of the fields."""
    layout = surrogate.facts.layout
    return [v.units for v in layout.fields for _ in range(layout.width(v))]
