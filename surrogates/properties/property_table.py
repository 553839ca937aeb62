"""Reads tables of molecules with properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from data.errors import InputError
from data.identity import molecule_keys
from data.molecules.files import read
from data.molecules.foreign import smiles_problems
from data.molecules.tally import TableTally
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import MISSING, names
from data.spec import content_hash
from data.store.records import RecordStore
from surrogates.learning.part_sizes import check_parts

#: Names of the splits, whose functions `surrogates.properties.property_split` has.
SPLIT_NAMES = ("random", "scaffold", "size")
#: Value of `data.classification` for all targets.
ALL = "all"


@dataclass(frozen=True)
class PropertyData:
    """The training data; the keys of `data` in task=molecules/properties.

    Attributes:
        file: table, or store that `understudy simulate` wrote.
        smiles: column that holds SMILES.
        target: column to learn, or a list of columns.
        unit: unit of the target, or a list of units.
        classification: targets that are binary labels, 0 or 1; "all" for all of them.
        split: name of the split, one of `SPLIT_NAMES`.
        split_column: column that names the part of each row.
        valid: table that is the validation part.
        test: tables that are scored separately, in place of a test part of `file`.
        seed: seed of the split.
        parts: fractions or counts, in the order of `surrogates.learning.part_sizes.PARTS`.

    Raises:
        ValueError: the split is unknown, the seed negative, the parts are not four numbers of 0 or more, a binary label
            is no target, or there is a split column and a validation file.
    """

    file: str = MISSING
    smiles: str = "smiles"
    target: Any = MISSING
    unit: Any = None
    classification: Any = None
    split: str = "random"
    split_column: str | None = None
    valid: str | None = None
    test: Any = field(default_factory=list)
    seed: int = 0
    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])

    def __post_init__(self) -> None:
        if self.split not in SPLIT_NAMES:
            raise ValueError(f"split must be one of {', '.join(SPLIT_NAMES)}, got {self.split!r}")
        check_parts(self.parts, self.seed)
        if self.split_column is not None and self.valid is not None:
            raise ValueError("give split_column or valid, not both")
        targets = [] if self.target == MISSING else names(self.target, "data.target")
        if self.target != MISSING and (others := [t for t in self.binary_labels if t not in targets]):
            raise ValueError(f"classification names {others[0]!r}, which is no target")

    @property
    def binary_labels(self) -> tuple[str, ...]:
        """Targets that are binary labels."""
        return tuple(
            names(self.target, "data.target")
            if self.classification == ALL
            else names(self.classification, "data.classification")
        )


@dataclass(frozen=True)
class PropertyTable:
    """Molecules and their properties.

    Attributes:
        smiles: SMILES as in the file.
        values: each target, an array (molecule,) in the unit of `units`, with NaN for a missing label.
        units: unit of each target, "1" if unknown.
        fingerprint: hash of the labels, or of the simulator that computed them.
        reading: what was read from the file.
        classification: targets that are binary labels, 0 or 1.
        fixed: parts of which the rows are given, by name.
        excluded: rows that are in no part.
        others: tables that are scored separately, by name.
        lines: line of each row in the file; empty for a store.
        texts: cells of columns that were read as texts, by name of the column.
    """

    smiles: list[str]
    values: dict[str, Float[np.ndarray, " molecule"]]
    units: dict[str, str]
    fingerprint: str
    reading: Reading
    classification: tuple[str, ...] = ()
    fixed: Mapping[str, Int[np.ndarray, " row"]] = field(default_factory=dict)
    excluded: Int[np.ndarray, " row"] = field(default_factory=lambda: np.zeros(0, np.int64))
    others: Mapping[str, PropertyTable] = field(default_factory=dict)
    lines: tuple[int, ...] = ()
    texts: Mapping[str, list[str]] = field(default_factory=dict)

    def content(self) -> str:
        """Hash of the molecules and their labels."""
        return content_hash([self.smiles, {t: _with_gaps(v) for t, v in self.values.items()}])

    def with_validation(self, other: PropertyTable) -> PropertyTable:
        """The rows of both tables, of which the others are the validation part."""
        first = len(self.smiles)
        return replace(
            self,
            smiles=[*self.smiles, *other.smiles],
            values={t: np.concatenate([v, other.values[t]]) for t, v in self.values.items()},
            fingerprint=content_hash([self.fingerprint, other.fingerprint]),
            fixed={**self.fixed, "valid": np.arange(first, first + len(other.smiles))},
        )

    def counts(self, prefix: str) -> dict[str, float]:
        """The numbers of rows that were read and left out, as metrics."""
        used, total = self.reading.used, self.reading.total
        return {f"{prefix}/rows": float(total), f"{prefix}/rows_left_out": float(total - used)}


def read_table(
    path: Path,
    smiles: str,
    targets: Sequence[str],
    units: Sequence[str],
    rejects: RejectLog | None,
    *,
    classification: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> PropertyTable:
    """Labelled molecules from a table, or from a store that `understudy simulate` wrote.

    Args:
        path: the file or the store.
        smiles: column with SMILES.
        targets: columns with labels; a row needs one of them.
        units: units of the targets, in their order.
        rejects: receives rows that cannot be used.
        classification: targets that are binary labels.
        texts: columns that are read as texts.

    Raises:
        InputError: a column is missing, no row can be used, or a binary label is neither 0 nor 1.
    """
    if not targets:
        raise InputError("no column to learn is named", where="data.target", remedy="Name one, or a list")
    if len(set(targets)) < len(targets):
        raise InputError("a column is named twice", where="data.target", remedy="Name each once")
    if path.is_dir():
        if texts:
            raise InputError(f"a store has no column {texts[0]!r}", where=str(path), remedy="Give a .csv or .parquet")
        return _classified(_stored_table(path, targets, rejects), classification, path)
    tally = TableTally()
    rows = list(read(path, smiles_column=smiles, columns=list(targets), texts=texts, rejects=rejects, tally=tally))
    if not rows:
        raise _nothing_usable(path, tally.left_out)
    if any(row.smiles is None for row in rows):
        raise InputError(
            "its molecules have no SMILES",
            where=str(path),
            remedy="Train on geometries with task=molecules/potentials",
        )
    unit_of = dict(zip(targets, [*units, *["1"] * len(targets)], strict=False))
    molecules = [str(row.smiles) for row in rows]
    values = {t: np.array([row.properties[t] for row in rows], float) for t in targets}
    tally.assumed += repeats(molecules, values)
    table = PropertyTable(
        molecules,
        values,
        unit_of,
        "",
        tally.reading(path, unit_of),
        lines=tuple(row.line for row in rows),
        texts={name: [str(row.properties[name]) for row in rows] for name in texts},
    )
    return _classified(replace(table, fingerprint=table.content()), classification, path)


def _classified(table: PropertyTable, classification: Sequence[str], path: Path) -> PropertyTable:
    """The table with its binary labels checked, and with notes on columns that may be meant as such.

    Raises:
        InputError: a binary label is neither 0 nor 1.
    """
    said, units, notes = dict(table.reading.quantities), dict(table.units), list(table.reading.assumed)
    for name, values in table.values.items():
        labelled = np.isfinite(values)
        binary = np.isin(values, (0.0, 1.0)) | ~labelled
        if name not in classification:
            if labelled.sum() > 1 and binary.all():
                notes.append(
                    f"{name} holds only 0 and 1, and is taken as a number; data.classification=[{name}] in a training "
                    "takes it as a binary label"
                )
            continue
        if not binary.all():
            row = int(np.argmin(binary))
            line = f", line {table.lines[row]}" if table.lines else f", record {row}"
            raise InputError(
                f"column {name!r} holds {values[row]:g}, and a binary label is 0 or 1",
                where=f"{path}{line}",
                file=path,
                row=table.lines[row] if table.lines else row,
                remedy="Write 0 and 1, or leave it out of data.classification to learn a number",
            )
        units[name] = "1"
        ones = int((values == 1).sum())
        said[name] = f"binary label, {int(labelled.sum()):,} of {len(values):,} rows, {ones:,} of them 1"
    reading = replace(table.reading, quantities=said, assumed=tuple(notes))
    return replace(table, units=units, reading=reading, classification=tuple(classification))


def repeats(smiles: Sequence[str], values: Mapping[str, Float[np.ndarray, " molecule"]]) -> list[str]:
    """Notes on rows of the same molecule (`data.identity`), and on their labels if these differ."""
    keys = pd.Series(molecule_keys(smiles))
    again = keys.duplicated(keep=False)
    if not again.any():
        return []
    molecules = keys[again].nunique()
    one = "1 molecule" if molecules == 1 else f"{molecules:,} molecules"
    said = [f"{int(again.sum()):,} rows repeat {one}: each row counts, those of a molecule stay in one part"]
    for name, column in values.items():
        by_molecule = pd.Series(column).groupby(keys)
        spread = (by_molecule.max() - by_molecule.min()).dropna()
        unlike = int((spread > 0).sum())
        if unlike:
            said.append(f"labels of {name} that differ are kept: {unlike:,} of these, by up to {spread.max():.3g}")
    return said


def _stored_table(path: Path, targets: Sequence[str], rejects: RejectLog | None) -> PropertyTable:
    """Labelled molecules from a store; requests that failed go to `rejects`."""
    with RecordStore.open(path) as store:
        data = store.dataset()
        present = [str(name) for name in data.data_vars]
        lacking = [name for name in ("smiles", *targets) if name not in present]
        if lacking:
            raise InputError(
                f"the store has no {' and no '.join(lacking)}", where=str(path), remedy=f"It has {', '.join(present)}"
            )
        status, smiles = store.column("status"), store.column("smiles")
        stored = {t: store.column(t) for t in targets}
        units = {t: str(data[t].attrs["units"]) for t in targets}
        identity = str(data.attrs.get("fingerprint", ""))
    if shaped := [t for t, v in stored.items() if np.ndim(v) != 1 or v.dtype.kind not in "fiub"]:
        raise InputError(f"{shaped[0]} is no number of a molecule", where=str(path), remedy="Name another data.target")
    tally = TableTally("store of `understudy simulate`", tuple(targets))
    used: list[int] = []
    problems = smiles_problems([str(text) for text in smiles])
    for i, state in enumerate(map(str, status)):
        if state == "ok" and problems[i] is None:
            used.append(i)
            tally.take({t: float(v[i]) for t, v in stored.items()})
            continue
        state = str(problems[i]) if state == "ok" else state
        tally.leave(state)
        if rejects is not None:
            rejects.add(path, i, str(smiles[i]), state)
    if not used:
        raise _nothing_usable(path, tally.left_out)
    texts = [str(smiles[i]) for i in used]
    values = {t: np.asarray(v[used], float) for t, v in stored.items()}
    reading = tally.reading(path, units, unit="records")
    return PropertyTable(texts, values, units, identity or content_hash(texts), reading)


def _nothing_usable(path: Path, left_out: Mapping[str, int]) -> InputError:
    """The error for a file without a usable row, which gives the most common reason."""
    reason, count = max(left_out.items(), key=lambda item: item[1], default=("it has none", 0))
    return InputError(
        f"no row of it can be used; {count:,} of {sum(left_out.values()):,}: {reason}",
        where=str(path),
        remedy="See rejects.csv in the run directory",
    )


def _with_gaps(values: Float[np.ndarray, " molecule"]) -> list[float | None]:
    """Numbers as plain values; a missing label is None, because JSON has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]
