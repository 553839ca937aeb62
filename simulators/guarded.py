"""The parent's end of a guard: starts a program below it, asks for its end, and learns how that was.

See `simulators.guard` for what the guard does.
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

from data.descendants import descendants, kill, kill_descendants
from data.processor import living_seconds, usage_seconds
from simulators.guard import ENDING, ENDING_S, GONE_S, KILL
from simulators.scratch import MARK, Scratch, marked_processes

#: Seconds that a guard itself may take beyond those it waits for others.
GUARD_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a program below a guard ended.

    Attributes:
        code: exit status, minus the number of the signal that killed it; None: the guard killed it.
        said: the last that it printed.
        over: whether it was killed because it printed more than it may.
        trouble: why else it was killed; "" for no reason of its own.
        core_seconds: processor time of the program, of all that it started, and of the guard.
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
        boot: Python code that ends in the program; it runs in the process that `guard` returns in.
        arguments: of that code, in `sys.argv` behind the settings of the guard.
        isolated: whether Python reads neither its environment nor what is installed beside its library.
        env: environment of the program.
        folder: working directory; None: this process's.
        scratch: a directory for temporary files, which is removed with the program.
        handed: descriptors for the program; they are closed here.
        log: a file for what it prints; None: only the last of that is kept.
        printed: bytes that it may print at most.
        file_bytes: size of the largest file that it may write.
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
                # Out of the reach of Ctrl-C and of signals to this process's group.
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
        # It speaks once, when all has ended.
        try:
            self._control.settimeout(0.0)
            self._control.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def wait(self, limit_s: float) -> Ended | None:
        """How the program ended; None if it has not within so many seconds."""
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
        """Ask the guard to kill everything, without waiting for it."""
        self._tell(KILL)

    def kill(self) -> Ended:
        """Kill everything, at once; again is once."""
        self._tell(KILL)
        return self._finish(GONE_S + GUARD_S)

    def end(self) -> Ended:
        """How a program ended that is about to; what has not ended in a moment is killed."""
        self._tell(ENDING)
        return self._finish(ENDING_S + GONE_S + GUARD_S)

    def _tell(self, word: bytes) -> None:
        with suppress(OSError):
            self._control.send(word)

    def _finish(self, limit_s: float) -> Ended:
        ended = self.wait(limit_s)
        if ended is None:
            # A guard that was halted from outside, or that waits for what no signal ends.
            kill_descendants(self.process.pid)
            kill([self.process.pid])
            self._bury()
        assert self.ended is not None
        return self.ended

    def _bury(self) -> None:
        """Take leave of the guard, which has ended or ends just now."""
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
