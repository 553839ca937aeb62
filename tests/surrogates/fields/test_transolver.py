"""Attention between slices: points in any order, on any grid or none, and padding without effect."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from surrogates.fields.networks.architectures import ARCHITECTURES
from surrogates.learning.nn.grid import FieldShape, coordinates


def fresh_network(**changes: Any) -> Any:
    settings = {"architecture": "transolver", "width": 16, "layers": 2, "heads": 2, "slices": 6, "positions": "linear"}
    return ARCHITECTURES.network(ARCHITECTURES.read({**settings, **changes}), FieldShape(2, 2, 1), nnx.Rngs(0))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


#: Compiled once for the networks and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda module, *inputs: module.at_points(*inputs))


def at_points(module: Any, *args: Any) -> np.ndarray:
    return np.asarray(ask(module, *args))


def test_it_permutes_with_its_points() -> None:
    module = fresh_network()
    x, where = noise(2, 30, 2), np.random.default_rng(1).uniform(size=(2, 30, 2)).astype(np.float32)
    order = np.random.default_rng(2).permutation(30)
    np.testing.assert_allclose(
        at_points(module, x[:, order], where[:, order]), at_points(module, x, where)[:, order], atol=1e-5
    )
    # The output depends on positions: with those of other points it differs.
    assert np.abs(at_points(module, x, where[:, order]) - at_points(module, x, where)).max() > 1e-3


def test_a_grid_is_its_points() -> None:
    module = fresh_network()
    x = noise(2, 5, 6, 2)
    where = np.broadcast_to(np.asarray(coordinates((5, 6), (False, False))).reshape(1, 30, 2), (2, 30, 2))
    points = at_points(module, x.reshape(2, 30, 2), where)
    np.testing.assert_allclose(module(jnp.asarray(x)).reshape(2, 30, 1), points, atol=1e-5)


def test_padding_is_not_seen() -> None:
    module = fresh_network()
    x, where = noise(1, 12, 2), np.random.default_rng(1).uniform(size=(1, 12, 2)).astype(np.float32)
    more = np.concatenate([x, 50 + noise(1, 4, 2, seed=3)], axis=1)
    padded = np.concatenate([where, np.zeros((1, 4, 2), np.float32)], axis=1)
    mask = np.arange(16)[None] < 12
    got = at_points(module, more, padded, None, mask)
    np.testing.assert_allclose(got[:, :12], at_points(module, x, where), atol=1e-5)
    assert np.abs(at_points(module, more, padded)[:, :12] - got[:, :12]).max() > 1e-3


def test_every_point_twice_changes_nothing() -> None:
    """Slices are averages, not sums: a denser sampling of one field is the same field."""
    module = fresh_network()
    x, where = noise(1, 20, 2), np.random.default_rng(1).uniform(size=(1, 20, 2)).astype(np.float32)
    twice = at_points(module, np.repeat(x, 2, axis=1), np.repeat(where, 2, axis=1))
    np.testing.assert_allclose(twice[:, ::2], at_points(module, x, where), atol=1e-5)


def test_its_cost_is_linear_in_the_points() -> None:
    module = fresh_network()

    def flops(points: int) -> float:
        x, where = jnp.zeros((1, points, 2)), jnp.zeros((1, points, 2))
        compiled = jax.jit(lambda a, b: module.at_points(a, b)).lower(x, where).compile()
        return float(compiled.cost_analysis()["flops"])

    assert flops(2048) < 2.1 * flops(1024)
