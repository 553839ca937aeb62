"""Of no file that is written and read again does a changed byte give another answer; the damaged file is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from experiments.benchmarks.flips import Kind, flips, kinds, main


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_a_changed_byte_is_named_or_changes_nothing(kind: Kind, tmp_path: Path) -> None:
    kind.make(tmp_path / "made")
    # The benchmark changes more; a store and a surrogate have many files.
    each = 1 if kind.name in ("store of records", "surrogate") else 3
    outcomes = list(flips(tmp_path / "made", kind.read, each=each, seed=22))
    assert [where for outcome, where in outcomes if outcome not in ("named", "same")] == []
    counts = Counter(outcome for outcome, _ in outcomes)
    assert counts["named"] > counts["same"]


def test_the_benchmark_ends_with_a_status_that_tells_of_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(path: Path) -> None:
        path.mkdir(parents=True)
        (path / "unguarded").write_bytes(b"0123456789")

    believing = Kind("believing", make, lambda path: (path / "unguarded").read_bytes())
    monkeypatch.setattr("experiments.benchmarks.flips.kinds", lambda: (believing,))
    assert main(["--each", "5"]) == 1
    assert capsys.readouterr().out.count("believing, other: unguarded at") == 5
