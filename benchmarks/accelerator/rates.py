"""Rates of predictions and of training steps, their scaling with the batch, and the share of the roofline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.accelerator.cases import AcceleratorCase
from benchmarks.common import Result
from simulators.precision import jit_float32
from surrogates.learning.machine import best, cost
from surrogates.learning.nn.precision import PRECISIONS
from surrogates.learning.recipe import TrainConfig
from surrogates.learning.step import Moment, TrainState, training_step


def peaks(*, small: bool) -> dict[str, float]:
    """Operations a second of products of matrices at each precision, and bytes a second of memory ("memory")."""
    size, words = (1024, 1 << 25) if small else (8192, 1 << 29)
    rates: dict[str, float] = {}
    for precision, (dtype, product) in PRECISIONS.items():
        a = jnp.ones((size, size), dtype)
        multiply = jit_float32(lambda x, product=product: jnp.matmul(x, x, precision=product))
        rates[precision] = 2.0 * size**3 / best(_finished(multiply, a))
    x = jnp.ones(words, jnp.float32)
    rates["memory"] = 8.0 * words / best(_finished(jit_float32(lambda x: x + 1.0), x))
    return rates


def _finished(program: Callable[..., Any], *inputs: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(program(*inputs))


def prediction_rates(case: AcceleratorCase, limits: dict[str, float]) -> Iterator[Result]:
    """Rates at each batch size in float32 and at each precision in the largest batch, with shares of the roofline."""
    for precision in PRECISIONS:
        program, state = case.program(precision)
        for batch in case.batches if precision == "float32" else case.batches[-1:]:
            inputs = jax.device_put(case.inputs(batch))
            seconds = best(_finished(program, state, *inputs))
            head = f"{case.name}: predictions, {precision}, batch of {batch:,}"
            yield Result(head, batch / seconds, f"{case.counted}/s")
        work = cost(program.lower(state, *inputs).compile())  # type: ignore[attr-defined]
        least = max(work.flops / limits[precision], work.bytes / limits["memory"])
        if least > 0:
            yield Result(f"{head}: share of the roofline", least / seconds, "1")


def training_rates(case: AcceleratorCase) -> Iterator[Result]:
    """Rates of training steps at each precision, in the middle batch size, on the mean square of the answers."""
    batch = case.batches[len(case.batches) // 2]
    recipe = TrainConfig(epochs=1, batch_size=batch)

    def loss(model: nnx.Module, inputs: Any, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        return sum(jnp.mean(jnp.square(x)) for x in jax.tree.leaves(case.ask(model, *inputs))), {}  # type: ignore[return-value]

    for precision in PRECISIONS:
        split: Any = nnx.split(case.fresh(precision), nnx.Param, ...)
        graph, params, fixed = split
        step = jit_float32(training_step(graph, loss, recipe))
        state = TrainState.begin(params, recipe)
        inputs = jax.device_put(case.inputs(batch))
        moment = Moment(jax.random.key(0), 1e-4, 0.5)
        seconds = best(_finished(step, state, fixed, inputs, moment))
        yield Result(f"{case.name}: training steps, {precision}, batch of {batch:,}", 1 / seconds, "steps/s")
