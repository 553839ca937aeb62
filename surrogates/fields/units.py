"""Units of fields inside of the networks: standard deviations, above an offset if the mean dominates.

The conversion is done on the host in double precision, before fields become float32. A pressure of 101,325 Pa that
varies by 0.01 Pa, or a permeability of 1e-13 m2, is then like any other field to a network. Channels are weighted by
their standard deviations, so that the loss does not depend on their units. If the mean is of the size of the standard
deviation, the offset is 0, and relative norms of one channel are those of the field itself (Li et al. 2021,
arXiv:2010.08895).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.errors import InputError
from data.fields.samples import Fields
from surrogates.learning.normalise import constant, moments, refuse_unlike

#: A positive parameter whose largest value over the smallest exceeds this ratio is replaced by its logarithm.
DECADE = 10.0
#: A field whose mean exceeds its standard deviation by this factor is replaced by its deviation from the mean.
MOSTLY_MEAN = 10.0
#: Range of units for which float32 keeps its precision.
PLAIN = (1e-30, 1e30)
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Affine:
    """The map (value - offset) / unit of each channel; a constant channel has the unit 0 and is mapped to 0.

    Attributes:
        offset, unit: offset and unit of each channel, in the units of the samples.
    """

    offset: Numbers = ()
    unit: Numbers = ()

    def __post_init__(self) -> None:
        refuse_unlike(offset=self.offset, unit=self.unit)
        if any(unit < 0 for unit in self.unit):
            raise ValueError("unit must be 0 or more")

    def to(self, values: Any, xp: Any = np) -> Any:
        """Convert values (..., channel) to these units, as float32."""
        if not self.unit:
            return xp.asarray(values, np.float32)
        unit = np.array(self.unit)
        moved = (values - np.array(self.offset)) / np.where(unit > 0, unit, 1.0)
        return xp.where(unit > 0, moved, 0.0).astype(np.float32)

    def back(self, values: Any, xp: Any = np) -> Any:
        """Convert values to the units of the samples; as float64 if float32 would lose digits or range."""
        kind = np.float64 if self.delicate and xp is np else np.float32
        return xp.asarray(values).astype(kind) * np.array(self.unit, kind) + np.array(self.offset, kind)

    def back_spread(self, values: Any, xp: Any = np) -> Any:
        """Convert standard deviations to the units of the samples."""
        kind = np.float64 if self.delicate and xp is np else np.float32
        return xp.asarray(values).astype(kind) * np.array(self.unit, kind)

    @property
    def delicate(self) -> bool:
        """Whether float32 would lose digits or range of the values."""
        return any(o != 0 for o in self.offset) or any(u != 0 and not PLAIN[0] < u < PLAIN[1] for u in self.unit)


@dataclass(frozen=True)
class FieldUnits:
    """The units of states, static fields and parameters.

    Attributes:
        states, static, parameters: offset and unit of each channel, field or parameter.
        logarithmic: whether each parameter is replaced by its logarithm.
    """

    states: Affine
    static: Affine
    parameters: Affine
    logarithmic: tuple[bool, ...]

    @staticmethod
    def fit(fields: Fields, *, one_unit: bool = False) -> FieldUnits:
        """Fit the units to training samples.

        Args:
            fields: the samples.
            one_unit: whether all channels of the output share one unit, as components of a velocity must.

        Raises:
            InputError: all states are equal and constant.
        """
        states = _affine(fields.states)
        if not any(states.unit):
            raise InputError("the output is the same everywhere", remedy="Give samples that differ")
        if one_unit:
            unit = float(np.sqrt(np.mean(np.square(states.unit))))
            states = Affine(states.offset, (unit,) * len(states.unit))
        values = np.asarray(fields.parameters, np.float64)
        logs = tuple(bool(c.min() > 0 and c.max() > DECADE * c.min()) for c in values.T)
        taken = _take_logarithms(values, logs)
        pairs = [moments(column) for column in taken.T]
        spreads = [0.0 if constant(mean, std) else std for mean, std in pairs]
        return FieldUnits(states, _affine(fields.static), Affine(tuple(m for m, _ in pairs), tuple(spreads)), logs)

    def apply(self, fields: Fields) -> Fields:
        """Convert samples to these units."""
        return replace(
            fields,
            states=self.states.to(fields.states),
            static=self.static.to(fields.static),
            parameters=self.numbers(fields.parameters),
        )

    def numbers(self, values: Float[np.ndarray, "row parameter"]) -> Float[np.ndarray, "row parameter"]:
        """Convert parameters to these units."""
        return self.parameters.to(_take_logarithms(np.asarray(values, np.float64), self.logarithmic))

    def traced_numbers(self, values: Float[Array, "row parameter"]) -> Float[Array, "row parameter"]:
        """`numbers` within a compiled function, in float32."""
        logs = np.array(self.logarithmic, bool)
        if logs.any():
            values = jnp.where(logs, jnp.log(jnp.where(logs, values, 1.0)), values)
        return self.parameters.to(values, jnp)

    def traced_numbers_back(self, values: Float[Array, "row parameter"]) -> Float[Array, "row parameter"]:
        """The inverse of `traced_numbers`."""
        if not self.parameters.unit:
            return values
        taken: Float[Array, "row parameter"] = self.parameters.back(values, jnp)
        logs = np.array(self.logarithmic, bool)
        return jnp.where(logs, jnp.exp(jnp.where(logs, taken, 0.0)), taken) if logs.any() else taken


def _affine(values: Float[np.ndarray, "*any channel"]) -> Affine:
    offsets, units = [], []
    for c in range(values.shape[-1]):
        mean, std = moments(values[..., c])
        still = constant(mean, std)
        offsets.append(mean if still or abs(mean) > MOSTLY_MEAN * std else 0.0)
        units.append(0.0 if still else std)
    return Affine(tuple(offsets), tuple(units))


def _take_logarithms(
    values: Float[np.ndarray, "row parameter"], logs: tuple[bool, ...]
) -> Float[np.ndarray, "row parameter"]:
    """Parameters or their logarithms; values that are not positive are clipped, and the domain check reports them."""
    if not any(logs):
        return values
    least = np.finfo(np.float64).tiny
    return np.where(logs, np.log(np.where(logs, np.maximum(values, least), 1.0)), values)
