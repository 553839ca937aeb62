"""A shortlist of candidates of which a promised share at least are hits, where a share of the hits cannot be promised.

Some candidates, drawn uniformly, are labelled by the last rung. The others are in the shortlist if the first rung rates
them above so many labelled misses that the expected share of misses in the list is at the level or below
(`surrogates.cascade.shortlist`). The p-value of a candidate depends only on how many labelled misses score as high, so
that the procedure needs counts of candidates, and one block of them in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from data.errors import InputError
from data.files import listed_path
from experiments.screening.cascade.cascade_screen import KEPT, Cascade, forms
from experiments.screening.cascade.failures import Unanswered
from experiments.screening.cascade.kept_table import with_carried, write_kept
from experiments.screening.cascade.population import FailurePolicy, Population
from experiments.screening.cascade.rung_answers import OK, answer

SHORTLIST = "shortlist.parquet"


def shortlist_screen(cascade: Cascade, level: float, candidates: Path) -> dict[str, float]:
    """Screen by two rungs, or resume it, write `shortlist.parquet` and return the metrics.

    Args:
        cascade: the rungs and settings; its promise of a recall plays no part.
        level: largest expected share of the shortlist that are no hits, in (0, 1).
        candidates: file of the candidates.

    Raises:
        InputError: there are more than two rungs, or the labels cannot support a shortlist at this level.
    """
    if len(cascade.rungs) != 2:
        raise InputError(
            f"takes the scores of one rung and the labels of another, got {len(cascade.rungs)} rungs",
            where="fdr",
            remedy="Give cascade=[CHEAP,EXPENSIVE]",
        )
    cascade.claim({"fdr": level})
    first = cascade.first(candidates)
    # A candidate without an answer has no place in a shortlist.
    population = Population(first.parts, cascade.rule, FailurePolicy("list"), first.carried)
    draws = min(cascade.calibration.labels, max(1, population.total // 2))
    refuse_too_few_labels(draws, population.total, population.expected, level)
    sampled, _ = population.sample(np.inf, draws, cascade.calibration.seed, 1.0)
    last = cascade.rungs[1]
    frame = answer(last, forms(sampled), cascade.rule.names, cascade.out, cascade.campaign, cascade.show)
    sampled = pd.concat([sampled, frame.add_suffix("_1")], axis=1)
    # A candidate on which the last rung fails counts as a miss, because it might be one.
    sampled["hit"] = (sampled["status_1"] == OK) & cascade.hits(sampled, 1)
    misses = np.sort(sampled["score_0"].to_numpy(np.float64)[~sampled["hit"].to_numpy()])
    drawn = sampled["number"].to_numpy(np.int64)

    def rest() -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Blocks of the candidates without a label, and how many labelled misses score as high as each."""
        for numbers, score, block in population.at_least(-np.inf):
            fresh = np.isfinite(score) & ~np.isin(numbers, drawn)
            above = len(misses) - np.searchsorted(misses, score[fresh], side="left")
            yield above, block[fresh].assign(score_0=score[fresh])

    counts = np.zeros(len(misses) + 1, np.int64)
    for above, _ in rest():
        counts += np.bincount(above, minlength=len(counts))
    p = (1.0 + np.arange(len(counts))) / (1.0 + len(sampled))
    allowed = np.flatnonzero(p <= level * np.cumsum(counts) / max(1, population.total - len(sampled)))
    most = int(allowed[-1]) if len(allowed) else -1
    chosen = [block[above <= most].assign(p_value=p[above[above <= most]]) for above, block in rest()]
    table = pd.concat(chosen, ignore_index=True).sort_values(["p_value", "score_0"], ascending=[True, False])
    with listed_path(cascade.out / SHORTLIST) as temporary:
        named = with_carried(table.rename(columns={"score_0": "log_probability"}), first)
        named.to_parquet(temporary, index=False)
    write_kept(sampled.assign(group="calibration"), cascade.rule.names, first, cascade.out / KEPT)
    failed = Unanswered()
    lost = population.unanswered()
    failed.add(lost, 0, "status", "message", np.zeros(len(lost), bool))
    failed.add_labelled(sampled, cascade.rungs, "list")
    failed.write(cascade.out)
    costs = cascade.costs(first)
    spent = sum(cost.core_seconds for cost in costs)
    per_last = costs[1].core_seconds / max(1, costs[1].answered)
    metrics: dict[str, float] = {
        "cascade/fdr_promised": level,
        "cascade/candidates": float(population.total),
        "cascade/rejected": float(first.rejected),
        "cascade/labels": float(costs[1].answered),
        "cascade/calibration_labels": float(len(sampled)),
        "cascade/hits": float(sampled["hit"].sum()),
        "cascade/shortlist": float(len(table)),
        "cascade/core_seconds": spent,
        "cascade/speedup": per_last * population.total / spent if spent > 0 else float("inf"),
    }
    flow = ((population.total, len(table)), (len(sampled), int(sampled["hit"].sum())))
    for rung, cost, (entered, left) in zip(cascade.rungs, costs, flow, strict=True):
        prefix = f"cascade/rung/{rung.number}"
        metrics |= cost.metrics(prefix, entered, left) | {f"{prefix}/failed": float(failed.count(rung.number))}
    return cascade.finish(metrics, first, candidates, population.total)


def refuse_too_few_labels(labels: int, total: int, expected: float, level: float) -> None:
    """Refuse a level that so many labels cannot support, before one of them is paid.

    The smallest p-value is 1 / (labels + 1), and of n candidates k are selected only if it is at most level k / n.

    Args:
        labels: number of labels that are allowed.
        total: number of candidates.
        expected: number of hits that the first rung expects.
        level: false discovery rate.

    Raises:
        InputError: names the number of labels that is missing.
    """
    # Twice as many and one, because the first rung may underrate the hits.
    likely = min(float(total), 2 * expected + 1)
    needed = int(np.ceil(total / (level * likely))) - 1
    if needed > labels:
        raise InputError(
            f"a false discovery rate of {level:g} needs {needed} labels or more where at most {likely:.0f} of {total} "
            f"candidates are likely hits, and {labels} labels are allowed; {needed - labels} labels are missing",
            where="calibration.labels",
            remedy="Allow more labels, or a larger fdr",
        )
