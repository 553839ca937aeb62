"""Cascades of two rungs that label their best candidates first, and promise a recall from an audit of the others.

The draws are uniform and without replacement, in strata near the cut and far from it; see `surrogates.cascade.elusion`.
If the audit does not prove the recall with the cut as it is, the cut is lowered as far as needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from data.errors import InputError
from experiments.screening.cascade.population import Population
from experiments.screening.cascade.settings import CalibrationSettings
from surrogates.cascade.elusion import (
    SLACK,
    AuditDraws,
    Stratum,
    allocate,
    near_ranks,
    quiet_share,
    strictest_audited_threshold,
)
from surrogates.cascade.promise import Promise, StageThreshold

#: Thresholds to which the cut may be lowered.
GRID = 20
#: Share of the allowed loss that the first rung expects below the cut.
EXPECTED_LOSS = 0.25


@dataclass(frozen=True)
class AnsweredCandidates:
    """Candidates with the answers of the last rung.

    Attributes:
        frame: the candidates, with their `number` and `score_0`.
        labelled: whether the last rung answered.
        hit: whether it answered, and they are hits.
    """

    frame: pd.DataFrame
    labelled: Bool[np.ndarray, " row"]
    hit: Bool[np.ndarray, " row"]


@dataclass(frozen=True)
class AuditResult:
    """The threshold that an audit proves, and all labelled candidates.

    Attributes:
        stage: the threshold.
        sampled: labelled candidates, with columns `certain` and `hit`.
        draws: number of draws.
    """

    stage: StageThreshold
    sampled: pd.DataFrame
    draws: int


def audit(
    population: Population,
    how: CalibrationSettings,
    promise: Promise,
    ask: Callable[[pd.DataFrame], AnsweredCandidates],
) -> AuditResult:
    """Label the best candidates, draw from the others, and set the threshold.

    Args:
        population: the candidates.
        how: `labels` is the number of draws, `certain` that of the best candidates.
        promise: of one stage.
        ask: labels candidates.

    Raises:
        InputError: the draws cannot prove the recall, even if none of them is a hit.
    """
    certain = how.certain
    if certain is None:
        certain = population.certain_count(1 - EXPECTED_LOSS * (1 - promise.recall))
    certain = min(certain, population.total // 4)
    ends = np.cumsum(near_ranks(certain, population.total - certain))
    cuts = [population.cut_of(certain + round(float(ends[-1]) * i / GRID)) for i in range(GRID + 1)]
    thresholds = np.unique(cuts)
    # Equal scores may leave fewer strata than planned; the last edge is that of the far stratum.
    edges = np.unique([thresholds[0], *(population.cut_of(certain + int(end)) for end in ends[:-1])])
    edges = edges[edges < thresholds[-1]]
    best = _rows(population, lambda score: score >= thresholds[-1])
    rest = population.total - len(best)
    draws = min(how.labels, rest)
    # Twice as many hits as expected, because the first rung may underrate them; nothing is paid yet.
    _refuse(promise, 2 * population.expected + 1, rest, draws)
    first = ask(best)
    above = int(first.hit.sum())
    _refuse(promise, above, rest, draws)
    near_below, far_size = _sizes(population, edges, thresholds)
    sizes = [*(int(size) for size in near_below[:, -1]), far_size]
    share = SLACK * quiet_share(above, promise.recall, promise.stage_delta)
    rng = np.random.default_rng(how.seed)
    # From the cut down: each stratum ends where the one before it begins.
    bounds = [thresholds[-1], *edges[::-1], -np.inf]
    drawn = pd.concat(
        [
            _rows(population, _between(low, high), np.sort(rng.choice(size, count, replace=False, shuffle=False)))
            for size, count, high, low in zip(sizes, allocate(sizes, draws, share), bounds, bounds[1:], strict=False)
        ],
        ignore_index=True,
    )
    second = ask(drawn)
    # A candidate without a label might be a hit.
    counted = np.where(second.labelled, second.hit, True)
    score = drawn["score_0"].to_numpy(np.float64)
    near = score >= thresholds[0]
    result = AuditDraws(
        thresholds,
        edges,
        near_below,
        score[near],
        counted[near],
        Stratum(far_size, int((~near).sum()), int(counted[~near].sum())),
        above + int(second.hit.sum()),
        int((~first.labelled).sum() + (~second.labelled).sum()),
    )
    sampled = pd.concat(
        [
            first.frame.assign(certain=True, hit=first.hit),
            second.frame.assign(certain=False, hit=second.hit),
        ],
        ignore_index=True,
    )
    return AuditResult(_stage(result, promise), sampled, draws)


def _refuse(promise: Promise, hits: float, rest: int, draws: int) -> None:
    """Refuse an audit that could not prove the recall, although no draw is a hit."""
    needed = int(np.ceil(quiet_share(int(hits), promise.recall, promise.stage_delta) * rest))
    if needed > draws:
        raise InputError(
            f"a recall of {promise.recall:g} cannot be promised with a confidence of {promise.confidence:g}: with "
            f"{int(hits)} hits it takes {needed} draws or more of the other {rest} candidates, and {draws} are "
            f"allowed; {needed - draws} labels are missing",
            where="calibration.labels",
            remedy="Allow more labels, or promise less with recall or confidence",
        )


def _rows(
    population: Population,
    inside: Callable[[Float[np.ndarray, " row"]], Bool[np.ndarray, " row"]],
    ranks: Int[np.ndarray, " rank"] | None = None,
) -> pd.DataFrame:
    """The candidates whose scores are inside, or those of them with some ranks in the order of the file."""
    frames, passed = [], 0
    for numbers, score, frame in population.at_least(-np.inf):
        places = np.flatnonzero(inside(score))
        count = len(places)
        if ranks is not None:
            mine = ranks[(ranks >= passed) & (ranks < passed + count)] - passed
            places = places[mine]
        passed += count
        frames.append(frame.iloc[places].assign(number=numbers[places], score_0=score[places]))
    return pd.concat(frames, ignore_index=True)


def _between(low: float, high: float) -> Callable[[Float[np.ndarray, " row"]], Bool[np.ndarray, " row"]]:
    return lambda score: (score >= low) & (score < high)


def _sizes(
    population: Population, edges: Float[np.ndarray, " near"], thresholds: Float[np.ndarray, " threshold"]
) -> tuple[Int[np.ndarray, "near threshold"], int]:
    """Numbers of candidates of each near stratum, from the cut down, below each threshold; and of those far from it."""
    tops = np.append(edges[1:], thresholds[-1])
    below = np.zeros((len(edges), len(thresholds)), np.int64)
    far = 0
    for _, score, _ in population.at_least(-np.inf):
        ordered = np.sort(score)
        under = np.searchsorted(ordered, np.minimum(thresholds, tops[:, None]), side="left")
        below += np.maximum(under - np.searchsorted(ordered, edges, side="left")[:, None], 0)
        far += int(np.searchsorted(ordered, thresholds[0], side="left"))
    return below[::-1], far


def _stage(result: AuditDraws, promise: Promise) -> StageThreshold:
    """The threshold of the audit, with what is known of the hits below it."""
    delta = promise.stage_delta
    threshold = strictest_audited_threshold(result, promise.recall, delta)
    if threshold is None:
        return StageThreshold(-np.inf, result.labelled_hits, 0, 0.0, float(result.failed > 0), 1 - delta)
    strata = result.strata(int(np.searchsorted(result.thresholds, threshold)))
    estimate = sum(s.hits * (s.size - s.drawn) / max(1, s.drawn) for s in strata) + result.failed
    labelled = result.labelled_hits
    return StageThreshold(
        threshold,
        labelled,
        result.failed,
        estimate / max(1.0, labelled + estimate),
        1 - promise.recall,
        1 - delta,
    )
