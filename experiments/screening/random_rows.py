"""Rows drawn at random from candidates that are too many to be read through.

A few places are drawn, and the rows that follow each of them are read. Text that is compressed and SDF files are not
read from the middle: there the first rows stand for the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from data.formats.text_files import open_lines, read_row
from data.molecules.parquet_rows import parquet_rows
from experiments.screening.candidate_sources import LibrarySource, ParquetSource, Source, TextSource
from experiments.screening.pieces import LibraryPiece

#: Places that are drawn.
PLACES = 16
#: Bytes of a text that is read from its start instead.
SHORT_BYTES = 1 << 16


def random_pieces(source: Source, rows: int, seed: int = 0) -> tuple[Iterator[LibraryPiece], str]:
    """Pieces with about `rows` rows, or fewer where there are fewer, and in words how they were drawn.

    Args:
        source: the candidates.
        rows: number of rows.
        seed: seed of the places.
    """
    rng = np.random.default_rng(seed)
    each = max(1, rows // PLACES)
    if isinstance(source, LibrarySource):
        return _drawn(source, _places(rng, len(source.library), each), each), "at random"
    if isinstance(source, ParquetSource):
        return _drawn(source, _places(rng, parquet_rows(source.path), each), each), "at random"
    if isinstance(source, TextSource) and not source.form.rewritten:
        size = source.path.stat().st_size
        if size > SHORT_BYTES:
            return _drawn(source, _lines(source, rng, size), each), "at random"
    return islice(source.pieces(rows, *source.start), 1), "from its start"


def _places(rng: np.random.Generator, total: int, each: int) -> list[int]:
    """First rows of blocks of `each` rows, which do not overlap."""
    blocks = -(-total // each)
    return [int(block) * each for block in np.sort(rng.choice(blocks, min(PLACES, blocks), replace=False))]


def _lines(source: TextSource, rng: np.random.Generator, size: int) -> list[int]:
    """Positions of lines behind random bytes of a text; a line is drawn as often as the one before it is long."""
    starts = []
    with open_lines(source.path, source.form) as (stream, _):
        for byte in np.sort(rng.integers(source.start[0], size, PLACES)):
            stream.seek(int(byte))
            read_row(stream)
            starts.append(stream.tell())
    return [start for start in dict.fromkeys(starts) if start < size]


def _drawn(source: Source, places: list[int], each: int) -> Iterator[LibraryPiece]:
    before = -1
    for place in places:
        # Rows of one place are not counted again at the next.
        for piece in islice(source.pieces(each, max(place, before), 1), 1):
            before = piece.end
            yield piece
