"""An ensemble of multilayer perceptrons, computed as one: members lie along the first axis of each weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import jax
from flax import nnx
from jaxtyping import Array, Float

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "tanh": jax.numpy.tanh,
    "relu": jax.nn.relu,
}
ACTIVATIONS = tuple(FUNCTIONS)


@dataclass(frozen=True)
class ParametricConfig:
    """How a parametric surrogate is made.

    Attributes:
        ensemble: members, of equal shape and different first weights.
        width: of their hidden layers.
        layers: hidden layers.
        activation: one of `ACTIVATIONS`; smooth ones suit smooth answers.
        harmonics: inputs in rad enter with the sine and cosine of their first multiples too, up to this one.
        noise: standard deviation of what is added to the inputs in training, over their spread.

    Raises:
        ValueError: a number is out of range.
    """

    ensemble: int = 5
    width: int = 64
    layers: int = 3
    activation: str = "silu"
    harmonics: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ensemble", "width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("harmonics", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")


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
        return jax.vmap(lambda member: nnx.merge(graph, member)(features))(weights)
