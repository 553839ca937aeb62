"""Records of a store as a file of frames or as a table; requests that failed are left out and named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.symbols import Symbols

from data.errors import InputError
from data.formats.headers import DELIMITERS
from data.formats.kinds import PARQUET_SUFFIXES, SDF_SUFFIXES, TRAJECTORY, XYZ_SUFFIXES, kind_of
from data.formats.rows import Bad, Row
from data.molecules.writing import (
    write_ase_db,
    write_csv,
    write_extxyz,
    write_parquet,
    write_sdf,
    write_trajectory,
)
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.store.records import RecordStore
from data.structures.files import USUAL
from data.structures.store_frames import read_store, title
from experiments.application.run_directory import rejects_path
from experiments.application.stage import show_readings
from experiments.prediction.delivery import Delivered

FRAMES = (*XYZ_SUFFIXES, TRAJECTORY, ".db", *SDF_SUFFIXES)
TABLES = (*DELIMITERS, *PARQUET_SUFFIXES)
#: Ends of the names of the columns of a vector or a matrix, by its shape.
PARTS: Mapping[tuple[int, ...], tuple[str, ...]] = {
    (3,): ("x", "y", "z"),
    (3, 3): ("xx", "xy", "xz", "yx", "yy", "yz", "zx", "zy", "zz"),
}
#: Unit of a label in a frame, whatever that of the store is.
LABEL_UNITS = {"energy": "eV", "forces": "eV/Angstrom", "stress": "eV/Angstrom^3", "positions": "Angstrom"}


def export_store(path: Path, out: Path, run_dir: Path) -> Delivered:
    """Write the answers of a store to a file.

    Args:
        path: directory of the store.
        out: .extxyz or .xyz (also compressed), .traj, .db or .sdf for frames; .csv, .tsv (also compressed) or .parquet
            for a table, which has a row for each answer and a column for each number of it.
        run_dir: directory of the run, whose rejects.csv gets the requests without an answer.

    Raises:
        InputError: the suffix is none of these, there is no store, or no request was answered.
    """
    kind = kind_of(out)
    if kind not in (*FRAMES, *TABLES):
        raise InputError(f"its name ends in {kind}", where="out", remedy=f"Use one of {' '.join((*FRAMES, *TABLES))}")
    store = RecordStore.open(path)
    failed: Counter[str] = Counter()
    with RejectLog(rejects_path(run_dir)) as rejects:

        def refuse(line: int, text: str, reason: str) -> None:
            rejects.add(path, line, text, reason)
            failed[reason.split(":")[0]] += 1

        if kind in FRAMES:
            count, columns, left = _frames(store, path, out, kind, refuse)
        else:
            count, columns, left = _table(store, path, out, kind, refuse)
    unused = dict.fromkeys(left, "differs in length between records, for which a table has no column")
    reading = Reading(
        str(path), "store of simulations", "records", count + failed.total(), count,
        left_out=dict(failed), unused=unused,
    )  # fmt: skip
    show_readings([reading], run_dir)
    metrics = {"export/records": float(count), "export/records_left_out": float(failed.total())}
    units = sorted({f"{name} in {unit}" for name, unit in columns.items() if unit not in ("", "1")})
    said = {"records": f"{count:,}", "without an answer": f"{failed.total():,}", "units": ", ".join(units)}
    return Delivered(metrics, said, {}, columns)


def _frames(
    store: RecordStore, path: Path, out: Path, kind: str, refuse: Callable[[int, str, str], None]
) -> tuple[int, dict[str, str], tuple[str, ...]]:
    """Write frames; the number written, the unit of each entry, and what has no place in the format."""
    count = 0

    def rows() -> Iterator[Row]:
        nonlocal count
        for row in read_store(path, (), USUAL):
            if isinstance(row, Bad):
                refuse(row.line, row.text, row.reason)
            else:
                count += 1
                yield row
        if not count:
            raise InputError("no request of it was answered", where=str(path), remedy="See rejects.csv")

    per_atom = [n for n in store.outputs if store.dims(n)[0] in ("atom", "output_atom")]
    if kind in XYZ_SUFFIXES:
        write_extxyz(out, rows(), per_atom=per_atom)
    elif kind == TRAJECTORY:
        write_trajectory(out, rows())
    elif kind == ".db":
        write_ase_db(out, rows())
    else:
        write_sdf(out, rows())
    units = {name: attrs["units"] for name, attrs in store.attributes.items()}
    return count, {name: LABEL_UNITS.get(name, unit) for name, unit in units.items()}, ()


def _table(
    store: RecordStore, path: Path, out: Path, kind: str, refuse: Callable[[int, str, str], None]
) -> tuple[int, dict[str, str], tuple[str, ...]]:
    """Write a table; the number of rows, the unit of each column, and variables for which it has no column."""
    columns: dict[str, list[Any]] = {}
    units: dict[str, str] = {}
    count, left = 0, set()
    names = (*store.inputs, *(n for n in store.outputs if n not in store.inputs))
    for line, (key, record) in enumerate(store.records(status=None), 1):
        numbers = np.asarray(record.get("numbers", ()), int)
        if record["status"] != "ok":
            refuse(line, title(record) or key, f"{record['status']}: {record.get('message', '')}".rstrip(": "))
            continue
        if len(numbers):
            columns.setdefault("formula", []).append(Symbols(numbers).formula.format("hill"))
            units["formula"] = "1"
        for name in names:
            value = np.asarray(record[name])
            ends = PARTS.get(value.shape) if store.dims(name)[0] in ("sample", "record") else None
            if value.ndim and ends is None:
                left.add(name)
                continue
            for end, one in zip(ends or ("",), value.reshape(-1), strict=True):
                column = f"{name}_{end}" if end else name
                columns.setdefault(column, []).append(one.item() if isinstance(one, np.generic) else one)
                units[column] = store.attributes[name]["units"]
        columns.setdefault("core_seconds", []).append(float(record.get("core_seconds", np.nan)))
        units["core_seconds"] = "s"
        count += 1
    if not count:
        raise InputError("no request of it was answered", where=str(path), remedy="See rejects.csv")
    write = write_parquet if kind in PARQUET_SUFFIXES else write_csv
    write(out, columns)
    return count, units, tuple(sorted(left))
