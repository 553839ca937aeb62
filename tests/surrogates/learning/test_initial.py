"""Initial weights are those of JAX's own initialisers, whatever the length of a draw."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from surrogates.learning.nn import initial

SCALING = jax.nn.initializers.variance_scaling
PAIRS = {
    "normal": (initial.normal(0.5), jax.nn.initializers.normal(0.5)),
    "lecun": (initial.LECUN, jax.nn.initializers.lecun_normal()),
    "xavier": (initial.XAVIER, jax.nn.initializers.xavier_uniform()),
    "he": (initial.variance_scaling(2.0, "fan_in", "normal"), SCALING(2.0, "fan_in", "normal")),
}


@pytest.mark.parametrize("shape", [(7, 5), (3, 2, 4, 6), (80, 96)])
@pytest.mark.parametrize("name", PAIRS)
def test_they_are_those_of_jax(name: str, shape: tuple[int, ...]) -> None:
    mine, theirs = (init(jax.random.key(3), shape, np.float32) for init in PAIRS[name])
    assert mine.dtype == theirs.dtype
    np.testing.assert_allclose(mine, theirs, rtol=3e-7)


def test_standard_normal_numbers_are_those_of_jax() -> None:
    key = jax.random.key(5)
    np.testing.assert_array_equal(initial.standard_normal(key, (3, 5, 1)), jax.random.normal(key, (3, 5, 1)))


def test_one_program_draws_weights_of_many_shapes() -> None:
    compiled: list[str] = []
    jax.clear_caches()
    key = jax.random.key(0)

    def count(event: str, duration_secs: float, **more: str | int) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for width in range(2, 12):
            initial.LECUN(key, (width, 3))
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(compiled) == 1


def test_a_traced_draw_is_the_same() -> None:
    def kernel() -> jax.Array:
        return nnx.Linear(5, 7, kernel_init=initial.LECUN, rngs=nnx.Rngs(2)).kernel[...]

    np.testing.assert_allclose(jax.jit(kernel)(), kernel(), rtol=3e-7)
