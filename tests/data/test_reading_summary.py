"""The table of what was read names every count and every reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.plain import to_plain
from data.reading_summary import SHOWN_REASONS, Reading


def test_rows_left_out_are_no_longer_used() -> None:
    reading = Reading("a.xyz", "extended XYZ", "frames", total=5, used=5).without(["no energy", "no energy", "no cell"])
    assert reading.used == 2
    assert reading.left_out == {"no energy": 2, "no cell": 1}
    assert ("left out", "2 frames: no energy") in reading.lines()


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 50), max_size=12))
def test_the_table_counts_every_row_left_out(reasons: dict[str, int]) -> None:
    total = sum(reasons.values())
    reading = Reading("a.csv", "table", total=total, used=0, left_out=reasons)
    shown = [text for name, text in reading.lines() if name == "left out"]
    assert len(shown) == min(len(reasons), SHOWN_REASONS + 1)
    assert sum(int(text.split()[0].replace(",", "")) for text in shown) == total


def test_a_reading_is_plain_json() -> None:
    reading = Reading("a", "b", quantities={"x": "m"}, unused={"y": "give data.y"}, assumed=("the unit is m",))
    assert json.loads(json.dumps(to_plain(reading)))["assumed"] == ["the unit is m"]


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Reading("a", "b", total=-1)
