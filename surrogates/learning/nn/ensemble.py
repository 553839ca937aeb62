"""Ensembles of networks of one shape with different initial weights, stacked along the first axis of each weight.

The members run side by side in one program (Lakshminarayanan et al. 2017, arXiv:1612.01474). The spread of their
answers shows what the training data left open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

Network = TypeVar("Network", bound=nnx.Module)


def stack_members(make: Callable[[nnx.Rngs], Network], members: int, rngs: nnx.Rngs) -> Network:
    """Networks that differ in their initial weights, as one module whose weights have a leading axis of members.

    Args:
        make: makes one network.
        members: number of networks.
        rngs: random keys, of which every network gets its own.
    """
    with nnx.split_rngs(rngs, splits=members):
        keys = {name: stream.key[...] for name, stream in rngs.items()}
        if any(isinstance(key, jax.core.Tracer) for key in keys.values()):
            traced: Network = nnx.vmap(make, in_axes=(0,), out_axes=0)(rngs)
            return traced
        # One by one, and not by `nnx.vmap`, so that initial weights are drawn by the few programs of `initial`.
        words = {name: (np.asarray(jax.random.key_data(key)), jax.random.key_impl(key)) for name, key in keys.items()}
    each = [
        make(nnx.Rngs(**{name: jax.random.wrap_key_data(word[i], impl=impl) for name, (word, impl) in words.items()}))
        for i in range(members)
    ]
    graph, weights = nnx.split(each[0])
    weights = jax.tree.map(lambda *leaves: jax.device_put(np.stack(leaves)), weights, *map(nnx.state, each[1:]))
    stack: Network = nnx.merge(graph, weights)
    return stack


def apply_members(networks: Network, members: int, apply: Callable[..., Any], *arguments: Any) -> Any:
    """Apply a function to every network of a stack.

    Args:
        networks: the stack; see `stack_members`.
        members: number of networks.
        apply: function of one network and of its share of the arguments.
        arguments: pytrees of arrays whose first axis is that of the members; None is passed on as it is.

    Returns:
        What `apply` returns, with an axis of members first. A single network runs without `jax.vmap`, which makes some
        programs slower.
    """
    graph, weights = nnx.split(networks)
    if members == 1:
        answer = apply(first_member(networks), *jax.tree.map(lambda array: array[0], arguments))
        return jax.tree.map(lambda array: array[None], answer)
    return jax.vmap(lambda weight, *each: apply(nnx.merge(graph, weight), *each))(weights, *arguments)


def first_member(networks: Network) -> Network:
    """The first network of a stack."""
    graph, weights = nnx.split(networks)
    first: Network = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[0], weights))
    return first
