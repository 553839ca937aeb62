"""Reads candidates from an SDF file: each record is a molecule by its bonds, and its data fields are columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np

from data.formats.text_files import TextFormat
from data.structures.sdf_molecules import SdfMolecule, field_names, sdf_molecules
from experiments.screening.candidate_chunks import TextChunk
from experiments.screening.carried import CarriedLists, columns_of
from experiments.screening.pieces import LibraryPiece

#: Stands for a record without SMILES in a chunk, which rejects its line.
NOTHING = "?"


@dataclass(frozen=True)
class SdfSource:
    """An SDF file, in any form that `data.formats.text_files` reads; positions and lines are records."""

    parses: ClassVar[bool] = True
    cuts_alike: ClassVar[bool] = True
    path: Path
    carry: tuple[str, ...] = ()
    start: tuple[int, int] = (0, 1)

    @property
    def description(self) -> str:
        """Such as "SDF, compressed by gzip"."""
        return ", ".join(filter(None, ["SDF", str(TextFormat.of(self.path))]))

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """Chunks of records as SMILES; one that has none is rejected with its reason."""
        molecules = sdf_molecules(self.path, position)
        total, read = max(1, self.path.stat().st_size), 0
        while some := list(islice(molecules, rows)):
            texts = [one.smiles or NOTHING for one in some]
            lost = {one.number: one.reason for one in some if one.smiles is None}
            chunk = TextChunk("\n".join(texts).encode(), some[0].number, lost=lost)
            read += sum(len(one.text) for one in some)
            end = some[-1].number
            # Of a compressed file, and one that is resumed, the share is a guess.
            yield LibraryPiece(
                chunk, end, end + 1, min(read / total, 0.99), self._carried(some) if self.carry else None
            )

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Record at the end of each piece, and the next one, without parsing structures."""
        total = sum(1 for _ in sdf_molecules(self.path, parse=False))
        ends = [*range(rows, total, rows), total]
        return [(end, end + 1) for end in ends]

    def _carried(self, some: Sequence[SdfMolecule]) -> CarriedLists:
        columns = {
            name: [one.smiles if name == "smiles" and one.smiles else one.fields.get(name) for one in some]
            for name in self.carry
        }
        return CarriedLists(np.array([one.number for one in some], np.int64), columns)


def open_sdf(path: Path, columns: Sequence[str] | None, without: Collection[str]) -> SdfSource:
    """The candidates of an SDF file; for the arguments see `experiments.screening.candidate_sources.open_source`.

    Raises:
        InputError: the file is empty, or a column is neither smiles, nor name, nor a data field of its first records.
    """
    names = list(field_names(path))
    return SdfSource(path, tuple(columns_of(path, names, columns, without)))
