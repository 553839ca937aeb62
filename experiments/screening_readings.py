"""What was read of candidates, as the table that every reader ends with."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from data.reading import Reading
from data.tally import kind_of_reason


def candidates_read(
    where: str,
    description: str,
    rejects: Path,
    *,
    total: int,
    used: int,
    quantities: Mapping[str, str] | None = None,
) -> Reading:
    """The `Reading` of candidates that went through a screen or into a library, every session of it counted.

    Args:
        where: the candidates come from.
        description: what they were read as.
        rejects: the CSV of rows that were left out, with their reasons.
        total: rows that were read.
        used: rows that are candidates.
        quantities: see `Reading`.
    """
    reasons: Counter[str] = Counter()
    if total > used and rejects.is_file():
        with open(rejects, newline="", encoding="utf-8", errors="replace") as file:
            reasons.update(kind_of_reason(row["reason"] or "") for row in csv.DictReader(file))
    return Reading(where, description, "rows", total, used, dict(quantities or {}), dict(reasons))
