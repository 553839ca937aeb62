"""The guard of a program: a small parent process that reliably ends the program and all of its descendants.

A campaign starts a guard, and the guard starts the program, a worker or a solver. On Linux the guard adopts orphaned
descendants (PR_SET_CHILD_SUBREAPER), so that none escapes by a new session or by forking twice. When the program ends,
when the guard is asked to end, or when its parent dies, it kills all descendants, removes the scratch directory, and
reports over a socket how the program ended. The kernel closes the socket when the parent dies, even by `kill -9`.

Other systems have no subreapers: a descendant is reached only while its parents live, so that daemons escape.

The module imports only the standard library and `data.processes.descendants`, so that a guard starts in milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from data.processes.descendants import adopt_orphans, end_descendants, end_with_parent

#: Commands over the socket: kill the program at once, or wait briefly for a program that is about to end.
KILL, ENDING = b"k", b"e"
#: Time that a program which is about to end gets, s.
ENDING_S = 2.0
#: Time limit for killed processes to disappear, s.
GONE_S = 5.0
#: Number of last output bytes of a program that are kept.
TAIL = 2000
#: Exit status of a program that could not be started.
NOT_STARTED = 127


def guard(settings: Mapping[str, Any]) -> None:
    """Become the guard of a program; this returns only in the process of the program, never in the guard.

    Args:
        settings: `parent`: id of the parent process; `control`: descriptor of the socket; `scratch`: directory that is
            removed in the end, or None; `private`: descriptors that only the guard keeps; `handed`: descriptors that
            only the program keeps; `log`: descriptor of a file for the output, or None; `printed`: largest size of the
            output, bytes, or None; `file_bytes`: size of the largest file that the program may write, or None.
    """
    _Guard(settings).start()


class _Guard:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.control = socket.socket(fileno=settings["control"])
        self.code: int | None = None
        self.tail = b""
        self.printed = 0
        self.stopped = False
        self.trouble = ""

    def start(self) -> None:
        for private in (self.control.fileno(), *self.settings["private"]):
            os.set_inheritable(private, False)
        adopt_orphans()
        self.output, theirs = os.pipe()
        self.wake, waking = os.pipe()
        for number in (self.wake, waking, self.output):
            os.set_blocking(number, False)
        signal.set_wakeup_fd(waking)
        # Ctrl-C is the parent's to handle, and so is what a queue sends to all processes before a job is over.
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        if os.getppid() != self.settings["parent"]:
            self._end()
        # The socket also closes when the parent dies, unless a process that it forked has a copy of the other end.
        end_with_parent(self.settings["parent"], signal.SIGTERM)
        above = os.getpid()
        self.program = os.fork()
        if self.program == 0:
            self._become_program(above, theirs, waking)
            return
        for number in (theirs, *self.settings["handed"]):
            os.close(number)
        try:
            self._watch()
        finally:
            self._end()

    def _become_program(self, above: int, output: int, waking: int) -> None:
        """Prepare the child process before it becomes the program."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        # In a separate session, signals that the program sends to its group do not reach the guard.
        os.setsid()
        end_with_parent(above)
        for stream in (1, 2):
            os.dup2(output, stream)
        for number in (output, self.output, self.wake, waking, *self.settings["private"]):
            os.close(number)
        self.control.close()
        # Core dumps are large and not needed.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = self.settings["file_bytes"]
        if limit is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = True

    def _watch(self) -> None:
        """Wait until the program has ended or has to be killed."""
        poll = select.poll()
        for number in (self.control.fileno(), self.wake, self.output):
            poll.register(number, select.POLLIN)
        deadline = float("inf")
        while not self.stopped and self.code is None and time.monotonic() < deadline:
            left = None if deadline == float("inf") else max(0.0, deadline - time.monotonic()) * 1000
            ready = dict(poll.poll(left))
            if self.wake in ready:
                os.read(self.wake, 4096)
                self._reap()
            if self.control.fileno() in ready:
                if self.control.recv(1) != ENDING:
                    return
                deadline = time.monotonic() + ENDING_S
            if self.output in ready and not self._drain():
                poll.unregister(self.output)
            if self.trouble or self._over():
                return

    def _over(self) -> bool:
        limit = self.settings["printed"]
        return limit is not None and self.printed > limit

    def _reap(self) -> None:
        """Reap ended processes, including adopted orphans."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self.program:
                    self.code = os.waitstatus_to_exitcode(status)

    def _drain(self) -> bool:
        """Read some of the output; returns whether more may follow."""
        try:
            text = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return True
        self.printed += len(text)
        self.tail = (self.tail + text)[-TAIL:]
        if self.settings["log"] is not None and not self._over():
            self._write(memoryview(text))
        return bool(text)

    def _write(self, text: memoryview) -> None:
        try:
            while text:
                text = text[os.write(self.settings["log"], text) :]
        except OSError as error:
            self.trouble = f"its log cannot be written: {error.strerror}"

    def _end(self) -> None:
        """Kill all descendants, clean up, and report how the program ended."""
        end_descendants(GONE_S)
        with suppress(OSError):
            for _ in range(64):  # a pipe holds no more
                if self.settings["printed"] is not None and self._over():
                    break
                before = self.printed
                self._drain()
                if self.printed == before:
                    break
        if self.settings["scratch"] is not None:
            remove_tree(self.settings["scratch"])
        said = self.tail.decode("utf-8", "replace").strip()
        report = {"code": self.code, "said": said, "over": self._over(), "trouble": self.trouble}
        with suppress(OSError):
            self.control.sendall(json.dumps(report).encode())
        os._exit(0)


def become(command: Sequence[str]) -> NoReturn:
    """Replace this process by a program, with the signal handlers that a shell would set."""
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(command[0], list(command))
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode())
        os._exit(NOT_STARTED)


def remove_tree(path: str) -> None:
    """Remove a directory with its content, including unreadable directories; links are not followed."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        for folder, _, _ in os.walk(path):
            with suppress(OSError):
                os.chmod(folder, 0o700)
        shutil.rmtree(path, ignore_errors=True)
