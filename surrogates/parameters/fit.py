"""Training of a `ParameterSurrogate`: the scales are fitted first, then the networks are trained and calibrated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Float, Int

from data.batch_rows import WHOLE, BatchRows
from data.parameters import ParameterTable
from surrogates.learning.box import Box
from surrogates.learning.devices import data_mesh
from surrogates.learning.loop import FitResult, Stats, TrainConfig, fit
from surrogates.learning.normalise import Standardise
from surrogates.learning.rung import Line, RungColumns, Standing
from surrogates.parameters.facts import InputScale, ParameterFacts
from surrogates.parameters.network import ParameterConfig, Perceptrons
from surrogates.parameters.quantities import Quantities
from surrogates.parameters.surrogate import ParameterSurrogate


class RowBatch(NamedTuple):
    """A batch of standardised samples.

    Attributes:
        features: input features.
        labels: targets.
        weight: 1 for a sample, 0 for a row that fills the batch.
    """

    features: Float[np.ndarray, "batch feature"]
    labels: Float[np.ndarray, "batch target"]
    weight: Float[np.ndarray, " batch"]


@dataclass(frozen=True)
class RowBatches:
    """A source of batches that visits each sample once an epoch.

    The last batch is filled with repeated rows of weight 0, so that no sample is left out.

    Attributes:
        features, labels: standardised input features and targets.
        size: rows per batch; a multiple of the number of devices.
        seed: seed of the shuffling; None keeps the order of the samples.
    """

    features: Float[np.ndarray, "sample feature"]
    labels: Float[np.ndarray, "sample target"]
    size: int
    seed: int | None

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch."""
        return -(-len(self.features) // self.size)

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[RowBatch]:
        """The batches of an epoch, in an order given by seed and index; `part`: rows of each that are built."""
        order = np.arange(len(self.features))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, index)).permutation(order)
        for step in range(self.steps_per_epoch):
            yield self._batch(order[step * self.size : (step + 1) * self.size], part.of(self.size))

    def _batch(self, rows: Int[np.ndarray, " n"], here: slice) -> RowBatch:
        weight = (np.arange(self.size) < len(rows)).astype(np.float32)[here]
        rows = np.resize(rows, self.size)[here]
        return RowBatch(self.features[rows], self.labels[rows], weight)


@dataclass(frozen=True)
class MeanSquare:
    """Mean square of standardised errors over members, targets and samples.

    Attributes:
        noise: standard deviation of the noise that is added to the features; it falls to 0 during training.
    """

    noise: float = 0.0

    def __call__(
        self, model: nnx.Module, batch: RowBatch, key: jax.Array, progress: jax.Array
    ) -> tuple[jax.Array, Stats]:
        """The loss and its statistics."""
        assert isinstance(model, Perceptrons)
        features = jnp.asarray(batch.features)
        if self.noise:
            shake = self.noise * (1 - progress)
            features = features + shake * jax.random.normal(key, features.shape, features.dtype)
        error = model(features) - batch.labels
        each = jnp.mean(error**2, axis=(0, 2)) * batch.weight
        total, count = jnp.sum(each), jnp.sum(batch.weight)
        return total / jnp.maximum(count, 1.0), {"loss": (total, count)}


def fit_parameter_surrogate(
    train: ParameterTable,
    valid: ParameterTable | None,
    config: ParameterConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    linear: bool = False,
    on: RungColumns | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> tuple[ParameterSurrogate, FitResult]:
    """Train a surrogate of numbers or curves as functions of parameters; its intervals are calibrated afterwards.

    Args:
        train: training samples.
        valid: validation samples, which select the best weights; None keeps the last weights.
        config: settings of the ensemble.
        training: settings of the training loop.
        run_dir: directory of checkpoints and history; a run in a directory that has checkpoints resumes from them.
        linear: whether a line through the input features is fitted first, and the networks learn what it leaves.
        on: the cheaper simulator whose answers are `cheaper` of each part, with its cost; None if there is none.
        mesh: devices that share each batch; None for all devices.
        progress: whether to show a progress bar.

    Raises:
        InputError: `valid` has other columns than `train`, or the settings name other outputs.
    """
    layout = train.layout
    if valid is not None:
        layout.refuse_other_columns(valid.layout, "the validation part")
    inputs = InputScale.fit(train.values, layout.units, config.harmonics, products=config.products)
    quantities = Quantities.of(layout, config)
    learned = quantities.learned(train.labels)
    line = Line.fit(inputs.apply(train.values), learned) if linear else None
    standing = None
    if on is not None and train.cheaper is not None:
        standing = Standing.fit(on.simulator, on.outputs, train.cheaper, learned, on.cost_s)
    whole = Standardise.fit(layout.targets, learned)
    domain = Box.of(layout.columns, train.values)
    facts = ParameterFacts(config, layout, inputs, whole, domain, train.fingerprint, line=line, on=standing)

    def left(table: ParameterTable) -> Float[np.ndarray, "sample target"]:
        """What the networks learn."""
        return quantities.learned(table.labels) - facts.first_estimate(table.values, table.cheaper)

    outputs = Standardise.fit(layout.targets, left(train))
    facts = replace(facts, outputs=outputs)
    mesh = mesh or data_mesh()
    # The batch is no longer than the data, or it would be filled with rows of weight 0.
    size = -(-min(training.batch_size, len(train)) // mesh.size) * mesh.size

    def source(table: ParameterTable, seed: int | None) -> RowBatches:
        labels = outputs.apply(left(table)).astype(np.float32)
        return RowBatches(facts.seen(table.values, table.cheaper), labels, size, seed)

    learn = source(train, training.seed)
    check = None if valid is None else source(valid, None)
    loss = MeanSquare(config.noise)
    result = fit(facts.model(training.seed), loss, learn, check, training, run_dir, mesh=mesh, progress=progress)
    assert isinstance(result.model, Perceptrons)
    surrogate = ParameterSurrogate(result.model, facts)
    return surrogate if on is None else surrogate.with_rung(on.simulator), result
