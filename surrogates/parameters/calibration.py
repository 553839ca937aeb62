"""Calibrates the intervals of a surrogate of parameters on held-out samples."""

from __future__ import annotations

from data.parameters import ParameterTable
from surrogates.learning.conformal import Conformal
from surrogates.parameters.surrogate import ParameterSurrogate


def calibrate_intervals(surrogate: ParameterSurrogate, table: ParameterTable) -> ParameterSurrogate:
    """The surrogate with intervals of each target that held-out samples calibrate.

    Raises:
        InputError: the samples have other columns, or are too few.
    """
    surrogate.facts.layout.refuse_other_columns(table.layout, "the calibration part")
    labels = surrogate.facts.quantities.learned(table.labels)
    mean, std = surrogate.predict_quantities(table.values, table.cheaper)
    intervals = {name: Conformal.fit(labels[:, k], mean[:, k], std[:, k]) for k, name in enumerate(surrogate.targets)}
    return surrogate.with_facts(conformal=intervals)
