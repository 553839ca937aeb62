"""Headings of tables of results say what a column holds, and in which unit."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd

from data.spec import Spec, Variable
from experiments.pages.column_headings import heading
from experiments.pages.screen_page import rows_table, without_repeats
from experiments.screening.column_units import column_units

GAP = Variable("gap", (), "eV", "float64", "gap")
GAP_STD = Variable("gap_std", (), "eV", "float64", "standard deviation")
CURVE = Variable("curve", ("time",), "K", "float64", "temperatures")
SHARE = Variable("share", (), "1", "float64", "a share")
MODEL = SimpleNamespace(spec=Spec((SHARE,), (GAP, GAP_STD, CURVE)))


def test_units_are_those_of_the_variables_and_of_nothing_else() -> None:
    columns = ["line", "prediction", "std", "gap", "gap_std", "gap_low", "gap_of_the_vendor", "curve_0.5", "share"]
    assert column_units(columns, MODEL, "gap") == {
        "prediction": "eV", "std": "eV", "gap": "eV", "gap_std": "eV", "gap_low": "eV", "curve_0.5": "K",
    }  # fmt: skip
    assert column_units(columns, object(), "gap") == {}


def test_a_heading_is_in_words_with_the_unit() -> None:
    units = {"gap": "eV", "rung_1_gap": "eV", "rung_1_gap_std": "eV"}
    assert heading("gap", units) == "gap (eV)"
    assert heading("gap_high", units) == "upper bound of gap (eV)"
    assert heading("gap_pred", units) == "gap, predicted (eV)"
    assert heading("gap_relative_error", units) == "relative error of gap"
    assert heading("rung_1_gap", units, ("runs/fast", "pyscf")) == "gap by pyscf (eV)"
    assert heading("rung_0_in_domain", units, ("runs/fast", "pyscf")) == "in the training domain by fast"
    # A column of the user's own keeps its name.
    assert heading("price_low", units) == "price_low"
    assert heading("rung_7_gap", units, ("a", "b")) == "rung_7_gap"


def test_a_table_without_rows_says_so_and_names_of_columns_stay_readable_by_programs() -> None:
    frame = pd.DataFrame({"line": [3], "gap": [1.5], "in_domain": [True]})
    text = rows_table(frame, "top.csv", {"gap": "eV"})
    assert 'title="gap">gap (eV)</th>' in text
    assert "<td>yes</td>" in text
    assert "top.csv has no row" in rows_table(frame[:0], "top.csv")


def test_a_prediction_is_shown_once() -> None:
    frame = pd.DataFrame({"line": [1], "prediction": [2.0], "std": [0.1], "gap": [2.0], "gap_std": [0.1]})
    assert list(without_repeats(frame)) == ["line", "gap", "gap_std"]
    # Of a re-checked design, the column of the target holds what was solved.
    solved = pd.DataFrame({"prediction": [2.0], "std": [0.1], "gap": [3.0], "gap_std": [0.1]})
    assert list(without_repeats(solved)) == list(solved)
    assert list(without_repeats(solved.assign(gap_pred=2.0))) == ["gap", "gap_std", "gap_pred"]
