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
    """Costs are not processor time, and so depend on what else the machine did."""


def core_seconds(facts: Mapping[Any, Any], where: str = "") -> Float[np.ndarray, "*record"]:
    """Core-seconds of each record.

    Args:
        facts: `seconds`, `threads` and, unless the store was written before it was recorded, `core_seconds`; arrays by
            record, or the numbers of one.
        where: the store, for the warning.

    Warns:
        CostWarning: of records with a wall time whose processor time was not recorded; theirs is wall time x threads.
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
    """How `core_seconds` counts: `PROCESSOR_TIME`, or `WALL_TIME` where that of a record was not recorded."""
    timed = np.isfinite(np.asarray(facts["seconds"], float))
    spent = np.asarray(facts["core_seconds"], float) if "core_seconds" in facts else np.full(timed.shape, np.nan)
    return WALL_TIME if np.isnan(spent[timed]).any() else PROCESSOR_TIME


def label_core_seconds(scores: Mapping[str, float]) -> float:
    """What the labels of a training cost, core-seconds; 0 where it is not known.

    Args:
        scores: of a surrogate.

    Warns:
        CostWarning: it was trained before processor time was recorded, and so were its labels.
    """
    cost = scores.get("train/label_core_seconds", 0.0)
    if cost and "train/core_seconds" not in scores and "train/seconds" in scores:
        warnings.warn(f"the cost of its labels is {WALL_TIME}; no {PROCESSOR_TIME} was recorded", CostWarning, 2)
    return cost


def training_core_seconds(scores: Mapping[str, float], cores: int | None = None) -> float:
    """Processor time of a training; of one before it was recorded, wall time x cores; 0 where neither is known.

    Args:
        scores: of a surrogate, with `train/core_seconds`, or `train/seconds` alone.
        cores: that it is taken to have used; None: those that this process may use.

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
    """How the costs of records were counted that have no processor time."""
    which = "" if unrecorded == total else f" of {unrecorded:,} of {total:,} records"
    place = f"{where}: " if where else ""
    return f"{place}the cost{which} is {WALL_TIME}, which a busy machine makes larger; no {PROCESSOR_TIME} was recorded"
