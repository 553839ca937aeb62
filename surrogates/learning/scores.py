"""Scores of predictions on held-out data, as flat metrics whose keys contain the unit."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr


def unit_suffix(unit: str) -> str:
    """The suffix of a metric's key for a unit: "_ev_per_angstrom" for "eV/Angstrom", "" for "1" or no unit."""
    text = re.sub(r"[^a-z0-9]+", "_", unit.lower().replace("/", "_per_").replace("^", "")).strip("_")
    return f"_{text}" if text not in ("", "1") else ""


def scores(
    truth: Float[np.ndarray, " n"],
    prediction: Float[np.ndarray, " n"],
    unit: str,
    *,
    low: Float[np.ndarray, " n"] | None = None,
    high: Float[np.ndarray, " n"] | None = None,
    level: int = 90,
) -> dict[str, float]:
    """MAE, RMSE, R2 and Spearman's rank correlation; also coverage and width of intervals, if they are given.

    Args:
        truth, prediction: finite values in `unit`.
        unit: unit of the values.
        low, high: bounds of the intervals, in `unit`.
        level: nominal coverage of the intervals, percent.

    Returns:
        Keys such as `mae_ev`. R2 and Spearman are omitted if they are undefined, that is for fewer than two
        values or without variance.
    """
    error = prediction - truth
    suffix = unit_suffix(unit)
    metrics = {f"mae{suffix}": np.abs(error).mean(), f"rmse{suffix}": np.sqrt((error**2).mean())}
    if len(truth) > 1 and np.ptp(truth) > 0:
        metrics["r2"] = 1.0 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum()
        if np.ptp(prediction) > 0:
            metrics["spearman"] = spearmanr(truth, prediction).statistic
    if low is not None and high is not None:
        metrics[f"coverage_{level}"] = np.mean((low <= truth) & (truth <= high))
        metrics[f"interval_width{suffix}"] = np.mean(high - low)
    return {name: float(value) for name, value in metrics.items()}
