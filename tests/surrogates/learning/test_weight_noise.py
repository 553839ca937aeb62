"""Noise on weights: its size, the gradient that it leaves, and that without it nothing changes."""

from __future__ import annotations

from pathlib import Path

import jax
import linear_problem
import numpy as np
import pytest
from flax import nnx

from surrogates.learning.loop import TrainConfig
from surrogates.learning.step import Moment, TrainState, training_step
from surrogates.learning.weight_noise import noisy, noisy_model


def test_every_weight_has_noise_of_its_own_with_the_stated_relative_size() -> None:
    shapes = {"a": ((100, 200), 3.0), "b": ((20_000,), -0.01), "c": ((5,), 0.0)}
    weights = {name: np.full(shape, value, np.float32) for name, (shape, value) in shapes.items()}
    moved = noisy(weights, 0.2, jax.random.key(0))
    e = {name: (np.asarray(moved[name], np.float64) / weights[name]).ravel() - 1 for name in ("a", "b")}
    for values in e.values():
        # Four standard errors of the mean and of the standard deviation of 20,000 numbers.
        assert abs(values.mean()) < 4 * 0.2 / 20_000**0.5
        assert values.std() == pytest.approx(0.2, rel=4 / 40_000**0.5)
    assert abs(np.corrcoef(e["a"], e["b"])[0, 1]) < 4 / 20_000**0.5
    assert not np.any(moved["c"])


def one_step(config: TrainConfig) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """Weights before a step, its gradient, which is the first moment of Adam over 0.1, and the new kernel."""
    graph, params, fixed = nnx.split(linear_problem.Net(nnx.Rngs(0)), nnx.Param, ...)
    batch = next(linear_problem.Source().epoch(0))
    before = jax.tree.map(np.array, nnx.to_pure_dict(params)["linear"])
    moment = Moment(jax.random.key(3), np.float32(0.1), np.float32(0))
    step = jax.jit(training_step(graph, linear_problem.loss, config))
    state, _, _ = step(TrainState.begin(params, config), fixed, batch, moment)
    moments = nnx.to_pure_dict(state.optimiser[1].mu)["linear"]
    return before, {k: np.asarray(v) / 0.1 for k, v in moments.items()}, np.asarray(state.params["linear"]["kernel"])


def test_the_gradient_of_a_step_is_the_one_at_the_noisy_weights_and_changes_the_clean_ones() -> None:
    config = TrainConfig(weight_noise=0.3, clip_norm=1e6)
    before, gradient, after = one_step(config)
    key = jax.random.fold_in(jax.random.key(3), 0)
    at = noisy({"linear": before}, 0.3, key)["linear"]
    batch = next(linear_problem.Source().epoch(0))
    x = batch["x"] + 1e-3 * np.asarray(jax.random.normal(key, batch["x"].shape))
    wrong = x @ np.asarray(at["kernel"]) + np.asarray(at["bias"]) - batch["y"]
    # Of the mean over rows and columns of the squares.
    np.testing.assert_allclose(gradient["kernel"], 2 * x.T @ wrong / wrong.size, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient["bias"], 2 * wrong.sum(axis=0) / wrong.size, rtol=1e-4, atol=1e-5)
    # The first step of Adam is one learning rate against the sign of the gradient, from the weights without noise.
    np.testing.assert_allclose(after, before["kernel"] - 0.1 * np.sign(gradient["kernel"]), rtol=1e-3)
    assert np.abs(np.asarray(at["kernel"]) - before["kernel"]).max() > 0.05


def test_without_noise_the_step_is_the_very_program_that_draws_none() -> None:
    graph, params, fixed = nnx.split(linear_problem.Net(nnx.Rngs(0)), nnx.Param, ...)

    def quiet(model: nnx.Module, batch: dict[str, np.ndarray], *_: jax.Array) -> tuple[jax.Array, dict[str, object]]:
        return ((model(batch["x"]) - batch["y"]) ** 2).mean(), {}  # type: ignore[operator]

    def drawn(sigma: float) -> str:
        config = TrainConfig(weight_noise=sigma)
        arguments = (TrainState.begin(params, config), fixed, next(linear_problem.Source().epoch(0)))
        moment = Moment(jax.random.key(0), np.float32(0.1), np.float32(0))
        return str(jax.make_jaxpr(training_step(graph, quiet, config))(*arguments, moment))  # type: ignore[arg-type]

    assert "random_bits" in drawn(0.1)
    assert "random_bits" not in drawn(0.0)
    kept = noisy_model(linear_problem.Net(nnx.Rngs(0)), 0.0, 1)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(nnx.state(kept)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_noise_that_is_none_is_refused(tmp_path: Path) -> None:
    for sigma in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="weight_noise"):
            TrainConfig(weight_noise=sigma)
    with pytest.raises(ValueError, match="sigma"):
        noisy_model(linear_problem.Net(nnx.Rngs(0)), float("inf"), 0)
