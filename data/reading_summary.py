"""Summarises what a reader used of a file: rows, units, layout, what was left out and why, and unused labels.

Every reader of somebody's file hands one `Reading` up beside its data; the stage prints all of them as one table and
keeps them as `reading.json`, so that nothing is dropped, converted or passed over in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

#: Reasons that are shown one by one; the others are added up, because `rejects.csv` has each row with its own.
SHOWN_REASONS = 4


@dataclass(frozen=True)
class Reading:
    """What was read from one source.

    Attributes:
        source: the file, directory or address.
        format: what it was read as, such as "extended XYZ" or "table with comma".
        unit: what is counted, in the plural: "rows", "frames", "samples", "states".
        total: how many the source holds.
        used: how many are used.
        quantities: what is used, by name, and how it was understood: unit, layout, column it came from, how many have
            it; for example {"energy": "eV, column REF_energy, 400 of 400 frames"}.
        left_out: reason -> how many were left out for it.
        unused: what looks like data and was not used, by name, with how to use it.
        assumed: what the file does not say and what was taken instead, one sentence each.
    """

    source: str
    format: str
    unit: str = "rows"
    total: int = 0
    used: int = 0
    quantities: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.total < 0 or self.used < 0:
            raise ValueError(f"counts are 0 or more, got total={self.total} and used={self.used}")

    def without(self, reasons: Iterable[str]) -> Self:
        """The same with more rows left out, one for each reason; `used` shrinks by as many."""
        more = Counter(reasons)
        left_out = Counter(dict(self.left_out)) + more
        return replace(self, used=self.used - more.total(), left_out=dict(left_out))

    def _unit_of(self, count: int) -> str:
        return self.unit.removesuffix("s") if count == 1 else self.unit

    def lines(self) -> list[tuple[str, str]]:
        """The table of this source: pairs of a heading and a text, the source first."""
        rows = [("read", f"{self.source} as {self.format}")]
        rows.append((self.unit, f"{self.used:,} of {self.total:,} used"))
        rows += [(name, text) for name, text in self.quantities.items()]
        by_count = sorted(self.left_out.items(), key=lambda item: (-item[1], item[0]))
        rows += [
            ("left out", f"{count:,} {self._unit_of(count)}: {reason}") for reason, count in by_count[:SHOWN_REASONS]
        ]
        rest = by_count[SHOWN_REASONS:]
        if rest:
            rows.append(("left out", f"{sum(c for _, c in rest):,} {self.unit} for {len(rest)} other reasons"))
        rows += [("not used", f"{name}: {why}") for name, why in self.unused.items()]
        rows += [("assumed", text) for text in self.assumed]
        return rows
