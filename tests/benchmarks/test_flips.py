"""Of no file that is written and read again does a changed byte give another answer; the damaged file is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults.flips import Flipper
from benchmarks.faults.own_files import FileKind, kinds
from data.errors import InputError


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_a_changed_byte_is_named_or_changes_nothing(kind: FileKind, tmp_path: Path) -> None:
    flipper = Flipper(kind, tmp_path, 22)
    # The benchmark changes more; a store and a surrogate have many files.
    each = 1 if kind.name in ("store of records", "surrogate") else 3
    outcomes = [(flipper.make(number), *flipper.outcome()) for number in range(each * len(flipper.whole))]
    assert [one for one in outcomes if one[1] not in ("named", "equal")] == []
    counts = Counter(outcome for _, outcome, _ in outcomes)
    assert counts["named"] > counts["equal"]


def test_what_a_reader_may_not_do_is_counted(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.mkdir(parents=True)
        (path / "first").write_bytes(b"0123456789")

    def outcome(read: FileKind) -> str:
        flipper = Flipper(read, tmp_path / read.name, 0)
        flipper.make(0)
        return flipper.outcome()[0]

    def refusing(said: str) -> FileKind:
        def read(path: Path) -> object:
            if (path / "first").read_bytes() != b"0123456789":
                raise InputError(said)
            return 1

        return FileKind(said, make, read)

    assert outcome(FileKind("believing", make, lambda path: (path / "first").read_bytes())) == "silent"
    assert (
        outcome(FileKind("careless", make, lambda path: {b"0123456789": 1}[(path / "first").read_bytes()]))
        == "traceback"
    )
    assert outcome(FileKind("blind", make, lambda path: 1)) == "equal"
    assert outcome(refusing("second is damaged")) == "traceback"
    assert outcome(refusing("first is damaged")) == "named"


def test_every_file_is_changed_in_turn_and_restored(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.mkdir(parents=True)
        for name in ("a", "b"):
            (path / name).write_bytes(b"0123456789")

    flipper = Flipper(FileKind("two", make, lambda path: None), tmp_path, 0)
    for number, name in enumerate("abab"):
        assert flipper.make(number).startswith(f"{name} at ")
        assert {p.name for p in (tmp_path / "made").iterdir() if p.read_bytes() != b"0123456789"} == {name}
