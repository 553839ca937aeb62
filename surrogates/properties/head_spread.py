"""Standard deviations of one network of molecular properties, from the posterior of its last layer.

A target is linear in the weights of the head: y = W f, f the readout of a molecule with a 1 for the bias. For labels
with Gaussian errors the posterior of a row of W has the covariance proportional to S^-1, S the second moment of f over
the molecules that were learned from, so that the variance of a target is proportional to f S^-1 f (Bigi et al. 2024,
arXiv:2403.02251, whose scale is fitted to errors). That is the squared Mahalanobis distance of the molecule, divided
here by the length of f, so that its mean over those molecules is 1. The scale of a number is the root mean square error
of the labels that were learned; that of a logit is what Laplace's approximation of the cross-entropy gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from data.molecules.graphs import GraphBatch
from simulators.precision import jit_float32

#: Ridge on the diagonal of the second moment, over its mean, so that it is invertible where units are never active.
RIDGE = 1e-3


class FittedSpread(nnx.Variable[Array]):
    """Arrays of a spread, which are saved with the weights and are fitted after the training."""


class HeadSpread(nnx.Module):
    """The spread of the head of one network; 0 until it is fitted.

    Args:
        readout: width of the input of the head.
        targets: number of targets.
    """

    def __init__(self, readout: int, targets: int) -> None:
        self.whitening = FittedSpread(jnp.zeros((readout + 1, readout + 1)))
        self.scale = FittedSpread(jnp.zeros(targets))

    def __call__(self, hidden: Float[Array, "molecule readout"]) -> Float[Array, "molecule target"]:
        """Standard deviations of standardised targets, or of logits."""
        far = jnp.sqrt(jnp.sum((with_one(hidden) @ self.whitening[...]) ** 2, axis=-1))
        return far[:, None] * self.scale[...]


def with_one(hidden: Float[Array, "molecule readout"]) -> Float[Array, "molecule readout_plus_one"]:
    """The readouts with a 1 behind each, which the bias multiplies."""
    return jnp.concatenate([hidden, jnp.ones((len(hidden), 1), hidden.dtype)], axis=-1)


def fit_spread(model: nnx.Module, batches: Iterable[GraphBatch], binary: Collection[int] = ()) -> None:
    """Fit the spread of every member of an `Ensemble` in place.

    Args:
        model: the trained ensemble, whose members have a spread.
        batches: the molecules that were learned from, with standardised labels; read once.
        binary: places of the targets that are binary labels.
    """
    graph, state = nnx.split(model)
    step = jit_float32(partial(_moments, graph))
    total: dict[str, np.ndarray] = {}
    for batch in batches:
        for name, value in step(state, batch).items():
            total[name] = total.get(name, np.float64(0.0)) + np.asarray(value, np.float64)
    count = max(float(total["molecules"]), 1.0)
    for number, member in enumerate(model.members):  # type: ignore[attr-defined]
        second = total["second"][number] / count
        width = len(second)
        second = second + RIDGE * np.trace(second) / width * np.eye(width)
        values, vectors = np.linalg.eigh(second)
        root = (vectors / np.sqrt(np.maximum(values, 1e-12 * values.max()))) @ vectors.T
        scale = np.sqrt(total["error"][number] / np.maximum(total["labels"], 1.0))
        for place in binary:
            # The precision of logits is the sum of p (1 - p) f f over the molecules.
            scale[place] = np.sqrt(width / max(float(total["certainty"][number, place]), 1e-9))
        member.spread.whitening[...] = jnp.asarray(root / np.sqrt(width), jnp.float32)
        member.spread.scale[...] = jnp.asarray(scale, jnp.float32)


def _moments(graph: Any, state: Any, batch: GraphBatch) -> dict[str, Array]:
    """Sums over a batch: second moments of the readouts, squared errors of each target, and weights of logits."""
    model: Any = nnx.merge(graph, state)
    mask = jnp.asarray(batch.mask, jnp.float32)
    present = jnp.isfinite(batch.labels)
    labels = jnp.where(present, batch.labels, 0.0)
    second, error, certainty = [], [], []
    for hidden, answers in model.readouts(batch):
        whole = with_one(hidden) * mask[:, None]
        second.append(whole.T @ whole)
        error.append(jnp.sum(jnp.where(present, answers - labels, 0.0) ** 2, axis=0))
        share = jax.nn.sigmoid(answers)
        certainty.append(jnp.sum(mask[:, None] * share * (1 - share), axis=0))
    return {
        "second": jnp.stack(second),
        "error": jnp.stack(error),
        "certainty": jnp.stack(certainty),
        "labels": present.sum(axis=0).astype(jnp.float32),
        "molecules": mask.sum(),
    }


def mean_and_spread(answers: Any, targets: int, xp: Any = np) -> tuple[Any, Any]:
    """Mean over the members and standard deviation: that over the members and that of each member's last layer.

    Args:
        answers: (member, molecule, target), or (member, molecule, 2 target) where standard deviations stand behind the
            targets.
        targets: number of targets.
        xp: numpy or jax.numpy.
    """
    values, last = answers[..., :targets], answers[..., targets:]
    mean = values.mean(axis=0)
    variance = values.var(axis=0, ddof=1) if len(values) > 1 else xp.zeros_like(mean)
    if last.shape[-1]:
        variance = variance + (last**2).mean(axis=0)
    return mean, xp.sqrt(variance)
