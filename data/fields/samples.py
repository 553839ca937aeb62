"""Fields on a uniform grid with their inputs: the samples that a neural operator learns from.

A sample is a field, or a trajectory of one, with the fields and numbers that determine it. `data.fields.field_reading`
reads samples from a store of a campaign or from a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from data.errors import InputError
from data.fields.layout import Layout
from data.fields.physics import refuse_other_physics
from data.grouping import row_keys
from data.reading_summary import Reading


@dataclass(frozen=True)
class Fields:
    """Samples of one layout, channels last; in float32 where that keeps what varies, in float64 where it does not.

    Attributes:
        layout: description of the arrays.
        states: the output, in its unit; a single time where nothing evolves, else the initial state first.
        static: input fields, in the order of the layout.
        parameters: input numbers, in the order of the layout.
        fingerprint: identity of the labels: the simulator's, or the hash of the file's arrays.
        seconds: core-seconds that each sample took its simulator; NaN where unknown.
        reading: summary of what was read from their source; None if they were not read.
        cheaper: the output as a cheaper surrogate answers it, at one time; None if there is none.
        cheaper_costs: what these answers cost, as metrics.
    """

    layout: Layout
    states: Float[np.ndarray, "sample time *space channel"]
    static: Float[np.ndarray, "sample *space static"]
    parameters: Float[np.ndarray, "sample parameter"]
    fingerprint: str
    seconds: Float[np.ndarray, " sample"]
    reading: Reading | None = None
    cheaper: Float[np.ndarray, "sample *space channel"] | None = None
    cheaper_costs: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.states)

    def take(self, rows: Int[np.ndarray, " n"]) -> Fields:
        """Some of the samples."""
        return replace(
            self,
            states=self.states[rows],
            static=self.static[rows],
            parameters=self.parameters[rows],
            seconds=self.seconds[rows],
            cheaper=None if self.cheaper is None else self.cheaper[rows],
        )

    def input_keys(self) -> list[str]:
        """A key for each sample: the same for the same fields, numbers and first state."""
        first = [self.states[:, 0]] if self.layout.evolves else []
        return row_keys(self.static, self.parameters, *first)

    def content(self) -> str:
        """SHA-256 (hex) of the arrays."""
        digest = hashlib.sha256()
        for array in (self.states, self.static, self.parameters, *(() if self.cheaper is None else (self.cheaper,))):
            # Fields that float32 resolves keep the hash that they had when all fields were float32.
            kind = "<f8" if array.dtype == np.float64 and array.ndim > 2 else "<f4"
            digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array, kind).tobytes())
        return digest.hexdigest()

    def refuse_other(self, layout: Layout, where: str, *, same_grid: bool = True) -> None:
        """Refuse samples that do not answer the question that a layout asks.

        Args:
            layout: layout that the samples have to match.
            where: file that these samples come from, for errors.
            same_grid: whether the grid has to be the same too.

        Raises:
            InputError: names, units, channels, the time step, the domain or its boundary differ, or the grid.
        """
        sample_layout = self.layout
        for what, mine, theirs in (
            ("variables", _names(sample_layout), _names(layout)),
            ("dims", sample_layout.output.dims, layout.output.dims),
            ("units", _units(sample_layout), _units(layout)),
            ("channels", _channels(sample_layout), _channels(layout)),
        ):
            if mine != theirs:
                raise InputError(
                    f"its {what} are {_plain(mine)}, {_plain(theirs)} are needed",
                    where=where,
                    remedy="Give samples of the same simulator as those of the training",
                )
        refuse_other_physics(sample_layout, layout, where)
        if same_grid and sample_layout.points != layout.points:
            raise InputError(
                f"its grid has {' x '.join(map(str, sample_layout.points))} points, "
                f"{' x '.join(map(str, layout.points))} are needed",
                where=where,
                remedy="Resample it",
            )


def _names(layout: Layout) -> tuple[str, ...]:
    initial = () if layout.initial is None else (layout.initial.name,)
    return (layout.output.name, *initial, *(v.name for v in (*layout.static, *layout.parameters)))


def _units(layout: Layout) -> tuple[str, ...]:
    initial = () if layout.initial is None else (layout.initial,)
    return tuple(v.units for v in (layout.output, *initial, *layout.static, *layout.parameters))


def _channels(layout: Layout) -> tuple[Any, ...]:
    return layout.axis("channel").values if "channel" in layout.output.dims else ()


def _plain(value: tuple[Any, ...]) -> str:
    return ", ".join(map(str, value)) or "none"
