"""Counts the rows of a file of molecules without parsing them, so that a progress bar can show the time left."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data.errors import InputError
from data.formats.kinds import FRAME_KINDS, SDF_SUFFIXES, STORE, XYZ_SUFFIXES, kind_of
from data.formats.rows import Lines, blocks
from data.molecules.files import iter_smiles_chunks


def count_rows(path: Path, *, smiles_column: str = "smiles", at_most: int | None = None) -> int:
    """Rows of a file that `data.molecules.files.read` takes.

    Malformed rows may or may not be counted, and a damaged file is counted up to the damage.

    Args:
        path: as `data.molecules.files.read` takes it.
        smiles_column: of tables.
        at_most: where counting ends; None: at the end of the file.
    """
    kind = kind_of(path)
    if kind == ".db":
        # A count of other files does not import ASE.
        import ase.db

        entries = int(ase.db.connect(str(path), type="db").count())
        return entries if at_most is None else min(entries, at_most)
    if kind in SDF_SUFFIXES:
        rows = _sdf(path)
    elif kind in XYZ_SUFFIXES:
        rows = _frames(path)
    elif kind in (*FRAME_KINDS, STORE):
        from data.structures.frame_files import read_frames

        rows = (1 for _ in read_frames(path))
    else:
        rows = (1 for chunk in iter_smiles_chunks(path, 4096, smiles_column=smiles_column) for _ in chunk.smiles)
    total = 0
    try:
        for one in islice(rows, at_most):
            total += one
    except InputError:
        # The reader meets the same place, and reports what is wrong there.
        pass
    return total


def _sdf(path: Path) -> Iterator[int]:
    open_record = False
    for _, data in blocks(path):
        *ended, rest = (b"\n" + data).split(b"\n$$$$")
        for _ in ended:
            yield 1
        # What follows the last end, or continues a record of the block before, is a record that has not ended.
        open_record = bool(rest.strip()) or (open_record and not ended)
    if open_record:
        yield 1


def _frames(path: Path) -> Iterator[int]:
    lines = Lines(path)
    while (taken := lines.take()) is not None:
        if (text := taken[1].strip()).isdigit() and text.isascii() and len(text) < 10:
            yield 1
            for _ in range(int(text) + 1):
                lines.take()
