"""A row that crashes, hangs or fills the memory costs itself alone, whatever reads it, also where it is packed."""

from __future__ import annotations

import csv
import gzip
import importlib
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rdkit import Chem

from data.errors import InputError
from data.formats import rows as rows_of_files
from data.formats.text_files import LONGEST_ROW
from data.identity import molecule_keys
from data.molecules import files as molecules
from data.molecules import foreign, parquet_rows
from data.molecules.featurise import encode, reject_reason
from data.molecules.files import Row, iter_smiles_chunks, read
from data.molecules.writing import write_ase_db
from data.processes import parsing
from data.processes.parsing import Lane, Lost, RowLimits, each
from data.rejects import RejectLog
from data.splits import canonical, scaffold_split
from data.structures import files as structure_files
from experiments.screening.candidate_chunks import encode_chunk
from experiments.screening.candidate_sources import CHUNK_BYTES, open_source

CHAIN = "C" * 30_000
BOTH_ENDS = f"smiles,gap\nCCO,1\n{CHAIN},2\n\0CCO,3\nC\x01C,4\nCCN,5\n"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that processes can import, with a function for each way to go wrong."""
    (tmp_path / "rows_at_work.py").write_text(
        textwrap.dedent("""
            import os, time
            from rdkit import Chem

            def written(smiles):
                return Chem.MolToSmiles(Chem.MolFromSmiles(smiles), canonical=False)

            def work(row):
                if row == "crash":
                    os.kill(os.getpid(), 11)
                if row == "killed":
                    os.kill(os.getpid(), 9)
                while row == "hang":
                    pass
                if row == "wait":
                    time.sleep(100)
                if row == "fill":
                    return len(bytearray(10**10))
                return 1 / 0 if row == "raise" else row.upper()
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("rows_at_work")


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lane]:
    """The process that this program shares, with small limits."""
    monkeypatch.setattr(parsing, "WAITING", 10.0)
    small_lane = Lane(RowLimits(0.2, 700), modules=())
    monkeypatch.setattr(parsing, "_shared_lane", lambda: small_lane)
    yield small_lane
    small_lane.stop()


def test_rows_that_end_their_process_cost_only_themselves(work: ModuleType, lane: Lane) -> None:
    rows = ["a", "crash", "b", "hang", "c", "fill", "wait", "raise", "d"]
    answers = each(work.work, rows)
    reasons = {row: answer.reason for row, answer in zip(rows, answers, strict=True) if isinstance(answer, Lost)}
    assert [answer for answer in answers if not isinstance(answer, Lost)] == ["A", "B", "C", "D"]
    assert reasons == {
        "crash": "the parser crashed (SIGSEGV)",
        "hang": "parsing it takes longer than 0.2 s of processor time",
        "fill": "parsing it takes more than 700 MB of memory",
        "wait": "the parser waits for longer than 2 s",
        "raise": "the parser failed: ZeroDivisionError: division by zero",
    }


def test_what_kills_a_process_from_outside_is_not_taken_for_the_row(
    work: ModuleType, lane: Lane, tmp_path: Path
) -> None:
    once = tmp_path / "once"
    (tmp_path / "killed_once.py").write_text(
        f"import os\nfrom pathlib import Path\ndef work(row):\n"
        f"    if row == 'b' and not Path({str(once)!r}).exists():\n"
        f"        Path({str(once)!r}).touch()\n        os.kill(os.getpid(), 9)\n    return row.upper()\n"
    )
    assert each(importlib.import_module("killed_once").work, ["a", "b", "c"]) == ["A", "B", "C"]
    assert once.exists()
    assert each(work.work, ["killed", "a"]) == [Lost("the parser crashed (SIGKILL)"), "A"]


