"""The benchmark that makes faults on purpose counts what becomes of them, and its status tells of what may not be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import FaultPart, main, parts
from benchmarks.faults.trials import OUTCOMES, FaultTrial


def test_broken_files_and_changed_bits_are_tried_in_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--kills", "0", "--flips", "6", "--mutations", "12", "--seed", "3", "--workers", "2"]
    only = ["--only", "round of active learning", "foam table"]
    assert main([*sizes, "--json", str(tmp_path / "f.json"), *only]) == 0
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    rows = {(kind.strip(), of.strip()): [int(n) for n in numbers] for kind, of, *numbers in lines}
    assert rows["flips", "round of active learning"][0] == rows["flips", "all"][0] == 6
    assert rows["mutations", "foam table"][0] == 12
    tried, equal, named, *bad = rows["total", "all"]
    assert (tried, equal + named, bad) == (18, 18, [0, 0, 0, 0])
    written = json.loads((tmp_path / "f.json").read_text())
    assert written["seed"] == 3
    assert sum(written["counts"]["mutations: foam table"].values()) == 12


#: A command that goes on with what lies there, and one that does not; each takes some tenths of a second.
COMMANDS = """
import sys, tempfile, time
from pathlib import Path
import experiments.cli
from benchmarks.faults import random_kills
from benchmarks.faults.commands import FaultCommand

def main(arguments):
    name, out = arguments
    out = Path(out)
    out.mkdir(exist_ok=True)
    for number in range(10):
        file = out / (str(number) if name == "resuming" else str(len(list(out.iterdir()))))
        if not file.exists():
            time.sleep(0.02)
            file.write_text("x")
    return 0

def command(name):
    return FaultCommand(lambda given, out: [name, str(out)], lambda out: {p.name: p.read_text() for p in out.iterdir()})

experiments.cli.main = main
random_kills.import_for = random_kills.inputs = lambda argument: ""
random_kills.COMMANDS = {name: command(name) for name in ("resuming", "doubling")}
with tempfile.TemporaryDirectory() as folder:
    for name in random_kills.COMMANDS:
        for trial in random_kills.kills_of_command(name, 5, Path(folder) / name, 0):
            print(name, trial.outcome)
"""


def test_a_command_is_killed_at_any_moment_and_run_again() -> None:
    # In a process of its own: forks of one that has threads may hang by themselves.
    done = subprocess.run([sys.executable, "-c", COMMANDS], check=True, capture_output=True, text=True)
    outcomes = [line.split() for line in done.stdout.splitlines()]
    assert outcomes[:5] == 5 * [["resuming", "equal"]]
    assert len(outcomes) == 10
    assert ["doubling", "silent"] in outcomes


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_status_tells_of_what_may_not_be(
    outcome: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trials(part: FaultPart, seed: int) -> Generator[FaultTrial, None, None]:
        for number in range(part.count):
            yield FaultTrial(part.kind, part.name, str(number), outcome, "it said so")

    monkeypatch.setattr(FaultPart, "trials", trials)
    one = ["--flips", "0", "--only", "foam table", "records"]
    assert main([*one, "--kills", "0", "--mutations", "3"]) == (outcome not in ("equal", "named"))
    assert ("it said so" in capsys.readouterr().out) == (outcome not in ("equal", "named"))
    # What was killed has to go on, not only to say why it does not.
    assert main([*one, "--kills", "3", "--mutations", "0"]) == (outcome != "equal")


def test_ctrl_c_prints_what_was_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def trials(part: FaultPart, seed: int) -> Generator[FaultTrial, None, None]:
        yield FaultTrial(part.kind, part.name, "1", "equal")
        raise KeyboardInterrupt

    monkeypatch.setattr(FaultPart, "trials", trials)
    assert main(["--kills", "5"]) == 130
    said = capsys.readouterr().out
    assert "stopped" in said
    assert "records" in said


def test_what_cannot_be_tried_is_a_fault_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trials(part: FaultPart, seed: int) -> Generator[FaultTrial, None, None]:
        if part.name == "records":
            raise RuntimeError("undisturbed, it ends with 1")
        yield FaultTrial(part.kind, part.name, "1", "equal")

    monkeypatch.setattr(FaultPart, "trials", trials)
    assert main(["--flips", "0", "--mutations", "0", "--only", "records", "fields"]) == 1
    said = capsys.readouterr().out
    assert "undisturbed, it ends with 1" in said
    assert "fields" in said


def test_shares_add_up_to_at_least_the_numbers() -> None:
    for kills, flips, mutations in ((200, 500, 20_000), (7, 0, 13)):
        chosen = parts(kills, flips, mutations)
        for kind, number in {"kills": kills, "flips": flips, "mutations": mutations}.items():
            counts = [part.count for part in chosen if part.kind == kind]
            # Each share is rounded up.
            assert number <= sum(counts) <= number + len(counts) * (number > 0)


def test_a_name_that_nothing_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--only", "nothing of this name"])
    assert caught.value.code == 2
    assert "nothing is called nothing of this name" in capsys.readouterr().err
