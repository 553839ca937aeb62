"""When a potential is good enough: its errors on frames drawn uniformly from its own dynamics, before it learns them.

No held-out set is needed. The frames of an audit are fresh in each round, so the mean error on them is an unbiased
estimate of the mean error over what the dynamics visits; afterwards they are learned like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from data.structures import Structures


@dataclass(frozen=True)
class StopConfig:
    """What is good enough, and what may be spent on it.

    Attributes:
        force_error_mev_per_angstrom: the goal: mean absolute error of a force component in the audit.
        rounds_in_row: rounds in which the goal must be met, one after the other; the audits of as many say what
            an uncertainty means.
        lost_share: of the walkers that may have to be stopped in such a round, because they went where the
            surrogate knows nothing.
        labels: calculations that may be spent, failed ones included.
        rounds: after which it ends in any case; the one that makes the first labels counts.
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
class Audit:
    """What a round found of the surrogate that it began with.

    Attributes:
        errors: mean absolute error of a force component of each frame of the audit, meV/Angstrom; empty where no
            calculation succeeded.
        uncertainty: of the same frames, eV/Angstrom.
        lost_share: of the walkers, stopped before their time.
    """

    errors: Float[np.ndarray, " a"]
    uncertainty: Float[np.ndarray, " a"]
    lost_share: float

    @property
    def error(self) -> float:
        """Mean over the frames; infinite without any, because nothing was shown."""
        return float(self.errors.mean()) if len(self.errors) else float("inf")


def good_enough(audits: Sequence[Audit], config: StopConfig) -> bool:
    """Whether the last rounds, as many as have to be, all met the goal."""
    last = audits[-config.rounds_in_row :]
    return len(last) == config.rounds_in_row and all(
        audit.error <= config.force_error_mev_per_angstrom and audit.lost_share <= config.lost_share for audit in last
    )


def expected_error(audits: Sequence[Audit], rounds: int) -> float | None:
    """Error (meV/Angstrom) that goes with an uncertainty of 1 eV/Angstrom: a ratio of sums over the last audits.

    Args:
        audits: in order.
        rounds: how many of the last ones count.

    Returns:
        None where nothing is known yet.
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
