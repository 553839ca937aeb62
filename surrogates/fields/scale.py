"""Standardisation of states, increments, static fields and parameters to zero mean and unit standard deviation."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.errors import InputError
from data.fields.samples import Fields
from surrogates.fields.units import DECADE
from surrogates.learning.normalise import constant, moments, refuse_not_positive, refuse_unlike

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class FieldScale:
    """Means and standard deviations, one number for each channel.

    Attributes:
        state_mean, state_std: mean and standard deviation of the states, in the units of the model.
        increment_std: root mean square of the change of the state in a step; 1 for fields that do not evolve.
        static_mean, static_std: mean and standard deviation of the static fields.
        parameter_mean, parameter_std: mean and standard deviation of the parameters, or of their logarithms.
        logarithmic: whether each parameter is replaced by its logarithm.
    """

    state_mean: Numbers
    state_std: Numbers
    increment_std: Numbers
    static_mean: Numbers
    static_std: Numbers
    parameter_mean: Numbers
    parameter_std: Numbers
    logarithmic: tuple[bool, ...]

    def __post_init__(self) -> None:
        refuse_unlike(state_mean=self.state_mean, state_std=self.state_std, increment_std=self.increment_std)
        refuse_unlike(static_mean=self.static_mean, static_std=self.static_std)
        refuse_unlike(
            parameter_mean=self.parameter_mean, parameter_std=self.parameter_std, logarithmic=self.logarithmic
        )
        refuse_not_positive(state_std=self.state_std, increment_std=self.increment_std)
        refuse_not_positive(static_std=self.static_std, parameter_std=self.parameter_std)

    @staticmethod
    def fit(fields: Fields) -> FieldScale:
        """Fit the scale to training samples.

        Raises:
            InputError: all states are equal and constant.
        """
        states = fields.states
        mean, std = _moments(states)
        if all(constant(*moments(states[..., c])) for c in range(states.shape[-1])):
            raise InputError("the output is the same everywhere", remedy="Give samples that differ")
        increment = np.ones_like(std)
        if states.shape[1] > 1:
            steps = np.diff(states, axis=1)
            increment = np.sqrt(np.mean(np.square(steps, dtype=np.float64), axis=tuple(range(steps.ndim - 1))))
            increment = np.where(increment > 0, increment, 1.0)
        values = np.asarray(fields.parameters, np.float64)
        logs = tuple(
            bool(column.min() > 0 and column.max() > DECADE * column.min()) for column in values.T if len(column)
        )
        taken = np.where(logs, np.log(np.where(values > 0, values, 1.0)), values) if len(logs) else values
        static_mean, static_std = _moments(fields.static)
        parameter_mean, parameter_std = _moments(taken)
        return FieldScale(
            state_mean=_numbers(mean),
            state_std=_numbers(std),
            increment_std=_numbers(increment),
            static_mean=_numbers(static_mean),
            static_std=_numbers(static_std),
            parameter_mean=_numbers(parameter_mean),
            parameter_std=_numbers(parameter_std),
            logarithmic=logs,
        )

    def parameters(self, values: Float[Array, "batch parameter"]) -> Float[Array, "batch parameter"]:
        """Standardised parameters, which are the inputs of the networks."""
        if not self.logarithmic:
            return values
        logs = jnp.asarray(self.logarithmic)
        taken = jnp.where(logs, jnp.log(jnp.where(logs, jnp.maximum(values, 1e-30), 1.0)), values)
        return (taken - jnp.asarray(self.parameter_mean)) / jnp.asarray(self.parameter_std)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel; the deviation of a constant channel is replaced by 1."""
    pairs = [moments(values[..., c]) for c in range(values.shape[-1])]
    means, spreads = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    return means, np.array([1.0 if constant(*pair) else std for pair, std in zip(pairs, spreads, strict=True)])


def _numbers(values: np.ndarray) -> Numbers:
    return tuple(float(v) for v in values)
