"""Pieces of a file of candidates: rows with the position after them, from which a screen continues."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import cast

from experiments.screening.candidate_chunks import ArrowChunk, Candidates, Chunk, TextChunk
from experiments.screening.carried import CarriedRows
from experiments.screening.workers import ParserPool


@dataclass(frozen=True)
class LibraryPiece:
    """A chunk of rows, raw or already parsed, and the position in the file after it.

    Attributes:
        chunk: rows as they are in the file, or already parsed.
        end: position from which `pieces` continues (bytes of decompressed text, or rows).
        line: number of the row at `end`.
        done: share of the file up to `end`, for the progress bar.
        carried: columns of the rows that results repeat; None if there are none.
    """

    chunk: Chunk | Candidates
    end: int
    line: int
    done: float
    carried: CarriedRows | None = None

    def load(self, pool: ParserPool) -> Future[Candidates]:
        """The parsed chunk; a raw one is parsed in one of the processes."""
        if isinstance(self.chunk, TextChunk | ArrowChunk):
            return cast("Future[Candidates]", pool.submit(self.chunk))
        ready: Future[Candidates] = Future()
        ready.set_result(self.chunk)
        return ready
