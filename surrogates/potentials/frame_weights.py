"""Weights of training frames by the entry `config_type`, with which some kinds of frames count more in the loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from data.errors import InputError
from data.formats.rows import Row
from data.reading_summary import Reading
from data.structures.structures import WEIGHT

#: Entry of a frame that names its kind, and the weight of the kinds that are not named.
ENTRY, OTHERS = "config_type", "Default"


@dataclass
class FrameWeights:
    """Gives each frame of a training its weight, and counts them.

    Attributes:
        weights: kind -> weight in the loss; `Default` is that of all other frames, 1 if it is not there.
        counts: kind -> number of frames.

    Raises:
        InputError: a weight is negative or not finite, or all are 0.
    """

    weights: Mapping[str, float]
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for kind, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise InputError(f"must be 0 or more, got {weight}", where=f"data.weights.{ENTRY}.{kind}")
        if self.weights and not any([*self.weights.values(), OTHERS not in self.weights]):
            raise InputError("no frame counts", where=f"data.weights.{ENTRY}", remedy="Give one of them a weight")

    def weighted(self, row: Row) -> Row:
        """The frame with its weight."""
        kind = str(row.properties.get(ENTRY, OTHERS))
        self.counts[kind] += 1
        weight = self.weights.get(kind, self.weights.get(OTHERS, 1.0))
        properties: dict[str, Any] = {**row.properties, WEIGHT: float(weight)}
        return replace(row, properties=properties)

    def said(self, reading: Reading) -> Reading:
        """The reading with the weights of its frames so far."""
        if not self.weights:
            return reading
        named = [f"{kind} {self.weights[kind]:g} ({self.counts[kind]:,} frames)" for kind in self.weights
                 if kind != OTHERS]  # fmt: skip
        others = sum(count for kind, count in self.counts.items() if kind not in self.weights or kind == OTHERS)
        text = "; ".join([*named, f"others {self.weights.get(OTHERS, 1.0):g} ({others:,} frames)"])
        return replace(reading, quantities={**reading.quantities, "weights": text})

    def refuse_unused(self) -> None:
        """Refuse names that no frame has.

        Raises:
            InputError: the message names the kinds that there are.
        """
        unused = [kind for kind in self.weights if kind != OTHERS and not self.counts[kind]]
        if unused:
            kinds = ", ".join(sorted(kind for kind in self.counts if kind != OTHERS)) or "none"
            raise InputError(
                f"no training frame has {ENTRY}={unused[0]}", where=f"data.weights.{ENTRY}",
                remedy=f"The frames have {kinds}",
            )  # fmt: skip
