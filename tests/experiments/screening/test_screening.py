"""Screening: what comes out is what a plain loop would give, however the run was stopped and whatever the file."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import InputError
from data.identity import molecule_keys
from data.molecules.featurise import encode
from data.molecules.files import read
from data.molecules.graph_tables import GraphTable
from data.processes.parsing import RowLimits
from data.rejects import RejectLog
from experiments.pages.page import write_report
from experiments.pipelines.funnel import standard_forms
from experiments.screening.best_rows import TopK
from experiments.screening.candidate_chunks import TextChunk, encode_chunk
from experiments.screening.candidate_sources import open_source
from experiments.screening.library_screen import Objective, ScreenConfig, screen
from experiments.screening.library_writing import prepare
from experiments.screening.sink import Sink
from experiments.screening.workers import ParserPool

#: A stand-in with closed-form answers: gap is the mean of the atoms' first feature, polarity their number.
SURROGATE = '''
import time
import numpy as np

class Counting:
    """Answers from the graph alone, so that every row can be checked by hand."""

    def __init__(self, fingerprint="counting", delay=0.0):
        self.fingerprint = fingerprint
        self.delay = delay

    def compile(self):
        pass

    def predict_table(self, table):
        time.sleep(self.delay)
        atoms = np.diff(table.atom_start).astype(np.float32)
        sums = np.add.reduceat(table.atoms[:, 0].astype(np.float64), table.atom_start[:-1])
        gap = (sums / atoms).astype(np.float32)
        std = (0.01 * atoms).astype(np.float32)
        values = {}
        for name, mean in (("gap", gap), ("polarity", atoms)):
            values |= {name: mean, name + "_std": std, name + "_low": mean - 2 * std, name + "_high": mean + 2 * std}
        return values | {"in_domain": atoms < 9}
'''
_namespace: dict[str, type] = {}
exec(SURROGATE, _namespace)
Counting = _namespace["Counting"]

ATOMS = ["C", "N", "O", "CC", "CO", "CN", "C=C", "C#N", "CCO", "C1CC1", "CC(=O)N", "c1ccccc1", "OCC(F)(F)F"]
BAD = ["C1CC", "c1ccc", "C(C)(C)(C)(C)C", "Xx", "not a molecule", "N#N#N"]


def molecules(count: int, seed: int = 0) -> list[str]:
    """Valid SMILES made by chaining fragments."""
    rng = np.random.default_rng(seed)
    chains = rng.integers(0, 6, count)
    return ["C" * int(n) + ATOMS[int(i)] for n, i in zip(chains, rng.integers(0, len(ATOMS), count), strict=True)]


def with_bad(rows: list[str], every: int) -> list[str]:
    """The same rows with a malformed one after each `every`."""
    out: list[str] = []
    for i, row in enumerate(rows, 1):
        out.append(row)
        if i % every == 0:
            out.append(BAD[(i // every) % len(BAD)])
    return out


def config(**changes: object) -> ScreenConfig:
    """Small chunks and parts, so that a small file has many."""
    return ScreenConfig(**({"workers": 1, "chunk_rows": 64, "part_rows": 256, "top_k": 20} | changes))  # type: ignore[arg-type]


def rows_of(out: Path) -> list[dict[str, object]]:
    """Every row of the results, in the order of the parts."""
    parts = sorted((out / "results").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def rejects_of(out: Path) -> list[dict[str, str]]:
    """The rows of rejects.csv."""
    with open(out / "rejects.csv", newline="") as file:
        return list(csv.DictReader(file))


def plain(smiles: list[str], first_line: int = 1) -> list[tuple[int, str, float]]:
    """(line, SMILES, gap) of the valid rows, by a loop that shares no code with the engine."""
    rows = []
    for line, text in enumerate(smiles, first_line):
        table, bad = encode([text.split()[0]])
        if not bad:
            rows.append((line, text.split()[0], float(Counting().predict_table(table)["gap"][0])))
    return rows


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A SMILES file with 2,000 molecules and a bad row after every 50."""
    rows = with_bad(molecules(2000), 50)
    path = tmp_path_factory.mktemp("library") / "library.smi"
    path.write_text("\n".join(rows) + "\n")
    return path, rows


