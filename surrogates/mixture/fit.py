"""Makes a mixture of trained surrogates: nothing is trained but the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from data.structures.structures import Structures
from surrogates.mixture.facts import ExpertFacts, MixtureConfig, MixtureFacts
from surrogates.mixture.gate import describe, fit_gate
from surrogates.mixture.surrogate import MixtureSurrogate


def fit_mixture_surrogate(
    experts: Mapping[str, Any], learned: Mapping[str, Structures], config: MixtureConfig
) -> MixtureSurrogate:
    """A mixture of trained surrogates, whose gate is fitted to what they have learned from.

    Args:
        experts: the surrogates by name.
        learned: structures that each has learned from, by the same names; at least one each.
        config: settings of the routing.
    """
    facts = MixtureFacts(config, tuple(expert_facts(name, expert, learned[name]) for name, expert in experts.items()))
    gate = facts.model()
    tables = [learned[name] for name in experts]
    inputs = np.concatenate([describe(t.composition(facts.elements), t.charge) for t in tables])
    fit_gate(gate, inputs, np.repeat(np.arange(len(tables)), [len(t) for t in tables]), config.strength)
    return MixtureSurrogate(gate, facts, list(experts.values()))


def expert_facts(name: str, expert: Any, learned: Structures) -> ExpertFacts:
    """What a mixture has to know of an expert.

    Args:
        name: name of the expert.
        expert: a trained surrogate of geometries.
        learned: structures that it has learned from.
    """
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(nnx.state(expert.model, nnx.Param)))
    return ExpertFacts(
        name,
        expert.KIND,
        expert.fingerprint,
        expert.labels_fingerprint,
        learned.elements,
        tuple(sorted(set(learned.charge.tolist()))),
        parameters,
    )
