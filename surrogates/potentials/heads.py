"""A potential with one head of several: the same body, without the weights and references of the other heads."""

from __future__ import annotations

from dataclasses import replace

from flax import nnx

from surrogates.potentials.energy import Fact
from surrogates.potentials.surrogate import PotentialSurrogate


def only_active(potential: PotentialSurrogate) -> PotentialSurrogate:
    """The potential with its active head alone, which answers as before.

    It is what to keep of a training that began from the weights of another potential: the other heads stand on a body
    that has changed since they were tested.
    """
    facts, index = potential.facts, potential.facts.index
    alone = replace(facts, heads={facts.active: facts.head})
    fresh = alone.model()
    graph, state = nnx.split(fresh)
    trained = dict(nnx.to_flat_state(nnx.state(potential.model)))
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        if isinstance(leaf, Fact):
            flat.append((path, leaf))
            continue
        value = trained[path][...]
        if "readout" in path and value.shape != leaf[...].shape:
            # The first axis is that of members, the second that of heads.
            value = value[:, index : index + 1]
        flat.append((path, leaf.replace(value)))
    model = nnx.merge(graph, nnx.from_flat_state(flat))
    return PotentialSurrogate(model, alone, potential.last_layer, potential.baseline)
