"""Samples of a file in four parts, as every training on a store of samples takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import MISSING

from data.errors import InputError
from data.splits import counts
from surrogates.uncertainty import fewest_points

PARTS = ("train", "valid", "calibration", "test")


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


@dataclass(frozen=True)
class PartedData:
    """What to learn from, and how it is split; keys of `data`.

    Attributes:
        file: a store that `understudy simulate` made, or what else the subclass reads.
        parts: fractions or counts of the samples, in the order of `PARTS`.
        test: more files, each scored apart.
        seed: of the split.

    Raises:
        ValueError: the seed is negative, or the parts are not four numbers of 0 or more.
    """

    file: str = MISSING
    parts: list[Any] = field(default_factory=lambda: [0.7, 0.1, 0.1, 0.1])
    test: Any = field(default_factory=list)
    seed: int = 0

    def __post_init__(self) -> None:
        check_parts(self.parts, self.seed)


def split(samples: int, data: PartedData, *, least: int = 1) -> dict[str, np.ndarray]:
    """Rows of each part, at random.

    Args:
        samples: how many there are.
        data: the parts and the seed.
        least: samples that a training needs.

    Raises:
        InputError: there are too few samples, or too few to calibrate with.
    """
    wanted = counts(dict(zip(PARTS, data.parts, strict=True)), samples)
    if wanted["train"] < least:
        raise InputError(f"{samples} samples leave too few to train on", where="data.parts", remedy="Give more samples")
    if 0 < wanted["calibration"] < fewest_points():
        raise InputError(
            f"{wanted['calibration']} samples cannot calibrate intervals",
            where="data.parts",
            remedy=f"Set {fewest_points()} or more aside for calibration, or 0 to do without intervals",
        )
    order = np.random.default_rng(data.seed).permutation(samples)
    ends = np.cumsum([wanted[name] for name in PARTS])
    return {name: np.sort(order[end - wanted[name] : end]) for name, end in zip(PARTS, ends, strict=True)}
