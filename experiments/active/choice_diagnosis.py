"""Why a choice of frames pays or not, from the labels of a round: ranks of uncertainties, errors and energies."""

from __future__ import annotations

import numpy as np
from ase import units
from jaxtyping import Float
from scipy.stats import spearmanr

from data.structures.structures import Structures
from experiments.active.batch import AUDIT, CHOSEN, Batch
from experiments.active.energy_window import excess
from experiments.active.frame_labelling import Labelled
from experiments.active.stopping import AcquisitionAudit, frame_errors


def rank_correlation(uncertainty: Float[np.ndarray, " a"], error: Float[np.ndarray, " a"]) -> float | None:
    """Spearman's correlation of the uncertainties of frames with their errors; None for fewer than 3, or equal ones."""
    if len(error) < 3 or np.ptp(uncertainty) == 0 or np.ptp(error) == 0:
        return None
    return float(spearmanr(uncertainty, error).statistic)


def excess_kt(frames: Structures, labelled: Structures, temperature_kelvin: float) -> float | None:
    """Median energy of frames above the lowest labelled one, kT by internal coordinate; about 0.5 if harmonic."""
    if not len(frames):
        return None
    return float(np.median(excess(frames, labelled)) / (units.kB * temperature_kelvin))


def diagnosis(
    batch: Batch, labelled: Labelled, before: Structures, audit: AcquisitionAudit, temperature_kelvin: float
) -> dict[str, float | None]:
    """Entries of `round.json` about the choice of a round, from errors of the surrogate with which it began.

    Args:
        batch: frames of the round with the predictions of that surrogate.
        labelled: their labels.
        before: frames labelled earlier.
        audit: errors and uncertainties of the audit frames.
        temperature_kelvin: temperature by which energies are divided, K.
    """
    role = batch.role[labelled.rows]
    chosen = np.flatnonzero(role == CHOSEN)
    truth, predicted = labelled.structures.take(chosen), batch.frames.take(labelled.rows[chosen])
    errors = frame_errors(truth, predicted.forces, truth.forces)
    drawn = labelled.structures.take(np.flatnonzero(role == AUDIT))
    return {
        "uncertainty_rank_correlation": rank_correlation(audit.uncertainty, audit.errors),
        "chosen_force_error_mev_per_angstrom": float(errors.mean()) if len(errors) else None,
        "chosen_energy_kt": excess_kt(truth, before, temperature_kelvin),
        "audit_energy_kt": excess_kt(drawn, before, temperature_kelvin),
    }


def crowding(picked: Float[np.ndarray, "n D"], drawn: Float[np.ndarray, "m D"]) -> float:
    """Mean distance of picked frames to the nearest other, over that of as many frames drawn at random.

    A value far below 1 says that the batch holds near duplicates.
    """
    return _nearest(picked) / _nearest(drawn)


def _nearest(points: Float[np.ndarray, "n D"]) -> float:
    far = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(far, np.inf)
    return float(far.min(axis=1).mean())
