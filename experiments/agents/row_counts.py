"""How many rows a command would process, and how many of them an earlier session has done, without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data.errors import InputError
from data.formats.kinds import FRAME_KINDS, SDF_SUFFIXES, SMILES_SUFFIXES, kind_of
from data.formats.text_files import open_lines
from data.molecules.counting import count_rows
from data.store.records import RecordStore
from experiments.agents.confinement import Root

#: Stage -> dotted key of the file whose rows it processes.
FILES: Mapping[str, str] = {
    "simulate": "inputs",
    "train": "data.file",
    "evaluate": "data.file",
    "prepare": "candidates",
    "screen": "candidates",
    "predict": "inputs",
    "distil": "inputs",
    "pipeline": "candidates",
    "export": "store",
}


@dataclass(frozen=True)
class RowCounts:
    """The rows of a command.

    Attributes:
        total: how many there are; None where they cannot be counted without reading everything.
        done: how many of them have a record from an earlier session.
        unit: what a row is.
        said: how they were counted, or why not.
    """

    total: int | None
    done: int = 0
    unit: str = "row"
    said: str = ""

    @property
    def left(self) -> int | None:
        """Rows that are left."""
        return None if self.total is None else max(0, self.total - self.done)


def rows_of(stage: str, plain: Mapping[str, Any], root: Root) -> RowCounts:
    """The rows of a composed command.

    Raises:
        InputError: a file that it names is not there, or cannot be read.
    """
    done = _done(stage, plain, root)
    sampling = plain.get("sampling")
    if stage in ("simulate", "distil") and isinstance(sampling, Mapping):
        return RowCounts(int(sampling["count"]), done, "request", "sampling.count requests are drawn")
    if stage == "screen" and plain.get("candidates") == "sampled":
        return RowCounts(int(plain["sampling"]["count"]), done, "design", "sampling.count designs are drawn")
    if stage == "pipeline" and plain.get("candidates") is None:
        return RowCounts(int(plain["library"]["size"]), done, "molecule", "library.size molecules are enumerated")
    key = FILES.get(stage)
    value = None if key is None else _at(plain, key)
    # The dynamics of a teacher make their frames themselves.
    if key is None or not isinstance(value, str) or value == "???" or (stage, value) == ("distil", "dynamics"):
        return RowCounts(None, done, said="its rows follow from what the stage reads itself")
    if "://" in value:
        return RowCounts(None, done, said="rows of an address are not counted")
    path = root.inside(value, key)
    if not path.exists():
        raise InputError(f"no such file: {root.relative(path)}", where=key, remedy="Check the path")
    limit = plain.get("limit") if stage == "simulate" else _at(plain, "lessons.count") if stage == "distil" else None
    total, said = count(path, smiles=str(plain.get("smiles", "smiles")), at_most=limit)
    return RowCounts(total, done, "row", said)


def count(path: Path, *, smiles: str = "smiles", at_most: int | None = None) -> tuple[int | None, str]:
    """Rows of a file or a store, and how they were counted.

    Args:
        path: the file.
        smiles: column of SMILES.
        at_most: where counting ends.

    Returns:
        None where they are not counted.
    """
    if (path / "store.json").is_file():
        total = len(RecordStore.open(path))
        return total if at_most is None else min(total, at_most), "records of the store"
    if path.is_dir():
        return None, "the rows of a folder are not counted"
    try:
        kind = kind_of(path)
    except InputError:
        return None, "rows of such a file are not counted"
    if kind == ".parquet":
        total = int(pq.read_metadata(path).num_rows)
        return total if at_most is None else min(total, at_most), "rows that the file states"
    if kind in (*SMILES_SUFFIXES, *SDF_SUFFIXES, *FRAME_KINDS):
        return count_rows(path, smiles_column=smiles, at_most=at_most), "rows of the file"
    if kind in (".csv", ".tsv"):
        with open_lines(path) as (lines, _):
            total = max(0, sum(1 for line in lines if line.strip()) - 1)
        return total if at_most is None else min(total, at_most), "lines of the file after its head"
    return None, f"rows of {kind} are not counted"


def _done(stage: str, plain: Mapping[str, Any], root: Root) -> int:
    out = plain.get("out")
    if stage != "simulate" or not isinstance(out, str) or "???" in out or "://" in out:
        return 0
    store = root.inside(out, "out")
    return len(RecordStore.open(store)) if (store / "store.json").is_file() else 0


def _at(plain: Mapping[str, Any], key: str) -> Any:
    value: Any = plain
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
