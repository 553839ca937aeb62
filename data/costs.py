"""What the records of a campaign cost: processor time, or where none was recorded, wall time x threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

PROCESSOR_TIME = "processor time"
WALL_TIME = "wall time x threads"


class CostWarning(UserWarning):
    """Costs are wall times, which depend on what else the machine did."""


def core_seconds(facts: Mapping[Any, Any], where: str = "") -> Float[np.ndarray, "*record"]:
    """Core-seconds of each record.

    Args:
        facts: `seconds`, `threads` and, unless the store was written before it was recorded, `core_seconds`; arrays by
            record, or the numbers of one.
        where: the store, for the warning.

    Warns:
        CostWarning: some records have a wall time but no processor time; their cost is wall time x threads.
    """
    wall = np.asarray(facts["seconds"], float) * np.asarray(facts["threads"], float)
    if "core_seconds" not in facts:
        spent, unrecorded = wall, np.isfinite(wall)
    else:
        spent = np.asarray(facts["core_seconds"], float)
        unrecorded = np.isnan(spent) & np.isfinite(wall)
        spent = np.where(unrecorded, wall, spent)
    if unrecorded.any():
        warnings.warn(unrecorded_message(int(unrecorded.sum()), unrecorded.size, where), CostWarning, stacklevel=2)
    return spent


def cost_basis(facts: Mapping[Any, Any]) -> str:
    """The basis of `core_seconds`: `PROCESSOR_TIME`, or `WALL_TIME` if a record has no processor time."""
    timed = np.isfinite(np.asarray(facts["seconds"], float))
    spent = np.asarray(facts["core_seconds"], float) if "core_seconds" in facts else np.full(timed.shape, np.nan)
    return WALL_TIME if np.isnan(spent[timed]).any() else PROCESSOR_TIME


def label_core_seconds(scores: Mapping[str, float]) -> float:
    """The cost of the labels of a training, core-seconds; 0 where it is unknown.

    Args:
        scores: of a surrogate.

    Warns:
        CostWarning: the surrogate and its labels are from before processor time was recorded.
    """
    cost = scores.get("train/label_core_seconds", 0.0)
    if cost and "train/core_seconds" not in scores and "train/seconds" in scores:
        warnings.warn(f"the cost of its labels is {WALL_TIME}; no {PROCESSOR_TIME} was recorded", CostWarning, 2)
    return cost


def training_core_seconds(scores: Mapping[str, float], cores: int | None = None) -> float:
    """Processor time of a training, s; wall time x cores where that was not recorded, 0 where neither is known.

    Args:
        scores: of a surrogate, with `train/core_seconds`, or `train/seconds` alone.
        cores: cores that the training is assumed to have used; None for those that this process may use.

    Warns:
        CostWarning: no processor time was recorded.
    """
    if "train/core_seconds" in scores or "train/seconds" not in scores:
        return scores.get("train/core_seconds", 0.0)
    cores = cores or len(os.sched_getaffinity(0))
    text = f"the cost of the training is wall time x {cores} cores; no {PROCESSOR_TIME} was recorded"
    warnings.warn(text, CostWarning, stacklevel=2)
    return scores["train/seconds"] * cores


def unrecorded_message(unrecorded: int, total: int, where: str = "") -> str:
    """A message about the costs of records without processor time."""
    which = "" if unrecorded == total else f" of {unrecorded:,} of {total:,} records"
    place = f"{where}: " if where else ""
    return f"{place}the cost{which} is {WALL_TIME}, which a busy machine makes larger; no {PROCESSOR_TIME} was recorded"
