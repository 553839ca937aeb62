"""Requests that are placed in their ranges by a plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import qmc

from data.errors import InputError
from data.spec import Spec, Variable
from simulators.requests import DrawSettings, Range, draw_numbers
from simulators.sampling_plans import plan

SPEC = Spec(tuple(Variable(n, (), "1", "float64", n) for n in ("a", "b")), ())
RANGES = {"a": Range(1.0, 3.0), "b": Range(0.01, 100.0, log=True)}


def drawn(settings: DrawSettings, seed: int = 0) -> np.ndarray:
    return np.array([[float(r["a"]), float(r["b"])] for r in draw_numbers("s", SPEC, settings, seed)])


def test_a_latin_hypercube_has_one_value_in_each_stratum_of_every_range() -> None:
    values = drawn(DrawSettings(50, ranges=RANGES, method="lhs"))
    shares = np.stack([(values[:, 0] - 1) / 2, (np.log10(values[:, 1]) + 2) / 4], axis=1)
    assert np.array_equal(np.sort(np.floor(shares * 50), axis=0), np.repeat(np.arange(50.0)[:, None], 2, axis=1))


def test_sobol_points_are_more_even_than_random_ones_and_go_on_from_fewer(caplog: pytest.LogCaptureFixture) -> None:
    points = plan("sobol", 64, 2, 0)
    assert qmc.discrepancy(points) < 0.2 * qmc.discrepancy(np.random.default_rng(0).random((64, 2)))
    # A net in base 2 holds one point in each of 64 boxes of 8 x 8.
    assert len(np.unique(np.floor(points * 8), axis=0)) == 64
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(plan("sobol", 40, 2, 0), points[:40])
    assert "such as 32 or 64" in caplog.text


def test_a_grid_holds_all_combinations_with_the_ends_of_the_ranges() -> None:
    values = drawn(DrawSettings(9, ranges=RANGES, method="grid"))
    assert {tuple(np.round(row, 9)) for row in values} == {(a, b) for a in (1, 2, 3) for b in (0.01, 1.0, 100.0)}
    with pytest.raises(InputError, match=r"no full grid of 2 parameters.*Give 9 or 16"):
        plan("grid", 10, 2, 0)


@pytest.mark.parametrize("method", ["lhs", "sobol"])
def test_a_plan_depends_on_its_seed_and_can_begin_later(method: str) -> None:
    settings = DrawSettings(8, ranges=RANGES, method=method)
    whole = drawn(settings)
    assert np.array_equal(drawn(settings), whole)
    assert np.array_equal(drawn(replace(settings, start=5)), whole[5:])
    assert not np.array_equal(drawn(settings, 1), whole)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match=r"sampling.method.*Choose from uniform, lhs"):
        DrawSettings(1, method="halton")


@pytest.mark.parametrize("method", ["uniform", "lhs", "sobol", "grid"])
def test_whole_numbers_and_choices_have_equal_parts_of_their_range(method: str) -> None:
    ranges = {"a": Range(2.0, 5.0, integer=True), "b": Range.read({"choices": [0.1, 7, 0.5, 3]}, "r")}
    values = drawn(DrawSettings(256, ranges=ranges, method=method))
    for column, possible in ((0, (2.0, 3.0, 4.0, 5.0)), (1, (0.1, 7.0, 0.5, 3.0))):
        counts = [int((values[:, column] == value).sum()) for value in possible]
        assert sum(counts) == 256
        # A plan places as many in each part; random draws depart from 64 by less than four standard deviations of 7.
        assert counts == [64] * 4 if method != "uniform" else max(abs(n - 64) for n in counts) < 28
    powers = Range(1.0, 1000.0, log=True, integer=True)
    assert [powers.at(share) for share in (0.0, 1 / 3, 2 / 3, 1.0)] == [1, 10, 100, 1000]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"low": 1.5}, "high"),
        ({"choices": []}, "no choices"),
        ({"low": 1.5, "high": 3.0, "integer": True}, "whole ends"),
        ({"low": 1.0, "high": 3.0, "choices": [1.0, 2.0]}, "low"),
        ({"choices": [1.0, 2.0], "log": True}, "log"),
        ({"choices": [1.0, float("nan")]}, "finite numbers"),
    ],
)
def test_ranges_that_do_not_say_their_values_are_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Range.read(values, "sampling.ranges.a")
