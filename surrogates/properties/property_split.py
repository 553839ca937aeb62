"""Splits tables of molecules into parts: at random, by scaffold, by size, as a column or files say, or into folds."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from data.errors import InputError
from data.identity import molecule_keys
from data.splits import Split, counts, random_split, scaffold_split, size_split
from surrogates.learning.conformal import fewest_points
from surrogates.learning.part_sizes import PARTS, refuse_or_say_few, with_calibration
from surrogates.properties.property_table import PropertyData, PropertyTable

LOG = logging.getLogger(__name__)

#: Smallest number of molecules to train on: the label of a single molecule has no spread for normalisation.
FEWEST_MOLECULES = 2
SPLITS = {"random": random_split, "scaffold": scaffold_split, "size": size_split}


def labelled_split(labels: PropertyTable, settings: PropertyData) -> Split:
    """The parts of a table, with enough labels of every target to calibrate its intervals.

    Parts that a column or a file fixes (`PropertyTable.fixed`) are as they are, and the other rows are split into the
    others. If labels are sparse and the calibration part is a fraction, it is enlarged until it has enough labels of
    each target.

    Raises:
        InputError: a part is invalid, or a target has too few labels to train on and to calibrate with.
    """
    taken = np.concatenate([labels.excluded, *labels.fixed.values()]).astype(np.int64)
    free = np.setdiff1d(np.arange(len(labels.smiles)), taken)
    smiles, total = [labels.smiles[i] for i in free], len(free)
    asked = _asked(labels, settings)
    parts = with_calibration(asked, total)
    share = asked["calibration"]
    while True:
        drawn = SPLITS[settings.split](smiles, parts, seed=settings.seed)
        split = Split.of({name: labels.fixed.get(name, free[drawn[name]]) for name in PARTS})
        rows = split["calibration"]
        labelled = {t: int(np.isfinite(v[rows]).sum()) for t, v in labels.values.items()}
        target = min(labelled, key=lambda t: labelled[t])
        lacking = fewest_points() - labelled[target]
        if lacking <= 0 or not (isinstance(share, float) and 0 < share <= 1):
            sizes = {name: len(split[name]) for name in PARTS}
            refuse_or_say_few(sizes, total, asked, least=FEWEST_MOLECULES, unit="molecule")
            say_shared_molecules(labels, split)
            return split
        sizes = counts(parts, total)
        values = labels.values[target][free]
        density = max(float(np.isfinite(values).mean()), 1 / total)
        more = min(math.ceil(lacking / density), sizes["train"])
        if sizes["train"] - more < fewest_points():
            raise InputError(
                f"{int(np.isfinite(values).sum())} labels of {target} are too few to train on and to set "
                f"{fewest_points()} aside for calibrated intervals",
                where="data.target",
                remedy="Leave that target out, or give a calibration part of 0 to do without calibrated intervals",
            )
        parts = {**sizes, "train": sizes["train"] - more, "calibration": sizes["calibration"] + more}
        LOG.warning(
            "%d molecules calibrate the intervals, because labels of %s are sparse", parts["calibration"], target
        )


def _asked(labels: PropertyTable, settings: PropertyData) -> dict[str, Any]:
    """Fractions or counts of the free rows; the training part has the fractions of the fixed parts."""
    asked = dict(zip(PARTS, settings.parts, strict=True))
    fractions = all(isinstance(share, float | int) and share <= 1 for share in asked.values())
    for name in labels.fixed:
        asked[name] = 0
    if labels.fixed and fractions:
        asked["train"] = 1.0 - sum(float(asked[name]) for name in PARTS[1:])
        asked = {name: float(share) for name, share in asked.items()}
    return asked


def say_shared_molecules(labels: PropertyTable, split: Split) -> None:
    """Warn about parts that were fixed and share molecules with the training part."""
    if not labels.fixed:
        return
    learned = set(molecule_keys([labels.smiles[i] for i in split["train"]]))
    for name in labels.fixed:
        keys = molecule_keys([labels.smiles[i] for i in split[name]])
        again = sum(key in learned for key in keys)
        if again:
            LOG.warning(
                "%d of %d molecules of the %s part are molecules of the training part too, so its scores are better "
                "than on unseen ones",
                again,
                len(keys),
                name,
            )


def folds(labels: PropertyTable, settings: PropertyData, count: int) -> list[PropertyTable]:
    """The table with each of `count` disjoint test parts fixed; together these are all of its rows.

    Molecules, or with data.split=scaffold those of a scaffold, stay in one fold. The other rows of a fold are split
    into the training, validation and calibration parts in the ratio of `data.parts`.

    Raises:
        InputError: the table has a split of its own, is split by size, or has too few molecules for the folds.
    """
    if labels.fixed or len(labels.excluded) or labels.others:
        raise InputError(
            "the data come with a split of their own, which leaves nothing to fold",
            where="cross_validation",
            remedy="Leave out data.split_column, data.valid and data.test, or cross_validation",
        )
    if settings.split == "size":
        raise InputError("a split by size has no folds", where="data.split", remedy="Use random or scaffold")
    total = len(labels.smiles)
    names = [f"fold {k + 1}" for k in range(count)]
    sizes = {name: total // count + (k < total % count) for k, name in enumerate(names)}
    split = SPLITS[settings.split](labels.smiles, sizes, seed=settings.seed)
    if empty := [name for name in names if not len(split[name])]:
        raise InputError(
            f"{empty[0]} of {count} has no molecule", where="cross_validation", remedy="Ask for fewer folds"
        )
    tests: list[Int[np.ndarray, " row"]] = [np.asarray(split[name]) for name in names]
    return [replace(labels, fixed={"test": rows}) for rows in tests]


#: Words of a column for each part.
WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "valid"),
    **dict.fromkeys(("cal", "calib", "calibration"), "calibration"),
    **dict.fromkeys(("test", "testing", "holdout"), "test"),
}


def fixed_by_column(
    words: list[str], lines: list[int], where: str, column: str
) -> tuple[dict[str, Int[np.ndarray, " row"]], Int[np.ndarray, " row"]]:
    """The parts that a column fixes, and the rows with an empty cell, which are in no part.

    Validation and calibration parts that no cell names are not fixed: they are drawn from the training rows, as
    `data.parts` says. The test part is what the column says, also if that is nothing.

    Args:
        words: cell of each row.
        lines: line of each row, for errors.
        where: the file, for errors.
        column: name of the column, for errors.

    Raises:
        InputError: a cell has another word, or no row is to be trained on.
    """
    for word, line in zip(words, lines, strict=True):
        if word and word.lower() not in WORDS:
            raise InputError(
                f"column {column!r} holds {word[:40]!r}, which is no part",
                where=f"{where}, line {line}",
                file=where,
                row=line,
                remedy="Write train, valid, calibration or test, or nothing to leave a row out",
            )
    parts = np.array([WORDS[word.lower()] if word else "" for word in words])
    if not (parts == "train").any():
        raise InputError(f"column {column!r} puts no row into train", where=where, remedy="Name another column")
    fixed = {name: np.flatnonzero(parts == name) for name in PARTS[1:] if name == "test" or (parts == name).any()}
    return fixed, np.flatnonzero(parts == "")
