"""The ledger of a screen: lines that were lost or changed are noticed before anything is removed for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.faults.own_files import make_screen, open_sink
from data.errors import CorruptStoreError, InputError
from experiments.screening.ledger import read_ledger, result_parts, verified_rejects


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A screen of three parts."""
    path = tmp_path_factory.mktemp("screen") / "out"
    make_screen(path)
    return path


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def test_a_ledger_that_was_lost_costs_no_result(out: Path) -> None:
    ledger = out / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    for left in (None, b"", lines[0], b"".join([lines[0], *lines[2:]])):
        if left is None:
            ledger.unlink()
        else:
            ledger.write_bytes(left)
        with pytest.raises(CorruptStoreError, match=r"ledger\.jsonl: (it lists|line 2 is damaged)"):
            open_sink(out)
        assert len(list((out / "results").glob("part-*"))) == 3
    ledger.write_bytes(b"".join(lines))
    (out / "screen.json").unlink()
    with pytest.raises(CorruptStoreError, match=r"screen\.json: is missing"):
        open_sink(out)


def test_only_a_last_line_that_a_kill_cut_short_is_forgotten(out: Path) -> None:
    ledger = out / "ledger.jsonl"
    content = ledger.read_bytes()
    end = content.index(b"\n")
    for damaged in (content[:end] + b"\r" + content[end + 1 :], content[:-1] + b"\x8a"):
        ledger.write_bytes(damaged)
        with pytest.raises(CorruptStoreError, match=r"ledger\.jsonl: line \d is damaged"):
            open_sink(out)
        assert ledger.read_bytes() == damaged
    # What a kill leaves of a line, its whole text without the line break too, is made again.
    for cut in (1, 50):
        ledger.write_bytes(content[:-cut])
        sink = open_sink(out)
        sink.close()
        assert len(sink.commits) == 3
        assert len(result_parts(out)) == 3


@pytest.mark.parametrize("name", ["results/part-00001.parquet", "rejects.csv"])
def test_what_is_missing_is_named(out: Path, name: str) -> None:
    (out / name).unlink()
    with pytest.raises(InputError, match=name):
        result_parts(out) if "part" in name else verified_rejects(out)
    with pytest.raises(InputError, match=name):
        open_sink(out)


def test_a_screen_of_before_checksums_is_read_and_one_line_says_so(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()]
    new = ("crc32", "file_crc32", "rejects_crc32")
    old = [{name: value for name, value in row.items() if name not in new} for row in rows]
    (out / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    assert len(result_parts(out)) == 3
    assert [r.getMessage().split(": ")[1] for r in caplog.records] == [
        "3 parts were written without checksums, so that changed bytes go unnoticed"
    ]
    commits, _ = read_ledger(out)
    assert [c.rows for c in commits] == [20, 20, 20, 0]
    sink = open_sink(out)
    sink.close()
    assert sink.commits == commits
