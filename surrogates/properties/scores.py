"""Scores of surrogates of molecular properties on tables of molecules."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.errors import InputError
from data.molecules.foreign import graphs
from surrogates.learning.scores import scores
from surrogates.properties.probability import calibration_error, label_set_scores, probability_scores
from surrogates.properties.property_table import PropertyTable
from surrogates.properties.surrogate import PropertySurrogate

LOG = logging.getLogger(__name__)


def score_table(
    surrogate: PropertySurrogate,
    labels: PropertyTable,
    rows: np.ndarray,
    prefix: str,
    columns: Mapping[str, str] | None = None,
    on: Float[np.ndarray, "molecule column"] | None = None,
) -> dict[str, float]:
    """Scores on rows of a table, in the units of the targets; `in_domain` is the share inside the training domain.

    Args:
        surrogate: surrogate that is scored.
        labels: labelled molecules.
        rows: indices of molecules.
        prefix: prefix of the keys; if there are several targets, the target follows it.
        columns: target of the surrogate -> column of the table; None if the names are equal.
        on: answers for every row of the simulator on which the surrogate stands; None if there is none.
    """
    if not len(rows):
        return {}
    table = graphs([labels.smiles[i] for i in rows], labels.reading.source)
    answer = surrogate.predict_table(table, None if on is None else on[rows])
    inside = answer["in_domain"]
    metrics = {f"{prefix}/in_domain": float(inside.mean())}
    if not inside.all():
        LOG.warning(
            "%s: %d of %d molecules are outside the training domain: predictions for them are extrapolations, and "
            "their intervals are not reliable",
            prefix,
            int((~inside).sum()),
            len(inside),
        )
    for target in labels.values if columns is None else columns:
        truth = labels.values[target if columns is None else columns[target]][rows]
        keep = np.isfinite(truth)
        if not keep.any():
            LOG.warning("no score of %s under %s: none of its %d molecules has a label", target, prefix, len(rows))
            continue
        value, low, high = (answer[f"{target}{end}"][keep] for end in ("", "_low", "_high"))
        if target in surrogate.facts.classification:
            target_scores = probability_scores(truth[keep], value) | label_set_scores(truth[keep], low, high)
            calibration = surrogate.facts.probabilities.get(target)
            if calibration is not None:
                target_scores["ece_uncalibrated"] = calibration_error(truth[keep], calibration.undo(value))
        else:
            target_scores = scores(truth[keep], value, "1", low=low, high=high)
        head = prefix if len(labels.values) == 1 else f"{prefix}/{target}"
        metrics |= {f"{head}/{name}": value for name, value in target_scores.items()}
    return metrics


def in_units_of(
    units: Mapping[str, str], table: PropertyTable, columns: Mapping[str, str], path: Path
) -> PropertyTable:
    """The table with a note for each column whose file names no unit; it is assumed to be in the surrogate's unit.

    Args:
        units: unit of each target of the surrogate that is scored.
        table: content of `path`.
        columns: target -> column.
        path: file that error messages name.

    Raises:
        InputError: a column has another unit than its target.
    """
    assumed = []
    for target, column in columns.items():
        ours, theirs = units[target], table.units[column]
        if "1" not in (ours, theirs) and ours != theirs:
            raise InputError(
                f"{column} is in {theirs}, the surrogate gives {target} in {ours}",
                where=str(path),
                remedy=f"Convert it to {ours}",
            )
        if theirs == "1" and ours != "1":
            assumed.append(f"{column} is in {ours}, in which the surrogate gives {target}")
    reading = replace(table.reading, assumed=(*table.reading.assumed, *assumed))
    return replace(table, reading=reading)
