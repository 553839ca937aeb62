"""Calibrates the intervals and the probabilities of a surrogate of molecular properties on held-out molecules."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from data.molecules.graph_tables import GraphTable
from surrogates.learning.conformal import Conformal
from surrogates.learning.rung import RungColumns
from surrogates.properties.probability import ProbabilityCalibration
from surrogates.properties.surrogate import PropertySurrogate

LOG = logging.getLogger(__name__)


def calibrate_intervals(
    surrogate: PropertySurrogate,
    table: GraphTable,
    targets: Mapping[str, Float[np.ndarray, " molecule"]],
    rows: Int[np.ndarray, " row"],
    on: RungColumns | None = None,
) -> PropertySurrogate:
    """The surrogate with intervals of each target that held-out molecules calibrate (split conformal).

    Binary labels get calibrated probabilities, and sets of labels that cannot be excluded.

    Args:
        surrogate: an ensemble.
        table: the molecules.
        targets: labels of the molecules by name of the target; NaN where a label is missing.
        rows: the held-out molecules, at least one.
        on: answers of the simulator on which the surrogate stands, for every molecule; None if there is none.

    Raises:
        InputError: a target has too few labels.
    """
    mean, std = surrogate.raw(table.take(rows), None if on is None else on.values[rows])
    conformal, probabilities = {}, {}
    for k, name in enumerate(surrogate.targets):
        truth = np.asarray(targets[name], np.float64)[rows]
        if name not in surrogate.facts.classification:
            conformal[name] = Conformal.fit(truth, mean[:, k], std[:, k])
            continue
        one = ProbabilityCalibration.fit(truth, mean[:, k])
        probabilities[name] = one
        if not one.positives or not one.negatives:
            LOG.warning(
                "the calibration part has %d ones and %d zeros of %s, so that its probabilities are not calibrated",
                one.positives,
                one.negatives,
                name,
            )
        elif one.least_positive is None or one.largest_negative is None:
            LOG.warning(
                "the calibration part has %d ones and %d zeros of %s, too few of one of them to exclude it",
                one.positives,
                one.negatives,
                name,
            )
    return surrogate.with_facts(conformal=conformal, probabilities=probabilities)
