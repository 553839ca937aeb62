"""A stack of networks answers like its networks one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from surrogates.learning.nn.ensemble import apply_members, first_member, stack_members


def stack(members: int) -> nnx.Linear:
    return stack_members(lambda rngs: nnx.Linear(3, 2, rngs=rngs), members, nnx.Rngs(0))


@pytest.mark.parametrize("members", [1, 2, 5])
def test_each_member_answers_as_it_does_alone(members: int) -> None:
    networks = stack(members)
    inputs = jax.random.normal(jax.random.key(1), (members, 4, 3))
    answer = apply_members(networks, members, lambda one, x: one(x), inputs)
    kernel, bias = np.asarray(networks.kernel[...]), np.asarray(networks.bias[...])
    assert answer.shape == (members, 4, 2)
    for m in range(members):
        np.testing.assert_allclose(answer[m], np.asarray(inputs[m]) @ kernel[m] + bias[m], rtol=1e-5, atol=1e-6)


def test_members_begin_with_different_weights_that_a_seed_decides() -> None:
    kernel = np.asarray(stack(3).kernel[...])
    assert len({member.tobytes() for member in kernel}) == 3
    np.testing.assert_array_equal(kernel, stack(3).kernel[...])


@pytest.mark.parametrize("members", [1, 3])
def test_an_argument_may_be_absent_and_an_answer_have_several_parts(members: int) -> None:
    inputs = jnp.ones((members, 4, 3))

    def both(one: nnx.Linear, x: jax.Array, noise: jax.Array | None) -> dict[str, jax.Array]:
        assert noise is None
        return {"answer": one(x), "input": x}

    answer = apply_members(stack(members), members, both, inputs, None)
    assert answer["answer"].shape == (members, 4, 2)
    np.testing.assert_array_equal(answer["input"], inputs)


def test_the_first_member_is_that_of_the_stack() -> None:
    networks = stack(3)
    inputs = jnp.ones((4, 3))
    all_of_them = apply_members(networks, 3, lambda one: one(inputs))
    np.testing.assert_allclose(first_member(networks)(inputs), all_of_them[0], rtol=1e-6)


def test_networks_made_while_a_program_is_traced_are_the_same() -> None:
    traced, eager = jax.jit(lambda: nnx.state(stack(3)))(), nnx.state(stack(3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-7), traced, eager)
    assert len(jax.tree.leaves(traced)) == 2
