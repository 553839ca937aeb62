"""One step of training and one of validation, as pure functions to be compiled once for each shape of batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from simulators.precision import jit_float32
from surrogates.learning.recipe import TrainConfig, optimiser
from surrogates.learning.weight_noise import noisy

Batch = Any
Stats = dict[str, tuple[jax.Array, jax.Array]]
#: Entries of a recipe on which a step depends.
OF_STEP = ("optimiser", "weight_decay", "clip_norm", "ema_decay", "weight_noise")
#: A loss: (model, batch, key of the step, share of training that is done, from 0 to 1) -> (number to minimise,
#: statistics as (sum, count)).
LossFn = Callable[[nnx.Module, Batch, jax.Array, jax.Array], tuple[jax.Array, Stats]]


class TrainState(NamedTuple):
    """The arrays on the device that a step changes."""

    params: Any
    ema: Any
    optimiser: optax.OptState
    step: jax.Array
    skipped: jax.Array

    @staticmethod
    def begin(params: Any, config: TrainConfig) -> TrainState:
        """The state before the first step. Each part has buffers of its own, because the step donates them."""

        @jit_float32
        def begin(params: Any) -> TrainState:
            zero = jnp.zeros((), jnp.int32)
            moments = optimiser(config).init(params)
            return TrainState(copied(params), copied(params), moments, zero, jnp.copy(zero))

        state: TrainState = begin(params)
        return state


@jit_float32
def copied(tree: Any) -> Any:
    """Copies of arrays in buffers of their own, by one program for all of them."""
    return jax.tree.map(jnp.copy, tree)


class Moment(NamedTuple):
    """What a step depends on besides its state and its batch.

    Attributes:
        key: random key of the whole training; each step folds its own number in.
        rate: learning rate of the step.
        progress: share of training that is done, from 0 to 1.
    """

    key: jax.Array
    rate: Any
    progress: Any


def training_step(graph: Any, loss: LossFn, config: TrainConfig) -> Callable[..., Any]:
    """A function (state, fixed, batch, moment) -> (state, statistics, value); the state may be donated.

    Args:
        graph: the model without its arrays.
        loss: see `LossFn`.
        config: the recipe.
    """
    transform = optimiser(config)

    def step(state: TrainState, fixed: Any, batch: Batch, moment: Moment) -> tuple[TrainState, Stats, jax.Array]:
        def objective(weights: Any) -> tuple[jax.Array, Stats]:
            key = jax.random.fold_in(moment.key, state.step)
            if config.weight_noise:
                weights = noisy(weights, config.weight_noise, key)
            return loss(nnx.merge(graph, weights, fixed), batch, key, moment.progress)

        (value, stats), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        norm = optax.tree.norm(gradient)
        good = jnp.isfinite(value) & jnp.isfinite(norm)
        updates, moments = transform.update(gradient, state.optimiser, state.params)
        weights = optax.apply_updates(state.params, jax.tree.map(lambda u: -moment.rate * u, updates))
        decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, state.ema, weights)
        # A step whose loss or gradient is not finite changes nothing but the count of such steps.
        kept = jax.tree.map(
            lambda new, old: jnp.where(good, new, old),
            (weights, ema, moments),
            (state.params, state.ema, state.optimiser),
        )
        stats = jax.tree.map(lambda x: jnp.where(good, x, jnp.zeros_like(x)), stats)
        weights, ema, moments = kept
        count = state.skipped + (~good).astype(jnp.int32)
        return TrainState(weights, ema, moments, state.step + 1, count), stats, value

    return step


def validation_step(graph: Any, loss: LossFn) -> Callable[..., Stats]:
    """A function (weights, fixed, batch, key) -> statistics.

    The loss is always that of the end of training: the best epoch can only be chosen by one measure, and the loss at
    the end is what training is to minimise. Where the loss changes during training, a small value of an early epoch
    would otherwise be compared with values of another loss.
    """

    def check(weights: Any, fixed: Any, batch: Batch, key: jax.Array) -> Stats:
        return loss(nnx.merge(graph, weights, fixed), batch, key, jnp.ones((), jnp.float32))[1]

    return check


def compiled_steps(graph: Any, loss: LossFn, config: TrainConfig) -> tuple[Any, Any]:
    """The compiled `training_step`, which donates its state, and the compiled `validation_step`.

    Networks that differ in their weights alone share them, if their losses are equal and their recipes differ in length
    and rate alone: a training that goes on in the same process, or a round of active learning, compiles nothing anew.

    Args:
        graph: the model without its arrays.
        loss: see `LossFn`; one without a hash has steps of its own. The last four pairs are kept.
        config: the recipe, of which `OF_STEP` counts.

    Returns:
        The functions (state, fixed, batch, moment) -> (state, statistics, value), and (weights, fixed, batch, key) ->
        statistics.
    """
    recipe = replace(TrainConfig(), **{name: getattr(config, name) for name in OF_STEP})
    try:
        return _shared_steps(graph, loss, recipe)
    except TypeError:
        # A loss with arrays has no hash.
        return _compiled_steps(graph, loss, recipe)


def _compiled_steps(graph: Any, loss: LossFn, recipe: TrainConfig) -> tuple[Any, Any]:
    step = jit_float32(training_step(graph, loss, recipe), donate_argnums=0)
    return step, jit_float32(validation_step(graph, loss))


_shared_steps = functools.lru_cache(maxsize=4)(_compiled_steps)


def add_stats(total: Stats | None, new: Stats) -> Stats:
    """Sums of (sum, count) pairs, kept on the device."""
    return new if total is None else jax.tree.map(jnp.add, total, new)


def averages(total: Stats) -> dict[str, float]:
    """Means, fetched from the device at once; a statistic without samples is left out."""
    host = jax.device_get(total)
    return {name: float(s) / float(n) for name, (s, n) in host.items() if float(n) > 0}


def to_partial(total: Stats) -> dict[str, tuple[float, float]]:
    """Statistics as JSON: a float32 has an equal float64, so that nothing is lost."""
    return {name: (float(s), float(n)) for name, (s, n) in jax.device_get(total).items()}


def from_partial(partial: dict[str, tuple[float, float]]) -> Stats | None:
    """The statistics that `to_partial` described; None if there are none."""
    # Numbers of the host: arrays of this process alone could not be added to those of all devices.
    stats: Any = {name: (np.float32(s), np.float32(n)) for name, (s, n) in partial.items()}
    return stats or None


def count_compilations(function: Any) -> int:
    """How many shapes a jitted function has been compiled for."""
    return int(function._cache_size())
