"""Potentials with other heads on the same body: one of several heads, or heads that begin with another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from flax import nnx

from surrogates.potentials.energy import EnergyModel, Fact
from surrogates.potentials.facts import PotentialFacts
from surrogates.potentials.surrogate import PotentialSurrogate


def only_active(potential: PotentialSurrogate, name: str | None = None) -> PotentialSurrogate:
    """The potential with its active head alone, which answers as before.

    It is what to keep of a training that began from the weights of another potential: the other heads stand on a body
    that has changed since they were tested.

    Args:
        potential: the potential.
        name: new name of the head; None for the old one.
    """
    facts = potential.facts
    alone = replace(facts, heads={name or facts.active: facts.head}, active=name or facts.active)
    model = with_heads(potential, alone, [facts.index])
    return PotentialSurrogate(model, alone, potential.last_layer, potential.baseline)


def with_heads(potential: PotentialSurrogate, facts: PotentialFacts, sources: Sequence[int]) -> EnergyModel:
    """The networks of a potential with heads that have the weights of some of its heads.

    Args:
        potential: gives the weights.
        facts: of the model; all but its heads and its scale is that of the potential.
        sources: for each head of `facts`, the index of a head of the potential.
    """
    graph, state = nnx.split(facts.model())
    weights = dict(nnx.to_flat_state(nnx.state(potential.model)))
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        if not isinstance(leaf, Fact):
            value = weights[path][...]
            # The first axis is that of members, the second that of heads.
            leaf = leaf.replace(jnp.asarray(value)[:, np.asarray(sources)] if "readout" in path else value)
        flat.append((path, leaf))
    model: EnergyModel = nnx.merge(graph, nnx.from_flat_state(flat))
    return model
