"""What a library is to the training domain of a surrogate, from a sample of its rows, before it is screened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import write_json
from data.json_files import read_plain
from data.terminal import show_pairs
from experiments.screening.candidate_sources import Source
from experiments.screening.random_rows import random_pieces
from experiments.screening.workers import ParserPool
from surrogates.abilities import CountsDomain

#: File of a screen that holds the summary.
FILE = "domain.json"
#: Rows that are drawn.
ROWS = 2000
#: How the counts of atoms are called.
ATOMS, UNKNOWN = "atoms_of_", "_in_unknown_neighbourhoods"
#: Lines of what is out of range that are shown.
SHOWN = 12


@dataclass(frozen=True)
class DomainSummary:
    """Counts over the sampled rows.

    Attributes:
        rows: number of rows.
        candidates: number of those that are candidates.
        drawn: how they were drawn, in words.
        counts: the counts of `surrogates.abilities.CountsDomain`, added up.
    """

    rows: int = 0
    candidates: int = 0
    drawn: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Flat metrics, such as `library/in_domain_share`."""
        values = {"sampled": float(self.rows), "candidates": float(self.candidates)}
        if self.candidates:
            values["in_domain_share"] = self.counts.get("in_domain", 0) / self.candidates
        values |= {name: float(count) for name, count in self.counts.items() if name != "in_domain"}
        return {f"library/{name}": value for name, value in values.items()}

    def said(self) -> dict[str, str]:
        """The rows of a table: the share in the domain, and what lies outside of it, the most frequent first."""
        if not self.candidates:
            return {"sample": f"{self.rows:,} rows {self.drawn}, none of them a candidate"}
        share = self.counts.get("in_domain", 0) / self.candidates
        said = {
            "sample": f"{self.rows:,} rows {self.drawn}, {self.candidates:,} candidates",
            "in the training domain": f"{share:.1%}",
        }
        outside = {n: c for n, c in self.counts.items() if n != "in_domain" and c and not n.startswith(ATOMS)}
        said |= {name.replace("_", " "): f"{count:,}" for name, count in Counter(outside).most_common(SHOWN)}
        if elements := self._elements():
            said["atoms"] = ", ".join(elements)
        return said

    def _elements(self) -> list[str]:
        """Each element with its atoms, and the share of these whose neighbourhood the training does not have."""
        atoms = {n: c for n, c in self.counts.items() if n.startswith(ATOMS) and not n.endswith(UNKNOWN)}
        texts = []
        for name, count in Counter(atoms).most_common():
            unknown = self.counts.get(name + UNKNOWN, 0)
            share = f" ({unknown / count:.1%} in neighbourhoods without training)" if unknown else ""
            texts.append(f"{name.removeprefix(ATOMS)} {count:,}{share}")
        return texts


def summarise_domain(surrogate: Any, source: Source, pool: ParserPool, out: Path, *, show: bool) -> None:
    """Write and print the summary of a library, unless it is there or the surrogate has no domain that it counts.

    Args:
        surrogate: the surrogate.
        source: the candidates.
        pool: processes that parse them.
        out: directory of the screen, which receives `domain.json`.
        show: whether to print it.
    """
    if not isinstance(surrogate, CountsDomain) or (out / FILE).exists():
        return
    pieces, drawn = random_pieces(source, ROWS)
    rows = candidates = 0
    counts: Counter[str] = Counter()
    for piece in pieces:
        encoded = piece.load(pool).result()
        rows, candidates = rows + encoded.rows, candidates + len(encoded.lines)
        if len(encoded.lines):
            counts.update(surrogate.domain_counts(encoded.table))
    summary = DomainSummary(rows, candidates, drawn, dict(counts))
    write_json(
        out / FILE, {"rows": rows, "candidates": candidates, "drawn": drawn, "counts": dict(sorted(counts.items()))}
    )
    if show:
        show_pairs("Library and training domain", summary.said())


def read_summary(out: Path) -> DomainSummary | None:
    """The summary in the directory of a screen; None if it has none."""
    path = out / FILE
    return read_plain(path, DomainSummary, remedy="Remove it") if path.is_file() else None
