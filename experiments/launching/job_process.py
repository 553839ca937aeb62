"""The process of a command within a job of a batch system: it stops as by Ctrl-C when the time of the job is over.

SLURM announces that to every process of a job step, also to those that a command starts: to parsers, guards and
simulators, which such a signal would kill. Here only the process of submitit takes notice. It asks the command to stop
by SIGTERM, and that ends its step, writes its state and ends what it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from data.processes.descendants import end_with_parent

#: The variable by which submitit is told what announces the end of a job, and what it takes without it.
ANNOUNCEMENT, DEFAULT = "SUBMITIT_PREEMPT_SIGNAL", "USR2"
#: Exit status of a command that was stopped and resumes.
STOPPED_STATUS = 130
#: The process that this job runs, if any.
_RUNNING: list[subprocess.Popen[bytes]] = []


def run_understudy(
    arguments: Sequence[str],
    *,
    folder: str | None = None,
    environment: Mapping[str, str] | None = None,
    alone: bool = False,
) -> int:
    """Run `understudy` with these arguments in a process of its own, which ends with this one; its exit status.

    Args:
        arguments: of the command, the stage first.
        folder: its working directory; None: that of this process.
        environment: its variables; None: those of this process.
        alone: whether Ctrl-C on the terminal does not reach it; this process then passes it on.

    Raises:
        BaseException: what ended the wait, such as KeyboardInterrupt, once the command has stopped.
    """
    parent, announcement = os.getpid(), announcing_signal()

    def prepare() -> None:
        # What is ignored stays ignored in all processes below.
        signal.signal(announcement, signal.SIG_IGN)
        end_with_parent(parent, signal.SIGTERM)

    process = subprocess.Popen(
        [sys.executable, "-m", "understudy", *arguments],
        cwd=folder,
        env=environment,
        start_new_session=alone,
        preexec_fn=prepare,
    )
    _RUNNING[:] = [process]
    try:
        return process.wait()
    except BaseException:
        stop_understudy()
        raise


def stop_understudy() -> None:
    """Ask the command that runs in this job to stop, and wait until it has; also from a handler of a signal."""
    for process in _RUNNING:
        if process.returncode is None:
            # `Popen.wait` may be what the handler interrupts: it holds a lock, and is left to collect the process.
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(process.pid, signal.SIGTERM)
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def announcing_signal() -> signal.Signals:
    """What submitit takes as the announcement that the time of a job is over."""
    return signal.Signals[f"SIG{os.environ.get(ANNOUNCEMENT, DEFAULT)}"]
