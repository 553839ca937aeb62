"""Calibrates the bands of a surrogate of fields on held-out samples."""

from __future__ import annotations

import numpy as np

from data.errors import InputError
from data.fields.samples import Fields
from surrogates.fields.bands import Bands
from surrogates.fields.surrogate import FieldSurrogate


def calibrate_intervals(surrogate: FieldSurrogate, samples: Fields) -> FieldSurrogate:
    """The surrogate with bands that held-out samples calibrate.

    Raises:
        InputError: the samples have another layout, are too few, or their rollouts are not finite.
    """
    samples.refuse_other(surrogate.facts.layout, "the calibration part")
    answer = surrogate.predict_fields(samples)
    if not np.isfinite(answer.mean).all():
        raise InputError(
            "rollouts of the calibration part are not finite",
            where="data.parts",
            remedy="Train longer, or with model.loss.unroll above 1",
        )
    return surrogate.with_facts(bands=Bands.fit(samples.states, answer.mean, answer.std))
