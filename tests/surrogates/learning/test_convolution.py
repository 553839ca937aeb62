"""Convolutions whose gradients are computed by products: equal to JAX's own, in loops, branches and ensembles."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from surrogates.learning.nn.convolution import _convolved, conv_general_dilated
from surrogates.learning.nn.layers import GridConv


@pytest.mark.parametrize(("space", "dilation"), [((9,), 2), ((7, 6), 1), ((8, 9), 2), ((5, 4, 6), 1)])
def test_answer_and_gradients_are_those_of_jax(space: tuple[int, ...], dilation: int) -> None:
    rng = np.random.default_rng(0)
    dims = len(space)
    x = jnp.asarray(rng.normal(size=(2, *space, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*(3,) * dims, 3, 5)), jnp.float32)
    numbers = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, _names(dims))

    def ask(convolve: Any) -> Any:
        def value(x: Any, kernel: Any) -> Any:
            options = {"rhs_dilation": (dilation,) * dims, "dimension_numbers": numbers}
            answer = convolve(x, kernel, (1,) * dims, "VALID", **options)
            return jnp.sum(jnp.sin(answer)), answer

        return jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))(x, kernel)

    ours, theirs = ask(conv_general_dilated), ask(jax.lax.conv_general_dilated)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5, rtol=2e-5)


def _names(dims: int) -> tuple[str, str, str]:
    space = "DHW"[-dims:]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def test_layers_use_it_in_loops_and_ensembles_and_not_with_strides() -> None:
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 6, 2)), jnp.float32)
    layer = GridConv(2, 2, (True, True), "zero", "float32", nnx.Rngs(0))
    graph, weights = nnx.split(layer)
    assert _convolved.__name__ in str(jax.make_jaxpr(lambda w: nnx.merge(graph, w)(x))(weights))

    def looped(weights: Any) -> Any:
        step = nnx.merge(graph, weights)
        return jnp.sum(jax.lax.scan(lambda h, _: (jnp.tanh(step(h)), None), x, None, length=2)[0])

    def unrolled(weights: Any) -> Any:
        step = nnx.merge(graph, weights)
        return jnp.sum(jnp.tanh(step(jnp.tanh(step(x)))))

    two = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), weights)
    both = jax.jit(jax.vmap(jax.grad(looped)))(two)
    for k in (0, 1):
        alone = jax.jit(jax.grad(unrolled))(jax.tree.map(lambda w, k=k: w[k], two))
        for mine, other in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(mine[k], other, atol=1e-5)
    strided = GridConv(2, 2, (True, True), "zero", "float32", nnx.Rngs(0), stride=2)
    assert _convolved.__name__ not in str(jax.make_jaxpr(lambda v: strided(v))(x))
