"""Converts outputs to the quantities that the networks learn, and predictions back.

A positive output x that spans decades, such as the fraction of a radical, is learned as log(x + floor). The logarithm
is monotonic, so that an interval of it is one of x with the same coverage. Entries that are shares of a whole are
divided by their sum, so that predicted shares add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from data.parameters import ParameterLayout
from surrogates.parameters.network import ParameterConfig

Columns = Float[np.ndarray, "*batch target"]


@dataclass(frozen=True)
class Quantities:
    """The conversion of the columns of outputs.

    Attributes:
        logarithms: columns, and the floor of their logarithm.
        shares: columns, and the number of consecutive ones that add up to 1.
    """

    logarithms: tuple[tuple[slice, float], ...]
    shares: tuple[tuple[slice, int], ...]

    @staticmethod
    def of(layout: ParameterLayout, config: ParameterConfig) -> Quantities:
        """The conversion that the settings ask for.

        Raises:
            ValueError: a name is that of no output, or shares are a single number.
        """
        slices, outputs = layout.target_slices, {v.name: v for v in layout.outputs}
        for key, names in (("logarithms", [*config.logarithms]), ("shares", config.shares)):
            if strange := [name for name in names if name not in outputs]:
                raise ValueError(f"{key} names {strange[0]}; the outputs are {', '.join(outputs)}")
        if single := [name for name in config.shares if not outputs[name].dims]:
            raise ValueError(f"shares names {single[0]}, which is one number")
        sizes = {a.name: len(a.values) for a in layout.axes}
        return Quantities(
            tuple((slices[name], floor) for name, floor in config.logarithms.items()),
            tuple((slices[name], sizes[outputs[name].dims[-1]]) for name in config.shares),
        )

    def learned(self, values: Columns) -> Columns:
        """The quantities that the networks learn, from outputs; values below 0 count as 0 in logarithms."""
        if not self.logarithms:
            return values
        taken = np.array(values, np.float64)
        for columns, floor in self.logarithms:
            taken[..., columns] = np.log(np.maximum(taken[..., columns], 0.0) + floor)
        return taken

    def outputs(self, quantities: Columns) -> Columns:
        """The inverse of `learned`; what lies below the floor of a logarithm gives 0."""
        if not self.logarithms:
            return quantities
        values = np.array(quantities, np.float64)
        with np.errstate(over="ignore"):
            for columns, floor in self.logarithms:
                values[..., columns] = np.maximum(np.exp(values[..., columns]) - floor, 0.0)
        return values

    def spread(self, values: Columns, std: Columns) -> Columns:
        """Standard deviations of outputs near `values`, to first order, from those of the quantities."""
        if not self.logarithms:
            return std
        spread = np.array(std, np.float64)
        for columns, floor in self.logarithms:
            spread[..., columns] *= values[..., columns] + floor
        return spread

    def whole(self, values: Columns) -> Columns:
        """Outputs whose shares are divided by their sum; shares that are all 0 stay 0."""
        if not self.shares:
            return values
        scaled = np.array(values, np.float64)
        for columns, length in self.shares:
            part: Any = scaled[..., columns]
            groups = part.reshape((*part.shape[:-1], part.shape[-1] // length, length))
            total = groups.sum(axis=-1, keepdims=True)
            groups = groups / np.where(total > 0, total, 1.0)
            scaled[..., columns] = groups.reshape(part.shape)
        return scaled
