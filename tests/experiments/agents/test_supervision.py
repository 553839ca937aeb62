"""A run that was started for a program is stopped at its limit, and what it cost is recorded whoever lives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.files import write_json
from experiments.agents.audit import AuditLog
from experiments.agents.budgets import Account, Budget
from experiments.agents.confinement import Root
from experiments.agents.estimates import Estimate
from experiments.agents.jobs import Jobs, StartedRun

BURN = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(130))\nwhile True:\n    pass\n"


def jobs_below(root: Path) -> Jobs:
    root.mkdir(exist_ok=True)
    return Jobs(Root(root))


def job(root: Path, identity: str = "0" * 16, limit: float | None = None, rows: int = 0) -> StartedRun:
    return StartedRun(identity, "simulate", ("limit=1",), str(root), "run", max_core_seconds=limit, rows=rows)


def test_a_run_beyond_its_limit_is_stopped_as_by_ctrl_c(commands: Path, tmp_path: Path) -> None:
    commands.write_text(BURN)
    jobs = jobs_below(tmp_path / "root")
    _, started = jobs.start(job(tmp_path / "root", limit=0.3))
    assert started
    ended = jobs.wait(jobs.all()[0], 50)
    assert (ended.status.state, ended.status.problem) == ("stopped", "stopped by its limit of processor time")
    assert ended.core_seconds > 0.3
    # The budget counts it, also for another server.
    account = Account(
        Budget(core_seconds=10.0), jobs_below(tmp_path / "root"), AuditLog(tmp_path / "root" / ".understudy")
    )
    assert account.spending().core_seconds == pytest.approx(ended.core_seconds)


def test_the_same_run_is_started_once_and_resumes_after_a_stop(commands: Path, tmp_path: Path) -> None:
    commands.write_text(BURN)
    jobs = jobs_below(tmp_path / "root")
    one = job(tmp_path / "root")
    first, started = jobs.start(one)
    again, twice = jobs.start(one)
    assert (started, twice) == (True, False)
    assert first.job.pid == again.job.pid
    # Another server finds the run, and stops it.
    other = jobs_below(tmp_path / "root")
    stranger = other.find(one.id)
    assert stranger is not None
    assert other.state(stranger).status.state == "starting"
    assert other.stop(stranger)
    assert jobs.wait(stranger, 50).status.state == "stopped"
    commands.write_text("print('understudy: inputs: no such file', flush=True)\nraise SystemExit(2)\n")
    resumed, restarted = jobs.start(one)
    assert (restarted, resumed.job.session) == (True, 2)
    failed = jobs.wait(resumed.job, 50)
    assert (failed.status.state, failed.status.problem) == ("failed", "inputs: no such file")
    assert len(jobs.sessions(failed.job)) == 2


def test_modules_in_the_folder_of_the_runs_are_not_imported(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "understudy").mkdir(parents=True)
    (root / "understudy" / "__init__.py").write_text("")
    (root / "understudy" / "__main__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    folder = root / ".understudy" / "jobs" / ("1" * 16)
    folder.mkdir(parents=True)
    facts = {"stage": "--version", "arguments": [], "cwd": str(root), "session": 1}
    write_json(folder / "job.json", facts, listed=False)
    command = [sys.executable, "-P", "-m", "experiments.agents.supervision", str(folder)]
    assert subprocess.run(command, cwd=root, check=False).returncode == 0
    assert not (tmp_path / "ran").exists()
    assert (folder / "output.txt").read_text().startswith("understudy ")
    assert json.loads((folder / "session-1.json").read_text())["status"] == 0


def test_a_run_whose_supervisor_was_killed_is_lost_and_counts_as_ended(commands: Path, tmp_path: Path) -> None:
    commands.write_text("import time\ntime.sleep(60)\n")
    jobs = jobs_below(tmp_path / "root")
    state, _ = jobs.start(job(tmp_path / "root"))
    os.killpg(state.job.pid, signal.SIGKILL)
    assert jobs.wait(state.job, 50).status.state == "lost"


def test_a_budget_holds_rows_runs_and_core_seconds(tmp_path: Path) -> None:
    jobs = jobs_below(tmp_path / "root")
    audit = AuditLog(tmp_path / "root" / ".understudy")
    audit.append("predict", {}, "ok", 4.0)
    account = Account(Budget(core_seconds=10.0, rows=100, jobs=1), jobs, audit)
    left = account.spending()
    assert (left.core_seconds_left, left.rows_left, left.jobs_left) == (6.0, 100, 1)
    unknown, estimated = (Estimate(value, None, high, "core-s", "") for value, high in ((None, None), (8.0, 9.0)))
    # Half of what is left where no record tells the cost, and never more than is left.
    assert (account.limit_of(unknown, None), account.limit_of(estimated, None), account.limit_of(estimated, 2.0)) == (
        3,
        6,
        2,
    )
    said, core, rows = account.excess(estimated, 130, None)
    assert (core, rows) == (pytest.approx(2.0), 30)
    assert "8 core-seconds" in said
    assert account.excess(unknown, 100, None) == ("", 0.0, 0)
    account.grant(core, rows)
    assert account.excess(estimated, 130, None) == ("", 0.0, 0)
    with pytest.raises(ValueError, match="above 0"):
        Budget(core_seconds=float("nan"))
