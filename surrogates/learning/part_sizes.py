"""Sizes of the parts of a data set, and refusals and warnings if a part would get too few samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import InputError
from data.splits import counts
from surrogates.learning.conformal import fewest_points

LOG = logging.getLogger(__name__)
PARTS = ("train", "valid", "calibration", "test")
#: Consequence of an empty part that was requested.
WITHOUT = {
    "valid": "no validation chooses the best weights",
    "calibration": "answers get no calibrated intervals",
    "test": "there is no score on unseen samples",
}


def check_parts(parts: Sequence[Any], seed: int) -> None:
    """Refuse parts that are not four numbers of 0 or more, and a negative seed.

    Raises:
        ValueError: the parts or the seed are invalid.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    numbers = [v for v in parts if isinstance(v, int | float) and not isinstance(v, bool) and v >= 0]
    if len(numbers) != len(PARTS) or len(parts) != len(PARTS):
        raise ValueError(f"parts must be {len(PARTS)} numbers of 0 or more ({', '.join(PARTS)}), got {parts}")


def with_calibration(parts: Mapping[str, float | int], total: int) -> Mapping[str, float | int]:
    """The parts, with the calibration part enlarged to what intervals need if it is a fraction of a small table.

    The samples are taken from the training part. A count, or a fraction of 0, is not changed.

    Args:
        parts: fractions or counts, by the names in `PARTS`.
        total: number of samples of the table.

    Raises:
        InputError: a part is negative, more samples are asked for than there are, or so few are left to train
            on that the table is too small for intervals.
    """
    sizes, lacking = _lacking(parts, total)
    if lacking <= 0:
        return parts
    least = fewest_points()
    if sizes["train"] - lacking < least:
        # Fractions alone grow with the table.
        grow = all(isinstance(v, float) and v <= 1 for v in parts.values())
        # Because of rounding, some sizes are sufficient although larger ones are not.
        short = [n for n in range(total, 100 * least) if not _enough(parts, n)] if grow else []
        needed = f": these parts need {short[-1] + 1} or more" if short and short[-1] < 100 * least - 1 else ""
        raise InputError(
            f"{_many(total, 'sample')} are too few to train on and to set {least} aside for calibrated intervals"
            f"{needed}",
            where="data.parts",
            remedy="Give more labels, or a calibration part of 0 to do without calibrated intervals",
        )
    LOG.warning("%d samples calibrate the intervals, in place of a fraction of %g", least, parts["calibration"])
    return {**sizes, "train": sizes["train"] - lacking, "calibration": least}


def _lacking(parts: Mapping[str, float | int], total: int) -> tuple[dict[str, int], int]:
    """Number of samples of each part, and how many more a calibration part that is a fraction needs."""
    sizes = counts(parts, total)
    share = parts["calibration"]
    fraction = isinstance(share, float) and 0 < share <= 1
    return sizes, fewest_points() - sizes["calibration"] if fraction else 0


def _enough(parts: Mapping[str, float | int], total: int) -> bool:
    sizes, lacking = _lacking(parts, total)
    return sizes["train"] - max(lacking, 0) >= fewest_points()


def refuse_or_say_few(
    sizes: Mapping[str, int], total: int, parts: Mapping[str, float | int], *, least: int = 1, unit: str = "sample"
) -> None:
    """Refuse a training part that is too small, and warn about other parts that were requested and are empty.

    Args:
        sizes: number of samples of each part.
        total: number of samples in all.
        parts: requested parts, as fractions or counts.
        least: smallest number of samples to train on.
        unit: name of a sample, in the singular.

    Raises:
        InputError: the training part has fewer than `least` samples.
    """
    if sizes["train"] < least:
        raise InputError(
            f"{_many(sizes['train'], unit)} of {total} in the training part, where {least} or more are needed",
            where="data.parts",
            remedy=f"Give more {unit}s, or a larger training part",
        )
    if sizes["train"] == 1:
        LOG.warning("there is only 1 training %s", unit)
    for name, text in WITHOUT.items():
        share = parts[name]
        if sizes.get(name, 0) or not share:
            continue
        needed = f", which takes {math.ceil(1 / share - 1e-9)}" if isinstance(share, float) and share <= 1 else ""
        LOG.warning("the part %s is empty: %g of %s is none%s; %s", name, share, _many(total, unit), needed, text)


def _many(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
