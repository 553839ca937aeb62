"""Optimisers, schedules and frozen parameters: which parameter moves, how far, and that runs go on exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import linear_problem
import numpy as np
import pytest
from flax import nnx

from data.errors import InputError
from surrogates.learning.loop import Batch, FitResult, LossFn, Stats, fit
from surrogates.learning.recipe import ADAM_RMS, OPTIMISERS, TrainConfig, decays, is_matrix, optimiser, parts
from surrogates.learning.step import OF_STEP, compiled_steps


class Deep(nnx.Module):
    """Three layers around a matrix of some size, with a vector that shifts and a table of two rows."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(3, 16, rngs=rngs)
        self.middle = nnx.Linear(16, 24, rngs=rngs)
        self.table = nnx.Embed(2, 24, rngs=rngs)
        self.last = nnx.Linear(24, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        which = (x[:, 0] > 0).astype(jnp.int32)
        return self.last(nnx.tanh(self.middle(nnx.tanh(self.first(x))) + self.table(which)))


def scheduled(model: nnx.Module, batch: Batch, key: jax.Array, progress: jax.Array) -> tuple[jax.Array, Stats]:
    """The loss of the linear problem, weighted by a factor that grows with progress, and the progress itself."""
    value, stats = linear_problem.loss(model, batch, key, progress)
    one = jnp.ones(())
    return (1.0 + 4.0 * progress) * value, {**stats, "progress": (progress * one, one)}


class Source(linear_problem.Source):
    """The batches of the linear problem that are of one shape; asked for epoch `broken` it fails, once."""

    def __init__(self, samples: int = 192, seed: int = 0, broken: int | None = None) -> None:
        super().__init__(samples, seed)
        self.steps_per_epoch //= 2
        self.broken = broken

    def epoch(self, index: int) -> Iterator[Batch]:
        if index == self.broken:
            self.broken = None
            raise OSError("the disk is gone")
        return (batch for batch in super().epoch(index) if len(batch["x"]) == 32)


def run(
    folder: Path,
    config: TrainConfig,
    *,
    model: nnx.Module | None = None,
    loss: LossFn = linear_problem.loss,
    source: Source | None = None,
    frozen: Callable[[tuple[str, ...]], bool] | None = None,
) -> FitResult:
    model = Deep(nnx.Rngs(0)) if model is None else model
    return fit(model, loss, source or Source(), Source(96, 1), config, folder, frozen=frozen, progress=False)


def flat(model: nnx.Module) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.Param))
    return {"/".join(parts(path)): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.parametrize(("name", "loss"), [("amsgrad", linear_problem.loss), ("muon", scheduled)])
def test_a_run_that_broke_ends_with_the_very_same_bytes(name: str, loss: LossFn, tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, optimiser=name, learning_rate=0.02, ema_decay=0.9, checkpoint_every_s=0.0, seed=3)
    # Noise of a step depends on its number alone, so that a resumed run has the same.
    config = replace(config, weight_noise=0.05 if name == "muon" else 0.0)
    whole = run(tmp_path / "whole", replace(config, checkpoint_every_s=None), loss=loss)
    source = Source(broken=2)
    with pytest.raises(OSError, match="disk"):
        run(tmp_path / "broken", config, loss=loss, source=source)
    resumed = run(tmp_path / "broken", config, loss=loss, source=source)
    assert source.broken is None
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]
    weights = flat(resumed.model)
    for key, array in flat(whole.model).items():
        assert array.tobytes() == weights[key].tobytes(), key


def test_the_loss_is_told_the_share_that_is_done_and_validation_asks_for_the_end(tmp_path: Path) -> None:
    config = TrainConfig(epochs=4, learning_rate=0.02, checkpoint_every_s=None)
    result = run(tmp_path, config, loss=scheduled)
    steps = Source().steps_per_epoch
    for epoch, row in enumerate(result.history):
        assert row["train/progress"] == pytest.approx((epoch + (steps - 1) / 2 / steps) / 4, abs=1e-6)
        assert row["valid/progress"] == 1.0
    assert result.compilations == {"train": 1, "valid": 1}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_one_learning_rate_serves_every_optimiser(name: str, tmp_path: Path) -> None:
    config = TrainConfig(epochs=60, optimiser=name, learning_rate=0.01, ema_decay=0.9, checkpoint_every_s=None)
    result = run(tmp_path, config)
    # The mean square of what is to be learned is about 9.
    assert result.best < 0.1
    assert result.compilations == {"train": 1, "valid": 1}


