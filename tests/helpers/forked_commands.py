"""The command `understudy` in a process that is forked from one that has imported everything.

A new interpreter imports for two to three seconds of processor time before it runs a stage; a fork begins at once. What
it runs is `experiments.cli.main` with the arguments, standard streams, environment and directory that it is given; it
is a process of its own, which may be killed. That the command starts by itself, too, is shown by test_cli.py.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

#: What is imported once; JAX starts its threads with its first array, so that none of these starts one. A process of
#: multiprocessing imports the main module again, which is that of pytest.
STAGES = ("active", "evaluate", "pipeline", "screen", "train")
MODULES = ["pytest", *(f"experiments.stages.{name}" for name in STAGES), "frozen_imports"]
_FORKS = multiprocessing.get_context("forkserver")
#: The process whose server of forks this module knows.
_OWNER = [os.getpid()]


class Command:
    """A running command, with what tests use of `subprocess.Popen`; its two streams are one unless told apart.

    Args:
        arguments: those of `understudy`.
        cwd: the directory that it runs in; None: this process's.
        environment: of the process; None: this process's.
        apart: whether standard error is kept from standard output.
        prepare: called in the process first.
    """

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        apart: bool = False,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self._streams = tempfile.TemporaryDirectory(prefix="understudy-command-")
        self._out = Path(self._streams.name) / "out"
        self._err = Path(self._streams.name) / "err" if apart else self._out
        for path in (self._out, self._err):
            path.touch()
        _forget_server_of_parent()
        _FORKS.set_forkserver_preload(MODULES)
        self._process = _FORKS.Process(
            target=_command,
            args=([str(a) for a in arguments], str(cwd or Path.cwd()), dict(environment or os.environ), prepare,
                  str(self._out), str(self._err)),
        )  # fmt: skip
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status; minus the number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; `subprocess.TimeoutExpired` if it runs on, which is then killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.send_signal(signal.SIGKILL)
            raise subprocess.TimeoutExpired("understudy", timeout or 0.0, self.said[0], self.said[1])
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def said(self) -> tuple[str, str]:
        """What it wrote to standard output, and to standard error where that is apart."""
        out = self._out.read_text(encoding="utf-8", errors="replace")
        return out, self._err.read_text(encoding="utf-8", errors="replace") if self._err != self._out else ""

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote, after its end."""
        self.wait(timeout)
        return self.said


def _forget_server_of_parent() -> None:
    """Let a fork of the process that has started the server start its own: it cannot wait for a process beside it."""
    if _OWNER[0] != os.getpid():
        _OWNER[0] = os.getpid()
        forkserver._forkserver.__init__()  # type: ignore[attr-defined, misc]


def understudy(*arguments: str | Path, cwd: Path | None = None, timeout: float = 1200) -> subprocess.CompletedProcess:
    """Run the command to its end, as `subprocess.run` does with `capture_output` and `text`."""
    command = Command(*arguments, cwd=cwd, apart=True)
    out, err = command.communicate(timeout)
    assert command.returncode is not None
    return subprocess.CompletedProcess(["understudy", *map(str, arguments)], command.returncode, out, err)


def endings(commands: Sequence[Sequence[str]], cwd: Path) -> list[tuple[int, str]]:
    """The exit status of each of several commands and what it wrote to standard error.

    One fork runs all of them, one after the other; they are to be commands that are refused.
    """
    with tempfile.TemporaryDirectory(prefix="understudy-endings-") as folder:
        written = Path(folder) / "endings.json"
        run = functools.partial(_run_all, [list(command) for command in commands], written)
        done = Command("--version", cwd=cwd, prepare=run)
        assert done.wait(1200) == 0, done.said
        return [(status, said) for status, said in json.loads(written.read_text())]


def _run_all(commands: list[list[str]], written: Path) -> None:
    from experiments.cli import main

    ended = []
    for arguments in commands:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(arguments)
        ended.append([status, said.getvalue()])
    written.write_text(json.dumps(ended))


def _command(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    prepare: Callable[[], object] | None,
    out: str,
    err: str,
) -> None:
    """Runs in the fork: it becomes the command, and ends as an interpreter does."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    opened = os.open(out, os.O_WRONLY | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened if err == out else os.open(err, os.O_WRONLY | os.O_APPEND), 2)
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, open(number, "w", buffering=1, encoding="utf-8", closefd=False))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if prepare is not None:
        prepare()
    status = 1
    try:
        from experiments.cli import main

        status = main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
