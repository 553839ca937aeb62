"""Texts that a spreadsheet would run are written as texts, numbers as numbers, and both come back as they were."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.formats.cells import plain, safe, safe_frame
from data.molecules.files import read
from data.molecules.writing import write_csv
from data.rejects import RejectLog

FORMULAS = ["=1+1", "+SUM(A1)", "-2+3", "@A1", "\t=1", "\r=1", "＝1", "-", "=", "+1 ", "--1"]
NUMBERS = ["-1", "+2.5", "-1e-3", "-inf", "-.5"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_written_as_a_text(text: str) -> None:
    assert safe(text) == "'" + text
    assert plain(safe(text)) == text


@pytest.mark.parametrize("text", [*NUMBERS, "CCO", "[Na+].[Cl-]", "[O-]C=O", "#N/A", "'quoted'", "", "a=b"])
def test_numbers_and_molecules_stay_as_they_are(text: str) -> None:
    assert safe(text) == text == plain(text)


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\n＝1e.C"), max_size=8))
def test_what_is_written_is_harmless_and_read_back_exactly(text: str) -> None:
    written = safe(text)
    assert plain(written) == text
    assert written[:1] not in set("=+-@\t\r\n＝") or float(written) == float(text)


def test_tables_and_rejects_hold_no_formula(tmp_path: Path) -> None:
    columns = {"smiles": ["CCO", "CC"], "=gap": [-1.5, -2.0], "@note": ["=cmd|' /C calc'!A0", "'=x"]}
    write_csv(tmp_path / "a.csv", columns)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["smiles", "'=gap", "'@note"], ["CCO", "-1.5", "'=cmd|' /C calc'!A0"], ["CC", "-2.0", "''=x"]]
    assert [plain(row[2]) for row in rows[1:]] == columns["@note"]
    # A column is asked for by its own name.
    assert [row.properties["=gap"] for row in read(tmp_path / "a.csv", columns=["=gap"])] == [-1.5, -2.0]
    with RejectLog(tmp_path / "rejects.csv") as log:
        log.add("=a.csv", 3, "@SUM(1+1)*cmd|' /C calc'!A0", "-no")
    with (tmp_path / "rejects.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["'=a.csv", "3", "'@SUM(1+1)*cmd|' /C calc'!A0", "'-no"]
    frame = safe_frame(pd.DataFrame({"-x": [-1.0], "message": ["+1+1"]}))
    assert frame.to_csv(index=False) == "'-x,message\n-1.0,'+1+1\n"
