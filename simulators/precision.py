"""Compilation of programs whose matrix products have float32 precision on every device.

JAX multiplies float32 matrices on recent NVIDIA GPUs in TensorFloat-32 (10 bits of mantissa) and on TPUs in bfloat16
(7 bits) unless a precision is stated (`jax.lax.Precision`). Solvers, energies and forces must not lose digits because
they run on another device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax


def jit_float32(function: Callable[..., Any], **options: Any) -> Any:
    """`jax.jit`, with float32 products of float32 matrices wherever an operation states no other precision.

    Convolutions count as products. Derivatives inside of `function` are computed at the precision of its operations.

    Args:
        function: what to compile.
        options: passed on to `jax.jit`.
    """

    @wraps(function)
    def exact(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return function(*args, **kwargs)

    return jax.jit(exact, **options)
