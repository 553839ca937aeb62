"""Weights that are multiplied by noise, as analog hardware stores them: w (1 + sigma e), with normal e of each weight.

A network that is trained with such noise can be computed by hardware that has it (Joshi et al. 2020, Nature
Communications 11, 2473, arXiv:1906.03138). The noise is drawn anew in each step, and the gradient at the noisy weights
changes the weights without noise.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

#: Number that makes the key of the noise from the key of a step, so that it shares no number with the loss.
STREAM = 0x6E6F6973


def noisy(weights: Any, sigma: float, key: jax.Array) -> Any:
    """A pytree of weights, each multiplied by 1 + sigma e.

    The derivative with respect to the weights passes the noise unchanged: it is the derivative at the noisy weights,
    and not that times 1 + sigma e.

    Args:
        weights: pytree of arrays of floating-point numbers.
        sigma: relative standard deviation of each weight.
        key: random key; each array has numbers of its own.
    """
    leaves, tree = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.fold_in(key, STREAM), len(leaves))
    moved = [
        leaf + jax.lax.stop_gradient(leaf * sigma * jax.random.normal(one, leaf.shape, leaf.dtype))
        for leaf, one in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def noisy_model(model: nnx.Module, sigma: float, seed: int) -> Any:
    """A copy of a model whose trained weights are multiplied by 1 + sigma e; all else is as it was.

    Args:
        model: any model; each member of an ensemble has noise of its own.
        sigma: relative standard deviation, 0 or more.
        seed: seed of the noise.

    Raises:
        ValueError: sigma is negative or not finite.
    """
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be 0 or more, got {sigma}")
    split: Any = nnx.split(model, nnx.Param, ...)
    weights = noisy(jax.tree.map(jnp.asarray, split[1]), sigma, jax.random.key(seed))
    return nnx.merge(split[0], weights, split[2])
