"""The arithmetic of many nodes is that of a simulation of discrete events, where neither fill nor tail matter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling_model import RATES, Plan, duration, plans, read_rates, readable, saturation, simulate, tables
from data.errors import InputError

PLAN = Plan("labels", 4000, 4.0, {"scheduler": 0.02, "file system": 0.01, "writer": 0.04}, {"merge": 0.001})


def alike(_: Any, mean: float) -> float:
    return mean


@pytest.mark.parametrize(("workers", "limit"), [(10, "workers"), (60, "workers"), (200, "writer"), (400, "writer")])
def test_the_arithmetic_is_that_of_a_simulation(workers: int, limit: str) -> None:
    expected = duration(PLAN, workers)
    assert expected.limit == limit
    events = simulate(PLAN, workers, 4000)
    # The simulation fills up first, and its last items leave some workers idle: a few times one item's way.
    assert expected.parallel_s * 0.97 < events < expected.parallel_s * 1.03 + 6 * (4.0 + 0.07)
    assert expected.total_s == expected.parallel_s + 4.0


def test_a_simulation_of_equal_times_is_exact() -> None:
    free = replace(PLAN, stations={})
    assert simulate(free, 8, 20, spread=alike) == 3 * 4.0
    # One worker, one item at a time: the way of an item, as often as there are items.
    assert simulate(PLAN, 1, 5, window=1, spread=alike) == pytest.approx(5 * 4.07)
    # A tandem of stations with one slowest: its time for each item, and the way of the last one through the others.
    fast = replace(PLAN, each_s=1e-9)
    assert simulate(fast, 50, 100, spread=alike) == pytest.approx(0.02 + 0.01 + 100 * 0.04, rel=1e-6)


def test_a_station_saturates_at_the_size_that_the_arithmetic_names() -> None:
    sizes = saturation(PLAN)
    assert sizes == {"scheduler": 200.0, "file system": 400.0, "writer": 100.0, "merge": 4000.0}
    first = min(sizes, key=lambda name: sizes[name])
    rates = [4000 / simulate(PLAN, round(f * sizes[first]), 4000, spread=alike) for f in (0.5, 1.0, 2.0, 4.0)]
    assert rates[0] == pytest.approx(0.5 / 0.04, rel=0.02)
    # The first answer takes the way of one item.
    assert rates[2] == pytest.approx(4000 / (4000 * 0.04 + 4.03), rel=0.01)
    assert rates[3] == pytest.approx(rates[2], rel=0.01)


def test_rates_come_from_the_other_benchmark_or_by_name(tmp_path: Path) -> None:
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"writer": {"records a core-second": 2000.0, "share of requests in it": 0.4}}))
    assert read_rates(file)["writer"] == 2000.0
    file.write_text(json.dumps({"cores": 128}))
    rates = read_rates(file)
    assert rates == {name: rate.value for name, rate in RATES.items()} | {"cores": 128.0}
    (labels, *_) = plans(rates)
    assert duration(labels, 1280).parallel_s == pytest.approx(1e6 * rates["label"] / 1280)
    for wrong in ({"speed": 1}, {"cores": 0}, {"cores": "many"}):
        file.write_text(json.dumps(wrong))
        with pytest.raises(InputError):
            read_rates(file)
    times, sizes = tables(rates)
    assert len(times) == len(sizes) == len(plans(rates))
    assert readable(90) == "1.5 min"
    assert readable(86_400 * 3) == "3 d"
