"""Readout heads, which map the features of an atom to its energy; there is one head for each set of labels.

Each head has its own hidden layer and output layer on the features that all heads share, so that labels of different
methods, or of different codes, train one body (the multi-head training of MACE's foundation models, Batatia et al.
2024, arXiv:2401.00096). The input of the output layer is the feature vector for the last-layer uncertainty (see
`last_layer`).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from surrogates.learning.nn.initial import LECUN


class Readout(nnx.Module):
    """Readout heads, stacked along the first axis of each weight.

    Args:
        width: W, the number of features of an atom.
        hidden: C, the number of inputs of the output layer.
        heads: H, the number of heads.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, width: int, hidden: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.kernel = nnx.Param(jnp.stack([LECUN(rngs.params(), (width, hidden)) for _ in range(heads)]))
        self.bias = nnx.Param(jnp.zeros((heads, hidden)))
        self.out = nnx.Param(jnp.stack([LECUN(rngs.params(), (hidden, 1))[:, 0] for _ in range(heads)]))
        self.shift = nnx.Param(jnp.zeros(heads))

    def last(self, features: Float[Array, "M N W"], head: Int[Array, " M"]) -> Float[Array, "M N C"]:
        """The inputs of the output layer, from the head of each molecule."""
        if self.heads == 1:
            return nnx.silu(features @ self.kernel[...][0] + self.bias[...][0])
        hidden = jnp.einsum("mnw,mwc->mnc", features, self.kernel[...][head])
        return nnx.silu(hidden + self.bias[...][head][:, None])

    def energy(self, last: Float[Array, "M N C"], head: Int[Array, " M"]) -> Float[Array, "M N"]:
        """The energy of each atom, in units of the scale of the model."""
        if self.heads == 1:
            return last @ self.out[...][0] + self.shift[...][0]
        return jnp.einsum("mnc,mc->mn", last, self.out[...][head]) + self.shift[...][head][:, None]
