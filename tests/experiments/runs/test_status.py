"""The state of a run is told from its files and its lock, whichever way its process ended."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import data.progress
from data.claim import claim
from data.errors import InputError
from data.files import write_json, write_text
from data.progress import FILE, follow_progress
from data.terminal import progress_bar
from experiments.cli import main
from experiments.runs.listing import headline, runs_below
from experiments.runs.status import run_status

CONFIG = OmegaConf.create({"stage": "simulate", "run": {"dir": "d"}})


def written(directory: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((directory / FILE).read_text())
    return content


def test_a_bar_is_followed_while_it_runs_and_the_last_state_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.progress, "EVERY_S", 0.01)
    with claim(tmp_path / "run", "simulate") as run_dir, follow_progress(run_dir, "simulate"):
        with progress_bar("simulating", 8, done=2, show=False) as bar:
            bar.advance(3)
            bar.update(6, note="3/s", failures={"timeout": 1})
            while written(run_dir)["done"] != 6:
                pass
            running = run_status(run_dir)
        assert (running.state, running.share, running.failures) == ("running", 0.75, {"timeout": 1})
        # Four of this session and two that are left: half the time that has passed so far.
        assert running.rate_per_s is not None
        assert running.left_s == pytest.approx(2 / running.rate_per_s)
        assert running.pid == os.getpid()
    ended = run_status(run_dir)
    assert (ended.state, ended.share, ended.left_s) == ("finished", 1.0, None)


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "stopped"), (InputError("no gap"), "failed"), (None, "finished")]
)
def test_the_last_state_follows_from_the_exception(error: BaseException | None, state: str, tmp_path: Path) -> None:
    try:
        with claim(tmp_path / "run", "train") as run_dir, follow_progress(run_dir, "train"):
            if error is not None:
                raise error
    except (KeyboardInterrupt, InputError):
        pass
    status = run_status(tmp_path / "run")
    assert status.state == state
    assert status.problem == ("no gap" if state == "failed" else "")


def test_a_run_killed_by_the_system_is_lost_and_one_of_another_machine_is_believed_for_a_while(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        with claim(run_dir, "simulate"), follow_progress(run_dir, "simulate"):
            os.write(started, b"x")
            signal.pause()
    os.read(ready, 1)
    assert run_status(run_dir).state == "running"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert run_status(run_dir).state == "lost"
    facts = written(run_dir)
    # Its lock cannot be seen from here.
    write_json(run_dir / FILE, {**facts, "host": "node17"}, listed=False)
    assert run_status(run_dir).state == "running"
    write_json(run_dir / FILE, {**facts, "host": "node17", "updated": 1.0}, listed=False)
    assert run_status(run_dir).state == "lost"
    # A machine with the same name, or this one before it was started again.
    write_json(run_dir / FILE, {**facts, "boot": "earlier"}, listed=False)
    assert run_status(run_dir).state == "running"


def test_without_locks_a_run_of_this_machine_is_running_while_its_process_lives_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("data.claim.fcntl.flock", no_locks)
    run_dir = tmp_path / "run"
    with claim(run_dir, "simulate"), follow_progress(run_dir, "simulate"):
        assert run_status(run_dir).state == "running"
        facts = written(run_dir)
    assert run_status(run_dir).state == "finished"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for changed in ({"pid": child}, {"updated": 1.0}, {"pid": 0}):
        write_json(run_dir / FILE, {**facts, **changed}, listed=False)
        assert run_status(run_dir).state == "lost", changed


def test_a_command_that_is_refused_leaves_the_progress_of_the_run_that_is_there(tmp_path: Path) -> None:
    with claim(tmp_path / "run", "train") as run_dir, follow_progress(run_dir, "train"):
        pass
    before = (run_dir / FILE).read_bytes()
    with pytest.raises(InputError), follow_progress(run_dir, "train", at_once=False):
        raise InputError("refused")
    assert (run_dir / FILE).read_bytes() == before
    # Once the work begins it is this command's, and the cost of both sessions adds up.
    with pytest.raises(InputError), follow_progress(run_dir, "train", at_once=False), progress_bar("training", 1):
        raise InputError("later")
    after = written(run_dir)
    assert (after["state"], after["step"], after["problem"]) == ("failed", "training", "later")
    assert float(str(after["core_seconds"])) >= json.loads(before)["core_seconds"]


def test_runs_lists_what_is_below_a_folder_and_json_is_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claim(tmp_path / "a" / "labels", "simulate") as run_dir, follow_progress(run_dir, "simulate"):
        write_json(
            run_dir / "metrics.json", {"simulate/answered": 7.0, "simulate/failed": 1.0, "simulate/seconds": 2.0}
        )
        write_text(run_dir / "log.txt", "".join(f"line {i}\n" for i in range(30)))
    # A run of an earlier version has no progress.json; a store and a part of a run are no runs.
    earlier = tmp_path / "earlier"
    write_text(earlier / "config.yaml", OmegaConf.to_yaml(CONFIG))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "zarr.json").write_text("{}")
    (tmp_path / "store" / "config.yaml").write_text("stage: train")
    lines = {line.status.directory: line for line in runs_below(tmp_path)}
    assert set(lines) == {"a/labels", "earlier"}
    assert lines["a/labels"].headline == {"simulate/answered": 7.0, "simulate/failed": 1.0}
    assert lines["earlier"].status.state == "unknown"

    assert main(["runs", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["directory"], row["state"]) for row in rows] == [("a/labels", "finished"), ("earlier", "unknown")]
    assert main(["status", str(run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["log"] == [f"line {i}" for i in range(20, 30)]
    assert main(["status", str(run_dir)]) == 0
    assert "finished" in capsys.readouterr().out


def test_a_folder_without_a_run_is_refused_in_one_line_or_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert len(printed.err.strip().splitlines()) == 1
    assert "no run here" in printed.err
    assert main(["status", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["where"] == str(tmp_path)
    assert main(["runs", str(tmp_path / "absent")]) == 2
    assert main(["status"]) == 2


def test_headlines_are_the_scores_of_a_training_before_its_costs() -> None:
    metrics = {"train/seconds": 3.0, "test/gap/mae_ev": 0.2, "test/gap/r2": 0.9}
    assert headline("train", metrics) == {"test/gap/mae_ev": 0.2}
