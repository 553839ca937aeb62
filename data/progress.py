"""`progress.json` in the directory of a run: how far the command is, at which rate, at which cost.

A command follows its own progress once, with `follow_progress`; every progress bar that is made meanwhile
(`data.terminal.progress_bar`) reports to it. Reporting only sets a few attributes. A thread writes them to the file,
atomically and every few seconds, also while a single long step runs, so that the time in the file shows that the
process lives.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import write_json
from data.host import boot_id, host_name
from data.processes.processor import tree_seconds

LOG = logging.getLogger(__name__)
FILE = "progress.json"
FORMAT = 1
#: Seconds between two writes.
EVERY_S = 3.0
#: The states that a process writes about itself.
RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"


@dataclass
class Step:
    """What one progress bar reports.

    Attributes:
        label: what is being done.
        total: how much there is to do: a count, 1 where shares are reported, None if unknown.
        done: how much is done, earlier sessions included.
        note: text beside it, such as a rate with its unit.
        failures: kind of failure -> count.
        began: when it began (`time.monotonic`), s.
        before: how much was done when it began.
    """

    label: str
    total: float | None
    done: float = 0.0
    note: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    before: float = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.done

    def facts(self) -> dict[str, Any]:
        """The entries of `progress.json`: rates are of this session, per second; `left_s` is in seconds."""
        passed = time.monotonic() - self.began
        gained = self.done - self.before
        rate = gained / passed if passed > 0 and gained > 0 else None
        share = None if not self.total else min(1.0, self.done / self.total)
        left = None if rate is None or self.total is None else max(0.0, self.total - self.done) / rate
        return {
            "step": self.label,
            "done": self.done,
            "total": self.total,
            "share": share,
            "rate_per_s": rate,
            "left_s": left,
            "note": self.note,
            "failures": dict(self.failures),
        }


class ProgressFile:
    """The progress of one command.

    Args:
        directory: directory of the run.
        stage: name of the stage.
        at_once: whether the file is written from the beginning, and not only once a progress bar is made: a command
            that is refused changes nothing in a directory that holds a run.
    """

    def __init__(self, directory: Path, stage: str, *, at_once: bool = True) -> None:
        self._path, self._stage, self._writes = Path(directory) / FILE, stage, at_once
        self._step: Step | None = None
        self._wake, self._over = threading.Event(), threading.Event()
        self._began, self._started = time.monotonic(), time.time()
        self._spent_at_start = tree_seconds()
        self._spent_before = _spent_before(self._path, stage)
        self._said = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="progress")
        if at_once:
            self._write(RUNNING)
        self._thread.start()

    def begin(self, step: Step) -> None:
        """A progress bar was made: from now on its step is the current one."""
        self._step = step
        if not self._writes:
            self._writes = True
            self._wake.set()

    def end(self, state: str, problem: str = "") -> None:
        """Write the last state, unless nothing was written and the command did not succeed.

        Args:
            state: `FINISHED`, `STOPPED` or `FAILED`.
            problem: why it did not succeed.
        """
        self._over.set()
        self._wake.set()
        self._thread.join()
        if self._writes or state == FINISHED:
            self._write(state, problem)

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait(EVERY_S)
            self._wake.clear()
            if self._writes and not self._over.is_set():
                self._write(RUNNING)

    def _write(self, state: str, problem: str = "") -> None:
        step = Step("", None) if self._step is None else self._step
        facts = {
            "format": FORMAT,
            "stage": self._stage,
            "state": state,
            **step.facts(),
            "problem": problem,
            "core_seconds": self._spent_before + max(0.0, tree_seconds() - self._spent_at_start),
            "seconds": time.monotonic() - self._began,
            "started": self._started,
            "updated": time.time(),
            "every_s": EVERY_S,
            "host": host_name(),
            "boot": boot_id(),
            "pid": os.getpid(),
        }
        try:
            write_json(self._path, facts, listed=False)
        except (OSError, ValueError) as error:
            # A run goes on without its progress; what it cannot write itself ends it with a message of its own.
            if not self._said:
                LOG.warning("%s cannot be written: %s", self._path, error)
            self._said = True


def _spent_before(path: Path, stage: str) -> float:
    """Processor time of earlier sessions of the same run, s."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        before = json.loads(path.read_bytes())
        if before["stage"] == stage:
            return float(before["core_seconds"])
    return 0.0


_CURRENT: list[ProgressFile] = []


def current_progress() -> ProgressFile | None:
    """The file to which progress bars of this process report; None if no command follows its progress."""
    return _CURRENT[-1] if _CURRENT else None


@contextmanager
def follow_progress(directory: Path, stage: str, *, at_once: bool = True) -> Iterator[None]:
    """Keep `progress.json` in the directory of a run up to date until the block ends; see `ProgressFile`."""
    file = ProgressFile(directory, stage, at_once=at_once)
    _CURRENT.append(file)
    state, problem = FAILED, ""
    try:
        yield
        state = FINISHED
    except KeyboardInterrupt:
        state = STOPPED
        raise
    except BaseException as error:
        problem = " ".join((str(error) or type(error).__name__).split())[:1000]
        raise
    finally:
        _CURRENT.remove(file)
        file.end(state, problem)
