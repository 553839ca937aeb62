"""Losses over labels that may be missing: a NaN label adds nothing, to the value or to the gradient."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LossName = Literal["l1", "l2", "huber"]


def masked_error(
    prediction: Float[Array, "*shape"], label: Float[Array, "*shape"], kind: LossName = "huber", delta: float = 1.0
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The error of each label, and a mask of the labels that are present.

    Args:
        prediction: predicted values, finite.
        label: labels; NaN where one is missing.
        kind: "l1", "l2" (half the square) or "huber" (Huber 1964), quadratic up to `delta`.
        delta: error at which Huber's loss becomes linear, in the unit of the labels.

    Returns:
        The errors, 0 where the label is missing, and the mask, 1 where it is present.
    """
    present = jnp.isfinite(label)
    # The inner where keeps NaN out of the backward pass as well as out of the value.
    difference = jnp.where(present, prediction - jnp.where(present, label, 0.0), 0.0)
    size = jnp.abs(difference)
    if kind == "l1":
        error = size
    elif kind == "l2":
        error = 0.5 * difference**2
    elif kind == "huber":
        error = jnp.where(size <= delta, 0.5 * difference**2, delta * (size - 0.5 * delta))
    else:
        raise ValueError(f"loss must be l1, l2 or huber, got {kind!r}")
    return error, present.astype(prediction.dtype)


def masked_cross_entropy(
    logit: Float[Array, "*shape"], label: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Binary cross-entropy of logits, and a mask of the labels that are present.

    Args:
        logit: logits of the probability of 1, finite.
        label: 0 or 1; NaN where one is missing.

    Returns:
        The cross-entropies, -log p(label), 0 where the label is missing, and the mask, 1 where it is present.
    """
    present = jnp.isfinite(label)
    target = jnp.where(present, label, 0.0)
    error = jnp.where(present, jax.nn.softplus(logit) - target * logit, 0.0)
    return error, present.astype(logit.dtype)
