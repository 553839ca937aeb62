"""Whatever a kill leaves, between any two calls that change a file, the next run makes whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.faults import kill_operations
from benchmarks.faults.forking import kill_everywhere

#: Tried here at few points; the benchmark tries more, and windows, checkpoints, forecasts and commands as well.
OPERATIONS = ("fields", "prepared", "screen", "run")


def test_a_run_goes_on_from_a_kill_anywhere() -> None:
    trials = list(kill_everywhere(OPERATIONS, most=3))
    assert {trial.name for trial in trials} == {f"{name} at any call" for name in OPERATIONS}
    assert len(trials) == 4 * len(OPERATIONS)
    assert [trial for trial in trials if trial.bad] == []


BROKEN = """
import os, time
from data.errors import InputError

def create(directory):
    if directory.exists():
        raise ValueError("is there")
    directory.mkdir()
    (directory / "a").write_text("x")
    (directory / "b").write_text("x")

def refuse(directory):
    if directory.exists():
        raise InputError("is there", where=str(directory))
    directory.mkdir()

def overwrite(directory):
    directory.mkdir(exist_ok=True)
    for name in "ab":
        if not (directory / name).exists():
            (directory / name).write_text("xyz")

def die(directory):
    if directory.exists():
        os.abort()
    directory.mkdir()
    (directory / "a").mkdir()
"""


def test_what_cannot_be_resumed_is_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    names = ("create", "refuse", "overwrite", "die")
    trials = list(kill_everywhere([f"broken:{name}" for name in names], paths=[tmp_path]))
    of = {name: [t for t in trials if t.name == f"{name} at any call"][:-1] for name in names}
    first, *later = of["create"]
    assert (first.done, first.outcome) == ("killed before call 0, os.mkdir made", "equal")
    assert {(t.outcome, "is there" in t.said) for t in later} == {("traceback", True)}
    assert {(t.outcome, t.said) for t in of["overwrite"]} == {
        ("equal", ""), ("silent", "differs in a"), ("silent", "differs in b")
    }  # fmt: skip
    assert [t.outcome for t in of["die"]] == ["equal", "crash"]
    assert of["refuse"][0].outcome == "equal"
    assert all(t.bad for t in trials if t.outcome != "equal")


def test_a_fork_that_hangs_or_is_killed_is_told_apart() -> None:
    # In a process of its own: forks of one that has threads may hang by themselves.
    script = """
import time
from benchmarks.faults.forks import HANG, forked
assert forked(lambda: "x" * 200_000).said == "x" * 200_000
assert forked(lambda: str(time.sleep(60)), limit_s=0.1).status == HANG
assert forked(lambda: str(time.sleep(60)), kill_after_s=0.1).status == -9
end = forked(lambda: str(1 / 0))
assert end.status == 1 and "ZeroDivisionError" in end.said
"""
    subprocess.run([sys.executable, "-c", script], check=True)


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
