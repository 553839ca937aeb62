"""Confidence intervals of scores by a block bootstrap over the times at which forecasts start.

Errors of forecasts that start a day apart are alike, so that as many independent ones would be far fewer. Blocks of
consecutive forecasts are drawn with replacement, around the end of the record (circular block bootstrap; Politis and
Romano 1992), each as long as the longest lead and the memory of the weather. Systems are compared on the same
draws, so that what makes a week hard for all of them cancels (Wilks 1997, J. Climate 10, 65).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

#: Days after which the weather of the middle latitudes has forgotten most of its state.
MEMORY_DAYS = 10.0
#: Least number of blocks of which intervals are computed.
LEAST_BLOCKS = 5
RESAMPLES, COVERAGE = 1000, 0.95


def block_length(times: np.ndarray, longest: np.timedelta64) -> int:
    """Forecasts in a block that is as long as the longest lead, and at least `MEMORY_DAYS`.

    Args:
        times: datetime64 of the starts, ascending.
        longest: the longest lead.
    """
    if len(times) < 2:
        return 1
    apart = np.median(np.diff(times).astype("timedelta64[s]").astype(float))
    span = max(MEMORY_DAYS * 86_400, longest / np.timedelta64(1, "s"))
    return int(min(len(times), max(1, np.ceil(span / max(apart, 1.0)))))


def drawn(count: int, block: int, seed: int = 0, resamples: int = RESAMPLES) -> Float[np.ndarray, "resample forecast"]:
    """Share of each of `count` forecasts in each resample of blocks; every row has sum 1."""
    blocks = -(-count // block)
    first = np.random.default_rng(seed).integers(0, count, (resamples, blocks))
    rows = ((first[:, :, None] + np.arange(block)) % count).reshape(resamples, -1)[:, :count]
    flat = (rows + count * np.arange(resamples)[:, None]).ravel()
    return np.bincount(flat, minlength=resamples * count).reshape(resamples, count) / count


def intervals(
    squares: Mapping[str, Float[np.ndarray, "forecast lead channel"]],
    absolute: Mapping[str, Float[np.ndarray, "forecast lead channel"]],
    times: np.ndarray,
    longest: np.timedelta64,
) -> dict[str, dict[str, Float[np.ndarray, "lead channel"]]]:
    """Bounds of the scores of systems, and of the ratio of the first system's error to that of each.

    Args:
        squares: mean square error of each forecast, by system; the first one is that which is compared.
        absolute: CRPS of each forecast, of the systems that are ensembles.
        times: datetime64 of the starts, ascending.
        longest: the longest lead.

    Returns:
        Name of a score (rmse_low, rmse_high, rmse_ratio, rmse_ratio_low, rmse_ratio_high, crps_low, crps_high) ->
        system -> values. Empty if there are fewer than `LEAST_BLOCKS` blocks.
    """
    block = block_length(times, longest)
    if len(times) < LEAST_BLOCKS * block:
        return {}
    shares = drawn(len(times), block)
    tails = (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
    bounds: dict[str, dict[str, np.ndarray]] = {}

    def resampled(values: np.ndarray) -> np.ndarray:
        return (shares @ values.reshape(len(values), -1)).reshape(len(shares), *values.shape[1:])

    def note(score: str, system: str, draws: np.ndarray) -> None:
        for end, values in zip(("low", "high"), np.quantile(draws, tails, axis=0), strict=True):
            bounds.setdefault(f"{score}_{end}", {})[system] = values

    first = next(iter(squares))
    ours, our_mean = np.sqrt(resampled(squares[first])), np.sqrt(squares[first].mean(axis=0))
    for system, values in squares.items():
        theirs, their_mean = np.sqrt(resampled(values)), np.sqrt(values.mean(axis=0))
        note("rmse", system, theirs)
        if system != first:
            bounds.setdefault("rmse_ratio", {})[system] = our_mean / np.maximum(their_mean, 1e-300)
            note("rmse_ratio", system, ours / np.maximum(theirs, 1e-300))
    for system, values in absolute.items():
        note("crps", system, resampled(values))
    return bounds
