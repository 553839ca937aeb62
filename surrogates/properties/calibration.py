"""Calibrates the intervals of a surrogate of molecular properties on held-out molecules."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from data.molecules.graph_tables import GraphTable
from surrogates.learning.conformal import Conformal
from surrogates.learning.rung import RungColumns
from surrogates.properties.surrogate import PropertySurrogate


def calibrate_intervals(
    surrogate: PropertySurrogate,
    table: GraphTable,
    targets: Mapping[str, Float[np.ndarray, " molecule"]],
    rows: Int[np.ndarray, " row"],
    on: RungColumns | None = None,
) -> PropertySurrogate:
    """The surrogate with intervals of each target that held-out molecules calibrate (split conformal).

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
    conformal = {
        name: Conformal.fit(np.asarray(targets[name], np.float64)[rows], mean[:, k], std[:, k])
        for k, name in enumerate(surrogate.targets)
    }
    return surrogate.with_facts(conformal=conformal)
