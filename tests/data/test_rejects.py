"""The log of refused rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from data.rejects import KEPT_TEXT, RejectLog


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_each_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rejects.csv"
    with RejectLog(path) as log:
        assert rows(path) == [["file", "line", "text", "reason"]]
        log.add(tmp_path / "a.csv", 7, 'C,"x\ny', "malformed quotes")
        assert rows(path)[1:] == [[str(tmp_path / "a.csv"), "7", 'C,"x\ny', "malformed quotes"]]
        assert log.count == 1
    assert log.count == 1


def test_opening_anew_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    for _ in range(2):
        with RejectLog(path) as log:
            log.add("a.smi", 1, "x", "empty")
    assert len(rows(path)) == 2


def test_long_text_is_cut_and_broken_bytes_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    with RejectLog(path) as log:
        log.add("a.smi", 1, "C" * 5000, "long")
        log.add("a.smi", 2, b"C\xff".decode("utf-8", "surrogateescape"), "not UTF-8 text")
    assert len(rows(path)[1][2]) == KEPT_TEXT
    assert rows(path)[2][2] == "C\\udcff"


def test_a_closed_log_takes_no_rows(tmp_path: Path) -> None:
    log = RejectLog(tmp_path / "rejects.csv")
    with pytest.raises(ValueError, match="not open"):
        log.add("a", 1, "x", "y")
    with log:
        pass
    log.close()
    with pytest.raises(ValueError, match="not open"):
        log.add("a", 1, "x", "y")
