"""Single networks as one ensemble, and one member of an ensemble as a single network.

The members of `model.ensemble` learn the same frames in the same order. Networks that were trained by themselves may
differ in their labels too, or begin from one trained potential, and are joined afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import jax.numpy as jnp
import numpy as np
from flax import nnx

from data.errors import InputError
from data.structures.structures import Structures
from surrogates.potentials.atom_energies import References
from surrogates.potentials.distance_floor import shorter
from surrogates.potentials.energy import Fact
from surrogates.potentials.facts import PotentialFacts
from surrogates.potentials.fit import residual_of, with_posterior
from surrogates.potentials.heads import only_active
from surrogates.potentials.surrogate import PotentialSurrogate


def joined_members(
    members: Sequence[PotentialSurrogate], train: Structures, *, label_fingerprint: str
) -> PotentialSurrogate:
    """The ensemble of single networks; its answers are exactly the means of theirs.

    The reference energies of atoms are the means of those of the members. Where these learned different labels,
    standard deviations do not count what their reference energies differ by.

    Args:
        members: the networks, of which the active heads are kept; at least two.
        train: labelled frames that any member learned, for the domain; single atoms do not count.
        label_fingerprint: fingerprint of all these labels.

    Raises:
        InputError: they differ in their settings, their scale or their elements, are ensembles themselves, or learned
            differences to a simulator.
    """
    alone = [only_active(member) for member in members]
    kinds = {(one.facts.config, one.facts.scale, one.facts.references.elements) for one in alone}
    of_one = {facts.config.ensemble for facts in (one.facts for one in alone)} == {1}
    if len(alone) < 2 or len(kinds) > 1 or not of_one or any(one.facts.head.baseline is not None for one in alone):
        raise InputError(
            "an ensemble needs two or more single networks with the same settings, scale and elements, that learned no "
            "differences to a simulator",
            remedy="Train them by one recipe from one potential",
        )
    first = alone[0].facts
    heads = [one.facts.head for one in alone]
    references = References(
        first.references.elements,
        *(
            tuple(np.mean([getattr(head.references, name) for head in heads], axis=0).tolist())
            for name in ("bonded", "isolated")
        ),
    )
    charges = tuple(sorted({charge for head in heads for charge in head.charges}))
    head = replace(heads[0], references=references, charges=charges, labels_fingerprint=label_fingerprint)
    facts = PotentialFacts(
        replace(first.config, ensemble=len(alone)),
        first.scale,
        {first.active: replace(head, energy=None, forces=None)},
        first.active,
        began_from=first.began_from,
        shortest=reduce(shorter, (one.facts.shortest for one in alone)),
    )
    weights = [dict(nnx.to_flat_state(nnx.state(one.model))) for one in alone]
    graph, state = nnx.split(facts.model())
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        if not isinstance(leaf, Fact):
            leaf = leaf.replace(jnp.concatenate([each[path][...] for each in weights]))
        flat.append((path, leaf))
    model = nnx.merge(graph, nnx.from_flat_state(flat))
    bound = train.take(np.flatnonzero(~train.alone()))
    return with_posterior(model, facts, residual_of(bound, references).with_head(0), facts.config)


def one_member(potential: PotentialSurrogate, index: int = 0) -> PotentialSurrogate:
    """A member of an ensemble as a potential of its own, without error bars and domain."""
    facts = replace(
        potential.facts, config=replace(potential.facts.config, ensemble=1, committee=0), novelty=None, scores={}
    )
    weights = dict(nnx.to_flat_state(nnx.state(potential.model)))
    graph, state = nnx.split(facts.model())
    flat = []
    for path, leaf in nnx.to_flat_state(state):
        if not isinstance(leaf, Fact):
            leaf = leaf.replace(weights[path][...][index : index + 1])
        flat.append((path, leaf))
    return PotentialSurrogate(nnx.merge(graph, nnx.from_flat_state(flat)), facts, None, potential.baseline)
