"""Reads and splits tables of molecules with properties."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from data.errors import InputError
from data.identity import molecule_keys
from data.molecules.files import read
from data.molecules.foreign import smiles_problems
from data.molecules.tally import TableTally
from data.reading_summary import Reading
from data.rejects import RejectLog
from data.settings import MISSING
from data.spec import content_hash
from data.splits import Split, counts, random_split, scaffold_split, size_split
from data.store.records import RecordStore
from surrogates.learning.conformal import fewest_points
from surrogates.learning.part_sizes import PARTS, check_parts, refuse_or_say_few, with_calibration

LOG = logging.getLogger(__name__)

#: Smallest number of molecules to train on: the label of a single molecule has no spread for normalisation.
FEWEST_MOLECULES = 2
SPLITS = {"random": random_split, "scaffold": scaffold_split, "size": size_split}


@dataclass(frozen=True)
class PropertyData:
    """The training data; the keys of `data` in task=molecules/properties.

    Attributes:
        file: table, or store that `understudy simulate` wrote.
        smiles: column that holds SMILES.
        target: column to learn, or a list of columns.
        unit: unit of the target, or a list of units.
        split: name of the split, a key of `SPLITS`.
        seed: seed of the split.
        parts: fractions or counts, in the order of `PARTS`.

    Raises:
        ValueError: the split is unknown, the seed negative, or the parts are not four numbers of 0 or more.
    """

    file: str = MISSING
    smiles: str = "smiles"
    target: Any = MISSING
    unit: Any = None
    split: str = "random"
    seed: int = 0
    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        check_parts(self.parts, self.seed)


@dataclass(frozen=True)
class PropertyTable:
    """Molecules and their properties.

    Attributes:
        smiles: SMILES as in the file.
        values: each target, an array (molecule,) in the unit of `units`, with NaN for a missing label.
        units: unit of each target, "1" if unknown.
        fingerprint: hash of the labels, or of the simulator that computed them.
        reading: what was read from the file.
    """

    smiles: list[str]
    values: dict[str, Float[np.ndarray, " molecule"]]
    units: dict[str, str]
    fingerprint: str
    reading: Reading

    def counts(self, prefix: str) -> dict[str, float]:
        """The numbers of rows that were read and left out, as metrics."""
        used, total = self.reading.used, self.reading.total
        return {f"{prefix}/rows": float(total), f"{prefix}/rows_left_out": float(total - used)}


def read_table(
    path: Path, smiles: str, targets: Sequence[str], units: Sequence[str], rejects: RejectLog | None
) -> PropertyTable:
    """Labelled molecules from a table, or from a store that `understudy simulate` wrote.

    Raises:
        InputError: a column is missing, or no row can be used.
    """
    if not targets:
        raise InputError("no column to learn is named", where="data.target", remedy="Name one, or a list")
    if len(set(targets)) < len(targets):
        raise InputError("a column is named twice", where="data.target", remedy="Name each once")
    if path.is_dir():
        return _stored_table(path, targets, rejects)
    tally = TableTally()
    rows = list(read(path, smiles_column=smiles, columns=list(targets), rejects=rejects, tally=tally))
    if not rows:
        raise _nothing_usable(path, tally.left_out)
    if any(row.smiles is None for row in rows):
        raise InputError(
            "its molecules have no SMILES",
            where=str(path),
            remedy="Train on geometries with task=molecules/potentials",
        )
    unit_of = dict(zip(targets, [*units, *["1"] * len(targets)], strict=False))
    texts = [str(row.smiles) for row in rows]
    values = {t: np.array([row.properties[t] for row in rows], float) for t in targets}
    identity = content_hash([texts, {t: _with_gaps(v) for t, v in values.items()}])
    tally.assumed += repeats(texts, values)
    return PropertyTable(texts, values, unit_of, identity, tally.reading(path, unit_of))


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
        names = [str(name) for name in data.data_vars]
        lacking = [name for name in ("smiles", *targets) if name not in names]
        if lacking:
            raise InputError(
                f"the store has no {' and no '.join(lacking)}", where=str(path), remedy=f"It has {', '.join(names)}"
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


def labelled_split(labels: PropertyTable, settings: PropertyData) -> Split:
    """The parts of a table, with enough labels of every target to calibrate its intervals.

    If labels are sparse and the calibration part is a fraction, it is enlarged until it has enough labels of each
    target.

    Raises:
        InputError: a part is invalid, or a target has too few labels to train on and to calibrate with.
    """
    total = len(labels.smiles)
    asked = dict(zip(PARTS, settings.parts, strict=True))
    parts = with_calibration(asked, total)
    share = settings.parts[PARTS.index("calibration")]
    while True:
        split = SPLITS[settings.split](labels.smiles, parts, seed=settings.seed)
        rows = np.asarray(split["calibration"])
        labelled = {t: int(np.isfinite(v[rows]).sum()) for t, v in labels.values.items()}
        target = min(labelled, key=lambda t: labelled[t])
        lacking = fewest_points() - labelled[target]
        if lacking <= 0 or not (isinstance(share, float) and 0 < share <= 1):
            sizes = {name: len(split[name]) for name in PARTS}
            refuse_or_say_few(sizes, total, asked, least=FEWEST_MOLECULES, unit="molecule")
            return split
        sizes = counts(parts, total)
        density = max(float(np.isfinite(labels.values[target]).mean()), 1 / total)
        more = min(math.ceil(lacking / density), sizes["train"])
        if sizes["train"] - more < fewest_points():
            label_count = int(np.isfinite(labels.values[target]).sum())
            raise InputError(
                f"{label_count} labels of {target} are too few to train on and to set {fewest_points()} aside for "
                "calibrated intervals",
                where="data.target",
                remedy="Leave that target out, or give a calibration part of 0 to do without calibrated intervals",
            )
        parts = {**sizes, "train": sizes["train"] - more, "calibration": sizes["calibration"] + more}
        LOG.warning(
            "%d molecules calibrate the intervals, because labels of %s are sparse", parts["calibration"], target
        )
