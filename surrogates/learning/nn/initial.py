"""Initial weights, drawn with few compiled programs.

`jax.random` and the initialisers of `jax.nn` compile one program for each shape of weights, which takes a second of
processor time or more for a network. Random bits are a function of the key and of an element's place alone, so that the
first numbers of a longer draw are those of a shorter one: here numbers are drawn in a few lengths, and cut and scaled
by NumPy. The weights are those of `jax.nn.initializers` for the same key, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

#: Gets a key, a shape and, if need be, a dtype, as those of `jax.nn.initializers`.
Initialiser = Callable[..., Array]

#: Shortest draw; longer ones have 4, 16, ... times as many numbers.
SHORTEST = 4096
#: Standard deviation of the standard normal distribution cut at -2 and 2.
_CUT = 0.87962566103423978


def standard_normal(key: Array, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Independent standard normal numbers of float32, those of `jax.random.normal(key, shape)`."""
    return _drawn(jax.random.normal, key, shape, 1.0)


@cache
def normal(std: float) -> Initialiser:
    """An initialiser with normal weights of mean 0 and this standard deviation."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        return _drawn(jax.random.normal, key, shape, std).astype(dtype)

    return init


@cache
def variance_scaling(gain: float, mode: str, distribution: str) -> Initialiser:
    """An initialiser whose weights have a variance of `gain` over a number of channels.

    Args:
        gain: variance of the output over that of the input.
        mode: "fan_in" for the number of inputs of an output, "fan_avg" for the mean of that and of the outputs of an
            input. The last two axes are inputs and outputs; each point of the axes before them has its own.
        distribution: "normal", "truncated_normal" (cut at two standard deviations) or "uniform".
    """
    draw, std = {
        "normal": (jax.random.normal, 1.0),
        "truncated_normal": (_truncated_normal, 1.0 / _CUT),
        "uniform": (_uniform, np.sqrt(3.0)),
    }[distribution]

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        inputs, outputs = (n * prod(shape[:-2]) for n in shape[-2:])
        fan = inputs if mode == "fan_in" else (inputs + outputs) / 2
        return _drawn(draw, key, shape, std * np.sqrt(gain / fan)).astype(dtype)

    return init


def _drawn(draw: Callable[..., Array], key: Array, shape: tuple[int, ...], scale: float) -> Array:
    if isinstance(key, jax.core.Tracer):
        # A program that is traced compiles no others.
        return draw(key, shape) * np.float32(scale)
    size, length = prod(shape), SHORTEST
    while length < size:
        length *= 4
    numbers = np.asarray(draw(key, (length,)))[:size].reshape(shape)
    return jax.device_put(numbers * np.float32(scale))


def _truncated_normal(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.truncated_normal(key, -2, 2, shape)


def _uniform(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, minval=-1)


#: LeCun et al. 1998, "Efficient BackProp"; the default of `nnx.Linear`.
LECUN = variance_scaling(1.0, "fan_in", "truncated_normal")
#: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks".
XAVIER = variance_scaling(1.0, "fan_avg", "uniform")
