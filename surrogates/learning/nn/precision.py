"""The precision of the matrix products that mix the channels of a network.

Programs are compiled with float32 products (`simulators.precision.jit_float32`); a network may state a lower precision
for its mixing products, which are most of its operations. Positions, distances, harmonics, radial functions, sums over
neighbours, and Fourier and spherical harmonic transforms stay in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from surrogates.learning.nn.initial import LECUN


class Arithmetic(NamedTuple):
    """How a product of matrices is computed.

    Attributes:
        dtype: dtype to which its factors are rounded.
        product: precision of the product of these factors, on devices that have more than one.
    """

    dtype: Any
    product: jax.lax.Precision


#: TensorFloat-32 exists on NVIDIA GPUs. On a TPU, `Precision.HIGH` is three bfloat16 products; on a CPU it is float32.
PRECISIONS: Mapping[str, Arithmetic] = {
    "float32": Arithmetic(jnp.float32, jax.lax.Precision.HIGHEST),
    "tensorfloat32": Arithmetic(jnp.float32, jax.lax.Precision.HIGH),
    "bfloat16": Arithmetic(jnp.bfloat16, jax.lax.Precision.DEFAULT),
}


def refuse_precision(precision: str) -> None:
    """Refuse a precision that is not in `PRECISIONS`.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")


def arithmetic(precision: str) -> dict[str, Any]:
    """The arguments `dtype` and `precision` of a layer of Flax, whose output then has this dtype."""
    dtype, product = PRECISIONS[precision]
    return {"dtype": dtype, "precision": product}


def multiply(
    x: Float[Array, "*rows inputs"], kernel: Float[Array, "inputs outputs"], precision: str
) -> Float[Array, "*rows outputs"]:
    """`x @ kernel` at a precision of `PRECISIONS`, in the dtype of `x`."""
    dtype, product = PRECISIONS[precision]
    if dtype == jnp.bfloat16:
        # A product in float32 would leave its derivative with one factor of each dtype, which no device multiplies.
        return jnp.matmul(x.astype(dtype), kernel.astype(dtype), precision=product).astype(x.dtype)
    return jnp.matmul(x, kernel.astype(x.dtype), precision=product)


class Mixer(nnx.Linear):
    """A linear map of channels whose product is computed at a stated precision; its output has the dtype of its input.

    Args:
        inputs, outputs: number of channels.
        precision: one of `PRECISIONS`.
        rngs: random numbers for the initial weights.
        more: further arguments of `nnx.Linear`.
    """

    def __init__(self, inputs: int, outputs: int, precision: str, rngs: nnx.Rngs, **more: Any) -> None:
        super().__init__(inputs, outputs, rngs=rngs, **{"kernel_init": LECUN, **more})
        self.arithmetic = precision

    def __call__(self, inputs: Float[Array, "*rows inputs"], out_sharding: Any = None) -> Float[Array, "*rows outputs"]:
        """The new channels of each row."""
        mixed = multiply(inputs, self.kernel[...], self.arithmetic)
        return mixed if self.bias is None else mixed + self.bias[...].astype(mixed.dtype)
