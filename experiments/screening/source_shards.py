"""Shards of candidates by position: consecutive pieces of a source, cut where an unsharded command would cut.

Predictions of a row may differ in the last bit between batches of other rows. A shard therefore takes whole pieces, in
which an unsharded screen or preparation would read the same rows together, so that both give equal results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data.checksums import seal, unseal
from data.errors import InputError
from data.files import write_json
from data.json_files import parse_json, reading
from data.plain import from_plain
from data.shards import Shard, shards_directory
from experiments.screening.candidate_sources import Source
from experiments.screening.pieces import LibraryPiece

#: File beside the shards with the positions of all pieces, which the first shard writes and the others read.
PIECES = "pieces.json"


@dataclass(frozen=True)
class Pieces:
    """Where the pieces of a source end.

    Attributes:
        identity: what identifies the candidates (`experiments.screening.candidate_sources.identity`).
        rows: largest number of rows of a piece.
        ends: position after each piece.
        lines: line of the row at that position.
    """

    identity: dict[str, Any]
    rows: int
    ends: list[int]
    lines: list[int]

    @staticmethod
    def read(path: Path) -> Pieces:
        """The content of a file that `known_pieces` wrote.

        Raises:
            CorruptStoreError: it is missing or damaged.
        """
        remedy = "Remove it and run a shard again, which writes it"
        with reading(path, remedy=remedy):
            try:
                return from_plain(Pieces, unseal(parse_json(path.read_bytes()), where=str(path), remedy=remedy))
            except OSError as error:
                raise ValueError(str(error)) from error

    def span(self, shard: Shard, start: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Position and line at the beginning and at the end of a shard.

        Args:
            shard: the shard.
            start: position and line of the first row of the source.
        """
        bounds = [start, *zip(self.ends, self.lines, strict=True)]
        first, last = shard.span(len(self.ends))
        return bounds[first], bounds[last]


@dataclass(frozen=True)
class ShardSource:
    """The candidates of a shard; see `experiments.screening.candidate_sources.Source`.

    Attributes:
        source: all candidates.
        shard: which part of them.
        start: position and line of its first row.
        stop: position after its last row.
    """

    source: Source
    shard: Shard
    start: tuple[int, int]
    stop: int

    @property
    def parses(self) -> bool:
        """Whether rows are parsed in processes."""
        return self.source.parses

    @property
    def description(self) -> str:
        """What the file is read as, and which part of it."""
        return f"{self.source.description}; shard {self.shard}"

    @property
    def carry(self) -> tuple[str, ...]:
        """Columns that results repeat."""
        return tuple(getattr(self.source, "carry", ()))

    @property
    def cuts_alike(self) -> bool:
        """Whether pieces end at the same positions wherever reading begins."""
        return True

    def bounds(self, rows: int) -> list[tuple[int, int]]:
        """Position and line after each piece."""
        return [bound for bound in self.source.bounds(rows) if self.start[0] < bound[0] <= self.stop]

    def pieces(self, rows: int, position: int, line: int) -> Iterator[LibraryPiece]:
        """Pieces from `position` to the end of the shard."""
        if position >= self.stop:
            return
        size = max(1, self.stop - self.start[0])
        # Some sources cut anew where reading begins.
        begin = (position, line) if self.source.cuts_alike else self.source.start
        for piece in self.source.pieces(rows, *begin):
            if piece.end <= position:
                continue
            if piece.end > self.stop:
                raise InputError(
                    "its pieces do not end where they did when the shards were begun",
                    where=f"shard {self.shard}",
                    remedy="The file was changed: remove the directories of the shards and run them again",
                )
            yield replace(piece, done=(piece.end - self.start[0]) / size)
            if piece.end == self.stop:
                return


def shard_source(source: Source, shard: Shard, out: Path, rows: int, identity: Mapping[str, Any]) -> ShardSource:
    """The part of a source that a shard reads.

    Args:
        source: all candidates.
        shard: which part of them.
        out: output of which the shards are made, without their suffix.
        rows: largest number of rows of a piece.
        identity: what identifies the candidates.
    """
    begin, end = known_pieces(source, out, rows, identity).span(shard, source.start)
    return ShardSource(source, shard, begin, end[0])


def known_pieces(source: Source, out: Path, rows: int, identity: Mapping[str, Any]) -> Pieces:
    """Where the pieces of a source end: from the file beside the shards, or by reading the source once."""
    path = shards_directory(out) / PIECES
    if path.is_file():
        stored = Pieces.read(path)
        if stored.identity == dict(identity) and stored.rows == rows:
            return stored
    bounds = source.bounds(rows)
    pieces = Pieces(dict(identity), rows, [end for end, _ in bounds], [line for _, line in bounds])
    write_json(path, seal(asdict(pieces)), indent=None, listed=False)
    return pieces
