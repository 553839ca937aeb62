"""Tables as people save them: whatever the encoding, the line ends and the separators, the same rows."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from data.errors import InputError
from data.molecules.files import iter_smiles_chunks, read
from data.molecules.tally import TableTally
from data.molecules.writing import write_parquet
from data.rejects import RejectLog
from data.suggestions import near
from experiments.screening.candidate_chunks import encode_chunk
from experiments.screening.candidate_sources import open_source

ROWS = [("CCO", "1.5"), ("N#Cc1ccccc1", "-2e-3"), ("[NH4+]", "7")] * 5
TEXT = "\n".join(["smiles,gap", *(",".join(row) for row in ROWS)]) + "\n"

FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "CR LF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR alone": lambda text: text.replace("\n", "\r").encode(),
    "UTF-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "UTF-16, big end first, CR alone": lambda text: b"\xfe\xff" + text.replace("\n", "\r").encode("utf-16-be"),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "quoted": lambda text: "\n".join('"' + line.replace(",", '","') + '"' for line in text.splitlines()).encode(),
    "compressed, CR alone": lambda text: gzip.compress(text.replace("\n", "\r").encode()),
    "compressed, UTF-16, semicolons": lambda text: gzip.compress(text.replace(",", ";").encode("utf-16")),
}


def saved(tmp_path: Path, form: str, text: str = TEXT) -> Path:
    path = tmp_path / ("a.csv.gz" if "compressed" in form else "a.csv")
    path.write_bytes(FORMS[form](text))
    return path


def read_all(path: Path, columns: list[str]) -> tuple[list[Any], TableTally, list[dict[str, str]]]:
    """The rows of a table, what was counted, and what went to the rejects."""
    tally, log = TableTally(), path.with_name("rejects.csv")
    with RejectLog(log) as rejects:
        rows = list(read(path, columns=columns, rejects=rejects, tally=tally))
    with log.open(newline="", encoding="utf-8") as file:
        return rows, tally, list(csv.DictReader(file))


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path, form)
    rows, tally, rejects = read_all(path, ["gap"])
    assert [(row.smiles, row.properties["gap"]) for row in rows] == [(s, float(v)) for s, v in ROWS]
    assert [row.line for row in rows] == list(range(2, len(ROWS) + 2))
    assert not rejects
    assert tally.reading(path).used == tally.reading(path).total == len(ROWS)
    assert [s for chunk in iter_smiles_chunks(path, 4) for s in chunk.smiles] == [s for s, _ in ROWS]


@pytest.mark.parametrize("form", FORMS)
def test_a_screen_reads_every_form_and_goes_on_from_any_piece(form: str, tmp_path: Path) -> None:
    class Here:
        def submit(self, chunk: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(encode_chunk(chunk))
            return done

    source = open_source(saved(tmp_path, form), "smiles")
    pieces = list(source.pieces(4, *source.start))
    for k in range(len(pieces)):
        position, line = source.start if k == 0 else (pieces[k - 1].end, pieces[k - 1].line)
        encoded = [piece.load(Here()).result() for piece in source.pieces(4, position, line)]  # type: ignore[arg-type]
        lines = [int(n) for e in encoded for n in e.lines]
        smiles = [s for e in encoded for s in e.columns()["smiles"].to_pylist()]
        assert lines == list(range(2 + 4 * k, len(ROWS) + 2))
        assert smiles == [s for s, _ in ROWS][4 * k :]


@pytest.mark.parametrize("word", ["", "  ", "NA", "N/A", "nan", "NaN", "NULL", "None", "-", "#N/A", "?"])
def test_words_for_no_value_are_empty_cells(word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"smiles,gap,dip\nCCO,1,2\nCC,{word},3\nC,4,{word}\nN,{word},{word}\n")
    rows, tally, rejects = read_all(path, ["gap", "dip"])
    assert [row.smiles for row in rows] == ["CCO", "CC", "C"]
    assert [math.isnan(row.properties["gap"]) for row in rows] == [False, True, False]
    assert [math.isnan(row.properties["dip"]) for row in rows] == [False, False, True]
    assert [(r["line"], r["reason"]) for r in rejects] == [("5", "no value")]
    reading = tally.reading(path)
    assert (reading.total, reading.used, reading.left_out) == (4, 3, {"no value": 1})
    assert "2 of 3 rows" in reading.quantities["gap"]


def test_a_cell_that_is_no_number_costs_nothing_but_itself_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('smiles,gap,dip\nCCO,1,<0.2\nCC,"1,5",3\nC,abc,abc\n')
    rows, tally, rejects = read_all(path, ["gap", "dip"])
    assert [(row.smiles, len(row.problems)) for row in rows] == [("CCO", 1), ("CC", 1)]
    assert [r["line"] for r in rejects] == ["2", "3", "4"]
    assert "'<0.2' is not a number but a bound" in rejects[0]["reason"]
    assert "write a decimal point" in rejects[1]["reason"]
    reading = tally.reading(path)
    assert (reading.total, reading.used, sum(reading.left_out.values())) == (3, 2, 1)
    assert "1 cells are no numbers" in reading.quantities["dip"]


def test_rows_left_out_for_one_kind_of_reason_are_counted_together(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("smiles,gap\n" + "".join(f"CCO,x{i}\n" for i in range(100)) + "CCO,1\nC1CC,2\n")
    _, tally, _ = read_all(path, ["gap"])
    reading = tally.reading(path)
    assert (reading.total, reading.used) == (102, 1)
    assert sorted(reading.left_out.values()) == [1, 100]


def test_columns_of_numbers_that_were_not_used_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("smiles,name,gap,dip,empty\nCCO,ethanol,1,2,\nCC,7,1,NA,\n")
    _, tally, _ = read_all(path, ["gap"])
    assert set(tally.reading(path).unused) == {"dip"}
    write_parquet(tmp_path / "a.parquet", {"smiles": ["C"], "name": ["a"], "gap": [1.0], "dip": [2]})
    _, tally, _ = read_all(tmp_path / "a.parquet", ["gap"])
    assert set(tally.reading(path).unused) == {"dip"}


def test_bytes_of_another_encoding_spoil_only_the_cells_that_are_used(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,smiles,gap\n\xc5ngstr\xf6m,CCO,1\nx,C\xff,2\ny,CC,\xb2\n")
    rows, _, rejects = read_all(path, ["gap"])
    assert [row.smiles for row in rows] == ["CCO"]
    assert [(r["line"], r["reason"]) for r in rejects] == [("3", "not UTF-8 text"), ("4", "not UTF-8 text")]
    assert [s for chunk in iter_smiles_chunks(path, 9) for s in chunk.smiles] == ["CCO", "CC"]


@pytest.mark.parametrize(
    ("asked", "offered"),
    [("gap", "'gap (eV)'"), ("e1-cc2", "E1-CC2"), ("pIC50", "'pIC50 [nM]'"), ("SMILES", "smiles")],
)
def test_a_column_that_is_not_there_offers_those_that_are_near(asked: str, offered: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('smiles,"gap (eV)",E1-CC2,pIC50 [nM]\nC,1,2,3\n')
    with pytest.raises(InputError, match="Did you mean") as error:
        list(read(path, columns=[asked]))
    assert f"Did you mean {offered}" in str(error.value)
    assert "data.target='gap (eV)'" in str(error.value)
    assert "data.smiles=" in str(error.value)


def test_near_names_are_spelt_alike_or_abbreviated() -> None:
    keys = ["epochs", "learning_rate", "batch_size", "max_seconds"]
    assert near("lr", keys) == ["learning_rate"]
    assert near("learning_rat", keys)[0] == "learning_rate"
    assert near("epoch", keys)[0] == "epochs"
    assert near("colour", keys) == []
