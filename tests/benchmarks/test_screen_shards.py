"""The size from which shards cost little is that from which all larger ones do too."""

from __future__ import annotations

import math

from benchmarks.screen_shards import stays_below


def test_a_size_counts_only_if_all_larger_ones_are_below_the_goal() -> None:
    assert stays_below({10: 1.01, 20: 1.2, 30: 1.04, 40: 1.05}, 1.05) == 30
    assert stays_below({10: 1.2, 40: 1.06}, 1.05) == math.inf
    assert stays_below({40: 0.99}, 1.05) == 40
    assert stays_below({20: 1.0, 40: math.nan}, 1.05) == math.inf
