"""An ensemble of multilayer perceptrons, stacked along the first axis of each weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import jax
from flax import nnx
from jaxtyping import Array, Float

from data.plain import OMIT_DEFAULT
from surrogates.learning.nn.ensemble import apply_members, stack_members
from surrogates.learning.nn.initial import LECUN
from surrogates.learning.nn.precision import Mixer, refuse_precision

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "tanh": jax.numpy.tanh,
    "relu": jax.nn.relu,
}
ACTIVATIONS = tuple(FUNCTIONS)


@dataclass(frozen=True)
class ParameterConfig:
    """Settings of a surrogate of parameters.

    Attributes:
        ensemble: number of members, which differ in their initial weights.
        width: width of the hidden layers.
        layers: number of hidden layers.
        activation: one of `ACTIVATIONS`; smooth activations suit smooth functions.
        harmonics: largest multiple of inputs in rad, whose sines and cosines are further inputs; 0 for none.
        products: whether the squares of inputs and the products of two are further inputs: on a line (`on=linear`) the
            first estimate is then a polynomial of second degree.
        noise: standard deviation of the noise on inputs in training, in units of the standard deviation of the inputs.
        logarithms: positive outputs that span decades, and for each a floor: it is learned as log(x + floor), so that
            errors are relative above the floor and absolute below it.
        shares: outputs whose entries along their last dim add up to 1, such as mass fractions; predictions are scaled
            to do so.
        precision: precision of the products between hidden layers; one of
            `surrogates.learning.nn.precision.PRECISIONS`.

    Raises:
        ValueError: a number is out of range.
    """

    ensemble: int = 5
    width: int = 64
    layers: int = 3
    activation: str = "silu"
    harmonics: int = 0
    noise: float = 0.0
    #: Surrogates of earlier versions lack these, and must keep their fingerprint.
    logarithms: dict[str, float] = field(default_factory=dict, metadata=OMIT_DEFAULT)
    shares: list[str] = field(default_factory=list, metadata=OMIT_DEFAULT)
    precision: str = field(default="float32", metadata=OMIT_DEFAULT)
    products: bool = field(default=False, metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        for name in ("ensemble", "width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("harmonics", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        refuse_precision(self.precision)
        for name, floor in self.logarithms.items():
            if not 0 < floor < math.inf:
                raise ValueError(f"logarithms.{name} must be a finite floor above 0, got {floor}")


class Perceptron(nnx.Module):
    """A multilayer perceptron, which is one member of the ensemble.

    Args:
        features, targets: number of inputs and of outputs.
        config: settings, of which `width`, `layers` and `activation` are used.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, features: int, targets: int, config: ParameterConfig, rngs: nnx.Rngs) -> None:
        sizes = (features, *(config.width,) * config.layers)
        # The first layer reads numbers, whose digits count.
        each = ("float32", *(config.precision,) * (config.layers - 1))
        self.hidden = nnx.List([Mixer(a, b, c, rngs) for (a, b), c in zip(pairwise(sizes), each, strict=True)])
        self.out = nnx.Linear(sizes[-1], targets, kernel_init=LECUN, rngs=rngs)
        self.activation = config.activation

    def __call__(self, features: Float[Array, "row feature"]) -> Float[Array, "row target"]:
        """Standardised targets."""
        values = features
        for layer in self.hidden:
            values = FUNCTIONS[self.activation](layer(values))
        return self.out(values)


class Perceptrons(nnx.Module):
    """An ensemble of perceptrons that differ in their initial weights (Lakshminarayanan et al. 2017, arXiv:1612.01474).

    Args:
        features, targets: number of inputs and of outputs.
        config: settings of the ensemble.
        rngs: random numbers for the initial weights.
    """

    def __init__(self, features: int, targets: int, config: ParameterConfig, rngs: nnx.Rngs) -> None:
        self.members = config.ensemble
        self.networks = stack_members(lambda rngs: Perceptron(features, targets, config, rngs), self.members, rngs)

    def __call__(self, features: Float[Array, "row feature"]) -> Float[Array, "member row target"]:
        """Standardised targets of each member."""
        answers: Array = apply_members(self.networks, self.members, lambda network: network(features))
        return answers
