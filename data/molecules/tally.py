"""Counting what a reader takes of a table, row by row, into the `Reading` that is shown in the end."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.formats.rows import NO_VALUE, finite
from data.reading_summary import Reading

#: Rows at the head of a table that tell which of its other columns hold numbers.
LOOKED_AT = 50
#: Columns that were not used and are named one by one.
NAMED = 8
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def kind_of_reason(reason: str) -> str:
    """A reason without what is of its row alone, so that rows left out for the same reason are counted together."""
    return _QUOTED.sub("'...'", reason)


@dataclass
class TableTally:
    """What has been taken of one table so far.

    Attributes:
        format: what the file is read as.
        columns: those that are asked for, as numbers.
        used: rows that are used.
        left_out: kind of reason -> rows.
        values: column -> rows that have a number in it.
        broken: column -> cells that are no numbers, in rows that are used.
        unused: column -> what seems to be in it.
        assumed: see `Reading`.
    """

    format: str = "table"
    columns: tuple[str, ...] = ()
    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    unused: dict[str, str] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    _looked_at: list[Mapping[str, Any]] = field(default_factory=list)

    def take(self, values: Mapping[str, Any], problems: Sequence[str] = ()) -> None:
        """Count a row that is used, its cells and the problems of some of them."""
        self.used += 1
        for name in self.columns:
            value = values.get(name)
            if value is not None and not (isinstance(value, float) and math.isnan(value)):
                self.values[name] += 1
        for problem in problems:
            self.broken[problem.partition(":")[0].removeprefix("column ")] += 1

    def leave(self, reason: str) -> None:
        """Count a row that is left out."""
        self.left_out[kind_of_reason(reason)] += 1

    def give_back(self, reason: str) -> None:
        """Count a row that `take` has counted, but that cannot be used after all, among those left out."""
        self.used -= 1
        self.leave(reason)

    @property
    def looking(self) -> bool:
        """Whether `look` needs more rows."""
        return len(self._looked_at) < LOOKED_AT

    def look(self, cells: Mapping[str, Any]) -> None:
        """Remember the cells of columns that nobody asked for."""
        self._looked_at.append(cells)

    def reading(self, source: object, units: Mapping[str, str] | None = None, *, unit: str = "rows") -> Reading:
        """The whole as a `Reading`.

        Args:
            source: the file.
            units: of columns, "1" where unknown.
            unit: what a row is, in the plural.
        """
        quantities: dict[str, str] = {}
        for name in self.columns:
            column_unit = (units or {}).get(name, "1")
            shown_unit = "unit not stated" if column_unit == "1" else column_unit
            text = f"{shown_unit}, {self.values[name]:,} of {self.used:,} {unit}"
            broken = self.broken[name]
            quantities[name] = text + (f"; {broken:,} cells are no numbers (see rejects.csv)" if broken else "")
        numeric = [n for n in _names(self._looked_at) if _holds_numbers([row.get(n) for row in self._looked_at])]
        unused = dict(self.unused) | dict.fromkeys(numeric[:NAMED], "a column of numbers")
        if len(numeric) > NAMED:
            unused[f"{len(numeric) - NAMED} more"] = "columns of numbers"
        return Reading(
            source=str(source),
            format=self.format,
            unit=unit,
            total=self.used + self.left_out.total(),
            used=self.used,
            quantities=quantities,
            left_out=dict(self.left_out),
            unused=unused,
            assumed=tuple(self.assumed),
        )


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _holds_numbers(cells: Sequence[Any]) -> bool:
    """Whether there is a number among the cells, and nothing but numbers and cells without a value."""
    present = [c for c in cells if c is not None and not (isinstance(c, str) and c.strip().lower() in NO_VALUE)]
    return bool(present) and all(finite(c) is not None for c in present)
