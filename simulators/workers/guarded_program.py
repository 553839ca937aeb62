"""The parent's side of a guard: starts a program below it, ends it, and receives the report.

See `simulators.workers.guard` for the guard itself.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.processes.descendants import descendants, kill, kill_descendants
from data.processes.processor import living_seconds, usage_seconds
from simulators.workers.guard import ENDING, ENDING_S, GONE_S, KILL
from simulators.workers.scratch import MARK, Scratch, marked_processes

#: Time that a guard may take beyond its own waiting times, s.
GUARD_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a program below a guard ended.

    Attributes:
        code: exit status, or minus the number of the signal that killed it; None: the guard killed it.
        said: end of its output.
        over: whether it was killed because its output exceeded the limit.
        trouble: another reason for which it was killed; "" if there is none.
        core_seconds: processor time of the program, of all its descendants and of the guard, s.
    """

    code: int | None
    said: str
    over: bool
    trouble: str
    core_seconds: float

    @property
    def how(self) -> str:
        """Such as "SIGSEGV" or "exit status 3"."""
        if self.code is None:
            return self.trouble or "SIGKILL"
        if self.code >= 0:
            return f"exit status {self.code}"
        if -self.code == signal.SIGXFSZ:
            return "SIGXFSZ: it wrote a larger file than it may"
        try:
            return signal.Signals(-self.code).name
        except ValueError:  # a signal of real time
            return f"signal {-self.code}"


@dataclass
class Guarded:
    """A program below a guard.

    Attributes:
        boot: Python code that calls `guard` and then becomes the program.
        arguments: arguments of that code, in `sys.argv` after the settings of the guard.
        isolated: whether Python ignores its environment variables and site packages.
        env: environment of the program.
        folder: working directory; None: that of this process.
        scratch: directory for temporary files, which is removed with the program.
        handed: descriptors for the program, which are closed in this process.
        log: file for the output; None: only the end of the output is kept.
        printed: largest size of the output, bytes; None: no limit.
        file_bytes: size of the largest file that it may write, bytes; None: no limit.
    """

    boot: str
    arguments: Sequence[str]
    env: Mapping[str, str]
    isolated: bool = False
    folder: Path | None = None
    scratch: Scratch | None = None
    handed: Sequence[int] = ()
    log: Path | None = None
    printed: int | None = None
    file_bytes: int | None = None
    process: subprocess.Popen[bytes] = field(init=False)
    ended: Ended | None = field(init=False, default=None)
    _control: socket.socket = field(init=False)
    _report: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self._control, theirs = socket.socketpair()
        private = [] if self.scratch is None else [self.scratch.lock]
        log = None if self.log is None else os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        if log is not None:
            private.append(log)
        settings = {
            "parent": os.getpid(),
            "control": theirs.fileno(),
            "scratch": None if self.scratch is None else str(self.scratch.root),
            "private": private,
            "handed": list(self.handed),
            "log": log,
            "printed": self.printed,
            "file_bytes": self.file_bytes,
        }
        mark = {} if self.scratch is None else {MARK: str(self.scratch.root), "TMPDIR": str(self.scratch.files)}
        python = [sys.executable, *(["-I", "-S"] if self.isolated else []), "-c"]
        try:
            self.process = subprocess.Popen(
                [*python, self.boot, json.dumps(settings), *self.arguments],
                env={**self.env, **mark},
                cwd=self.folder,
                pass_fds=(theirs.fileno(), *private, *self.handed),
                stdin=subprocess.DEVNULL,
                # Ctrl-C and signals to the group of this process do not reach it.
                start_new_session=True,
            )
        except BaseException:
            self._control.close()
            if self.scratch is not None:
                self.scratch.close()
            raise
        finally:
            theirs.close()
            for descriptor in (*self.handed, *([] if log is None else [log])):
                os.close(descriptor)

    def descendants(self) -> list[int]:
        """Living processes of the program, without the guard."""
        return descendants(self.process.pid)

    def core_seconds_so_far(self) -> float:
        """Processor time while the program lives, in ticks of about 0.01 s (s)."""
        return living_seconds([self.process.pid, *self.descendants()])

    def done(self) -> bool:
        """Whether the program and its guard have ended; `wait` says how."""
        if self.ended is not None:
            return True
        # The guard sends its report once, when all has ended.
        try:
            self._control.settimeout(0.0)
            self._control.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def wait(self, limit_s: float) -> Ended | None:
        """Wait for the end of the program; None if it has not ended after `limit_s` seconds."""
        deadline = time.monotonic() + limit_s
        while self.ended is None:
            self._control.settimeout(max(1e-3, deadline - time.monotonic()))
            try:
                part = self._control.recv(1 << 16)
            except TimeoutError:
                return None
            except OSError:
                part = b""
            self._report += part
            if not part:
                self._bury()
        return self.ended

    def tell_to_end(self) -> None:
        """Ask the guard to kill the program and its descendants, without waiting."""
        self._tell(KILL)

    def kill(self) -> Ended:
        """Kill the program and its descendants at once; repeated calls have no effect."""
        self._tell(KILL)
        return self._finish(GONE_S + GUARD_S)

    def end(self) -> Ended:
        """Wait for a program that is about to end; it is killed if it takes too long."""
        self._tell(ENDING)
        return self._finish(ENDING_S + GONE_S + GUARD_S)

    def _tell(self, word: bytes) -> None:
        with suppress(OSError):
            self._control.send(word)

    def _finish(self, limit_s: float) -> Ended:
        ended = self.wait(limit_s)
        if ended is None:
            # The guard was stopped from outside, or waits for a process that no signal ends.
            kill_descendants(self.process.pid)
            kill([self.process.pid])
            self._bury()
        assert self.ended is not None
        return self.ended

    def _bury(self) -> None:
        """Reap the guard, which has ended or is ending, and read its report."""
        before = living_seconds(self.descendants())
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self._control.close()
        try:
            report: dict[str, Any] = json.loads(self._report)
        except ValueError:
            report = {"code": None, "said": "", "over": False, "trouble": "its guard was killed from outside"}
            if self.scratch is not None:
                kill(marked_processes(self.scratch.root))
        self.ended = Ended(**report, core_seconds=usage_seconds(usage) + (before if report["trouble"] else 0.0))
        if self.scratch is not None:
            self.scratch.close()
