"""What was read of candidates, as the table that every reader ends with."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.errors import InputError
from data.reading import Reading
from data.tally import kind_of_reason
from experiments.screening_ledger import result_parts


@dataclass(frozen=True)
class StandardForms:
    """Molecules that are asked about in another form than the file writes.

    Attributes:
        changed: all of them.
        stripped: those of them that lost counter-ions or solvents.
    """

    changed: int = 0
    stripped: int = 0

    @staticmethod
    def of(pairs: Iterable[tuple[str, str | None]]) -> StandardForms:
        """Count pairs of a SMILES and its standard form; None or "" for a molecule that is its own."""
        counted = [form.count(".") < text.count(".") for text, form in pairs if form]
        return StandardForms(len(counted), sum(counted))

    @staticmethod
    def in_results(out: Path) -> StandardForms:
        """Count those of the results of a screen.

        Raises:
            CorruptStoreError: a part is not what was written.
        """
        changed = stripped = 0
        for part in result_parts(out):
            text, form = pq.read_table(part, columns=["smiles", "standard_smiles"]).columns
            fewer = pc.less(pc.count_substring(form, "."), pc.count_substring(text, "."))
            changed += len(form) - form.null_count
            stripped += pc.sum(fewer).as_py() or 0
        return StandardForms(changed, stripped)

    @property
    def said(self) -> str:
        """The counts as half a sentence."""
        salts = f" ({self.stripped:,} of them without counter-ions or solvents)" if self.stripped else ""
        return f"{self.changed:,} molecules are taken in another form than that of the file{salts}"


def standard_said(steps: Sequence[str], forms: StandardForms) -> tuple[str, ...]:
    """How many molecules are asked about in another form than the file writes; nothing where none was asked for."""
    return (f"standardise={','.join(steps)}: {forms.said}",) if steps else ()


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
