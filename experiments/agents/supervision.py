"""A process beside a run that was started for a program: it stops the run at its limit, and records what it cost.

It lives as long as the run, whether the server that started it lives or not. Ctrl-C and SIGTERM to it stop the run as
Ctrl-C does, so that the same command resumes it.

    python -m experiments.agents.supervision FOLDER
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from data.files import write_json
from data.processes.descendants import descendants, kill_descendants
from data.processes.processor import living_seconds, usage_seconds

JOB, OUTPUT, SESSION = "job.json", "output.txt", "session-{number}.json"
#: Signals that stop a run.
STOPS = (signal.SIGINT, signal.SIGTERM)
#: Seconds between two looks at what the run has cost.
POLL_S = 0.25
#: Seconds that a run has to write its last checkpoint, before it is killed.
GRACE_S = 60.0
#: Why a run was stopped.
BUDGET, ASKED = "its limit of processor time", "a call"


def supervise(folder: Path) -> int:
    """Run the command of a job until it ends, and write its session beside it.

    Args:
        folder: folder of the job.

    Returns:
        Exit status of the command; negative for a signal that ended it.
    """
    job: dict[str, Any] = json.loads((folder / JOB).read_bytes())
    reasons: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        reasons.append(ASKED)

    for number in STOPS:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    began, limit = time.time(), job.get("max_core_seconds")
    with (folder / OUTPUT).open("ab") as output:
        # -P: no module is imported from the folder of the runs.
        command = [sys.executable, "-P", "-m", "understudy", job["stage"], *job["arguments"]]
        # Standard input is empty; what a run prints is kept beside it.
        process = subprocess.Popen(command, cwd=job["cwd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    stopped_at: float | None = None
    while True:
        try:
            process.wait(POLL_S)
            break
        except subprocess.TimeoutExpired:
            pass
        if limit is not None and not reasons and _spent() > limit:
            reasons.append(BUDGET)
        if reasons and stopped_at is None:
            stopped_at = time.monotonic()
            # To a stage this is Ctrl-C; its workers end with it.
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        if stopped_at is not None and time.monotonic() - stopped_at > GRACE_S:
            kill_descendants(os.getpid())
    session = {
        "started": began,
        "ended": time.time(),
        "status": process.returncode,
        "stopped_by": reasons[0] if reasons else "",
        "core_seconds": usage_seconds(resource.getrusage(resource.RUSAGE_CHILDREN)),
    }
    write_json(folder / SESSION.format(number=job["session"]), session, listed=False)
    return process.returncode


def _spent() -> float:
    """Processor time of the run so far: of what has ended and was waited for, and of what lives."""
    return usage_seconds(resource.getrusage(resource.RUSAGE_CHILDREN)) + living_seconds(descendants(os.getpid()))


if __name__ == "__main__":
    sys.exit(0 if supervise(Path(sys.argv[1])) == 0 else 1)