def direction(name: str, gradient: dict[str, np.ndarray], **settings: float) -> dict[str, np.ndarray]:
    """The first update of zero parameters by a gradient."""
    transform = optimiser(TrainConfig(optimiser=name, clip_norm=1e6, **settings))
    params = jax.tree.map(jnp.zeros_like, gradient)
    updates, _ = jax.jit(transform.update)(gradient, transform.init(params), params)
    return jax.tree.map(np.asarray, updates)


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (48, 16)])
def test_muon_moves_every_direction_of_a_matrix_alike_and_as_far_as_adam(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    # Singular values over two orders of magnitude, of a size that must not matter.
    u, _, v = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    gradient = (1e-4 * u * np.geomspace(1, 0.01, min(shape)) @ v).astype(np.float32)
    update = direction("muon", {"kernel": gradient})["kernel"]
    values = np.linalg.svd(update, compute_uv=False) / (ADAM_RMS * np.sqrt(max(shape)))
    # Five steps of Newton and Schulz end between 0.7 and 1.2 where they end; see the source of Muon.
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert np.sqrt(np.mean(update**2)) == pytest.approx(ADAM_RMS, rel=0.2)
    assert np.sum(update * gradient) > 0


def test_muon_treats_each_member_of_an_ensemble_as_if_it_were_alone() -> None:
    stacked = np.random.default_rng(1).normal(size=(3, 16, 24)).astype(np.float32)
    together = direction("muon", {"kernel": stacked})["kernel"]
    for member in range(3):
        alone = direction("muon", {"kernel": stacked[member]})["kernel"]
        np.testing.assert_allclose(together[member], alone, rtol=1e-4, atol=1e-6)


def test_under_muon_what_is_no_matrix_moves_as_under_adam() -> None:
    rng = np.random.default_rng(2)
    shapes = {"embedding": (94, 16), "bias": (8, 16), "scale": (16,), "out": (16, 1), "weights": (2, 4, 16)}
    gradient = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    adam = direction("adamw", gradient)
    for name, update in direction("muon", {**gradient, "kernel": np.ones((16, 16), np.float32)}).items():
        if name != "kernel":
            np.testing.assert_array_equal(update, adam[name])


def test_parameters_are_known_by_name_and_shape_through_a_module() -> None:
    @nnx.split_rngs(splits=8)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs: nnx.Rngs) -> Deep:
        return Deep(rngs)

    for model in (Deep(nnx.Rngs(0)), make(nnx.Rngs(0))):
        leaves = jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.Param))
        assert ["/".join(parts(p)) for p, leaf in leaves if is_matrix(p, leaf)] == ["middle/kernel"]
        assert {"/".join(parts(p)) for p, leaf in leaves if not decays(p, leaf)} == {
            "first/bias", "last/bias", "middle/bias"
        }  # fmt: skip


def test_amsgrad_never_forgets_the_largest_gradient() -> None:
    moved = {}
    for name in ("adamw", "amsgrad"):
        transform = optimiser(TrainConfig(optimiser=name, clip_norm=1e6))
        params = {"kernel": jnp.zeros((1, 1))}
        state = transform.init(params)
        for size in [100.0] + [1.0] * 4000:
            update, state = UPDATE(transform, {"kernel": jnp.full((1, 1), size)}, state, params)
        moved[name] = float(update["kernel"][0, 0])
    # After four times the memory of the second moment Adam has settled on steps of one again.
    assert moved["adamw"] > 0.8
    assert moved["amsgrad"] < 0.5 * moved["adamw"]


