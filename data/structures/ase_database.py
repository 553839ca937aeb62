"""Reads ASE databases in a process of their own, so that a row that crashes the decoder costs that row only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ase.db

from data.errors import InputError
from data.formats.damage import first_line, parsing
from data.formats.rows import Bad, Row
from data.processes import row_watch
from data.processes.parsing import DiedError, ask
from data.structures.frame_names import FrameKeys
from data.structures.frame_rows import row_of_atoms
from data.structures.frame_units import FrameUnits

#: Rows that are read at a time.
PAGE = 256
_PROBLEM, _REMEDY = "cannot be read as an ASE database", "Write the file again"

#: The rows of a page with their ids.
Rows = list[tuple[int, Row | Bad]]


def read_ase_db(path: Path, columns: Sequence[str], keys: FrameKeys) -> Iterator[Row | Bad]:
    """Rows of an ASE database, in the order of their ids, in the units that its metadata names.

    Raises:
        InputError: the file is not an ASE database, or its metadata names an unknown unit.
    """
    work = partial(_page, path=path, columns=tuple(columns), keys=keys)
    after, deadly, reason = 0, None, ""
    while True:
        try:
            rows = ask(work, (after, deadly))
        except DiedError as death:
            if death.row is None or death.row == deadly:
                raise InputError(f"{_PROBLEM}: {death.reason}", where=str(path), remedy=_REMEDY) from death
            # Read the rows before the deadly one again, then those after it.
            deadly, reason = death.row, death.reason
            continue
        if isinstance(rows, InputError):
            raise rows
        yield from (row for _, row in rows)
        if len(rows) == PAGE:
            after = rows[-1][0]
        elif deadly is not None:
            yield Bad(deadly, f"id={deadly}", reason)
            after, deadly = deadly, None
        else:
            return


def _page(ids: tuple[int, int | None], path: Path, columns: Sequence[str], keys: FrameKeys) -> Rows | InputError:
    """The first rows between two ids, or why the database cannot be read; runs in a parsing process."""
    try:
        with parsing(path, _PROBLEM, remedy=_REMEDY):
            database = ase.db.connect(str(path), type="db")
            metadata = dict(database.metadata)
        units = FrameUnits.of_metadata(metadata, str(path))
        return list(_rows(path, database, ids, columns, keys, units))
    except InputError as error:
        return error


def _rows(
    path: Path, database: Any, ids: tuple[int, int | None], columns: Sequence[str], keys: FrameKeys, units: FrameUnits
) -> Iterator[tuple[int, Row | Bad]]:
    after, before = ids
    range_of_ids = f"id>{after}" if before is None else f"id>{after},id<{before}"
    with parsing(path, _PROBLEM, remedy=_REMEDY):
        for row in database.select(range_of_ids, sort="id", limit=PAGE):
            number = int(row.id)
            row_watch.begin(number)
            where = f"id={number}"
            try:
                atoms, data = row.toatoms(), {**row.key_value_pairs, **dict(row.data)}
            except Exception as error:  # a damaged row raises whatever its decoder meets
                yield number, Bad(number, where, f"ASE cannot read the row: {first_line(error)}")
            else:
                yield number, row_of_atoms(number, where, atoms, data, columns, keys, units, str(path))
            # What runs next is the database's own code, which belongs to no row.
            row_watch.begin()