def test_an_interrupted_question_leaves_no_answer_behind(
    work: ModuleType, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert each(work.work, ["a"]) == ["A"]
    with monkeypatch.context() as patched:
        patched.setattr(lane, "_await_answer", lambda: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            each(work.work, ["b"])
    assert each(work.work, ["c"]) == ["C"]


def test_a_process_that_is_killed_while_it_starts_is_started_once_more(work: ModuleType, tmp_path: Path) -> None:
    once = tmp_path / "once"
    (tmp_path / "starting.py").write_text(
        f"import os\nfrom pathlib import Path\nif not Path({str(once)!r}).exists():\n"
        f"    Path({str(once)!r}).touch()\n    os.kill(os.getpid(), 9)\n"
    )
    lane = Lane(modules=("starting",))
    assert each(work.work, ["a"], lane=lane) == ["A"]
    lane.stop()
    with pytest.raises(RuntimeError, match="closed"):
        lane.ask(work.work, "a")
    with pytest.raises(RuntimeError, match=r"does not start \(exit status 1\): (?s:.*)No module named 'absent'"):
        Lane(modules=("absent",)).start()


def test_a_molecule_that_overflows_the_stack_of_rdkit_is_refused_before_and_would_cost_only_itself(
    work: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its process imports RDKit with the first row, and nothing before it.
    bare = Lane(modules=())
    monkeypatch.setattr(parsing, "_shared_lane", lambda: bare)
    assert each(work.written, ["OCC", CHAIN, "NCC"]) == ["OCC", Lost("the parser crashed (SIGSEGV)"), "NCC"]
    reason = "30,000 characters; a SMILES has at most 5,000"
    assert encode([CHAIN])[1] == [(0, reason)] == [(0, reject_reason(CHAIN))]
    table, refused = foreign.encode(["CC", CHAIN, "CCO"])
    assert (table.source_index.tolist(), refused) == ([0, 2], [(1, reason)])
    # What cannot be read stands for itself.
    assert molecule_keys([CHAIN, "OCC"]) == canonical([CHAIN, "OCC"]) == [CHAIN, "CCO"]
    assert sum(map(len, scaffold_split(["CC", CHAIN, "CCO"], {"train": 0.5, "test": 0.5}).parts.values())) == 3
    bare.stop()


def test_a_molecule_with_a_nul_is_not_the_molecule_without() -> None:
    rows = ["\0CCO", "CCO\0", "CCO", "C\tC", "C\x7f"]
    assert molecule_keys(rows) == canonical(rows) == rows
    reasons = foreign.smiles_problems(rows)
    assert reasons[:3] == ["has a NUL byte", "has a NUL byte", None]
    assert reasons[3:] == ["has a control character ('\\t')", "has a control character ('\\x7f')"]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.smi", "a.parquet"])
def test_bad_rows_of_a_file_are_listed_and_the_others_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.table({"smiles": [line.split(",")[0] for line in BOTH_ENDS.splitlines()[1:]]}), path)
    elif name == "a.smi":
        path.write_text("\n".join(line.split(",")[0] for line in BOTH_ENDS.splitlines()))
    else:
        path.write_bytes(gzip.compress(BOTH_ENDS.encode()) if name.endswith("gz") else BOTH_ENDS.encode())
    first = 1 if name == "a.parquet" else 2
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        assert [(row.smiles, row.line - first) for row in read(path, rejects=rejects)] == [("CCO", 0), ("CCN", 4)]
    with (tmp_path / "rejects.csv").open(newline="") as file:
        rejected = [(row["file"], int(row["line"]) - first, row["reason"]) for row in csv.DictReader(file)]
    [chunk] = iter_smiles_chunks(path, 100)
    assert chunk.smiles == ["CCO", "CCN"]
    source = open_source(path, "smiles")
    [piece] = source.pieces(100, *source.start)
    encoded = encode_chunk(piece.chunk)  # type: ignore[arg-type]
    assert [line - first for line in encoded.lines.tolist()] == [0, 4]
    for reasons in (rejected, [(str(path), r.line - first, r.reason) for r in encoded.rejects]):
        assert [reason[:2] for reason in reasons] == [(str(path), 1), (str(path), 2), (str(path), 3)]
        assert ["30,000 " in reasons[0][2], "NUL" in reasons[1][2], "control" in reasons[2][2]] == [True] * 3


@pytest.mark.parametrize("suffix", [".sdf", ".db"])
def test_a_structure_that_ends_its_process_costs_only_itself(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: Lane
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, data.structures.frame_rows as f\nreal = f.checked_row\n"
        "f.checked_row = lambda *a: os.kill(os.getpid(), 11) if 'deadly' in str(a) else real(*a)\n"
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    names = ["first", "second", "deadly", "last"]
    path = tmp_path / f"a{suffix}"
    if suffix == ".sdf":
        block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")).lstrip()
        path.write_text("".join(f"{name}\n{block}$$$$\n" for name in names))
    else:
        positions = np.zeros((1, 3))
        write_ase_db(path, [Row(1, None, np.array([2], np.int32), positions, {"name": name}) for name in names])
    with RejectLog(tmp_path / "rejects.csv") as rejects:
        assert [row.properties["name"] for row in read(path, rejects=rejects)] == ["first", "second", "last"]
    with (tmp_path / "rejects.csv").open(newline="") as file:
        [reject] = csv.DictReader(file)
    assert int(reject["line"]) == (3 if suffix == ".db" else 2 * (block.count("\n") + 2) + 1)
    assert reject["reason"] == "the parser crashed (SIGSEGV)"


def packed(path: Path, *parts: tuple[bytes, int]) -> Path:
    """A gzip file of parts, each so many times; quickly, because members of gzip may stand one behind the other."""
    with path.open("wb") as file:
        for part, times in parts:
            member = gzip.compress(part, 1)
            for _ in range(times):
                file.write(member)
    return path


def peak_mb(reading: Any) -> float:
    tracemalloc.start()
    try:
        reading()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_a_packed_line_of_gigabytes_takes_no_memory_and_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_of_files, "LONGEST_LINE", 1 << 21)
    endless = packed(tmp_path / "endless.csv.gz", (b"smiles\nCCO\n", 1), (b"C" * (1 << 22), 10), (b"\nCCN\nCCF", 1))
    assert endless.stat().st_size < 1_000_000
    source = open_source(endless, "smiles")
    pieces: list[Any] = []
    assert peak_mb(lambda: pieces.extend(source.pieces(2, *source.start))) < 5
    encoded = [encode_chunk(piece.chunk) for piece in pieces]
    assert [line for part in encoded for line in part.lines.tolist()] == [2, 4, 5]
    [reject] = [reject for part in encoded for reject in part.rejects]
    assert (reject.line, reject.reason) == (3, f"longer than {LONGEST_ROW:,} bytes, and so no row")
    # A screen that was stopped goes on behind it.
    [after] = source.pieces(2, pieces[0].end, pieces[0].line)
    assert (after.chunk.data, after.line) == (b"CCN\nCCF", 6)
    rows: list[str | None] = []
    log = RejectLog(tmp_path / "rejects.csv")
    with log:
        assert peak_mb(lambda: rows.extend(row.smiles for row in read(endless, rejects=log))) < 20
    assert (rows, log.count) == (["CCO", "CCN", "CCF"], 1)
    assert [chunk.lines for chunk in iter_smiles_chunks(endless, 10)] == [[2, 4, 5]]
    monkeypatch.setattr(molecules, "CHUNK_CHARACTERS", 4)
    monkeypatch.setattr(rows_of_files, "BLOCK", 1 << 10)
    long = tmp_path / "long.smi"
    long.write_text("CCO\n" * 1000)
    sizes = [len(chunk.smiles) for chunk in iter_smiles_chunks(long, 1000)]
    assert (max(sizes) < 300, sum(sizes)) == (True, 1000)


def test_packed_rows_are_chunks_of_a_bounded_size(tmp_path: Path) -> None:
    wide = packed(tmp_path / "wide.smi.gz", (b"CCO " + b"x" * 900_000 + b"\n", 40))
    assert wide.stat().st_size < 1_000_000
    source = open_source(wide, "smiles")
    rows = 0

    def through() -> None:
        nonlocal rows
        for piece in source.pieces(16_384, *source.start):
            assert len(piece.chunk.data) < CHUNK_BYTES + LONGEST_ROW  # type: ignore[union-attr]
            rows += piece.chunk.data.count(b"CCO")  # type: ignore[union-attr]

    assert peak_mb(through) < 5 * CHUNK_BYTES / 1e6
    assert rows == 40


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [("a.xyz.gz", 4, "longer than 65,536 bytes within"), ("a.sdf.gz", 1, "it has lost its end")],
)
def test_a_packed_record_without_end_is_not_held_in_memory(
    name: str, line: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure_files, "LONGEST_RECORD_BYTES", 1 << 16)
    monkeypatch.setattr(rows_of_files, "BLOCK", 1 << 16)
    rows = b"He 0.0 0.0 0.0\n" * (1 << 13)
    if name == "a.xyz.gz":
        path = packed(tmp_path / name, (b"1\nname=a\nHe 0 0 0\n900000000\ncomment\n", 1), (rows, 2))
    else:
        block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")).encode()
        path = packed(tmp_path / name, (b"endless\n", 1), (rows, 8), (b"$$$$\na" + block + b"$$$$\n", 1))
    read_rows: list[Any] = []
    log = RejectLog(tmp_path / "rejects.csv")
    with log:
        assert peak_mb(lambda: read_rows.extend(read(path, rejects=log))) < 4
    assert [row.properties["name"] for row in read_rows] == ["a"]
    with log.path.open(newline="") as file:
        first = next(csv.DictReader(file))
    assert int(first["line"]) == line
    assert reason in first["reason"]


def test_parquet_that_unpacks_to_gigabytes_is_read_in_little_memory_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = pa.DictionaryArray.from_arrays(pa.array([1] + [0] * 3_000, pa.int32()), pa.array(["C" * (1 << 20), "CCO"]))
    pq.write_table(pa.table({"smiles": many}), tmp_path / "many.parquet")
    log = RejectLog(tmp_path / "rejects.csv")
    with log:
        assert peak_mb(lambda: [row.smiles for row in read(tmp_path / "many.parquet", rejects=log)] == ["CCO"]) < 60
    assert log.count == 3_000
    source = open_source(tmp_path / "many.parquet", "smiles")
    assert sum(piece.chunk.rows()[0].count("CCO") for piece in source.pieces(16_384, *source.start)) == 1  # type: ignore[union-attr]

    monkeypatch.setattr(parquet_rows, "UNPACKED_BYTES", 1 << 23)
    page = pa.table({"smiles": pa.array(["C" * (1 << 20)] * 16)})
    pq.write_table(page, tmp_path / "page.parquet", use_dictionary=False, compression="zstd")
    for reading in (lambda p: list(read(p)), lambda p: list(open_source(p, "smiles").pieces(8, 0, 1))):
        with pytest.raises(InputError, match=r"page\.parquet: column 'smiles' of row group 0 unpacks from"):
            reading(tmp_path / "page.parquet")
