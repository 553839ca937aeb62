"""Rates, enrichment and break-even, against values worked by hand or published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from experiments.screening.hit_rates import HitRate, break_even, enrichment, enrichment_at_least


def test_interval_of_no_hits_is_the_rule_of_three_made_exact() -> None:
    # For 0 of n the upper bound solves (1 - p)^n = 0.025.
    low, high = HitRate(0, 20).interval
    assert low == 0.0
    assert high == pytest.approx(1 - 0.025 ** (1 / 20), rel=1e-12)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_leave_two_and_a_half_percent_on_each_side(case: tuple[int, int]) -> None:
    hits, trials = case
    low, high = HitRate(hits, trials).interval
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025, rel=1e-6)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.025, rel=1e-6)


def test_enrichment_is_a_ratio_of_rates_and_absent_without_random_hits() -> None:
    assert enrichment(HitRate(10, 20), HitRate(1, 20)) == pytest.approx(10.0)
    assert enrichment(HitRate(10, 20), HitRate(0, 20)) is None
    assert enrichment(HitRate(0, 0), HitRate(1, 20)) is None
    assert 0 < enrichment_at_least(HitRate(10, 20), HitRate(0, 20)) < 10


def test_break_even_is_where_both_ways_cost_the_same() -> None:
    assert break_even(1000.0, 5.0, 1.0) == 250
    assert break_even(1000.0, 1.0, 1.0) is None
