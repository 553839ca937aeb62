"""The criterion that stops active learning: errors on frames drawn uniformly from the dynamics of the surrogate.

No held-out set is needed. The audit frames of a round are new to the surrogate, so their mean error is an unbiased
estimate of its mean error over the frames that the dynamics visits. Afterwards they join the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.structures.structures import Structures


@dataclass(frozen=True)
class StopConfig:
    """The goal and the budgets of active learning.

    Attributes:
        force_error_mev_per_angstrom: goal for the mean absolute error of a force component in the audit, meV/Angstrom.
        rounds_in_row: number of consecutive rounds that must meet the goal; the audits of as many rounds calibrate the
            uncertainty.
        lost_share: largest share of walkers that may be stopped early, by the uncertainty of the surrogate, in a round
            that meets the goal.
        labels: budget of calculations, failed ones included.
        rounds: largest number of rounds, the first one included.
    """

    force_error_mev_per_angstrom: float = 30.0
    rounds_in_row: int = 2
    lost_share: float = 0.05
    labels: int = 300
    rounds: int = 20

    def __post_init__(self) -> None:
        if self.force_error_mev_per_angstrom <= 0 or min(self.rounds_in_row, self.labels, self.rounds) < 1:
            raise ValueError(f"the goal must be above 0, and all counts at least 1; got {self}")
        if not 0 <= self.lost_share <= 1:
            raise ValueError(f"lost_share must lie between 0 and 1, got {self.lost_share}")


@dataclass(frozen=True)
class AcquisitionAudit:
    """Errors of the surrogate with which a round began.

    Attributes:
        errors: mean absolute error of a force component of each audit frame, meV/Angstrom; empty if no calculation
            succeeded.
        uncertainty: uncertainty of the same frames, eV/Angstrom.
        lost_share: share of the walkers that were stopped early.
    """

    errors: Float[np.ndarray, " a"]
    uncertainty: Float[np.ndarray, " a"]
    lost_share: float

    @property
    def error(self) -> float:
        """Mean error over the frames, meV/Angstrom; infinite without any frame, so that it never meets a goal."""
        return float(self.errors.mean()) if len(self.errors) else float("inf")


def good_enough(audits: Sequence[AcquisitionAudit], config: StopConfig) -> bool:
    """Whether each of the last `rounds_in_row` rounds met the goal."""
    last = audits[-config.rounds_in_row :]
    return len(last) == config.rounds_in_row and all(
        audit.error <= config.force_error_mev_per_angstrom and audit.lost_share <= config.lost_share for audit in last
    )


def expected_error(audits: Sequence[AcquisitionAudit], rounds: int) -> float | None:
    """Expected error (meV/Angstrom) at an uncertainty of 1 eV/Angstrom: a ratio of sums over the last audits.

    Args:
        audits: audits in order.
        rounds: number of the last audits that count.

    Returns:
        The ratio, or None if no audit has an uncertainty above 0.
    """
    last = audits[-rounds:]
    error = sum(float(audit.errors.sum()) for audit in last)
    uncertainty = sum(float(audit.uncertainty.sum()) for audit in last)
    return error / uncertainty if uncertainty > 0 else None


def frame_errors(
    structures: Structures, predicted: Float[np.ndarray, "A 3"], truth: Float[np.ndarray, "A 3"]
) -> Float[np.ndarray, " M"]:
    """Mean absolute error of a force component of each frame, meV/Angstrom."""
    each = np.abs(predicted - truth).mean(axis=1)
    total = np.bincount(structures.molecule, weights=each, minlength=len(structures))
    return 1000.0 * total / structures.sizes
