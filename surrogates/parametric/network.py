"""An ensemble of multilayer perceptrons, computed as one: members lie along the first axis of each weight."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import jax
from flax import nnx
from jaxtyping import Array, Float

from surrogates.parametric.facts import ParametricConfig

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "tanh": jax.numpy.tanh,
    "relu": jax.nn.relu,
}


class Perceptron(nnx.Module):
    """One member.

    Args:
        features, targets: numbers that go in and come out.
        config: width, layers, activation.
        rngs: for the first weights.
    """

    def __init__(self, features: int, targets: int, config: ParametricConfig, rngs: nnx.Rngs) -> None:
        sizes = (features, *(config.width,) * config.layers)
        self.hidden = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairwise(sizes)])
        self.out = nnx.Linear(sizes[-1], targets, rngs=rngs)
        self.activation = config.activation

    def __call__(self, features: Float[Array, "row feature"]) -> Float[Array, "row target"]:
        """Normalised targets."""
        values = features
        for layer in self.hidden:
            values = FUNCTIONS[self.activation](layer(values))
        return self.out(values)


class Perceptrons(nnx.Module):
    """Members of equal shape and different first weights (Lakshminarayanan et al. 2017, arXiv:1612.01474).

    Args:
        features, targets: numbers that go in and come out.
        config: of the ensemble.
        rngs: for the first weights.
    """

    def __init__(self, features: int, targets: int, config: ParametricConfig, rngs: nnx.Rngs) -> None:
        @nnx.split_rngs(splits=config.ensemble)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make(rngs: nnx.Rngs) -> Perceptron:
            return Perceptron(features, targets, config, rngs)

        self.members = make(rngs)

    def __call__(self, features: Float[Array, "row feature"]) -> Float[Array, "member row target"]:
        """Normalised targets of each member."""
        graph, weights = nnx.split(self.members)
        return jax.vmap(lambda own: nnx.merge(graph, own)(features))(weights)
