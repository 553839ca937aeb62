"""How many samples each part of a data set gets, and what is said where they are fewer than a part needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import InputError
from data.splits import counts
from surrogates.uncertainty import fewest_points

LOG = logging.getLogger(__name__)
PARTS = ("train", "valid", "calibration", "test")
#: What is lacking where a part that was asked for got no sample.
WITHOUT = {
    "valid": "no validation tells which weights are best",
    "calibration": "answers get no calibrated intervals",
    "test": "nothing is scored on unseen ones",
}


def check_parts(parts: Sequence[Any], seed: int) -> None:
    """Refuse parts that are not four numbers of 0 or more, and a negative seed.

    Raises:
        ValueError: says which.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    numbers = [v for v in parts if isinstance(v, int | float) and not isinstance(v, bool) and v >= 0]
    if len(numbers) != len(PARTS) or len(parts) != len(PARTS):
        raise ValueError(f"parts must be {len(PARTS)} numbers of 0 or more ({', '.join(PARTS)}), got {parts}")


def with_calibration(parts: Mapping[str, float | int], total: int) -> Mapping[str, float | int]:
    """The parts, with as many calibration samples as intervals need where a fraction of a small table is fewer.

    They are taken from the training part. A count, or a fraction of 0, is left as it was given.

    Args:
        parts: fractions or counts, by the names in `PARTS`.
        total: samples of the table.

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
        # Rounding lets some sizes pass below others that do not.
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
    """Samples of each part, and how many more a calibration part that is a fraction has to get."""
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
    """Refuse a training part that is too small, and say which other parts were asked for and are empty.

    Args:
        sizes: samples of each part.
        total: samples that there are.
        parts: what was asked for, as fractions or counts.
        least: samples that a training needs.
        unit: what a sample is called, in the singular.

    Raises:
        InputError: fewer than `least` are left to train on.
    """
    if sizes["train"] < least:
        raise InputError(
            f"{_many(sizes['train'], unit)} of {total} in the training part, where {least} or more are needed",
            where="data.parts",
            remedy=f"Give more {unit}s, or a larger training part",
        )
    if sizes["train"] == 1:
        LOG.warning("all is learned from 1 %s", unit)
    for name, text in WITHOUT.items():
        share = parts[name]
        if sizes.get(name, 0) or not share:
            continue
        needed = f", which takes {math.ceil(1 / share - 1e-9)}" if isinstance(share, float) and share <= 1 else ""
        LOG.warning("the part %s is empty: %g of %s is none%s; %s", name, share, _many(total, unit), needed, text)


def _many(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
