"""Each atom's features are changed by the shared update and by the expert of its group of elements, and by no other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.expert_network import ExpertPaiNN, painn_with_experts
from surrogates.potentials.networks.architectures import ARCHITECTURES
from surrogates.potentials.networks.painn import PaiNN, PaiNNConfig


def test_an_atom_is_changed_by_the_expert_of_its_group() -> None:
    network = ExpertPaiNN(PaiNNConfig(features=4, layers=1), nnx.Rngs(0))
    numbers = jnp.array([[1, 6, 9, 35, 16]])
    s = jax.random.normal(jax.random.key(0), (1, 5, 4))
    v = jax.random.normal(jax.random.key(1), (1, 5, 3, 4))
    (update,) = network.updates_of(numbers)
    both, shared = update(s, v), network.updates[0](s, v)
    for atom, group in enumerate((0, 1, 2, 3, 3)):
        expert = network.experts[0][group](s, v)
        for changed, first, second in zip(both, shared, expert, strict=True):
            np.testing.assert_allclose(changed[:, atom], (first + second)[:, atom], atol=1e-5)
    # The experts differ, so that one in the place of another would be seen.
    assert np.abs(network.experts[0][0](s, v)[0] - network.experts[0][1](s, v)[0]).max() > 0.1


def test_only_the_benchmark_has_experts() -> None:
    with painn_with_experts():
        assert ARCHITECTURES["painn"][1] is ExpertPaiNN
    assert ARCHITECTURES["painn"][1] is PaiNN
