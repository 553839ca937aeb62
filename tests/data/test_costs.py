"""Costs of records: processor time where it was recorded, and what is said where it was not."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.costs import CostWarning, core_seconds, cost_basis, label_core_seconds, training_core_seconds
from data.parameters import read_parameters
from data.spec import Variable
from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from data.sphere.writing import Segment, write_windows
from data.store.columns import FIRST_FACTS
from data.store.records import RecordStore

VARIABLES = (Variable("speed", (), "m s-1", "float64", "speed"),), (Variable("drag", (), "N", "float64", "drag"),)


def test_the_cost_of_a_record_is_its_processor_time_and_nothing_else_where_that_is_known() -> None:
    facts = {"seconds": [10.0, 20.0, np.nan], "threads": [2, 4, 1], "core_seconds": [7.0, np.nan, np.nan]}
    with pytest.warns(CostWarning, match=r"s.zarr: the cost of 1 of 3 records is wall time x threads"):
        costs = core_seconds(facts, "s.zarr")
    # A record that was not made by a campaign has no cost.
    np.testing.assert_array_equal(costs, [7.0, 80.0, np.nan])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert core_seconds({"seconds": 10.0, "threads": 2, "core_seconds": 0.0}) == 0.0


@pytest.mark.parametrize("named", [True, False])
def test_a_store_from_before_is_read_and_written_on_and_says_how_its_costs_were_counted(
    named: bool, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    inputs, outputs = VARIABLES
    with RecordStore.create(path, inputs, outputs, provenance={}, facts=FIRST_FACTS) as store:
        store.append("a", {"speed": 1.0, "drag": 2.0}, seconds=3.0, threads=2)
    if not named:
        card = json.loads((path / "store.json").read_text())
        del card["facts"], card["crc32"]
        (path / "store.json").write_text(json.dumps(card))
    with RecordStore.open(path, "a") as store:
        store.append("b", {"speed": 2.0, "drag": 8.0}, seconds=5.0, threads=2, core_seconds=4.0)
    with pytest.warns(CostWarning, match="the cost is wall time x threads"):
        table, _ = read_parameters(path, ["drag"])
    assert table.seconds.tolist() == [6.0, 10.0]


def test_a_training_costs_processor_time_and_an_old_one_says_that_it_is_wall_time() -> None:
    assert training_core_seconds({"train/seconds": 10.0, "train/core_seconds": 13.0}, 4) == 13.0
    with pytest.warns(CostWarning, match="wall time x 4 cores"):
        assert training_core_seconds({"train/seconds": 10.0}, 4) == 40.0
    assert training_core_seconds({}) == 0.0
    assert label_core_seconds({"train/seconds": 1.0, "train/core_seconds": 1.3, "train/label_core_seconds": 7.0}) == 7.0
    with pytest.warns(CostWarning, match="the cost of its labels is wall time x threads"):
        assert label_core_seconds({"train/seconds": 1.0, "train/label_core_seconds": 7.0}) == 7.0


def test_windows_say_how_their_labels_were_counted_and_those_from_before_warn_where_it_is_used(tmp_path: Path) -> None:
    layout = WeatherLayout(
        WeatherGrid((-45.0, 45.0), (0.0, 180.0)), (WeatherChannel("2m_temperature"),), step_hours=6.0
    )
    times = np.datetime64("2001-01-01", "ns") + np.arange(3) * np.timedelta64(6, "h")
    states = Segment.of(layout.unstack(np.full((3, 2, 2, 1), 280.0, np.float32), ("time",), {"time": times}))
    store = write_windows(tmp_path / "w", [states], layout, fingerprint="f" * 64, label_core_seconds=5.0)
    assert (store.label_cost(), store.counted) == (5.0, "processor time")
    old = replace(store, counted=None)
    with pytest.warns(CostWarning, match=r"w: the cost is wall time x threads"):
        assert old.label_cost() == 5.0
    # Nothing is said of a cost that nobody knows.
    assert np.isnan(replace(old, label_core_seconds=float("nan")).label_cost())
    assert cost_basis({"seconds": [1.0, np.nan], "threads": [1, 1], "core_seconds": [2.0, np.nan]}) == "processor time"
    assert cost_basis({"seconds": [1.0, 2.0], "core_seconds": [2.0, np.nan]}) == "wall time x threads"
    assert cost_basis({"seconds": [1.0]}) == "wall time x threads"
