"""Small tables give the intervals what they need, or are refused before anything is trained."""

from __future__ import annotations

import pytest

from data.errors import InputError
from data.splits import random_split
from experiments.parts import PARTS
from experiments.tables import with_calibration
from surrogates.uncertainty import fewest_points

DEFAULT = dict(zip(PARTS, (0.8, 0.05, 0.05, 0.1), strict=True))


@pytest.mark.parametrize("total", [30, 100, 179, 180, 400])
def test_the_default_parts_calibrate_tables_of_every_size(total: int) -> None:
    parts = with_calibration(DEFAULT, total)
    split = random_split(["C" * (i + 1) for i in range(total)], parts)
    assert len(split["calibration"]) == max(fewest_points(), int(0.05 * total + 1e-9))
    assert sum(len(split[name]) for name in PARTS) == total


def test_counts_and_none_at_all_are_left_as_they_were_given() -> None:
    for calibration in (5, 0, 0.0):
        parts = {**DEFAULT, "train": 50, "calibration": calibration}
        assert with_calibration(parts, 100) == parts


def test_a_table_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="15 molecules are too few"):
        with_calibration(DEFAULT, 15)
