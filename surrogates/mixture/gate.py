"""The gate of a mixture: probabilities of the experts from what the host knows of a molecule before a batch is packed.

They are a softmax of a linear function of the composition, the size and the total charge, fitted to the molecules that
each expert has learned from, every expert having the same weight however few they are (multinomial logistic
regression). It runs on the host in NumPy: a product of two small matrices, without a compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from scipy.special import softmax


class Gate(nnx.Module):
    """The weights of the linear function.

    Args:
        elements: number of elements Z that any expert has learned.
        experts: number of experts E.
    """

    def __init__(self, elements: int, experts: int) -> None:
        # Beside the elements: the number of atoms and the charge.
        self.kernel = nnx.Param(jnp.zeros((elements + 2, experts), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(experts, jnp.float32))

    def probabilities(
        self, inputs: Float[np.ndarray, "M F"], eligible: Sequence[Sequence[bool]] | np.ndarray
    ) -> Float[np.ndarray, "M E"]:
        """Probabilities of the experts for M molecules; 0 for those that are not eligible.

        Args:
            inputs: see `describe`.
            eligible: (M, E), at least one expert of each molecule.
        """
        scores = inputs @ np.asarray(self.kernel[...], np.float64) + np.asarray(self.bias[...], np.float64)
        return np.asarray(softmax(np.where(eligible, scores, -np.inf), axis=1))


def describe(counts: Float[np.ndarray, "M Z"], charge: Int[np.ndarray, " M"]) -> Float[np.ndarray, "M F"]:
    """What the gate reads: log(1 + n) of the atoms of each element and of all atoms, and the total charge.

    Args:
        counts: number of atoms of each element.
        charge: total charge, e.
    """
    return np.column_stack([np.log1p(counts), np.log1p(counts.sum(axis=1)), charge]).astype(np.float64)


def fit_gate(gate: Gate, inputs: Float[np.ndarray, "M F"], expert: Int[np.ndarray, " M"], strength: float) -> None:
    """Fit the weights of a gate in place; those of a single expert stay zero.

    Args:
        gate: a gate of E experts.
        inputs: see `describe`, of molecules that the experts have learned from.
        expert: index of the expert that learned from each; every expert has at least one.
        strength: inverse strength of the ridge.
    """
    experts = gate.bias[...].shape[0]
    if experts == 1:
        return
    from sklearn.linear_model import LogisticRegression

    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    # What does not vary among these molecules is no reason for any expert.
    scale = np.where(spread > 0, 1.0 / np.maximum(spread, 1e-12), 0.0)
    fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=2_000)
    fitted.fit((inputs - mean) * scale, expert)
    coefficients, intercept = fitted.coef_, fitted.intercept_
    if experts == 2:  # scikit-learn has one row for two classes
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.hstack([-intercept, intercept]) / 2
    kernel = coefficients.T * scale[:, None]
    gate.kernel[...] = jnp.asarray(kernel, jnp.float32)
    gate.bias[...] = jnp.asarray(intercept - mean @ kernel, jnp.float32)