def test_decay_shrinks_matrices_and_leaves_shifts_alone() -> None:
    params = {"kernel": jnp.ones((2, 4, 4)), "bias": jnp.ones((2, 4)), "scale": jnp.ones((4,))}
    for name in OPTIMISERS:
        transform = optimiser(TrainConfig(optimiser=name, weight_decay=0.1))
        updates, _ = jax.jit(transform.update)(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
        np.testing.assert_allclose(updates["kernel"], 0.1, rtol=1e-6)
        assert not np.any(updates["bias"])
        assert not np.any(updates["scale"])


def biases(path: tuple[str, ...]) -> bool:
    return path[-1] == "bias"


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_frozen_parameters_stay_bit_for_bit_and_the_others_learn(name: str, tmp_path: Path) -> None:
    config = TrainConfig(epochs=20, optimiser=name, learning_rate=0.02, weight_decay=0.1, checkpoint_every_s=None)
    model = Deep(nnx.Rngs(0))
    first = {k: v.copy() for k, v in flat(model).items()}
    result = run(tmp_path, config, model=model, frozen=lambda path: path[0] in ("first", "table"))
    kept = {"first/bias", "first/kernel", "table/embedding"}
    for key, array in flat(result.model).items():
        assert (array.tobytes() == first[key].tobytes()) == (key in kept), key
    assert result.best < 0.2 * result.history[0]["valid/loss"]


def test_what_is_frozen_takes_part_in_the_answer(tmp_path: Path) -> None:
    model = linear_problem.Net(nnx.Rngs(0))
    model.linear.bias[...] = jnp.array([0.5, 2.5])
    config = TrainConfig(epochs=60, learning_rate=0.05, ema_decay=0.9, checkpoint_every_s=None)
    result = run(tmp_path, config, model=model, frozen=biases)
    # One shift is right and the other wrong by 2, which no matrix can make up for.
    assert result.best == pytest.approx(2.0**2 / 2, rel=0.15)


def test_a_run_goes_on_only_with_the_same_parameters_frozen(tmp_path: Path) -> None:
    config = TrainConfig(epochs=2, checkpoint_every_s=0.0)
    run(tmp_path, config, frozen=biases)
    again = run(tmp_path, config, frozen=biases)
    assert len(again.history) == 2
    with pytest.raises(InputError, match="frozen"):
        run(tmp_path, config)
    other = Deep(nnx.Rngs(0))
    other.first.bias[...] = 1.0
    with pytest.raises(InputError, match="frozen_sha256"):
        run(tmp_path, config, model=other, frozen=biases)
    with pytest.raises(InputError, match="Freeze fewer"):
        run(tmp_path / "other", config, frozen=lambda path: True)


def test_the_learning_rate_rises_and_falls_as_stated() -> None:
    config = TrainConfig(learning_rate=1.0, warmup_fraction=0.1, final_lr_fraction=0.01)
    assert config.rate(0.05) == pytest.approx(0.5)
    assert config.rate(0.1) == pytest.approx(1.0)
    assert config.rate(0.55) == pytest.approx(0.01 + 0.99 * 0.5)
    assert config.rate(1.0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "bad", [{"schedule": "step"}, {"optimiser": "sgd"}, {"epochs": 0}, {"ema_decay": 1.0}, {"learning_rate": -1}]
)
def test_a_recipe_that_makes_no_sense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrainConfig(**bad)  # type: ignore[arg-type]


#: Compiled once for each transform: thousands of updates of one number.
UPDATE = jax.jit(lambda transform, *rest: transform.update(*rest), static_argnums=0)


def test_recipes_that_differ_in_length_and_rate_share_their_compiled_steps() -> None:
    def steps(weights: int, **recipe: Any) -> tuple[object, object]:
        graph = nnx.split(linear_problem.Net(nnx.Rngs(weights)))[0]
        return compiled_steps(graph, linear_problem.loss, TrainConfig(**recipe))

    first = steps(0, epochs=3, learning_rate=0.1, seed=1)
    assert steps(5, epochs=9, learning_rate=0.2, batch_size=16) == first
    for name in OF_STEP:
        assert steps(0, **{name: {"optimiser": "muon"}.get(name, 0.5)}) != first, name
    # A loss with arrays has no hash, so that its steps are its own.
    graph, recipe = nnx.split(linear_problem.Net(nnx.Rngs(0)))[0], TrainConfig()
    loss: Any = LossOfArray(np.ones(2))
    assert compiled_steps(graph, loss, recipe) != compiled_steps(graph, loss, recipe)


@dataclass(frozen=True)
class LossOfArray:
    """A loss that holds an array."""

    weights: np.ndarray
