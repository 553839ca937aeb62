"""Train a `ParametricSurrogate`: scales first, then the networks, then the intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, Int

from data.errors import InputError
from data.parameters import ParameterTable
from surrogates.box import Box
from surrogates.devices import data_mesh
from surrogates.normalise import Standardise
from surrogates.parametric.facts import InputScale, ParametricFacts
from surrogates.parametric.network import ParametricConfig, Perceptrons
from surrogates.parametric.parametric import ParametricSurrogate
from surrogates.train import FitResult, Stats, TrainConfig, fit
from surrogates.uncertainty import Conformal


class RowBatch(NamedTuple):
    """Some samples, normalised.

    Attributes:
        features: what decides them.
        labels: the targets.
        weight: 1, or 0 for a row that only fills the batch.
    """

    features: Float[np.ndarray, "batch feature"]
    labels: Float[np.ndarray, "batch target"]
    weight: Float[np.ndarray, " batch"]


@dataclass(frozen=True)
class RowBatches:
    """A source of batches: every sample once an epoch.

    Attributes:
        features, labels: normalised.
        size: rows of a batch; a multiple of the number of devices.
        seed: of the order; None keeps that of the samples. The last batch is filled up either way: of a few
            hundred labels none is to be left out.
    """

    features: Float[np.ndarray, "sample feature"]
    labels: Float[np.ndarray, "sample target"]
    size: int
    seed: int | None

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return -(-len(self.features) // self.size)

    def epoch(self, index: int) -> Iterator[RowBatch]:
        """The batches of an epoch, in an order that seed and index decide."""
        order = np.arange(len(self.features))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, index)).permutation(order)
        for step in range(self.steps_per_epoch):
            yield self._batch(order[step * self.size : (step + 1) * self.size])

    def _batch(self, rows: Int[np.ndarray, " n"]) -> RowBatch:
        weight = np.zeros(self.size, np.float32)
        weight[: len(rows)] = 1.0
        rows = np.resize(rows, self.size)
        return RowBatch(self.features[rows], self.labels[rows], weight)


@dataclass(frozen=True)
class MeanSquare:
    """Mean square of normalised errors over members, targets and samples.

    Attributes:
        noise: standard deviation of what is added to the features of each member.
    """

    noise: float = 0.0

    def __call__(
        self, model: nnx.Module, batch: RowBatch, key: jax.Array, progress: jax.Array
    ) -> tuple[jax.Array, Stats]:
        """The number to minimise, and its statistics; without noise at the end of training."""
        assert isinstance(model, Perceptrons)
        features = jnp.asarray(batch.features)
        if self.noise:
            shake = self.noise * (1 - progress)
            features = features + shake * jax.random.normal(key, features.shape, features.dtype)
        error = model(features) - batch.labels
        each = jnp.mean(error**2, axis=(0, 2)) * batch.weight
        total, count = jnp.sum(each), jnp.sum(batch.weight)
        return total / jnp.maximum(count, 1.0), {"loss": (total, count)}


def fit_parametric(
    train: ParameterTable,
    valid: ParameterTable | None,
    config: ParametricConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    calibration: ParameterTable | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[ParametricSurrogate, FitResult]:
    """Learn numbers from what decides them.

    Args:
        train: samples to learn from.
        valid: chooses the best weights; None keeps the last.
        config: of the ensemble.
        training: the recipe of the loop.
        run_dir: its checkpoints and history; the same directory again goes on from there.
        calibration: samples that neither training nor `valid` has seen, for the intervals.
        mesh: devices to share each batch among; None for all of them.
        progress: show a progress bar.

    Raises:
        InputError: another part has other columns, or there are too few samples to calibrate with.
    """
    layout = train.layout
    for other, name in ((valid, "validation"), (calibration, "calibration")):
        if other is not None and (other.layout.columns, other.layout.targets) != (layout.columns, layout.targets):
            raise InputError(f"the {name} part has other columns", remedy="Give samples of the same simulator")
    inputs = InputScale.fit(train.values, layout.units, config.harmonics)
    outputs = Standardise.fit(layout.targets, train.labels)
    domain = Box.of(layout.columns, train.values)
    facts = ParametricFacts(config, layout, inputs, outputs, domain, train.fingerprint)
    mesh = mesh or data_mesh()
    # A batch longer than the data would be filled with rows that count for nothing.
    size = -(-min(training.batch_size, len(train)) // mesh.size) * mesh.size

    def source(table: ParameterTable, seed: int | None) -> RowBatches:
        return RowBatches(inputs.apply(table.values), outputs.apply(table.labels).astype(np.float32), size, seed)

    learn = source(train, training.seed)
    check = None if valid is None else source(valid, None)
    loss = MeanSquare(config.noise)
    result = fit(facts.model(training.seed), loss, learn, check, training, run_dir, mesh=mesh, progress=progress)
    assert isinstance(result.model, Perceptrons)
    surrogate = ParametricSurrogate(result.model, facts)
    if calibration is not None:
        surrogate = surrogate.with_facts(conformal=calibrate_intervals(surrogate, calibration))
    return surrogate, result


def calibrate_intervals(surrogate: ParametricSurrogate, table: ParameterTable) -> dict[str, Conformal]:
    """The calibration of each target on samples that the training has not seen.

    Raises:
        InputError: there are too few.
    """
    answer = surrogate.with_facts(conformal={}).predict_table(table.values)
    return {
        name: Conformal.fit(table.labels[:, k], answer[name], answer[f"{name}_std"])
        for k, name in enumerate(surrogate.targets)
    }
