"""What few test molecules can say: bootstrap intervals, calibration with its band, enrichment.

Bootstrap after Efron (Ann. Stat. 1979, 7, 1); coverage of split conformal intervals after Vovk (2012) and
Angelopoulos and Bates (arXiv:2107.07511, section 3.2): given n calibration molecules, the number of m test
molecules inside is Beta-binomial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from experiments.pages.pipeline_run import TargetPredictions
from experiments.screening.hit_rates import HitRate
from surrogates.learning.conformal import coverage_band


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def mae_interval(
    error: Float[np.ndarray, " n"], *, level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Interval | None:
    """Mean absolute error with its percentile-bootstrap interval over molecules; None without molecules.

    Args:
        error: prediction minus truth, finite.
        level: confidence.
        resamples: bootstrap samples.
        seed: of their draw; equal errors give equal intervals.
    """
    size = np.abs(np.asarray(error, np.float64))
    if not len(size):
        return None
    rows = np.random.default_rng(seed).integers(len(size), size=(resamples, len(size)))
    low, high = np.quantile(size[rows].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(size.mean()), float(low), float(high))


def paired_difference(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], *, seed: int = 0
) -> Interval | None:
    """MAE of the first minus MAE of the second on the same molecules, with a paired 95% bootstrap interval."""
    gain = np.abs(np.asarray(first, np.float64)) - np.abs(np.asarray(second, np.float64))
    if not len(gain):
        return None
    rows = np.random.default_rng(seed).integers(len(gain), size=(4000, len(gain)))
    low, high = np.quantile(gain[rows].mean(axis=1), [0.025, 0.975])
    return Interval(float(gain.mean()), float(low), float(high))


def conformal_rank(calibration: int, level: float) -> int:
    """Rank of the calibration score that an interval at `level` reaches to: ceil((n + 1) level), at least 1.

    A rank above n stands for an infinite interval.
    """
    return max(1, math.ceil((calibration + 1) * level - 1e-9))


def level_band(calibration: int, test: int, level: float) -> tuple[float, float]:
    """Where the measured coverage of valid intervals at `level` lies in 95% of draws; (1, 1) if infinite.

    Args:
        calibration, test: numbers of molecules, at least 1.
        level: nominal coverage in (0, 1).
    """
    rank = conformal_rank(calibration, level)
    if rank > calibration:
        return 1.0, 1.0
    # Half a rank below, so that rounding of (n + 1) level cannot move the rank.
    return coverage_band(calibration, test, 1 - (rank - 0.5) / (calibration + 1))


@dataclass(frozen=True)
class MeasuredCoverage:
    """Nominal against measured coverage.

    Attributes:
        level: nominal levels.
        measured: share of the test molecules inside the interval of each level.
        low, high: the band that the sample sizes allow.
        calibration, test: numbers of molecules.
    """

    level: Float[np.ndarray, " level"]
    measured: Float[np.ndarray, " level"]
    low: Float[np.ndarray, " level"]
    high: Float[np.ndarray, " level"]
    calibration: int
    test: int


def calibration_curve(
    calibration: TargetPredictions, test: TargetPredictions, levels: np.ndarray | None = None
) -> MeasuredCoverage | None:
    """Coverage on the test molecules of intervals at every level, rebuilt from the calibration molecules.

    The nonconformity score is the error in units of the 90% half-width, which orders molecules as the
    surrogate's own score does whatever scale it uses. The interval at a level reaches to the
    ceil((n + 1) level)-th smallest score of the n calibration molecules. Levels above n / (n + 1), whose
    interval would be infinite, are left out.

    Returns:
        None if a part is empty or an interval is missing or has no width.
    """
    scores = []
    for part in (calibration, test):
        half = (part.high - part.low) / 2
        if not len(half) or not (np.isfinite(half) & (half > 0)).all():
            return None
        scores.append(np.abs(part.truth - part.value) / half)
    n, m = len(scores[0]), len(scores[1])
    candidates = np.round(np.arange(0.1, 0.951, 0.05), 2) if levels is None else levels
    level = np.array([x for x in candidates if conformal_rank(n, x) <= n])
    ordered = np.sort(scores[0])
    reach = np.array([ordered[conformal_rank(n, x) - 1] for x in level])
    measured = np.array([(scores[1] <= r).mean() for r in reach])
    bands = np.array([level_band(n, m, float(x)) for x in level]).reshape(-1, 2)
    return MeasuredCoverage(level, measured, bands[:, 0], bands[:, 1], n, m)


@dataclass(frozen=True)
class Enrichment:
    """Hit rate among the best over that at random, with an interval of at least 90% confidence.

    Attributes:
        top, random: the two rates, each with its exact 95% interval.
        value: their ratio; None where no random molecule was a hit.
        low, high: bounds; high is infinite where the random rate may be 0.
    """

    top: HitRate
    random: HitRate
    value: float | None
    low: float
    high: float


def enrichment_interval(top: HitRate, random: HitRate) -> Enrichment:
    """Bounds from the opposite ends of two exact (Clopper-Pearson) 95% intervals.

    Either bound fails only if one of two one-sided 97.5% bounds does, so that each holds with at least 95%
    confidence and both together with at least 90%, whatever the true rates.
    """
    (top_low, top_high), (random_low, random_high) = top.interval, random.interval
    ratio = (top.hits / top.trials) / (random.hits / random.trials) if top.trials and random.hits else None
    return Enrichment(top, random, ratio, top_low / random_high, top_high / random_low if random_low else math.inf)