@pytest.fixture(scope="module")
def finished(library: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an uninterrupted screen of the library."""
    out = tmp_path_factory.mktemp("finished")
    screen(Counting(), library[0], out, config(objective=OBJECTIVE), progress=False)
    return out


OBJECTIVE = Objective(maximize="polarity", windows={"gap": [1.0, 30.0]})


def test_results_are_those_of_a_plain_loop(library: tuple[Path, list[str]], finished: Path) -> None:
    expected = plain(library[1])
    rows = rows_of(finished)
    assert [(r["line"], r["smiles"]) for r in rows] == [(line, text) for line, text, _ in expected]
    np.testing.assert_allclose([r["gap"] for r in rows], [gap for *_, gap in expected], rtol=1e-6)
    first = rows[0]
    assert first["prediction"] == first["polarity"]
    assert first["std"] == first["polarity_std"]
    assert first["interval"] == [first["polarity_low"], first["polarity_high"]]


def test_a_table_of_the_best_has_its_columns_without_a_row_too(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "none")
    header = (tmp_path / "none" / "top.csv").read_text().splitlines()[0].replace('"', "")
    fingerprint = json.loads((finished / "screen.json").read_text())
    for out, targets in ((tmp_path / "none", ()), (tmp_path / "new", ("gap", "polarity"))):
        sink = Sink(out, fingerprint, "library", "zstd")
        assert sink.write_top(TopK(3), targets) == 0
        sink.close()
        assert (out / "top.csv").read_text() == f"{header}\n"


def test_schema_is_the_one_that_scripts_rely_on(finished: Path) -> None:
    schema = pq.read_schema(finished / "results" / "part-00000.parquet")
    assert schema.field("smiles").type == pa.string()
    assert schema.field("prediction").type == schema.field("std").type == pa.float32()
    assert schema.field("interval").type == pa.list_(pa.float32(), 2)
    assert schema.field("in_domain").type == pa.bool_()
    assert {"gap", "gap_std", "gap_low", "gap_high", "polarity", "polarity_high"} <= set(schema.names)


def test_malformed_rows_are_counted_and_written_with_line_and_reason(
    library: tuple[Path, list[str]], finished: Path
) -> None:
    expected = [(str(i), text.split()[0]) for i, text in enumerate(library[1], 1) if text in BAD]
    rejects = rejects_of(finished)
    assert [(r["line"], r["text"]) for r in rejects] == expected
    assert all(r["file"] == "library.smi" and len(r["reason"]) > 3 for r in rejects)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["screen/rejected"] == len(expected)
    assert metrics["screen/valid"] == len(library[1]) - len(expected)
    assert metrics["screen/molecules"] == len(library[1])


def test_top_is_the_head_of_a_full_sort(finished: Path) -> None:
    rows = [r for r in rows_of(finished) if np.isfinite(r["score"])]
    ordered = sorted(rows, key=lambda r: (-r["score"], r["line"]))
    best: dict[str, dict[str, Any]] = {}
    for key, row in zip(molecule_keys([r["smiles"] for r in ordered]), ordered, strict=True):
        best.setdefault(key, row)
    expected = list(best.values())[:20]
    with open(finished / "top.csv", newline="") as file:
        top = list(csv.DictReader(file))
    assert [int(r["line"]) for r in top] == [r["line"] for r in expected]
    assert [r["smiles"] for r in top] == [r["smiles"] for r in expected]
    assert [int(r["rank"]) for r in top] == list(range(1, 21))
    assert pq.read_table(finished / "top.parquet").column("line").to_pylist() == [r["line"] for r in expected]


def test_out_of_domain_molecules_are_flagged_counted_and_not_ranked(finished: Path) -> None:
    rows = rows_of(finished)
    outside = [r for r in rows if not r["in_domain"]]
    assert outside
    assert all(r["score"] == -np.inf for r in outside)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["screen/out_of_domain"] == len(outside)
    assert metrics["screen/in_window"] == sum(1 for r in rows if r["in_domain"] and 1.0 <= r["gap"] <= 30.0)


KILLED = f"""
import sys
from pathlib import Path
from experiments.screening.library_screen import Objective, ScreenConfig, screen
{SURROGATE}
if __name__ == "__main__":
    screen(
        Counting(delay=0.12), Path(sys.argv[1]), Path(sys.argv[2]),
        ScreenConfig(workers=1, chunk_rows=64, part_rows=256, top_k=20,
                     objective=Objective(maximize="polarity", windows={{"gap": [1.0, 30.0]}})),
        progress=False,
    )
"""


def start(library: Path, out: Path) -> subprocess.Popen[bytes]:
    """The same screen, slowed down, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(library), str(out)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def wait_for_parts(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    """Until that many parts are committed."""
    ledger = out / "ledger.jsonl"
    deadline = time.monotonic() + 300
    while not ledger.exists() or ledger.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "the screen ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(pid: int) -> set[int]:
    """Living descendants of a process."""
    import psutil

    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


def test_screen_killed_three_times_equals_the_uninterrupted_one(
    library: tuple[Path, list[str]], finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    workers: set[int] = set()
    for parts in (1, 3, 5):
        process = start(library[0], out)
        wait_for_parts(process, out, parts)
        workers |= children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    # What a kill between two steps of a commit leaves behind.
    (out / "results" / ".part-00099.parquet.tmp").write_bytes(b"half a part")
    committed = len((out / "ledger.jsonl").read_bytes().splitlines())
    (out / "results" / f"part-{committed:05d}.parquet").write_bytes(b"a part that the ledger does not know yet")
    with open(out / "rejects.csv", "a") as file:
        file.write("library.smi,1,rejected twi")
    with open(out / "ledger.jsonl", "a") as file:
        file.write('{"part": 9')
    summary = screen(Counting(), library[0], out, config(objective=OBJECTIVE), progress=False)
    assert summary.resumed >= 5 * 256
    assert rows_of(out) == rows_of(finished)
    for name in ("rejects.csv", "top.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert {p.name for p in (out / "results").iterdir()} == {p.name for p in (finished / "results").iterdir()}
    assert workers
    assert not [pid for pid in workers if Path(f"/proc/{pid}/exe").exists()], "parsing processes outlived the parent"


def test_ctrl_c_stops_at_once_and_the_next_run_goes_on(
    library: tuple[Path, list[str]], finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(library[0], out)
    wait_for_parts(process, out, 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) != 0
    screen(Counting(), library[0], out, config(objective=OBJECTIVE), progress=False)
    assert rows_of(out) == rows_of(finished)


def test_finished_screen_is_not_run_again_but_top_k_may_change(
    library: tuple[Path, list[str]], finished: Path, tmp_path: Path
) -> None:
    class Refusing(Counting):  # type: ignore[valid-type, misc]
        def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
            raise AssertionError("nothing is left to predict")

    before = {p: p.stat().st_mtime_ns for p in (finished / "results").iterdir()}
    summary = screen(Refusing(), library[0], finished, config(objective=OBJECTIVE, top_k=7), progress=False)
    assert summary.top == 7
    assert len((finished / "top.csv").read_text().splitlines()) == 8
    assert {p: p.stat().st_mtime_ns for p in (finished / "results").iterdir()} == before
    screen(Refusing(), library[0], finished, config(objective=OBJECTIVE), progress=False)


@pytest.mark.parametrize("change", ["surrogate", "candidates", "configuration", "objective"])
def test_another_screen_in_the_same_directory_is_refused(
    library: tuple[Path, list[str]], finished: Path, tmp_path: Path, change: str
) -> None:
    path, settings = library[0], config(objective=OBJECTIVE)
    if change == "candidates":
        path = tmp_path / "library.smi"
        path.write_text("CC\n")
    if change == "configuration":
        settings = config(objective=OBJECTIVE, part_rows=512)
    if change == "objective":
        settings = config(objective=Objective(minimize="polarity", windows={"gap": [1.0, 30.0]}))
    with pytest.raises(InputError, match=f"another {change}"):
        screen(Counting("other" if change == "surrogate" else "counting"), path, finished, settings, progress=False)


def test_missing_part_is_named_rather_than_passed_over(library: tuple[Path, list[str]], tmp_path: Path) -> None:
    screen(Counting(), library[0], tmp_path, config(), progress=False)
    (tmp_path / "results" / "part-00002.parquet").unlink()
    with pytest.raises(InputError, match=r"part-00002\.parquet.*missing"):
        screen(Counting(), library[0], tmp_path, config(), progress=False)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "smi.gz", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(
    kind: str, finished: Path, library: tuple[Path, list[str]], tmp_path: Path
) -> None:
    rows = [text.split()[0] for text in library[1]]
    path = tmp_path / f"library.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"id": np.arange(len(rows)), "structure": rows}), path, row_group_size=100)
    else:
        separator = {"csv": ",", "csv.gz": ",", "tsv": "\t", "smi.gz": " "}[kind]
        lines = [f"{text}{separator}name-{i}" for i, text in enumerate(rows)]
        if not kind.startswith("smi"):
            lines = [f"structure{separator}name", *lines]
        text = "\n".join(lines) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    out = tmp_path / "out"
    screen(Counting(), path, out, config(objective=OBJECTIVE, smiles="structure"), progress=False)
    shift = 1 if kind.startswith(("csv", "tsv")) else 0
    results, expected = rows_of(out), rows_of(finished)
    assert [r["line"] - shift for r in results] == [r["line"] for r in expected]
    drop = [{k: v for k, v in r.items() if k != "line"} for r in results]
    assert drop == [{k: v for k, v in r.items() if k != "line"} for r in expected]


@pytest.mark.parametrize("kind", ["smi", "smi.gz", "csv", "parquet"])
def test_reading_on_from_any_piece_gives_the_rest_of_the_file(kind: str, tmp_path: Path) -> None:
    rows = molecules(500)
    path = tmp_path / f"library.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"smiles": rows}), path, row_group_size=70)
    else:
        text = "\n".join(["smiles", *rows])
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    source = open_source(path, "smiles")
    pieces = list(source.pieces(64, *source.start))
    whole = [pair for p in pieces for pair in zip(*p.chunk.rows()[:2], strict=True)]
    assert [text for text, _ in whole] == rows
    for cut in range(len(pieces)):
        rest = source.pieces(64, pieces[cut].end, pieces[cut].line)
        pairs = [pair for p in rest for pair in zip(*p.chunk.rows()[:2], strict=True)]
        assert pairs == [pair for p in pieces[cut + 1 :] for pair in zip(*p.chunk.rows()[:2], strict=True)]


def test_malformed_csv_rows_do_not_swallow_their_neighbours() -> None:
    text = textwrap.dedent("""\
        CCO,1
        "C,2
        CCN,3

        onlyone
        ,4
        "CC",5
        "CO","two
        lines"
        C\xa9,6
        CCC,7""")
    data = text.encode().replace("\xa9".encode(), b"\xff").replace(b"onlyone\n", b"")
    rows = TextChunk(data, 2, ",", 0, 2).rows()
    assert list(zip(*rows[:2], strict=True)) == [("CCO", 2), ("CCN", 4), ("CC", 7), ("CO", 8), ("CCC", 11)]
    reasons = [(3, "malformed quotes"), (6, "no SMILES in this row"), (10, "not UTF-8 text")]
    assert [(r.line, r.reason.split(":")[0]) for r in rows[2]] == reasons


def test_quote_within_a_field_is_a_character_and_an_open_one_costs_its_row_alone() -> None:
    smiles, lines, rejects = TextChunk(b'CC,5" pipe\nCCO,x\nCN,6" pipe\nCCC,"open\nC,y', 1, ",", 0, 2).rows()
    assert list(zip(smiles, lines, strict=True)) == [("CC", 1), ("CCO", 2), ("CN", 3), ("C", 5)]
    assert [(r.line, r.reason.split(":")[0]) for r in rejects] == [(4, "malformed quotes")]


def test_bytes_that_are_not_utf8_spoil_a_smiles_but_not_a_row_by_its_name() -> None:
    smiles, lines, rejects = TextChunk(b"CC,caf\xe9\nC\xe9,x\nCO,y", 1, ",", 0, 2).rows()
    assert list(zip(smiles, lines, strict=True)) == [("CC", 1), ("CO", 3)]
    assert [(r.line, r.text, r.reason) for r in rejects] == [(2, "C?", "not UTF-8 text")]


def test_row_with_too_few_fields_is_rejected() -> None:
    _, lines, rejects = TextChunk(b"1,CCO\n2\n3,CC", 2, ",", 1, 2).rows()
    assert lines == [2, 4]
    assert [(r.line, r.text) for r in rejects] == [(3, "2")]


@pytest.mark.parametrize("quotes", [False, True])
def test_rows_of_another_width_than_the_header_are_the_same_to_screening_and_to_the_other_readers(
    quotes: bool, tmp_path: Path
) -> None:
    rows = ["CCO,ethanol,1", "CC,ethane,extra,2", "CN,3", "CO,methanol,4", "C", "N,ammonia,5"]
    if quotes:
        rows += ['CCC,"propane, pure",6', 'CCN,"open,7', 'CCF,"closed",8', 'CF,"a ""name""",9,10', "S,sulfane,11"]
    path = tmp_path / "m.csv"
    path.write_text("\n".join(["smiles,name,x", *rows]) + "\n")
    source = open_source(path, "smiles")
    (piece,) = source.pieces(64, *source.start)
    smiles, lines, rejects = piece.chunk.rows()
    with RejectLog(tmp_path / "rejects.csv") as log:
        others = [(row.smiles, row.line) for row in read(path, rejects=log)]
    assert list(zip(smiles, lines, strict=True)) == others
    with open(tmp_path / "rejects.csv", newline="") as file:
        written = [(int(row["line"]), row["reason"]) for row in csv.DictReader(file)]
    assert [(r.line, r.reason) for r in rejects] == written
    assert (3, "4 fields, but the header has 3") in written


def test_byte_order_mark_and_windows_line_ends_are_no_part_of_a_molecule(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_bytes("\ufeffsmiles,name\r\nCCO,a\r\nCC,b\r\n".encode())
    source = open_source(path, "smiles")
    (piece,) = source.pieces(64, *source.start)
    assert piece.chunk.rows()[:2] == (["CCO", "CC"], [2, 3])


@pytest.mark.parametrize(("reported", "end"), [(False, "os.kill(os.getpid(), 11)"), (True, "while True: pass")])
def test_molecule_that_ends_its_process_costs_only_itself(
    reported: bool, end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import os, data.molecules.featurise as f, data.processes.row_watch as w
            real = f.encode
            def encode(smiles, rows=None):
                if "CCCCF" in smiles:
                    if KNOWN:
                        w.begin(rows[smiles.index("CCCCF")])
                    END
                return real(smiles, rows)
            f.encode = encode
        """)
        .replace("KNOWN", str(reported))
        .replace("END", end)
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)]))
    pool = ParserPool(1, limits=RowLimits(0.3))
    try:
        encoded = pool.submit(TextChunk(b"CC\nCCO\nCCCCF\nCN\nC", 1)).result()
    finally:
        pool.close()
    assert encoded.lines.tolist() == [1, 2, 4, 5]
    assert [(r.line, r.text) for r in encoded.rejects] == [(3, "CCCCF")]
    assert ("longer than 0.3 s of processor time" if reported else "SIGSEGV") in encoded.rejects[0].reason
    alone = encode_chunk(TextChunk(b"CC\nCCO\nCN\nC", 1))
    np.testing.assert_array_equal(encoded.table.atoms, alone.table.atoms)
    assert encoded.text.tobytes() == alone.text.tobytes()
    np.testing.assert_array_equal(encoded.offsets, alone.offsets)


def test_parsing_processes_do_not_import_jax() -> None:
    code = "import sys, experiments.screening.workers; print('jax' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"


def test_file_without_a_molecule_is_an_error_that_names_the_rejects(tmp_path: Path) -> None:
    path = tmp_path / "names.smi"
    path.write_text("aspirin\nparacetamol\n")
    with pytest.raises(InputError, match=r"none of the 2 rows .*rejects\.csv"):
        screen(Counting(), path, tmp_path / "out", config(), progress=False)
    assert len(rejects_of(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"name,value\nx,1\n", "no column 'smiles'.*name"),
        ("a.xlsx", b"PK", "kind of file"),
        ("a.smi", b"", "empty"),
        ("a.parquet", b"not parquet", "cannot be read as Parquet"),
        ("a.smi.gz", b"not gzip", "cannot be read"),
    ],
)
def test_unusable_file_is_refused_with_a_remedy(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_source(path, "smiles")
    assert caught.value.remedy


def test_truncated_gzip_is_an_error_and_not_a_short_library(tmp_path: Path) -> None:
    path = tmp_path / "library.smi.gz"
    rng = np.random.default_rng(0)
    path.write_bytes(gzip.compress("\n".join(f"C {rng.random()}" for _ in range(20_000)).encode())[:-2000])
    with pytest.raises(InputError, match="damaged or incomplete"):
        screen(Counting(), path, tmp_path / "out", config(), progress=False)


def test_objective_on_a_target_that_is_not_predicted_is_refused(
    library: tuple[Path, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="does not predict homo"):
        screen(Counting(), library[0], tmp_path, config(objective=Objective(maximize="homo")), progress=False)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from experiments.screening.library_screen import ScreenConfig, screen
{SURROGATE}
if __name__ == "__main__":
    done = screen(Counting(), Path(sys.argv[1]), Path(sys.argv[2]),
                  ScreenConfig(workers=1, chunk_rows=1024, part_rows=4096), progress=False)
    print(done.peak_memory_mb)
"""
    peaks = []
    for rows in (16_000, 64_000):
        path = tmp_path / f"{rows}.smi"
        path.write_text("\n".join(molecules(2000) * (rows // 2000)))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        arguments = [sys.executable, "-c", code, str(path), str(tmp_path / f"out{rows}")]
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
        peaks.append(float(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]


def answer(gap: list[float], std: float = 0.1, domain: bool = True) -> dict[str, np.ndarray]:
    """A prediction of gap and of polarity, which is ten times as much."""
    mean = np.array(gap)
    values: dict[str, np.ndarray] = {}
    for name, factor in (("gap", 1.0), ("polarity", 10.0)):
        values |= {name: factor * mean, f"{name}_std": np.full(len(mean), std)}
        values |= {f"{name}_low": factor * mean - 1, f"{name}_high": factor * mean + 1}
    return values | {"in_domain": np.full(len(mean), domain)}


def test_objective_scores_by_the_stated_formula() -> None:
    values = answer([1.0, 2.0, 3.0])
    np.testing.assert_allclose(Objective().score(values), [1, 2, 3])
    np.testing.assert_allclose(Objective(minimize="polarity").score(values), [-10, -20, -30])
    np.testing.assert_allclose(Objective(maximize="gap", kappa=2).score(values), [0.8, 1.8, 2.8])
    np.testing.assert_allclose(Objective(minimize="gap", kappa=2).score(values), [-1.2, -2.2, -3.2])


def test_window_is_closed_and_holds_on_the_mean_or_on_the_interval() -> None:
    values = answer([1.0, 2.0, 3.0, 4.0, 5.0])
    score = Objective(maximize="polarity", windows={"gap": [2.0, 4.0]}).score(values)
    np.testing.assert_allclose(score, [-np.inf, 20, 30, 40, -np.inf])
    score = Objective(maximize="polarity", windows={"gap": [2.0, 4.0]}, confident=True).score(values)
    np.testing.assert_allclose(score, [-np.inf, -np.inf, 30, -np.inf, -np.inf])


def test_out_of_domain_and_not_finite_predictions_have_no_score() -> None:
    assert Objective().score(answer([1.0], domain=False)).tolist() == [-np.inf]
    assert Objective(require_domain=False).score(answer([1.0], domain=False)).tolist() == [1.0]
    assert Objective().score(answer([np.nan, np.inf])).tolist() == [-np.inf, -np.inf]


def test_hit_needs_every_window_and_the_threshold() -> None:
    objective = Objective(maximize="polarity", windows={"gap": [2.0, 4.0]}, hit=30.0)
    values = {"gap": np.array([2.5, 3.0, 4.5, np.nan]), "polarity": np.array([29.0, 30.0, 50.0, 60.0])}
    assert objective.is_hit(values).tolist() == [False, True, False, False]
    assert objective.is_hit(values, threshold=20.0).tolist() == [True, True, False, False]
    assert Objective(minimize="gap", hit=2.6).is_hit(values).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "arguments",
    [{"maximize": "a", "minimize": "b"}, {"kappa": -1.0}, {"windows": {"a": [2.0, 1.0]}}, {"windows": {"a": [1.0]}}],
)
def test_contradictory_objective_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Objective(**arguments)  # type: ignore[arg-type]


def test_a_molecule_has_one_row_of_the_best_however_often_and_in_whatever_batches_it_comes() -> None:
    spellings = ["CCO", "OCC", "[13CH3]CO", "CCN", "NCC", "[CH3:1]CN", "CCC", "c1ccccc1", "C1=CC=CC=C1", "CCCC"]
    score = np.array([9, 9.5, 9, 5, 7, 6, 6.5, 1, 2, 3])

    def keys(table: pa.Table) -> list[str]:
        return molecule_keys(table.column("smiles").to_pylist())

    for size in (1, 3, 10):
        best = TopK(3, keys)
        for first in range(0, 10, size):
            rows = slice(first, first + size)
            columns = {"line": np.arange(10)[rows], "smiles": spellings[rows], "score": score[rows]}
            best.add(pa.RecordBatch.from_pydict(columns))
            best.table()
        table = best.table()
        assert table is not None
        assert table.column("smiles").to_pylist() == ["OCC", "NCC", "CCC"]
        assert best.repeats() == 2
    every = TopK(3)
    every.add(pa.RecordBatch.from_pydict({"line": np.arange(10), "smiles": spellings, "score": score}))
    assert every.table().column("smiles").to_pylist() == ["OCC", "CCO", "[13CH3]CO"]  # type: ignore[union-attr]
    assert every.repeats() == 0


def test_standard_forms_are_asked_about_under_the_smiles_of_the_file(tmp_path: Path) -> None:
    written = ["CC[NH3+].[Cl-]", "CCN", "CC(=O)[O-].[Na+]", "Oc1ccccn1", "CCCO"]
    asked = ["CCN", "CCN", "CC(=O)O", "O=c1cccc[nH]1", "CCCO"]
    (tmp_path / "salts.smi").write_text("\n".join([*written, "C1CC", ""]))
    (tmp_path / "plain.smi").write_text("\n".join([*asked, ""]))
    steps = ("largest_fragment", "neutral", "tautomer")
    how = {"workers": 1, "top_k": 5}
    screen(Counting(), tmp_path / "plain.smi", tmp_path / "plain", config(**how), progress=False)
    prepare(tmp_path / "salts.smi", tmp_path / "lib", standardise=steps, workers=1, progress=False)
    screen(Counting(), tmp_path / "salts.smi", tmp_path / "s", config(standardise=steps, **how), progress=False)
    # A prepared library keeps the forms that it was prepared in.
    screen(Counting(), tmp_path / "lib", tmp_path / "l", config(**how), progress=False)
    expected = [row["prediction"] for row in rows_of(tmp_path / "plain")]
    for out, source in (("s", "salts.smi"), ("l", "lib")):
        rows = rows_of(tmp_path / out)
        assert [row["smiles"] for row in rows] == written
        assert [row["standard_smiles"] for row in rows] == ["CCN", None, "CC(=O)O", "O=c1cccc[nH]1", None]
        assert [row["prediction"] for row in rows] == expected
        [reading] = json.loads((tmp_path / out / "reading.json").read_text())
        said = (
            "3 molecules are taken in another form than that of the file (2 of them without counter-ions or solvents)"
        )
        assert reading["assumed"] == [f"standardise={','.join(steps)}: {said}"], source
        metrics = json.loads((tmp_path / out / "metrics.json").read_text())
        assert (metrics["screen/standardised"], metrics["screen/stripped"]) == (3, 2)
        # The page and the table that ends a pipeline say it, too.
        assert said in write_report(tmp_path / out).read_text()
        assert standard_forms(metrics) == {"standard forms": said}
        # The amine and its salt are one molecule once they stand in their standard form.
        with open(tmp_path / out / "top.csv", newline="") as file:
            top = [row["standard_smiles"] or row["smiles"] for row in csv.DictReader(file)]
        assert sorted(top) == sorted(set(asked))
    assert said in (tmp_path / "lib" / "reading.json").read_text()
    plain = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert "screen/standardised" not in plain
    assert standard_forms(plain) == {}
    with pytest.raises(InputError, match=r"prepared with standardise=\[largest_fragment,neutral,tautomer\]"):
        screen(Counting(), tmp_path / "lib", tmp_path / "x", config(standardise=("neutral",), **how), progress=False)
    with pytest.raises(InputError, match="another"):
        screen(Counting(), tmp_path / "salts.smi", tmp_path / "s", config(**how), progress=False)
    with pytest.raises(InputError, match="another library"):
        prepare(tmp_path / "salts.smi", tmp_path / "lib", workers=1, progress=False)
    with pytest.raises(ValueError, match="standardise names 'desalt'"):
        config(standardise=("desalt",))
