"""Audits of what was left out: exact small cases, every possible draw, and repeats with good and misleading scores."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from surrogates.cascade.betting import WeightedLabels, strictest_weighted_threshold
from surrogates.cascade.elusion import (
    AuditDraws,
    Stratum,
    allocate,
    fewest_refuted,
    hits_p_value,
    most_hits,
    quiet_share,
    strictest_audited_threshold,
)

NOBODY = Stratum(0, 0, 0)


def test_with_one_stratum_the_p_value_is_the_hypergeometric_one() -> None:
    far = Stratum(500, 60, 2)
    for hits in (3, 17, 60):
        expected = hypergeom.cdf(2, 500, hits, 60)
        assert hits_p_value(NOBODY, far, hits) == pytest.approx(expected)
        assert hits_p_value(far, NOBODY, hits) == pytest.approx(expected)
    bound = most_hits(NOBODY, far, 0.05)
    assert hypergeom.cdf(2, 500, bound, 60) > 0.05 >= hypergeom.cdf(2, 500, bound + 1, 60)


def test_all_of_a_small_stratum_leaves_no_doubt() -> None:
    assert most_hits(NOBODY, Stratum(9, 9, 4), 0.05) == 4
    assert hits_p_value(NOBODY, Stratum(9, 9, 4), 5) == 0.0
    assert hits_p_value(Stratum(3, 1, 0), Stratum(4, 2, 1), 6) == 0.0  # 3 draws were no hit or can be none of them
    assert hits_p_value(Stratum(3, 1, 0), Stratum(4, 2, 1), 1) == 1.0


def test_the_p_value_is_the_share_of_draws_counted_one_by_one() -> None:
    near, far = Stratum(5, 2, 1), Stratum(6, 3, 1)
    for hits in (2, 4, 6):
        shares = []
        for a in range(near.hits, hits - far.hits + 1):
            if a > near.size or hits - a > far.size:
                continue
            good = [
                (y < far.hits) or (y == far.hits and x <= near.hits)
                for x in (sum(i < a for i in some) for some in combinations(range(near.size), near.drawn))
                for y in (sum(i < hits - a for i in some) for some in combinations(range(far.size), far.drawn))
            ]
            shares.append(np.mean(good))
        assert hits_p_value(near, far, hits) == pytest.approx(max(shares))


@pytest.mark.parametrize(("recall", "labelled_hits"), [(0.5, 12), (0.8, 24)])
def test_no_way_to_hide_hits_breaks_the_promise_more_often_than_promised(recall: float, labelled_hits: int) -> None:
    """Every number of hits near and far, also all of them where the score expects none, and every possible draw."""
    sizes, drawn, delta = (14, 40), (6, 16), 0.1
    drawn_hits = [np.arange(n + 1) for n in drawn]
    issued = np.zeros((drawn[0] + 1, drawn[1] + 1), bool)
    for x in range(drawn[0] + 1):
        for y in range(drawn[1] + 1):
            near, far = Stratum(sizes[0], drawn[0], x), Stratum(sizes[1], drawn[1], y)
            p = hits_p_value(near, far, fewest_refuted(labelled_hits + x + y, x + y, recall))
            issued[x, y] = p <= delta
    assert issued.any()
    worst = 0.0
    for a in range(sizes[0] + 1):
        for b in range(sizes[1] + 1):
            kept = labelled_hits + drawn_hits[0][:, None] + drawn_hits[1][None, :]
            broken = kept < recall * (labelled_hits + a + b) - 1e-9
            chance = np.outer(
                hypergeom.pmf(drawn_hits[0], sizes[0], a, drawn[0]), hypergeom.pmf(drawn_hits[1], sizes[1], b, drawn[1])
            )
            worst = max(worst, float(chance[issued & broken].sum()))
    assert worst <= delta
    assert worst > delta / 4  # the test is not merely safe


@pytest.mark.parametrize("misleading", [False, True])
def test_audited_thresholds_keep_their_promise_in_the_promised_share_of_repeats(misleading: bool) -> None:
    rng = np.random.default_rng(0)
    hits = rng.random(6000) < 0.05
    scores = rng.normal(2.5 * hits, 1.0)
    if misleading:
        # A third of the hits look like the worst candidates of all.
        scores[hits & (rng.random(6000) < 0.3)] = -5.0
    order = np.argsort(-scores)
    first, near, far = np.split(order, [1200, 2600])
    grid = np.sort(scores[near[np.append(np.arange(0, len(near), 350), len(near) - 1)]])
    below = np.searchsorted(np.sort(scores[near]), grid, side="left")
    broken, promised, repeats = 0, 0, 100
    for seed in range(repeats):
        draws = np.random.default_rng(seed)
        near_draws, far_draws = draws.choice(near, 300, replace=False), draws.choice(far, 500, replace=False)
        drawn = np.concatenate([near_draws, far_draws])
        labelled_hits = int(hits[first].sum() + hits[drawn].sum())
        far_stratum = Stratum(len(far), 500, int(hits[far_draws].sum()))
        audit = AuditDraws(grid, below, scores[near_draws], hits[near_draws], far_stratum, labelled_hits)
        cut = strictest_audited_threshold(audit, 0.9, 0.1)
        if cut is not None:
            promised += 1
            labelled = (scores >= cut) | np.isin(np.arange(6000), drawn)
            broken += hits[labelled].sum() < 0.9 * hits.sum()
    assert broken <= binom.ppf(1 - 1e-4, repeats, 0.1)
    assert promised > 75 if not misleading else promised < 20


def test_draws_without_a_hit_prove_the_recall_and_fewer_do_not() -> None:
    share = quiet_share(1200, 0.9, 0.05)
    assert share == pytest.approx(1 - 0.05 ** (1 / 134))
    size = 120_000
    refuted = fewest_refuted(1200, 0, 0.9)
    assert refuted == 134  # 133 hits left behind are a recall of 0.90023, and 134 one of 0.8996
    assert hits_p_value(NOBODY, Stratum(size, int(1.001 * share * size), 0), refuted) <= 0.05
    assert hits_p_value(NOBODY, Stratum(size, int(0.97 * share * size), 0), refuted) > 0.05
    assert fewest_refuted(9, 0, 0.9) == 2  # 1 hit left behind is a recall of exactly 0.9
    assert allocate(100, 1000, 60, 0.03) == (30, 30)
    assert allocate(10, 1000, 60, 0.03) == (10, 50)
    assert allocate(100, 1000, 11, 0.03) == (1, 10)


def test_the_exact_test_promises_where_betting_does_not() -> None:
    """As many draws, all of them uniform and none of them a hit."""
    size, drawn, certain = 10_000, 260, 1000
    assert hits_p_value(NOBODY, Stratum(size, drawn, 0), fewest_refuted(certain, 0, 0.9)) < 0.055
    nothing = np.zeros(drawn)
    labels = WeightedLabels(nothing, nothing > 0, nothing + size, size, np.full(certain, np.inf))
    assert strictest_weighted_threshold(labels, 0.9, 0.055) is None


def test_candidates_without_a_label_count_as_hits_that_are_lost() -> None:
    def audit(failed: int, drawn_and_failed: int) -> AuditDraws:
        far = Stratum(10_000, 500, drawn_and_failed)
        nothing = np.zeros(0)
        return AuditDraws(np.zeros(1), np.zeros(1, np.int64), nothing, nothing > 0, far, 1000, failed)

    assert strictest_audited_threshold(audit(0, 0), 0.9, 0.05) == 0.0
    assert strictest_audited_threshold(audit(120, 0), 0.9, 0.05) is None
    # 1 of 20 candidates was drawn, so that one failure among the draws stands for about 20 others.
    refuted = 1 - 1 + 111 + 1
    assert audit(1, 1).p_value(0, 0.9) == pytest.approx(hypergeom.cdf(1, 10_000, refuted, 500))
