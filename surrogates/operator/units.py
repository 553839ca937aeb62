"""The units that networks of fields work in: fields by their spreads, from an offset where that is all there is.

The change is made on the host in double precision, before anything becomes float32: a pressure of 101,325 Pa that
varies by 0.01 Pa, or a permeability of 1e-13 m2, looks to a network like any other field. Channels are weighed by
their spreads, so that no unit decides what is learned. Where the mean is of the size of the spread the offset is 0,
and relative norms of one channel are those of the field itself (Li et al. 2021, arXiv:2010.08895).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data.errors import InputError
from data.fields import Fields
from data.plain import decode
from surrogates.normalise import constant, moments, refuse_unlike

#: A positive parameter whose values span more than this is taken by its logarithm.
DECADE = 10.0
#: A field whose mean is more than so many times its spread is taken as its deviation from that mean.
MOSTLY_MEAN = 10.0
#: Units between these ends keep their digits in float32.
PLAIN = (1e-30, 1e30)
Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Affine:
    """(value - offset) / unit of each channel; a channel that does not vary has the unit 0, and is 0 throughout."""

    offset: Numbers = ()
    unit: Numbers = ()

    def __post_init__(self) -> None:
        refuse_unlike(offset=self.offset, unit=self.unit)
        if any(unit < 0 for unit in self.unit):
            raise ValueError("unit must be 0 or more")

    def to(self, values: Any, xp: Any = np) -> Any:
        """Values in these units, float32; (..., channel)."""
        if not self.unit:
            return xp.asarray(values, np.float32)
        unit = np.array(self.unit)
        moved = (values - np.array(self.offset)) / np.where(unit > 0, unit, 1.0)
        return xp.where(unit > 0, moved, 0.0).astype(np.float32)

    def back(self, values: Any, xp: Any = np) -> Any:
        """Values in the units of the samples; float64 where float32 would lose digits or range."""
        kind = np.float64 if self.delicate and xp is np else np.float32
        return xp.asarray(values).astype(kind) * np.array(self.unit, kind) + np.array(self.offset, kind)

    def back_spread(self, values: Any, xp: Any = np) -> Any:
        """Standard deviations in the units of the samples."""
        kind = np.float64 if self.delicate and xp is np else np.float32
        return xp.asarray(values).astype(kind) * np.array(self.unit, kind)

    @property
    def delicate(self) -> bool:
        """Whether float32 would lose what varies."""
        return any(o != 0 for o in self.offset) or any(u != 0 and not PLAIN[0] < u < PLAIN[1] for u in self.unit)


@dataclass(frozen=True)
class FieldUnits:
    """The units of states, static fields and parameters.

    Attributes:
        states, static, parameters: of each.
        logarithmic: which parameters are taken by their logarithms.
    """

    states: Affine
    static: Affine
    parameters: Affine
    logarithmic: tuple[bool, ...]

    @staticmethod
    def fit(fields: Fields, *, one_unit: bool = False) -> FieldUnits:
        """Units of training samples.

        Args:
            fields: the samples.
            one_unit: whether all channels of the output share one, as components of a velocity have to.

        Raises:
            InputError: the states do not vary.
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
        """The samples in these units."""
        return replace(
            fields,
            states=self.states.to(fields.states),
            static=self.static.to(fields.static),
            parameters=self.numbers(fields.parameters),
        )

    def numbers(self, values: Float[np.ndarray, "row parameter"]) -> Float[np.ndarray, "row parameter"]:
        """Parameters in these units."""
        return self.parameters.to(_take_logarithms(np.asarray(values, np.float64), self.logarithmic))

    def traced_numbers(self, values: Float[Array, "row parameter"]) -> Float[Array, "row parameter"]:
        """`numbers` within a compiled function, in float32."""
        logs = np.array(self.logarithmic, bool)
        if logs.any():
            values = jnp.where(logs, jnp.log(jnp.where(logs, values, 1.0)), values)
        return self.parameters.to(values, jnp)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, from which `from_json` makes equal units."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> FieldUnits:
        """What `to_json` described."""
        return decode(FieldUnits, value)


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
    """Parameters, or their logarithms; what is not positive lies outside of the domain, and is flagged there."""
    if not any(logs):
        return values
    least = np.finfo(np.float64).tiny
    return np.where(logs, np.log(np.where(logs, np.maximum(values, least), 1.0)), values)
