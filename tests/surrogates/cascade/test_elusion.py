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
    hit_weights,
    hits_p_value,
    near_ranks,
    quiet_share,
    strictest_audited_threshold,
)

NOBODY = Stratum(0, 0, 0)


def test_with_one_stratum_the_p_value_is_the_hypergeometric_one() -> None:
    far = Stratum(500, 60, 2)
    for hits in (3, 17, 60):
        expected = hypergeom.cdf(2, 500, hits, 60)
        assert hits_p_value([NOBODY, far], hits) == pytest.approx(expected)
        assert hits_p_value([far, NOBODY, NOBODY], hits) == pytest.approx(expected)
    # Steps of the search for many hits err on the safe side, and by little.
    many = hits_p_value([Stratum(30_000, 900, 20)], 1000)
    assert hypergeom.cdf(20, 30_000, 1000, 900) <= many < 2 * hypergeom.cdf(20, 30_000, 1000, 900)


def test_all_of_a_small_stratum_leaves_no_doubt() -> None:
    whole = [NOBODY, Stratum(9, 9, 4)]
    assert (hits_p_value(whole, 4), hits_p_value(whole, 5)) == (1.0, 0.0)
    # 3 draws were no hit or can be none of them.
    assert hits_p_value([Stratum(3, 1, 0), Stratum(4, 2, 1)], 6) == 0.0
    assert hits_p_value([Stratum(3, 1, 0), Stratum(4, 2, 1)], 1) == 1.0
    # Hits may all lie where nothing is drawn, or all but those that do not fit there.
    assert hits_p_value([Stratum(50, 0, 0), Stratum(50, 20, 0)], 40) == 1.0
    assert hits_p_value([Stratum(50, 0, 0), Stratum(50, 20, 0)], 60) == pytest.approx(hypergeom.cdf(0, 50, 10, 20))


def test_the_p_value_is_the_share_of_draws_counted_one_by_one() -> None:
    strata = [Stratum(5, 3, 1), Stratum(6, 3, 1)]
    weights = hit_weights(strata)
    for hits in (3, 4, 6):
        shares = []
        for a in range(hits + 1):
            if not all(s.hits <= n <= s.size - s.drawn + s.hits for s, n in zip(strata, (a, hits - a), strict=True)):
                continue
            good = [
                x * weights[0] + y * weights[1] <= weights.sum() + 1e-9
                for x in (sum(i < a for i in some) for some in combinations(range(5), 3))
                for y in (sum(i < hits - a for i in some) for some in combinations(range(6), 3))
            ]
            shares.append(np.mean(good))
        assert hits_p_value(strata, hits) == pytest.approx(max(shares))


def test_a_hit_is_as_hard_to_overlook_in_every_stratum() -> None:
    strata = [Stratum(100, 40, 0), Stratum(300, 30, 0), Stratum(1000, 25, 0)]
    share = np.array([0.4, 0.1, 0.025])
    assert 1 - share + share * np.exp(-hit_weights(strata)) == pytest.approx(1 - 0.8 * 0.025)


@pytest.mark.parametrize(("recall", "labelled_hits"), [(0.5, 8), (0.8, 24)])
def test_no_way_to_hide_hits_breaks_the_promise_more_often_than_promised(recall: float, labelled_hits: int) -> None:
    """Every number of hits in each stratum, also all where the score expects none, and every possible draw."""
    sizes, drawn, delta = (6, 8, 24), (4, 4, 9), 0.1
    drawn_hits = np.stack(np.meshgrid(*[np.arange(n + 1) for n in drawn], indexing="ij"), -1)
    total = drawn_hits.sum(-1)
    issued = np.zeros(total.shape, bool)
    for place in np.ndindex(*total.shape):
        strata = [Stratum(*one) for one in zip(sizes, drawn, place, strict=True)]
        refuted = fewest_refuted(labelled_hits + sum(place), sum(place), recall)
        issued[place] = hits_p_value(strata, refuted) <= delta
    assert issued.any()
    chances = [
        hypergeom.pmf(np.arange(m + 1)[None], n, np.arange(n + 1)[:, None], m)
        for n, m in zip(sizes, drawn, strict=True)
    ]
    worst = 0.0
    for a, b, c in np.ndindex(*(n + 1 for n in sizes)):
        broken = labelled_hits + total < recall * (labelled_hits + a + b + c) - 1e-9
        chance = np.einsum("i,j,k->ijk", chances[0][a], chances[1][b], chances[2][c])
        worst = max(worst, float(chance[issued & broken].sum()))
    assert worst <= delta
    assert worst > delta / 4  # the test is not merely safe


