"""The report of what was read from candidates, and the counts of standard forms."""

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
from data.molecules.tally import kind_of_reason
from data.reading_summary import Reading
from experiments.screening.ledger import result_parts


@dataclass(frozen=True)
class StandardForms:
    """Counts of molecules whose standard form differs from the form in the file.

    Attributes:
        changed: number of these molecules.
        stripped: number of those that lost counter-ions or solvents.
    """

    changed: int = 0
    stripped: int = 0

    @staticmethod
    def of(pairs: Iterable[tuple[str, str | None]]) -> StandardForms:
        """Count pairs of a SMILES and its standard form; None or "" if the form does not differ."""
        counted = [form.count(".") < text.count(".") for text, form in pairs if form]
        return StandardForms(len(counted), sum(counted))

    @staticmethod
    def in_results(out: Path) -> StandardForms:
        """Count the standard forms in the results of a screen.

        Raises:
            CorruptStoreError: a part differs from what was written.
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
        """The counts in words."""
        salts = f" ({self.stripped:,} of them without counter-ions or solvents)" if self.stripped else ""
        return f"{self.changed:,} molecules are taken in another form than that of the file{salts}"


def standard_said(steps: Sequence[str], forms: StandardForms) -> tuple[str, ...]:
    """The note on molecules that are used in their standard form; empty if none was requested."""
    return (f"standardise={','.join(steps)}: {forms.said}",) if steps else ()


def standard_of(library: Mapping[str, Any], asked: Sequence[str], where: str) -> tuple[str, ...]:
    """The steps of standardisation of a prepared library, which a screen cannot change.

    Args:
        library: description of the source of the library.
        asked: steps that a screen requests; empty to use those of the library.
        where: path of the library.

    Raises:
        InputError: other steps are requested.
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
    """The `Reading` of candidates that were screened or prepared, over all sessions.

    Args:
        where: origin of the candidates.
        description: format in which they were read.
        rejects: CSV file of the rows that were left out, with their reasons.
        total: number of rows that were read.
        used: number of rows that are candidates.
        quantities, assumed: see `Reading`.
    """
    reasons: Counter[str] = Counter()
    if total > used and rejects.is_file():
        with open(rejects, newline="", encoding="utf-8", errors="replace") as file:
            reasons.update(kind_of_reason(row["reason"] or "") for row in csv.DictReader(file))
    return Reading(where, description, "rows", total, used, dict(quantities or {}), dict(reasons), assumed=assumed)
