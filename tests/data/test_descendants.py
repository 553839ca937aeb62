"""Processes below a process: listed by the kernel or by `ps`, and ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from data import descendants as module
from data.descendants import children, descendants, kill_descendants


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
    monkeypatch.setattr(module, "_listed", lambda: listed)
    (inner,) = children(shell.pid)
    (sleeping,) = children(inner)
    assert descendants(shell.pid) == [inner, sleeping]
    assert descendants(sleeping) == []
    kill_descendants(shell.pid)
    # The shell that is left waits for its children, and so ends.
    shell.wait(10)
    deadline = time.monotonic() + 10
    while descendants(inner) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descendants(inner) == []
