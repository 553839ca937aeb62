"""Compares the gradient of convolutions in an unrolled loop with that of JAX's own convolution, in processor time.

Networks of trajectories are trained through several steps, in a loop with a branch that skips steps that do not count
yet. See `surrogates.learning.nn.convolution`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.common import Result, arguments, pin, report

#: Samples, points along both dims, channels, and points of the kernel along each dim.
SHAPES = ((8, 32, 32, 16, 3), (16, 18, 34, 32, 3))
STEPS = 4


def gradient_seconds(convolve: Any, shape: tuple[int, int, int, int, int], repeats: int) -> float:
    """Least processor time of the gradient of the sum of squares after `STEPS` convolutions in a loop, s."""
    import time

    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    batch, rows, columns, channels, size = shape
    reach = size // 2
    start = jnp.asarray(np.random.default_rng(0).normal(size=(batch, rows, columns, channels)), jnp.float32)
    layer = nnx.Conv(channels, channels, (size, size), padding="VALID", conv_general_dilated=convolve, rngs=nnx.Rngs(0))
    graph, weights = nnx.split(layer)

    def loss(weights: Any, last: Any) -> Any:
        conv = nnx.merge(graph, weights)

        def count(state: Any) -> Any:
            around = [(0, 0), (reach, reach), (reach, reach), (0, 0)]
            return state + jnp.tanh(conv(jnp.pad(state, around, mode="wrap")))

        def advance(state: Any, step: Any) -> tuple[Any, None]:
            return jax.lax.cond(step < last, count, lambda state: state, state), None

        return jnp.sum(jax.lax.scan(advance, start, jnp.arange(STEPS))[0] ** 2)

    gradient = jax.jit(jax.grad(loss))
    jax.block_until_ready(gradient(weights, STEPS))
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        jax.block_until_ready(gradient(weights, STEPS))
        spent.append(time.process_time() - began)
    return min(spent)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=3, help="number of timed gradients (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    import jax

    from surrogates.learning.nn.convolution import conv_general_dilated

    results = []
    for shape in SHAPES:
        theirs, ours = (
            1e3 * gradient_seconds(convolve, shape, options.repeats)
            for convolve in (jax.lax.conv_general_dilated, conv_general_dilated)
        )
        batch, rows, columns, channels, size = shape
        name = f"{batch} x {rows} x {columns} points, {channels} channels, kernel of {size}: gradient of {STEPS} steps"
        results.append(Result.against(name, ours, "core-ms", "JAX's convolution", theirs))
    report("loop_gradients", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
