"""Columns of the candidates that results repeat: the cells of their row, whatever the file and what is wrong in it."""

from __future__ import annotations

import bz2
import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import InputError
from experiments.screening.candidate_chunks import TextChunk, encode_chunk
from experiments.screening.carried import CarriedText, chosen_columns, in_results
from experiments.screening.designs import designs_in
from experiments.screening.library_screen import Objective, ScreenConfig, screen, screen_library


class Atoms:
    """A stand-in: the number of atoms, under the name of a column of the file."""

    fingerprint = "atoms"

    def compile(self) -> None:
        """Nothing to compile."""

    def predict_table(self, table) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
        """Atoms of each molecule, or the first column of a table of numbers."""
        count = np.diff(table.atom_start) if hasattr(table, "atom_start") else table[:, 0]
        size = count.astype(float)
        zero = np.zeros_like(size)
        return {"size": size, "size_std": zero, "size_low": size, "size_high": size, "in_domain": size > 0}


HOW = ScreenConfig(workers=1, chunk_rows=3, part_rows=6, top_k=3, objective=Objective(maximize="size"))
ROWS = [
    ("007", "C", "a, b", "1"),
    ("x1", "no molecule", "=1+1", "2"),
    ("é", "CCO", 'in "quotes"', "3"),
    ("-5", "CC", "", "4"),
]


def as_csv(path: Path) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("id", "structure", "vendor", "size"), *ROWS])
    return path


def test_every_kind_of_file_carries_the_cells_of_each_row(tmp_path: Path) -> None:
    plain = as_csv(tmp_path / "a.csv")
    for suffix, packed in (("gz", gzip.compress), ("bz2", bz2.compress)):
        (tmp_path / f"a.csv.{suffix}").write_bytes(packed(plain.read_bytes()))
    with pa.CompressedOutputStream(str(tmp_path / "a.csv.zst"), "zstd") as packed_file:
        packed_file.write(plain.read_bytes())
    columns = dict(zip(("id", "structure", "vendor", "size"), zip(*ROWS, strict=True), strict=True))
    pq.write_table(
        pa.table({**columns, "vendor": pa.array(columns["vendor"]).dictionary_encode()}), tmp_path / "a.parquet"
    )
    seen = []
    how = ScreenConfig(**{**HOW.__dict__, "smiles": "structure", "columns": None})
    for path in sorted(tmp_path.glob("a.*")):
        out = tmp_path / f"out-{path.name}"
        screen(Atoms(), path, out, how, progress=False)
        seen.append(pa.concat_tables(pq.read_table(p) for p in sorted((out / "results").iterdir())).to_pylist())
    assert [(r["id"], r["smiles"], r["vendor"]) for r in seen[0]] == [r[:3] for r in ROWS if r[1] != "no molecule"]
    # The measured column has the name of the predicted one.
    assert [(r["size"], r["size_input"]) for r in seen[0]] == [(1, "1"), (3, "3"), (2, "4")]
    without_line = [[{k: v for k, v in row.items() if k != "line"} for row in rows] for rows in seen]
    assert len(seen) == 5
    assert all(rows == without_line[0] for rows in without_line)
    with open(tmp_path / "out-a.csv" / "top.csv", newline="") as file:
        best = list(csv.DictReader(file))
    assert [(r["id"], r["vendor"]) for r in best] == [("é", 'in "quotes"'), ("-5", ""), ("007", "a, b")]


def test_fast_and_careful_reading_carry_the_same_cells() -> None:
    chunk = TextChunk(b"CC,a\nCCO,b\nC,c", 5, ",", 0, 2)
    quoted = TextChunk(b'CC,a\n"CCO",b\nC,"c"', 5, ",", 0, 2)
    broken = TextChunk(b"CC,a\nCCO,b\nC,c\n\nC,d,e", 5, ",", 0, 2)
    lines = np.array([5, 7])
    for some in (chunk, quoted, broken):
        assert CarriedText(some, {"id": 1, "s": 0}).at(lines)["id"].to_pylist() == ["a", "c"]
    assert CarriedText(broken, {"id": 1}).at(np.array([9]))["id"].to_pylist() == [None]
    record = TextChunk(b'CC,"two\nlines"\nC,c', 2, ",", 0, 2)
    assert CarriedText(record, {"id": 1}).at(encode_chunk(record).lines)["id"].to_pylist() == ["two\nlines", "c"]


def test_names_of_a_list_of_smiles_are_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CC ethane gas\nCCO\nC methane\n")
    screen(
        Atoms(),
        tmp_path / "a.smi",
        tmp_path / "out",
        ScreenConfig(**{**HOW.__dict__, "columns": ("name",)}),
        progress=False,
    )
    table = pq.read_table(tmp_path / "out" / "results" / "part-00000.parquet")
    assert table.column("name").to_pylist() == ["ethane gas", "", "methane"]


def test_designs_carry_columns_and_a_changed_choice_is_another_screen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("case,speed\nA,1\nB,two\nC,3\n")
    for columns, renamed in ((("case",), "case"), (None, "case")):
        library = designs_in(tmp_path / "a.csv", ("speed",), columns=columns)
        screen_library(Atoms(), library, tmp_path / "out", HOW, progress=False)
        table = pq.read_table(tmp_path / "out" / "results" / "part-00000.parquet")
        assert table.column(renamed).to_pylist() == ["A", "C"]
    with pytest.raises(InputError, match="another configuration"):
        screen_library(Atoms(), designs_in(tmp_path / "a.csv", ("speed",)), tmp_path / "out", HOW, progress=False)


def test_choices_that_fit_no_file_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"smiles": ["C"], "vector": [[1.0, 2.0]]}), tmp_path / "a.parquet")
    for columns, said in ((("vector",), "no cell of a table can hold"), (("ident",), "no column 'ident'")):
        with pytest.raises(InputError, match=said):
            screen(
                Atoms(),
                tmp_path / "a.parquet",
                tmp_path / "o",
                ScreenConfig(columns=columns, workers=1),
                progress=False,
            )
    with pytest.raises(InputError, match="list of different names"):
        chosen_columns(["id", "id"])
    assert chosen_columns("all") is None
    assert [chosen_columns(value) for value in ([], "id")] == [(), ("id",)]
    assert in_results(["a", "score"], {"score", "score_input"}) == {"a": "a", "score": "score_input_input"}
