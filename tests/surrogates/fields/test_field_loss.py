"""The loss of a window: unrolling equals single steps, and each norm follows its definition."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_fields import waves

from data.fields.batches import FieldBatch, FieldBatches
from surrogates.fields.facts import FieldConfig, FieldFacts
from surrogates.fields.loss import FieldLoss, FieldLossSettings, derivatives, relative_l2
from surrogates.fields.model import FieldModel, rollout
from surrogates.fields.networks.fno import FNOConfig
from surrogates.fields.scale import FieldScale
from surrogates.learning.checkpointed import identity
from surrogates.learning.loop import TrainConfig


@pytest.fixture(scope="module")
def facts() -> FieldFacts:
    fields = waves(8, 0)
    config = FieldConfig(network=FNOConfig(width=4, layers=1, modes=(3,)), ensemble=2)
    return FieldFacts(config, fields.layout, FieldScale.fit(fields), "x")


@pytest.fixture(scope="module")
def batch() -> FieldBatch:
    return next(FieldBatches(waves(8, 1), 4, 4, seed=0).epoch(0))


def value(loss: FieldLoss, model: FieldModel, batch: FieldBatch, progress: float) -> tuple[float, dict[str, Any]]:
    loss_value, stats = jax.jit(loss)(model, batch, jax.random.key(0), jnp.float32(progress))
    return float(loss_value), stats


#: Compiled once for the models and shapes that are alike, whichever test asks.
ask = nnx.jit(lambda model, *inputs: model(*inputs))


def test_unrolled_training_equals_steps_one_by_one(facts: FieldFacts, batch: FieldBatch) -> None:
    model = facts.model()
    loss = FieldLoss(FieldLossSettings(unroll=3, unroll_from=0.0, unroll_full=0.5), lengths=(1.0,), periodic=(True,))
    static, parameters = jnp.asarray(batch.static), jnp.asarray(batch.parameters)
    state = jnp.broadcast_to(batch.frames[:, 0], (2, *batch.frames[:, 0].shape))
    steps = []
    for k in range(1, 4):
        state = ask(model, state, static, parameters)
        error = (state - batch.frames[None, :, k]) / facts.scale.increment_std[0]
        steps.append(float(jnp.mean(error**2)))
    # One step counts at first, the second from a quarter of the training on, all three from its half.
    for progress, count in ((0.0, 1), (0.26, 2), (0.5, 3), (1.0, 3)):
        assert value(loss, model, batch, progress)[0] == pytest.approx(np.mean(steps[:count]), rel=1e-5)


def test_a_rollout_is_its_steps(facts: FieldFacts, batch: FieldBatch) -> None:
    model = facts.model()
    trajectory = rollout(model, batch.frames[:, 0], batch.static, batch.parameters, 2)
    state = jnp.broadcast_to(batch.frames[:, 0], (2, *batch.frames[:, 0].shape))
    assert np.array_equal(trajectory[:, :, 0], state)
    for k in (1, 2):
        state = ask(model, state, jnp.asarray(batch.static), jnp.asarray(batch.parameters))
        assert np.allclose(trajectory[:, :, k], state, rtol=1e-5, atol=1e-6)


def test_cutting_the_gradient_changes_the_gradient_alone(facts: FieldFacts, batch: FieldBatch) -> None:
    graph, state = nnx.split(facts.model())

    def gradient(cut: bool) -> tuple[Any, Any]:
        loss = FieldLoss(FieldLossSettings(unroll=3, unroll_from=0.0, unroll_full=0.0, cut_gradient=cut))
        value = lambda s: loss(nnx.merge(graph, s), batch, jax.random.key(0), jnp.float32(1.0))[0]  # noqa: E731
        return jax.jit(jax.value_and_grad(value))(state)

    (whole, through), (cut, short) = gradient(False), gradient(True)
    assert float(whole) == pytest.approx(float(cut), rel=1e-6)
    differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), through, short)
    assert max(jax.tree.leaves(differences)) > 1e-6


def test_rows_that_fill_a_batch_count_for_nothing(facts: FieldFacts, batch: FieldBatch) -> None:
    loss = FieldLoss(FieldLossSettings(unroll=3))
    half = FieldBatch(batch.frames, batch.static, batch.parameters, np.array([1, 1, 0, 0], np.float32))
    spoiled = half._replace(frames=np.concatenate([batch.frames[:2], 100 + batch.frames[2:]]))
    assert value(loss, facts.model(), half, 1.0)[0] == pytest.approx(value(loss, facts.model(), spoiled, 1.0)[0])


def test_noise_is_for_training_alone(facts: FieldFacts, batch: FieldBatch) -> None:
    clean, noisy = (FieldLoss(FieldLossSettings(unroll=3, noise=noise)) for noise in (0.0, 0.5))
    model = facts.model()
    assert value(noisy, model, batch, 1.0)[0] == pytest.approx(value(clean, model, batch, 1.0)[0])
    assert value(noisy, model, batch, 0.5)[0] != pytest.approx(value(clean, model, batch, 0.5)[0])


def test_the_relative_norm_of_a_scaled_field() -> None:
    truth = jnp.asarray(np.random.default_rng(0).normal(size=(3, 10, 2)))
    assert np.allclose(relative_l2(1.1 * truth, truth), 0.1, rtol=1e-5)


@pytest.mark.parametrize("closed", [True, False])
def test_derivatives_of_a_wave_converge_at_second_order(closed: bool) -> None:
    errors = []
    for n in (32, 64):
        x = np.arange(n) / n
        wave = jnp.asarray(np.sin(2 * np.pi * x)[None, :, None], jnp.float32)
        (slope,) = derivatives(wave, (1.0,), (closed,))
        inner = slice(None) if closed else slice(1, -1)
        errors.append(np.abs(slope[0, inner, 0] - 2 * np.pi * np.cos(2 * np.pi * x)[inner]).max())
    assert 3.6 < errors[0] / errors[1] < 4.4


def test_a_symmetric_pair_of_fields_has_a_symmetric_loss() -> None:
    """State and static fields get the same transformation: a model that returns the static field stays exact."""
    rng = np.random.default_rng(0)
    static = rng.normal(size=(6, 8, 8, 1)).astype(np.float32)
    loss = FieldLoss(FieldLossSettings("relative_l2", symmetry="square"))
    frames, turned = loss._turn(jnp.asarray(static[:, None]), jnp.asarray(static), jax.random.key(3), jnp.float32(0.5))
    assert np.array_equal(frames[:, 0], turned)
    kept, same = loss._turn(jnp.asarray(static[:, None]), jnp.asarray(static), jax.random.key(3), jnp.float32(1.0))
    assert np.array_equal(same, static)
    assert np.array_equal(kept[:, 0], static)
    seen = set()
    for k in range(20):
        rotated = loss._turn(jnp.asarray(static[:, None]), jnp.asarray(static), jax.random.key(k), jnp.float32(0))[1]
        seen |= {np.asarray(rotated[0]).tobytes()}
    # Each sample is transformed on its own, and keeps its values.
    for before, after in zip(static, np.asarray(turned), strict=True):
        assert np.array_equal(np.sort(before.ravel()), np.sort(after.ravel()))
    assert 5 <= len(seen) <= 8


def test_unknown_names_and_numbers_are_refused() -> None:
    for settings in ({"kind": "l3"}, {"symmetry": "cube"}, {"unroll": 0}, {"unroll_from": 0.9, "unroll_full": 0.1}):
        with pytest.raises(ValueError):
            FieldLossSettings(**settings)  # type: ignore[arg-type]


def test_checkpoints_describe_the_loss_as_before_it_had_settings() -> None:
    """Notes of checkpoints of earlier versions have these keys, and a run resumes only with an equal description."""
    loss = FieldLoss(FieldLossSettings("h1", unroll=3, noise=0.5), (1.0, 0.5), (True, False))
    assert identity(TrainConfig(), loss, nnx.State({}))["loss"] == {
        "kind": "h1", "unroll": 3, "unroll_from": 0.3, "unroll_full": 0.7, "cut_gradient": False, "noise": 0.5,
        "symmetry": "none", "lengths": [1.0, 0.5], "periodic": [True, False],
    }  # fmt: skip
