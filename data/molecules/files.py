"""Molecules read from what chemists use: SMILES, CSV, SDF, extxyz, ASE db, Parquet, and stores of simulations.

Files of any size are read in a stream, and a malformed row costs that row only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import InputError
from data.formats.headers import DELIMITERS
from data.formats.kinds import DEEPMD, FORMATS, PARQUET_SUFFIXES, SMILES_SUFFIXES, STORE, kind_of
from data.formats.rows import Bad, Row, empty
from data.molecules import tables
from data.molecules.tally import TableTally
from data.rejects import Rejects
from data.remote.path import path_of
from data.structures.frame_names import FrameKeys

__all__ = [
    "Row",
    "SmilesChunk",
    "iter_smiles_chunks",
    "read",
]

LOG = logging.getLogger(__name__)
#: A chunk of SMILES that has more characters has fewer rows than were asked for.
CHUNK_CHARACTERS = 1 << 24


@dataclass(frozen=True)
class SmilesChunk:
    """SMILES as they stand in a file, and the line (from 1) of each."""

    smiles: list[str]
    lines: list[int]


def read(
    path: Path,
    *,
    smiles_column: str = "smiles",
    columns: Sequence[str] = (),
    texts: Sequence[str] = (),
    rejects: Rejects | None = None,
    validate: bool = True,
    tally: TableTally | None = None,
    keys: FrameKeys | None = None,
) -> Iterator[Row]:
    """The molecules of a file, in order; rows that cannot be used are reported and skipped.

    Args:
        path: .smi .smiles .ism .txt .csv .tsv .sdf .sd .xyz .extxyz (each also .gz, .bz2 or .zst), .db, .parquet, .pq;
            or the directory of a store.
        smiles_column: of tables.
        columns: numeric columns of tables, or data fields of other kinds; a cell that is empty, or no number, is
            NaN where another of them has a value.
        texts: columns of tables whose cells are kept as texts, "" where they are empty.
        rejects: takes the bad rows, and the cells of good ones that are no numbers; without it each is logged as a
            warning.
        validate: parse SMILES with RDKit, and refuse those that `data.molecules.featurise.encode` refuses.
        tally: counts the rows that are used and those that are not.
        keys: which entries of geometries are their labels, charge and spin.

    Raises:
        InputError: the file does not exist, is empty, is of an unknown kind or lacks a column; or, after the good rows
            before the damage, it cannot be read further.
    """
    path = path_of(path)
    kind = _existing(path)
    rows = _rows(path, kind, smiles_column, columns, validate=validate, texts=texts, tally=tally, keys=keys)
    return _good(path, rows, rejects, tally)


def iter_smiles_chunks(path: Path, chunk_rows: int, *, smiles_column: str = "smiles") -> Iterator[SmilesChunk]:
    """The SMILES of a big file, at most `chunk_rows` at a time; not parsed, blank and broken rows left out.

    Raises:
        InputError: as `read`, or `chunk_rows` is not positive.
    """
    path = path_of(path)
    if chunk_rows < 1:
        raise InputError(f"chunks of {chunk_rows} rows", remedy="Ask for at least one row")
    return _chunks(_blocks(path, _existing(path), smiles_column), chunk_rows)


def _existing(path: Path) -> str:
    if not path.exists():
        raise InputError("no such file", where=str(path), remedy="Check the path")
    kind = kind_of(path)
    if kind in (STORE, DEEPMD):
        return kind
    if not path.is_file():
        raise InputError("is a directory", where=str(path), remedy="Name a file, a store or a system of DeePMD-kit")
    if path.stat().st_size == 0:
        raise empty(path)
    return kind


def _rows(
    path: Path,
    kind: str,
    smiles_column: str,
    columns: Sequence[str],
    *,
    validate: bool,
    texts: Sequence[str] = (),
    tally: TableTally | None = None,
    keys: FrameKeys | None = None,
) -> Iterator[Row | Bad]:
    if tally is not None:
        tally.columns = tuple(columns)
        tally.format = FORMATS.get(kind, f"{kind[1:]} file")
    if texts and kind not in DELIMITERS and kind not in PARQUET_SUFFIXES:
        raise InputError(f"has no column {texts[0]!r}", where=str(path), remedy="Give a .csv or .parquet")
    pairs: Iterator[tuple[str, Row] | Bad] | None = None
    if kind in SMILES_SUFFIXES:
        if columns:
            raise InputError("a list of SMILES has no columns", where=str(path), remedy="Give a .csv or .parquet")
        pairs = tables.read_smiles(path)
    elif kind in DELIMITERS:
        pairs = tables.read_table(path, DELIMITERS[kind], smiles_column, columns, texts=texts, tally=tally)
    elif kind in PARQUET_SUFFIXES:
        pairs = tables.read_parquet(path, smiles_column, columns, texts=texts, tally=tally)
    if pairs is not None:
        return tables.check_smiles(pairs) if validate else (p if isinstance(p, Bad) else p[1] for p in pairs)
    # What reads tables alone does not import ASE.
    from data.structures.frame_files import read_frames

    return read_frames(path, columns, keys or FrameKeys())


def _good(
    path: Path, rows: Iterator[Row | Bad], rejects: Rejects | None, tally: TableTally | None = None
) -> Iterator[Row]:
    def note(line: int, text: str, reason: str) -> None:
        if rejects is not None:
            rejects.add(path, line, text, reason)
        else:
            LOG.warning("%s, line %d: %s", path, line, reason)

    for row in rows:
        if isinstance(row, Row):
            for problem in row.problems:
                note(row.line, row.smiles or "", f"{problem}; the other values of the row are used")
            if tally is not None:
                tally.take(row.properties, row.problems)
            yield row
            continue
        note(row.line, row.text, row.reason)
        if tally is not None:
            tally.leave(row.reason)


def _blocks(path: Path, kind: str, smiles_column: str) -> Iterator[tuple[list[str], Sequence[int]]]:
    if kind in SMILES_SUFFIXES:
        return tables.smiles_blocks(path)
    if kind in DELIMITERS:
        return tables.table_blocks(path, DELIMITERS[kind], smiles_column)
    if kind in PARQUET_SUFFIXES:
        return tables.parquet_blocks(path, smiles_column)
    rows = _good(path, _rows(path, kind, smiles_column, (), validate=False), None)
    return (([row.smiles], [row.line]) for row in rows if row.smiles is not None)


def _chunks(blocks: Iterator[tuple[list[str], Sequence[int]]], chunk_rows: int) -> Iterator[SmilesChunk]:
    smiles: list[str] = []
    lines: list[int] = []
    failure = None
    while True:
        try:
            block = next(blocks, None)
        except InputError as error:
            block, failure = None, error
        if block is None:
            break
        smiles += block[0]
        lines += block[1]
        start = 0
        while len(smiles) - start >= chunk_rows:
            yield SmilesChunk(smiles[start : start + chunk_rows], lines[start : start + chunk_rows])
            start += chunk_rows
        if start:
            smiles, lines = smiles[start:], lines[start:]
        if smiles and sum(map(len, smiles)) > CHUNK_CHARACTERS:
            yield SmilesChunk(smiles, lines)
            smiles, lines = [], []
    if smiles:
        yield SmilesChunk(smiles, lines)
    if failure is not None:
        raise failure
