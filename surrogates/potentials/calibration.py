"""Calibrates the standard deviations and the intervals of a potential on held-out frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.structures.structures import Structures
from surrogates.learning.conformal import Conformal
from surrogates.potentials.potential_spec import StructurePredictions
from surrogates.potentials.surrogate import PotentialSurrogate


def calibrate_intervals(
    potential: PotentialSurrogate, samples: Structures | None, valid: Structures | None = None
) -> PotentialSurrogate:
    """The potential with a scaled posterior of its last layer and with intervals of energies and forces.

    Args:
        potential: potential as it was fitted, with the posterior of its last layer.
        samples: frames that neither training nor the choice of weights has used; they scale the posterior and set the
            intervals. None for no intervals.
        valid: frames that scale the posterior without `samples`; as they also selected the best weights, the coverage
            is then not guaranteed.

    Raises:
        InputError: there are too few frames.
    """
    frames = samples if samples is not None else valid
    if potential.facts.config.draws and potential.last_layer is not None and frames is not None:
        layer = potential.last_layer.scale_deviations(_match(potential, frames))
        potential = potential.with_last_layer(layer)
    if samples is None:
        return potential
    facts, answer = potential.facts, _bare(potential, samples)
    std = np.zeros(len(samples)) if answer.energy_std is None else answer.energy_std
    if facts.head.has_energy and np.isfinite(samples.energy).any():
        facts = facts.with_head(energy=Conformal.fit(samples.energy, answer.energy, std))
    labelled = np.isfinite(samples.forces)
    if labelled.any():
        std = np.zeros_like(answer.forces) if answer.forces_std is None else answer.forces_std
        facts = facts.with_head(forces=Conformal.fit(samples.forces[labelled], answer.forces[labelled], std[labelled]))
    return potential.with_facts(heads=facts.heads)


def _bare(potential: PotentialSurrogate, frames: Structures) -> StructurePredictions:
    """Predictions without the answers of a baseline: labels may be differences to it."""
    facts = potential.facts
    heads = {**facts.heads, facts.active: replace(facts.head, baseline=None)}
    return potential.with_facts(heads=heads).predict_structures(frames)


def _match(potential: PotentialSurrogate, frames: Structures) -> float:
    """The factor that makes standard deviations agree with the root mean square errors of forces (or energies)."""
    answer = _bare(potential, frames)
    labelled = np.isfinite(frames.forces)
    if labelled.any() and answer.forces_std is not None:
        error, std = (answer.forces - frames.forces)[labelled], answer.forces_std[labelled]
    elif answer.energy_std is not None and np.isfinite(frames.energy).any():
        labelled = np.isfinite(frames.energy)
        error, std = (answer.energy - frames.energy)[labelled], answer.energy_std[labelled]
    else:
        return 1.0
    return float(np.sqrt(np.mean(error**2) / max(np.mean(std**2), 1e-30)))
