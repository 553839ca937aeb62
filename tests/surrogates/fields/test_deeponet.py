"""DeepONet: sensors average, amplitudes do not depend on position, and functions do not depend on the input."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from surrogates.fields.networks.deeponet import DeepONet, DeepONetConfig, at_sensors
from surrogates.learning.nn.grid import FieldShape


def test_sensors_average_their_part_of_the_domain() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 8, 3)), jnp.float32)
    expected = np.asarray(x).reshape(2, 4, 3, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(at_sensors(x, 4), expected, atol=1e-6)
    np.testing.assert_allclose(at_sensors(x[:, :, 0], 12), x[:, :, 0], atol=1e-6)


@pytest.mark.parametrize(("points", "sensors"), [(7, 4), (4, 7), (9, 9), (5, 16)])
def test_sensors_keep_the_mean_on_any_grid(points: int, sensors: int) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, points, 1)), jnp.float32)
    assert float(at_sensors(x, sensors).mean()) == pytest.approx(float(x.mean()), abs=1e-6)


def test_the_answer_is_the_same_on_every_grid_for_one_reading_of_the_sensors() -> None:
    config = DeepONetConfig(width=16, layers=2, functions=8, sensors=4)
    module = DeepONet(config, FieldShape(2, 1, 2, periodic=(True, True)), nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
    fine = jnp.repeat(jnp.repeat(x, 4, 1), 3, 2)
    np.testing.assert_allclose(module(fine)[:, ::4, ::3], module(x), atol=1e-5)


def test_answers_lie_in_the_span_of_its_functions() -> None:
    """For all inputs: eq. 2 of the paper is a sum of this number of functions of position."""
    config = DeepONetConfig(width=16, layers=2, functions=5, sensors=8)
    module = DeepONet(config, FieldShape(1, 1, 1), nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 32, 1)), jnp.float32)
    answers = np.asarray(module(x))[..., 0]
    singular = np.linalg.svd(answers, compute_uv=False)
    assert singular[4] > 1e-3
    assert singular[5] < 1e-4 * singular[0]