@pytest.mark.parametrize("scores_are", ["good", "misleading", "tied", "drifting"])
def test_audited_thresholds_keep_their_promise_in_the_promised_share_of_repeats(scores_are: str) -> None:
    rng = np.random.default_rng(0)
    count, repeats = 6000, 60
    hits = rng.random(count) < 0.05
    scores = rng.normal(2.5 * hits, 1.0)
    if scores_are == "misleading":
        # A third of the hits look like the worst candidates of all.
        scores[hits & (rng.random(count) < 0.3)] = -5.0
    if scores_are == "tied":
        scores = np.round(scores)
    if scores_are == "drifting":
        # The score fades along the file, until it says nothing of the last candidates.
        scores -= 2.5 * hits * np.linspace(0, 1, count)
    edges = np.unique(np.quantile(scores, [0.567, 0.75]))
    cut = np.quantile(scores, 0.8)
    edges = edges[edges < cut]
    grid = np.unique(np.append(np.quantile(scores, np.linspace(0.567, 0.8, 5)), edges))
    place = len(edges) - np.searchsorted(edges, scores, side="right")
    parts = [np.flatnonzero((place == k) & (scores < cut)) for k in range(len(edges) + 1)]
    below = np.array([[(scores[part] < threshold).sum() for threshold in grid] for part in parts[:-1]])
    drawn_of = allocate([len(part) for part in parts], 800, 0.14)
    broken, promised = 0, 0
    first = scores >= cut
    for seed in range(repeats):
        draws = np.random.default_rng(seed)
        drawn = [draws.choice(part, n, replace=False) for part, n in zip(parts, drawn_of, strict=True)]
        near, far = np.concatenate(drawn[:-1]), Stratum(len(parts[-1]), drawn_of[-1], int(hits[drawn[-1]].sum()))
        everything = int(hits[first].sum() + hits[near].sum()) + far.hits
        audit = AuditDraws(grid, edges, below, scores[near], hits[near], far, everything)
        threshold = strictest_audited_threshold(audit, 0.9, 0.1)
        if threshold is not None:
            promised += 1
            labelled = (scores >= threshold) | np.isin(np.arange(count), np.concatenate(drawn))
            broken += hits[labelled].sum() < 0.9 * hits.sum()
    print(f"{scores_are}: promised in {promised} of {repeats} repeats, broken in {broken}")
    assert broken <= binom.ppf(1 - 1e-4, repeats, 0.1)
    assert promised > 0.7 * repeats if scores_are in ("good", "tied") else promised < 0.2 * repeats


def test_strata_near_the_cut_are_drawn_from_more_densely() -> None:
    """Where hits are expected near the cut, three strata prove a recall that one near stratum does not."""
    labelled, rest, missed = 1000, 19_000, (14, 4, 1)
    sizes = [*near_ranks(labelled, rest), 0]
    sizes[-1] = rest - sum(sizes)
    drawn = allocate(sizes, 1300, 0.05)
    shares = np.array(drawn) / np.array(sizes)
    assert sum(drawn) == 1300
    assert shares[0] > 1.5 * shares[1] > 1.5 * shares[2] > 0.07

    def promised(sizes: list[int], drawn: list[int], missed: tuple[int, ...]) -> float:
        rng, p = np.random.default_rng(0), {}
        for _ in range(60):
            some = tuple(int(rng.hypergeometric(m, n - m, d)) for m, n, d in zip(missed, sizes, drawn, strict=True))
            strata = [Stratum(*one) for one in zip(sizes, drawn, some, strict=True)]
            p[some] = p.get(some, (hits_p_value(strata, fewest_refuted(600 + sum(some), sum(some), 0.9)), 0))
            p[some] = (p[some][0], p[some][1] + 1)
        return sum(times for value, times in p.values() if value <= 0.05) / 60

    one = [sizes[0] + sizes[1], sizes[2]]
    assert promised(sizes, drawn, missed) > promised(one, [1300 - drawn[2], drawn[2]], (18, 1)) + 0.05


def test_draws_without_a_hit_prove_the_recall_and_fewer_do_not() -> None:
    share = quiet_share(1200, 0.9, 0.05)
    assert share == pytest.approx(1 - 0.05 ** (1 / 134))
    size = 120_000
    refuted = fewest_refuted(1200, 0, 0.9)
    assert refuted == 134  # 133 hits left behind are a recall of 0.90023, and 134 one of 0.8996
    assert hits_p_value([Stratum(size, int(1.001 * share * size), 0)], refuted) <= 0.05
    assert hits_p_value([Stratum(size, int(0.97 * share * size), 0)], refuted) > 0.05
    assert fewest_refuted(9, 0, 0.9) == 2  # 1 hit left behind is a recall of exactly 0.9
    assert allocate([100, 1000], 60, 0.03) == [30, 30]
    assert allocate([10, 1000], 60, 0.03) == [10, 50]
    assert allocate([100, 1000], 11, 0.03) == [1, 10]
    assert allocate([0, 10, 20], 40, 0.5) == [0, 10, 20]


def test_the_exact_test_promises_where_betting_does_not() -> None:
    """As many draws, all of them uniform and none of them a hit."""
    size, drawn, certain = 10_000, 260, 1000
    assert hits_p_value([Stratum(size, drawn, 0)], fewest_refuted(certain, 0, 0.9)) < 0.055
    nothing = np.zeros(drawn)
    labels = WeightedLabels(nothing, nothing > 0, nothing + size, size, np.full(certain, np.inf))
    assert strictest_weighted_threshold(labels, 0.9, 0.055) is None


def test_candidates_without_a_label_count_as_hits_that_are_lost() -> None:
    def audit(failed: int, drawn_and_failed: int) -> AuditDraws:
        far = Stratum(10_000, 500, drawn_and_failed)
        nothing = np.zeros(0)
        return AuditDraws(np.zeros(1), nothing, np.zeros((0, 1), np.int64), nothing, nothing > 0, far, 1000, failed)

    assert strictest_audited_threshold(audit(0, 0), 0.9, 0.05) == 0.0
    assert strictest_audited_threshold(audit(120, 0), 0.9, 0.05) is None
    # 1 of 20 candidates was drawn, so that one failure among the draws stands for about 20 others.
    refuted = 1 - 1 + 111 + 1
    assert audit(1, 1).p_value(0, 0.9) == pytest.approx(hypergeom.cdf(1, 10_000, refuted, 500))
