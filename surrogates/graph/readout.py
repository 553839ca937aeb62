"""Heads: what turns the features of an atom into its energy, one head for each set of labels that was learned.

Every head has a hidden layer and an output layer of its own on the features that all share, so that labels of
different methods, or of different codes, train one body (the multi-head training of MACE's foundation models,
Batatia et al. 2024, arXiv:2401.00096). What enters the output layer is the feature vector of the last-layer
uncertainty (see `last_layer`).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int


class Readout(nnx.Module):
    """Heads stacked along the first axis of each weight.

    Args:
        width: length of an atom's features, W.
        hidden: C, length of what enters the output layer.
        heads: H.
        rngs: for the first weights.
    """

    def __init__(self, width: int, hidden: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.kernel = nnx.Param(jnp.stack([LECUN(rngs.params(), (width, hidden)) for _ in range(heads)]))
        self.bias = nnx.Param(jnp.zeros((heads, hidden)))
        self.out = nnx.Param(jnp.stack([LECUN(rngs.params(), (hidden, 1))[:, 0] for _ in range(heads)]))
        self.shift = nnx.Param(jnp.zeros(heads))

    def last(self, features: Float[Array, "M N W"], head: Int[Array, " M"]) -> Float[Array, "M N C"]:
        """What enters the output layer of each molecule's head."""
        if self.heads == 1:
            return nnx.silu(features @ self.kernel[...][0] + self.bias[...][0])
        hidden = jnp.einsum("mnw,mwc->mnc", features, self.kernel[...][head])
        return nnx.silu(hidden + self.bias[...][head][:, None])

    def energy(self, last: Float[Array, "M N C"], head: Int[Array, " M"]) -> Float[Array, "M N"]:
        """The number of each atom, in units of the model's scale."""
        if self.heads == 1:
            return last @ self.out[...][0] + self.shift[...][0]
        return jnp.einsum("mnc,mc->mn", last, self.out[...][head]) + self.shift[...][head][:, None]


LECUN: Callable[..., Array] = nnx.initializers.lecun_normal()
