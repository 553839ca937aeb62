"""Runs that are started for a program: detached, one for each set of arguments, and found again by any server.

The identity of a run is the hash of its stage and settings. Starting it again returns the run that there is, or resumes
one that was stopped. A run lives on when the server ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from data.errors import InputError
from data.files import make_directory, write_json
from data.progress import FAILED, FINISHED, RUNNING, STOPPED
from experiments.agents.confinement import Root, capped
from experiments.agents.supervision import BUDGET, JOB, OUTPUT, SESSION, STOPS
from experiments.application.targets import WITHOUT
from experiments.runs.status import LOST, RunStatus, run_status

FOLDER, SETTINGS = "jobs", "settings.json"
#: State of a run whose process has begun and has not written anything yet.
STARTING = "starting"
ENDED = (FINISHED, STOPPED, FAILED, LOST)
_ID = re.compile(r"[0-9a-f]{16}")
#: Bytes of the end of what a run printed in which its last line is looked for.
TAIL = 4096


@dataclass(frozen=True)
class StartedRun:
    """A run that was started for a program.

    Attributes:
        id: identity: the hash of stage and settings.
        stage: name of the stage.
        arguments: settings, with the directory of the run.
        cwd: folder in which it runs.
        directory: directory of the run, relative to that.
        session: number of the last session, from 1.
        pid: process that supervises it.
        born: when that process began, seconds since 1970; 0 before it has.
        max_core_seconds: processor time at which this session is stopped; None: no limit.
        rows: rows that it was started for, of the budget.
    """

    id: str
    stage: str
    arguments: tuple[str, ...]
    cwd: str
    directory: str
    session: int = 1
    pid: int = 0
    born: float = 0.0
    max_core_seconds: float | None = None
    rows: int = 0


@dataclass(frozen=True)
class JobState:
    """A job and how far it is.

    Attributes:
        job: the job.
        status: state of the run, with `starting` before it has written anything.
        stopped_by: what stopped its last session: a call, or its limit of processor time; "" where nothing did.
        core_seconds: processor time of all ended sessions and, as far as the run says, of this one.
    """

    job: StartedRun
    status: RunStatus
    stopped_by: str = ""
    core_seconds: float = 0.0


@dataclass
class Jobs:
    """The jobs below a root.

    Args:
        root: the folder of all runs.
        without: names of `targets.PROGRAMS` that no run builds.
    """

    root: Root
    without: Sequence[str] = ()
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        """The folder of the jobs."""
        return self.root.kept / FOLDER

    def all(self) -> list[StartedRun]:
        """All jobs, in the order of their identities."""
        return [self._read(path.parent.name) for path in sorted(self.folder.glob(f"*/{JOB}"))]

    def find(self, name: str) -> StartedRun | None:
        """The job of an identity, or the latest one of a directory; None if no call started such a run."""
        if _ID.fullmatch(name):
            return self._read(name) if (self.folder / name / JOB).is_file() else None
        matches = [job for job in self.all() if job.directory == os.path.normpath(name)]
        return max(matches, key=lambda job: job.born, default=None)

    def start(self, job: StartedRun, settings: Mapping[str, Any] | None = None) -> tuple[JobState, bool]:
        """Start a run, resume one that was stopped, or return the one that there is.

        Args:
            job: without session and process.
            settings: its resolved configuration, which a stopped campaign does not leave itself.

        Returns:
            Its state, and whether a process was started.
        """
        folder = self.folder / job.id
        make_directory(folder)
        with self._locked(folder):
            if (folder / JOB).is_file():
                present = self.state(self._read(job.id))
                if present.status.state not in (STOPPED, FAILED, LOST):
                    return present, False
                job = replace(job, session=present.job.session + 1)
            write_json(folder / JOB, asdict(job), listed=False)
            write_json(folder / SETTINGS, dict(settings or {}), listed=False)
            process = self._supervised(folder)
            job = replace(job, pid=process.pid, born=psutil.Process(process.pid).create_time())
            write_json(folder / JOB, asdict(job), listed=False)
            self._children[job.id] = process
        return self.state(job), True

    def _supervised(self, folder: Path) -> subprocess.Popen[bytes]:
        """The process that runs a job."""
        # A stop that comes before the process can act on it waits until then: a new process has the mask of the thread.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "experiments.agents.supervision", str(folder)],
                cwd=self.root.path, env={**os.environ, WITHOUT: ",".join(self.without)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def stop(self, job: StartedRun) -> bool:
        """Stop a run as Ctrl-C does; the same start resumes it. Returns whether there was a process."""
        if not self._lives(job):
            return False
        with suppress(ProcessLookupError):
            os.kill(job.pid, signal.SIGINT)
        return True

    def state(self, job: StartedRun) -> JobState:
        """How far a job is."""
        lives, session = self._lives(job), self._session(job, job.session)
        spent = sum(float(one["core_seconds"]) for one in self.sessions(job))
        directory = self.root.path / job.directory
        try:
            status = run_status(directory)
        except InputError:
            status = RunStatus(job.directory, job.stage, STARTING)
        status = replace(status, directory=job.directory)
        stopped_by = str(session.get("stopped_by", "")) if session else ""
        if session is None and lives:
            # Until the stage has claimed its directory, what lies there is of an earlier session.
            if status.state != RUNNING:
                status = RunStatus(job.directory, job.stage, STARTING, log=status.log)
            spent += max(0.0, (status.core_seconds or 0.0) - spent)
        elif session is None:
            status = replace(status, state=status.state if status.state in (RUNNING, FINISHED) else LOST)
        else:
            status = self._ended(job, status, session, stopped_by)
        return JobState(job, status, stopped_by, spent)

    def _ended(self, job: StartedRun, status: RunStatus, session: dict[str, Any], stopped_by: str) -> RunStatus:
        """The state of a run whose last session has ended, which its exit status tells."""
        if session["status"] == 0:
            return replace(status, state=FINISHED, problem="")
        if stopped_by or session["status"] in (130, -signal.SIGTERM, -signal.SIGINT):
            problem = f"stopped by {stopped_by}" if stopped_by == BUDGET else ""
            return replace(status, state=STOPPED, problem=problem, left_s=None)
        return replace(status, state=FAILED, problem=status.problem or self.last_line(job), left_s=None)

    def sessions(self, job: StartedRun) -> list[dict[str, Any]]:
        """What each ended session cost, and how it ended."""
        every = (self._session(job, number) for number in range(1, job.session + 1))
        return [session for session in every if session is not None]

    def output(self, job: StartedRun) -> Path:
        """The file with what the run printed."""
        return self.folder / job.id / OUTPUT

    def last_line(self, job: StartedRun) -> str:
        """The last line that a run printed, which names the problem of one that was refused."""
        try:
            with self.output(job).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
                lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return capped(lines[-1].removeprefix("understudy: "), 1000) if lines else ""

    def wait(self, job: StartedRun, seconds: float) -> JobState:
        """The state of a job once it has ended, or after some seconds."""
        until = time.monotonic() + seconds
        while True:
            state = self.state(job)
            if state.status.state in ENDED or time.monotonic() >= until:
                return state
            time.sleep(0.1)

    def _lives(self, job: StartedRun) -> bool:
        if (child := self._children.get(job.id)) is not None and child.pid == job.pid:
            # A child of this process that has ended remains until it is waited for.
            return child.poll() is None
        with suppress(psutil.Error):
            process = psutil.Process(job.pid) if job.pid else None
            # A later process may have the number of one that has ended.
            return process is not None and abs(process.create_time() - job.born) < 1 and process.status() != "zombie"
        return False

    def _session(self, job: StartedRun, number: int) -> dict[str, Any] | None:
        try:
            session = json.loads((self.folder / job.id / SESSION.format(number=number)).read_bytes())
        except (OSError, ValueError):
            return None
        return session if isinstance(session, dict) else None

    def _read(self, identity: str) -> StartedRun:
        facts = json.loads((self.folder / identity / JOB).read_bytes())
        return StartedRun(**{**facts, "arguments": tuple(facts["arguments"])})

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
