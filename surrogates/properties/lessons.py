"""Labels and the answers of a teacher in one loss of molecular properties.

The student learns what the teacher answers for molecules that nobody labelled, beside the labels that there are
(distillation, Hinton et al. 2015, arXiv:1503.02531). Each label and each answer counts by the weight of its kind, so
that a molecule with both counts with both. The answer for a binary label is a probability, whose cross-entropy is
minimised.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.molecules.graphs import GraphBatch
from surrogates.learning.loop import Stats
from surrogates.learning.losses import LossName, masked_cross_entropy, masked_error
from surrogates.learning.teaching import Teacher
from surrogates.properties.mpnn import Ensemble

#: Kinds of what a student learns: names of the weights of the loss.
LABELS, ANSWERS = "labels", "answers"


@dataclass(frozen=True)
class TaughtAnswers:
    """The answers of a teacher for the molecules of a training.

    Attributes:
        teacher: what is kept of it; its weights are those of `LABELS` and `ANSWERS`.
        values: its answers in the units of the targets, probabilities for binary labels; NaN for molecules without.
    """

    teacher: Teacher
    values: Float[np.ndarray, "molecule target"]


@dataclass(frozen=True)
class TaughtLoss:
    """The mean error of labels and answers, each with its weight, summed over the members.

    The labels of a batch are those of the targets and behind them the answers of the teacher. The statistic, which
    validation compares, is the weighted error of the mean of the members.

    Attributes:
        kind: loss of targets that are numbers.
        binary: places of the targets that are binary labels.
        labels, answers: weight of each kind.
    """

    kind: LossName
    binary: tuple[int, ...]
    labels: float
    answers: float

    def __call__(self, model: nnx.Module, batch: GraphBatch, key: Array, progress: Array) -> tuple[Array, Stats]:
        """The loss of a batch and its statistic."""
        assert isinstance(model, Ensemble)
        predictions = model(batch, key)
        mean = predictions.mean(axis=0)
        if self.binary:
            share = jax.nn.sigmoid(predictions).mean(axis=0).clip(1e-6, 1 - 1e-6)
            mean = jnp.where(self._of_label(mean.shape[-1]), jnp.log(share) - jnp.log1p(-share), mean)
        total, counted = self._weighted(predictions, batch.labels, self.kind)
        absolute, seen = self._weighted(mean[None], batch.labels, "l1")
        return total / jnp.maximum(counted, 1e-6) * len(predictions), {"loss": (absolute, seen)}

    def _weighted(
        self, predictions: Float[Array, "member molecule target"], both: Float[Array, "molecule column"], kind: LossName
    ) -> tuple[Array, Array]:
        """Sum of the weighted errors, and of the weights of what is present."""
        targets = predictions.shape[-1]
        total = counted = jnp.zeros(())
        for weight, labels in ((self.labels, both[:, :targets]), (self.answers, both[:, targets:])):
            wide = jnp.broadcast_to(labels, predictions.shape)
            error, present = masked_error(predictions, wide, kind)
            if self.binary:
                error = jnp.where(self._of_label(targets), masked_cross_entropy(predictions, wide)[0], error)
            total, counted = total + weight * error.sum(), counted + weight * present.sum()
        return total, counted

    def _of_label(self, targets: int) -> Array:
        return jnp.zeros(targets, bool).at[jnp.array(self.binary)].set(True)
