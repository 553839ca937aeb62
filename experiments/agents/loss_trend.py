"""The loss of a training as it falls: its first, best and last values, read from `train.jsonl` of the run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = "train.jsonl"
#: Points of the curve that are stated.
POINTS = 12
NAMES = ("valid/loss", "valid", "loss", "train/loss")


@dataclass(frozen=True)
class LossTrend:
    """How a loss changes.

    Attributes:
        name: which loss.
        first, best, last: its values.
        falling: whether the mean of the last quarter is below that of the quarter before.
        points: some (epoch or step, value), evenly chosen.
    """

    name: str
    first: float
    best: float
    last: float
    falling: bool
    points: tuple[tuple[float, float], ...]


def loss_trend(directory: Path) -> LossTrend | None:
    """The trend of the loss of a run; None if it keeps none."""
    entries = list(_entries(directory / FILE))
    numbers = [{k: float(v) for k, v in one.items() if isinstance(v, int | float)} for one in entries]
    names = [name for name in NAMES if any(name in one for one in numbers)]
    names += sorted({name for one in numbers for name in one if "loss" in name})
    if not names:
        return None
    name = names[0]
    curve = [
        (one.get("epoch", one.get("step", float(place))), one[name])
        for place, one in enumerate(numbers)
        if name in one and math.isfinite(one[name])
    ]
    if not curve:
        return None
    values = [value for _, value in curve]
    quarter = max(1, len(values) // 4)
    late, before = values[-quarter:], values[-2 * quarter : -quarter] or values[:1]
    chosen = curve[:: max(1, math.ceil(len(curve) / POINTS))]
    falling = sum(late) / len(late) < sum(before) / len(before)
    return LossTrend(name, values[0], min(values), values[-1], falling, tuple(chosen))


def _entries(path: Path) -> Iterator[dict[str, object]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            # The last line of a run under way may be half written.
            continue
        if isinstance(value, dict):
            yield value
