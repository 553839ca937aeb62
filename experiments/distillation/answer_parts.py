"""The parts of the answers of a teacher: what the student learns, and what is kept apart."""

from __future__ import annotations

import logging

import numpy as np

from experiments.distillation.settings import LessonConfig
from surrogates.learning.conformal import ALPHA, fewest_points
from surrogates.learning.part_sizes import PARTS

LOG = logging.getLogger(__name__)
#: Largest share of few answers that is set aside for intervals.
MOST = 0.25


def answer_parts(count: int, config: LessonConfig, *, labelled: bool) -> dict[str, np.ndarray]:
    """Random rows of the answers for each part of `PARTS`, ascending.

    Labels calibrate and test, so that answers do so only where there are none: what is calibrated or scored then is
    the agreement with the teacher.

    Args:
        count: number of answers.
        config: shares of the parts, and the seed.
        labelled: whether there are labels.

    Returns:
        Rows by part. Intervals take `fewest_points` answers, so that as many are set aside, or none where that were
        more than `MOST` of all.
    """
    valid = min(max(1, round(config.valid * count)), count - 1)
    calibration = test = 0
    if not labelled:
        calibration, test = round(config.calibration * count), round(config.test * count)
        least = fewest_points(ALPHA)
        if config.calibration > 0 and calibration < least:
            calibration = least if least <= MOST * count else 0
            if not calibration:
                LOG.warning("%d answers of the teacher are too few to set %d aside for intervals", count, least)
    sizes = (max(1, count - valid - calibration - test), valid, calibration, test)
    order = np.random.default_rng(config.seed).permutation(count)
    # The validation part comes first, as in versions that had no other.
    rows, first = {}, 0
    for name, size in zip(("valid", "calibration", "test", "train"), (*sizes[1:], sizes[0]), strict=True):
        rows[name], first = np.sort(order[first : first + size]), first + size
    return {name: rows[name] for name in PARTS}
