"""Processes below a process: listed by the kernel or by `ps`, and ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from data.processes import descendants as module
from data.processes.descendants import children, descendants, kill_descendants


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[str]]:
    """A shell that has started another one, which has started a program in a session of its own."""
    process = subprocess.Popen(["sh", "-c", "sh -c 'setsid sleep 61.5 & echo up; wait' & wait"], stdout=-1, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("listed", [True, False])
def test_all_that_a_process_started_is_found_and_killed(
    shell: subprocess.Popen[str], listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_kernel_lists_children", lambda: listed)
    (inner,) = children(shell.pid)
    (sleeping,) = children(inner)
    assert descendants(shell.pid) == [inner, sleeping]
    assert descendants(sleeping) == []
    kill_descendants(shell.pid)
    # The shell that is left waits for its children, and so ends.
    shell.wait(1200)
    deadline = time.monotonic() + 1200
    while descendants(inner) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descendants(inner) == []


PARENT = """
import os, subprocess, sys, time
code = "import os, sys, time; from data.processes.descendants import end_with_parent;"
code += "end_with_parent(int(sys.argv[1]));"
code += "print(os.getpid(), flush=True); time.sleep(1e6)"
subprocess.Popen([sys.executable, "-c", code, str(os.getpid())], start_new_session=True)
time.sleep(1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system does that")
def test_a_process_that_asked_for_it_ends_with_its_parent_though_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        child = psutil.Process(int(said.readline()))
        parent.kill()
        parent.wait()
        # Its end of the pipe closes with it.
        assert said.read() == ""
    deadline = time.monotonic() + 1200
    with suppress(psutil.NoSuchProcess):
        while child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    # One whose parent has gone before it could ask does not stay.
    alone = subprocess.run(
        [sys.executable, "-c", "from data.processes.descendants import end_with_parent; end_with_parent(1 << 30)"],
        check=False,
    )
    assert alone.returncode == 1
