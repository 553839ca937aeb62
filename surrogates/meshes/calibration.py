"""Calibrates the intervals of a surrogate on meshes on held-out samples."""

from __future__ import annotations

import numpy as np

from data.meshes.mesh_samples import MeshSamples
from surrogates.learning.conformal import Conformal
from surrogates.meshes.facts import field_bands
from surrogates.meshes.surrogate import MeshSurrogate


def calibrate_intervals(surrogate: MeshSurrogate, samples: MeshSamples) -> MeshSurrogate:
    """The surrogate with intervals of each channel and scalar that held-out samples calibrate.

    Raises:
        InputError: the samples have another layout, or are too few.
    """
    layout = surrogate.facts.layout
    samples.refuse_other(layout, "the calibration part")
    answers = surrogate.predict_meshes(samples.meshes)
    intervals: dict[str, Conformal] = {}
    truth = [m.fields for m in samples.meshes if m.fields is not None]
    if truth:
        bands = field_bands(truth, [a.fields for a in answers], [a.fields_std for a in answers])
        intervals |= dict(zip(layout.channels, bands, strict=True))
    for c, variable in enumerate(layout.scalars):
        intervals[variable.name] = Conformal.fit(
            np.array([m.scalars[c] for m in samples.meshes]),
            np.array([a.scalars[c] for a in answers]),
            np.array([a.scalars_std[c] for a in answers]),
        )
    return surrogate.with_facts(conformal=intervals)
