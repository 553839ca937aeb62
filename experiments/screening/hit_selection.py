"""Which of the best candidates become hits: none with an alert of a catalogue, and, by choice, unlike ones.

Only candidates that would be among the best are looked at, because an alert costs a hundred times as much as a
prediction. Refused ones are listed in `filtered.csv`, and the next best takes their place.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from data.files import remove_listed, write_bytes
from data.formats.cells import safe_row
from data.molecules.alerts import alerts, fingerprints

#: File of the candidates that an alert kept from `top.csv`.
FILTERED = "filtered.csv"
#: The pool of a diverse choice holds this many candidates for each hit, unless its size is given.
POOL = 10
PICKERS = ("leader", "maxmin")


@dataclass(frozen=True)
class Diversity:
    """How unlike hits are picked from the best candidates.

    Attributes:
        picker: "leader" takes the best first, and then each next best that is not more similar than `similarity` to one
            that was taken (sphere exclusion; Butina's clusters with the best as centres); "maxmin" takes the best, and
            then each time the candidate least similar to those taken (Ashton et al., Quant. Struct.-Act. Relat. 2002,
            21, 598). None takes the best as they are.
        similarity: largest Tanimoto similarity of Morgan fingerprints of two hits, for "leader".
        pool: number of the best candidates among which hits are picked; None for `POOL` times their number.

    Raises:
        ValueError: the picker is unknown, or the similarity is not in [0, 1].
    """

    picker: str | None = None
    similarity: float = 0.6
    pool: int | None = None

    def __post_init__(self) -> None:
        if self.picker is not None and self.picker not in PICKERS:
            raise ValueError(f"picker must be one of {', '.join(PICKERS)}, got {self.picker!r}")
        if not 0 <= self.similarity <= 1:
            raise ValueError(f"similarity must be between 0 and 1, got {self.similarity}")

    def pool_of(self, hits: int) -> int:
        """Number of candidates from which `hits` are picked."""
        return hits if self.picker is None else max(hits, self.pool or POOL * hits)


@dataclass(frozen=True)
class Refused:
    """A candidate that an alert kept from the hits."""

    score: float
    line: int
    smiles: str
    reason: str


def hit_options(filters: Sequence[str], diversity: Diversity, top_k: int, named: Sequence[str]) -> dict[str, Any]:
    """How the best rows are kept (arguments of `experiments.screening.sink.Sink.top`), so that hits can be chosen.

    Args:
        filters: names of catalogues of alerts.
        diversity: how unlike hits are picked.
        top_k: largest number of hits.
        named: columns that hold SMILES, that of the standard form last.
    """
    return {
        "k": diversity.pool_of(top_k),
        "refuse": refusals(filters, named) if filters else None,
        "pick": picks(diversity, top_k, named) if diversity.picker else None,
    }


def refusals(catalogues: Sequence[str], named: Sequence[str]) -> Callable[[pa.Table], list[str | None]]:
    """The function that says why each row of a table of results is no hit, or None.

    Args:
        catalogues: names of catalogues.
        named: columns that hold SMILES, that of the standard form last.
    """

    def refuse(table: pa.Table) -> list[str | None]:
        return alerts(molecules_of(table, named), catalogues)

    return refuse


def picks(diversity: Diversity, count: int, named: Sequence[str]) -> Callable[[pa.Table], pa.Table]:
    """The function that picks at most `count` rows from a ranked table of results, in their order."""

    def pick(table: pa.Table) -> pa.Table:
        bits = fingerprints(molecules_of(table, named))
        return table.take(pa.array(diverse(bits, count, diversity)))

    return pick


def unlike(smiles: Sequence[str], count: int, diversity: Diversity) -> list[str]:
    """At most `count` molecules of a ranked list, picked as hits are; the first ones without a picker."""
    if diversity.picker is None:
        return list(smiles[:count])
    pool = list(smiles[: diversity.pool_of(count)])
    return [pool[i] for i in diverse(fingerprints(pool), count, diversity)]


def diverse(bits: np.ndarray, count: int, diversity: Diversity) -> Int[np.ndarray, " pick"]:
    """Indices of unlike rows, ascending.

    Args:
        bits: fingerprints, best candidate first, (candidate, bit) of 0 and 1.
        count: largest number of picks.
        diversity: how to pick.
    """
    from rdkit.DataStructs import ExplicitBitVect
    from rdkit.SimDivFilters.rdSimDivPickers import LeaderPicker, MaxMinPicker

    prints = []
    for row in bits:
        print_ = ExplicitBitVect(len(row))
        print_.SetBitsFromList(np.flatnonzero(row).tolist())
        prints.append(print_)
    if not prints or not count:
        return np.zeros(0, np.int64)
    # RDKit refuses more picks than there are rows.
    count = min(count, len(prints))
    if diversity.picker == "leader" and diversity.similarity >= 1:
        return np.arange(count)
    if diversity.picker == "leader":
        # RDKit takes a distance, and excludes what is nearer than it or as near.
        apart = np.nextafter(1 - diversity.similarity, -1)
        picked = LeaderPicker().LazyBitVectorPick(prints, len(prints), float(apart), pickSize=count)
    else:
        picked = MaxMinPicker().LazyBitVectorPick(prints, len(prints), count, [0], seed=0)
    return np.sort(np.array(list(picked), np.int64))


def molecules_of(table: pa.Table, named: Sequence[str]) -> list[str]:
    """The SMILES of each row, that of the standard form where there is one."""
    columns = [table.column(name).to_pylist() for name in reversed(list(named))]
    return [str(next(filter(None, forms), "")) for forms in zip(*columns, strict=True)]


def write_filtered(refused: Sequence[Refused], out: Path) -> dict[str, int]:
    """Write `filtered.csv`, best first, and count the refused by the catalogue or family of their alert."""
    if not refused:
        remove_listed(out / FILTERED)
        return {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("line", "smiles", "score", "reason"))
    for one in sorted(refused, key=lambda one: (-one.score, one.line)):
        writer.writerow(safe_row((one.line, one.smiles, f"{one.score:.8g}", one.reason)))
    write_bytes(out / FILTERED, text.getvalue().encode(), listed=True)
    return dict(Counter(one.reason.partition(":")[0] for one in refused).most_common())
