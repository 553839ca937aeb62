"""Whatever a kill leaves, between any two calls that change a file, the next run makes whole."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.benchmarks import kill_operations
from experiments.benchmarks.faults_kill import kill_everywhere

#: Tried here at each 70th point; the benchmark tries all, and windows, checkpoints and forecasts as well.
OPERATIONS = ("fields", "prepared", "screen", "run")


def test_a_run_goes_on_from_a_kill_anywhere(tmp_path: Path) -> None:
    kills = kill_everywhere(OPERATIONS, tmp_path, every=70)
    assert {kill.operation for kill in kills} == set(OPERATIONS)
    assert len(kills) > 12
    assert [kill for kill in kills if kill.problem] == []


BROKEN = """
def create(directory):
    if directory.exists():
        raise ValueError("is there")
    directory.mkdir()
    (directory / "a").write_text("x")
    (directory / "b").write_text("x")

def overwrite(directory):
    directory.mkdir(exist_ok=True)
    for name in "ab":
        if not (directory / name).exists():
            (directory / name).write_text("xyz")
"""


def test_what_cannot_be_resumed_is_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    kills = kill_everywhere(["broken:create", "broken:overwrite"], tmp_path / "f", paths=[tmp_path])
    of = {name: [k for k in kills if k.operation == name and k.point >= 0] for name in ("create", "overwrite")}
    first, *later = of["create"]
    assert (first.call, first.problem) == ("os.mkdir made", "")
    assert later
    assert all("is there" in kill.problem for kill in later)
    assert {k.problem for k in of["overwrite"]} == {"", "differs in a", "differs in b"}


def test_the_ledger_of_a_screen_counts_what_is_on_the_disk(tmp_path: Path, disk: list[tuple[str, ...]]) -> None:
    kill_operations.screen(tmp_path / "s")
    ends = [i for i, event in enumerate(disk) if event == ("sync", "ledger.jsonl")]
    assert len(ends) == 3
    before = disk[: ends[0]]
    place = next(i for i, e in enumerate(before) if e[0] == "rename" and e[-1] == "part-00000.parquet")
    assert ("sync", before[place][1]) in before[:place]
    assert ("sync", "results") in before[place:]
    assert ("sync", "rejects.csv") in before
    assert ("sync", "s") in before[before.index(("sync", "rejects.csv")) :]
    assert disk[ends[0] + 1] == ("sync", "s")


def test_a_checkpoint_is_on_the_disk_before_an_older_one_goes(tmp_path: Path, disk: list[tuple[str, ...]]) -> None:
    kill_operations.checkpoints(tmp_path / "c")
    removed = [i for i, e in enumerate(disk) if e[0] == "rename" and e[1] == "000000000"]
    newest = [i for i, e in enumerate(disk) if e[0] == "rename" and e[-1] == "000000002"]
    assert len(removed) == len(newest) == 1
    assert ("sync", "c") in disk[newest[0] : removed[0]]
    synced = [e[1] for e in disk[: newest[0]] if e[0] == "sync"]
    assert disk[newest[0]][1] in synced
    assert {"note.json", "arrays", "manifest.ocdbt"} <= set(synced)
    assert sorted(os.listdir(tmp_path / "c")) == ["000000003", "000000004"]
