"""Programs below a guard: their ends, their limits, and that nothing which they started outlives them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from simulators.workers.guarded_program import Ended
from simulators.workers.programs import run_program


def shell(folder: Path, script: str, *, limit_s: float = 300.0, printed: int = 10_000) -> Ended | None:
    command = [shutil.which("sh") or "", "-c", script]
    deadline = time.monotonic() + limit_s
    return run_program(command, folder, dict(os.environ), folder / "log", deadline, printed=printed)


def running(seconds: str) -> bool:
    return any(
        process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["cmdline", "status"])
    )


def gone(seconds: str) -> bool:
    """Whether such a program ends long before it would by itself: on a busy machine a killed one takes a moment."""
    deadline = time.monotonic() + 30
    while running(seconds) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(seconds)


def test_a_program_runs_in_its_folder_and_its_end_and_output_are_told(tmp_path: Path) -> None:
    ended = shell(tmp_path, "pwd; echo below >&2; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 3")
    assert ended is not None
    assert (ended.code, ended.how, ended.over) == (3, "exit status 3", False)
    assert (tmp_path / "log").read_text().splitlines() == [str(tmp_path), "below"]
    assert ended.said.endswith("below")
    # The processor time of the program and not of the guard alone.
    assert ended.core_seconds > 0.05
    killed = shell(tmp_path, "kill -SEGV $$")
    assert killed is not None
    assert (killed.code, killed.how) == (-signal.SIGSEGV, "SIGSEGV")
    assert not list(tmp_path.glob("core*"))
    absent = run_program(["/no/such/program"], tmp_path, {}, tmp_path / "log", time.monotonic() + 1200)
    assert absent is not None
    assert (absent.code, absent.said) == (127, "/no/such/program cannot be started: No such file or directory")


def test_a_program_that_ends_is_not_outlived_by_a_daemon_that_it_left(tmp_path: Path) -> None:
    ended = shell(tmp_path, "(setsid env -i sleep 61.5 >/dev/null 2>&1 &); echo started")
    assert ended is not None
    assert (ended.code, ended.said) == (0, "started")
    assert gone("61.5")


def test_limits_of_time_and_of_output_end_all_that_a_program_started(tmp_path: Path) -> None:
    assert shell(tmp_path, "trap '' TERM; (setsid sleep 61.5 &); sleep 61.5", limit_s=0.3) is None
    assert gone("61.5")
    ended = shell(tmp_path, "yes & (setsid sleep 61.5 &); wait")
    assert ended is not None
    assert ended.over
    assert ended.code is None
    assert (tmp_path / "log").stat().st_size <= 10_000
    assert gone("61.5")


def test_ctrl_c_ends_a_program_before_it_is_raised(tmp_path: Path) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), contextlib.nullcontext(timer.start()):
        shell(tmp_path, "(setsid sleep 61.5 &); sleep 61.5")
    assert gone("61.5")
