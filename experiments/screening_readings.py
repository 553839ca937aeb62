"""What was read of candidates, as the table that every reader ends with."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.errors import InputError
from data.reading import Reading
from data.tally import kind_of_reason


def standard_said(steps: Sequence[str], changed: int) -> tuple[str, ...]:
    """How many molecules are asked about in another form than the file writes; nothing where none was asked for."""
    if not steps:
        return ()
    return (f"standardise={','.join(steps)}: {changed:,} molecules are taken in another form than that of the file",)


def standard_of(library: Mapping[str, Any], asked: Sequence[str], where: str) -> tuple[str, ...]:
    """The steps that the molecules of a prepared library took, which a screen of it cannot change.

    Args:
        library: what it was made from.
        asked: the steps that a screen asks for; none to take those of the library.
        where: the library lies.

    Raises:
        InputError: others are asked for.
    """
    steps = tuple(library.get("standardise", ()))
    if asked and tuple(asked) != steps:
        raise InputError(
            f"it was prepared with standardise=[{','.join(steps)}], and standardise=[{','.join(asked)}] is asked for",
            where=where,
            remedy="Prepare it with that, or screen its file",
        )
    return steps


def changed_in(results: Path) -> int:
    """Candidates of a finished screen that were asked about in their standard form."""
    changed = 0
    for part in sorted(results.glob("part-*.parquet")):
        column = pq.read_table(part, columns=["standard_smiles"]).column(0)
        changed += len(column) - column.null_count
    return changed


def candidates_read(
    where: str,
    description: str,
    rejects: Path,
    *,
    total: int,
    used: int,
    quantities: Mapping[str, str] | None = None,
    assumed: tuple[str, ...] = (),
) -> Reading:
    """The `Reading` of candidates that went through a screen or into a library, every session of it counted.

    Args:
        where: the candidates come from.
        description: what they were read as.
        rejects: the CSV of rows that were left out, with their reasons.
        total: rows that were read.
        used: rows that are candidates.
        quantities, assumed: see `Reading`.
    """
    reasons: Counter[str] = Counter()
    if total > used and rejects.is_file():
        with open(rejects, newline="", encoding="utf-8", errors="replace") as file:
            reasons.update(kind_of_reason(row["reason"] or "") for row in csv.DictReader(file))
    return Reading(where, description, "rows", total, used, dict(quantities or {}), dict(reasons), assumed=assumed)
