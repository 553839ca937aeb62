"""Pieces of work on a core each: their results keep their order, and only one thread compiles a kind."""

from __future__ import annotations

import time

import pytest

from surrogates.learning.devices import side_by_side


def test_results_keep_the_order_of_the_items_whatever_ends_first() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 * (item % 3))
        return item * item

    assert list(side_by_side(work, range(20), kind=lambda item: 0)) == [i * i for i in range(20)]


def test_no_other_of_a_kind_begins_before_the_first_has_ended() -> None:
    began: dict[int, float] = {}
    ended: dict[int, float] = {}

    def work(item: int) -> None:
        began[item] = time.perf_counter()
        time.sleep(0.02)
        ended[item] = time.perf_counter()

    list(side_by_side(work, range(12), kind=lambda item: item // 4))
    for item in range(12):
        assert item % 4 == 0 or ended[item - item % 4] <= began[item]


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(side_by_side(work, range(8), kind=lambda item: 0))
