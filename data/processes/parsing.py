"""Parsing processes: rows that come from a file are read in a process that may crash, hang or run out of memory.

Each process is a fresh interpreter that imports RDKit but not JAX and talks over a socket pair. Questions are pickled:
a function travels by its name and arrays as raw buffers (PEP 574). Answers come from a process that may have been taken
over by a foreign file, and are data alone (`data.processes.wire`). When the parent dies, however it dies, the socket
closes and the processes end. The row that a process dies of is known (`data.processes.row_watch`), so that it costs
itself and no other.
"""

from __future__ import annotations

import atexit
import json
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any, TypeVar

from data.processes import row_watch
from data.processes.processor import living_seconds
from data.processes.wire import GarbledAnswerError, unpack

#: Seconds in which an interpreter must have imported RDKit.
START_TIMEOUT_S = 300.0
#: A process that uses no processor time is ended after this many times the time that a row may take, by the clock.
WAITING = 10.0
#: Most rows, and bytes of rows, that go to a process at a time.
MESSAGE_ROWS = 1024
MESSAGE_BYTES = 1 << 22
#: Signals that come from outside, as of a machine that runs out of memory: the row is tried once more.
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from data.processes.parsing_process import serve; serve(json.loads(sys.argv[2]))"
)
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class RowLimits:
    """Limits of the resources that one row may use.

    Attributes:
        seconds: processor time of one row (s).
        memory_mb: private memory of a parsing process, in 10^6 bytes.
    """

    seconds: float = 10.0
    memory_mb: int = 4000


LIMITS = RowLimits()


@dataclass(frozen=True)
class Lost:
    """Stands for the answer to a row that no process could parse, and says why."""

    reason: str


class DiedError(Exception):
    """A process did not answer: it crashed, took too long, or raised.

    Attributes:
        reason: for people.
        row: the number given to `row_watch.begin` of the row at fault; None where it is not known.
        shared: whether the rows before it may have had a part in it, as in running out of memory.
        name: name of that row, if it has one.
        ending: how the process ended, such as "SIGSEGV"; empty if it did not end by itself.
    """

    def __init__(
        self, reason: str, row: int | None = None, *, shared: bool = False, name: str = "", ending: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason, self.row, self.shared, self.name, self.ending = reason, row, shared, name, ending


class Lane:
    """One parsing process, started with its first work and again when it dies; used by one thread.

    Args:
        limits: of each row.
        niceness: added to that of the process.
        modules: that the process imports before its first work.
    """

    def __init__(
        self, limits: RowLimits = LIMITS, *, niceness: int = 0, modules: Sequence[str] = ("data.molecules.featurise",)
    ) -> None:
        self._limits, self._niceness, self._modules = limits, niceness, list(modules)
        self._stopped = self._ready = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process now, and wait for it; one that dies meanwhile is started once more.

        Raises:
            RuntimeError: it dies again, or the lane is stopped; the message holds what it printed.
        """
        if self._process is not None and self._ready:
            return
        if self._process is not None:  # an interrupt came while it started
            self._end(wait_s=0.0)
        for _ in range(2):
            if self._stopped:
                raise RuntimeError("the parsing processes are closed")
            self._launch()
            try:
                if self._connection.poll(START_TIMEOUT_S):
                    _receive(self._connection)
                    self._ready = True
                    return
            except (EOFError, OSError, GarbledAnswerError):
                pass
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace").strip()
            how = self._end()
        raise RuntimeError(f"a parsing process does not start ({how}): {said[-2000:]}")

    def ask(self, work: Callable[[T], R], argument: T) -> R:
        """What `work`, a function of a module, answers to `argument` in the process.

        Raises:
            DiedError: there is no answer.
            RuntimeError: the process does not start, or the lane is stopped.
        """
        try:
            return self._ask(work, argument)
        except _KilledError:
            pass
        try:
            return self._ask(work, argument)
        except _KilledError as again:
            raise DiedError(again.reason, again.row, name=again.name, ending=again.ending) from again

    def _ask(self, work: Callable[[T], R], argument: T) -> R:
        self.start()
        row_watch.PAGE.pack_into(self._page, 0, 0, row_watch.NO_ROW, b"")
        try:
            _send(self._connection, (work, argument))
            if not self._await_answer():
                row, name = self._row()
                self._end(wait_s=0.0)
                reason = f"the parser waits for longer than {WAITING * self._limits.seconds:.3g} s"
                raise DiedError(reason, row, name=name)
            failure, answer, (row, name) = _receive(self._connection)
        except (EOFError, OSError) as error:
            if self._stopped:
                raise RuntimeError("the parsing processes are closed") from error
            raise self._obituary() from error
        except GarbledAnswerError as error:
            row, name = self._row()
            self._end(wait_s=0.0)
            raise DiedError(f"the parser failed: {error}", row, name=name) from error
        except BaseException:
            # After an interrupt its answer would be taken for that to the next question.
            if self._process is not None:
                self._end(wait_s=0.0)
            raise
        if failure:
            raise DiedError(failure, None if row == row_watch.NO_ROW else row, shared=answer, name=name)
        return answer

    def _await_answer(self) -> bool:
        """Wait for the answer; False when one row takes long by the clock and no processor time, which has its limit.

        The clock alone could not distinguish a process that hangs from one on a busy machine.
        """
        assert self._process is not None
        before, since = (-1, -1.0), time.monotonic()
        while not self._connection.poll(min(1.0, self._limits.seconds)):
            now = (row_watch.PAGE.unpack_from(self._page)[0], living_seconds([self._process.pid]))
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > WAITING * self._limits.seconds:
                return False
        return True

    def _row(self) -> tuple[int | None, str]:
        """The number of the row that was begun last, if it has one, and its name."""
        row, name = row_watch.read(self._page)
        return None if row == row_watch.NO_ROW else row, name

    def _obituary(self) -> DiedError:
        row, name = self._row()
        how = self._end()
        if how == signal.SIGPROF.name:
            seconds = self._limits.seconds * (1.0 if row is not None else row_watch.FACTOR)
            reason = f"parsing it takes longer than {seconds:.3g} s of processor time"
            return DiedError(reason, row, name=name, ending=how)
        outside = how in [s.name for s in FROM_OUTSIDE]
        return (_KilledError if outside else DiedError)(f"the parser crashed ({how})", row, name=name, ending=how)

    def _launch(self) -> None:
        ours, theirs = Pipe(duplex=True)
        page = os.memfd_create("understudy-rows")
        os.ftruncate(page, row_watch.PAGE.size)
        self._page = mmap.mmap(page, row_watch.PAGE.size)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        settings = {
            "descriptor": theirs.fileno(),
            "page": page,
            "niceness": self._niceness,
            "modules": self._modules,
            "seconds": self._limits.seconds,
            "memory_mb": self._limits.memory_mb,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOT, json.dumps(sys.path), json.dumps(settings)],
            env=os.environ | threads,
            pass_fds=(theirs.fileno(), page),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        theirs.close()
        os.close(page)
        self._connection = ours

    def _end(self, wait_s: float = 1.0) -> str:
        """End the process, after waiting for its own end, and say how it ended."""
        assert self._process is not None
        self._connection.close()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        status = self._process.returncode
        self._errors.close()
        self._page.close()
        self._process, self._ready = None, False
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def stop(self) -> None:
        """End the process for good, also while another thread waits for it."""
        self._stopped = True
        process = self._process
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()


def _send(connection: Connection, question: object) -> None:
    """Send a question, its arrays as raw buffers that are not copied into a pickle."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(question, protocol=5, buffer_callback=buffers.append)
    connection.send_bytes(len(buffers).to_bytes(4, "little") + head)
    for buffer in buffers:
        connection.send_bytes(buffer.raw())


def _receive(connection: Connection) -> Any:
    """Receive an answer."""
    parts = int.from_bytes(connection.recv_bytes(), "little")
    head = connection.recv_bytes()
    # A bytearray, so that the arrays over it can be written to.
    return unpack(head, [bytearray(connection.recv_bytes()) for _ in range(parts - 1)])


class _KilledError(DiedError):
    """A process was ended from outside."""


def each(
    work: Callable[[T], R], rows: Sequence[T], *, size: Callable[[Any], int] = len, lane: Lane | None = None
) -> list[R | Lost]:
    """What `work` answers to each of the rows, and `Lost` for those that no process could parse.

    Args:
        work: a function of a module, or a `functools.partial` of one.
        rows: plain data.
        size: bytes of a row, roughly.
        lane: the parsing process; None for the one that this program shares.
    """
    answers: list[R | Lost] = []
    for some in messages(rows, size):
        for part in answers_in_parts(_each, some, before=work, lane=lane):
            answers += [part] if isinstance(part, Lost) else part
    return answers


def ask(work: Callable[[T], R], argument: T) -> R:
    """What `work` answers to `argument` in the process that this program shares.

    Raises:
        DiedError: there is no answer.
    """
    with _LOCK:
        return _shared_lane().ask(work, argument)


def answers_in_parts(
    work: Callable[[tuple[Any, Sequence[T]]], R], rows: Sequence[T], *, before: Any = None, lane: Lane | None = None
) -> Iterator[R | Lost]:
    """What `work` answers to (`before`, rows), in parts around the rows that no process could parse, in order."""
    if lane is None:
        with _LOCK:
            yield from list(_answers_in_parts(_shared_lane(), work, rows, before))
    else:
        yield from _answers_in_parts(lane, work, rows, before)


def _answers_in_parts(
    lane: Lane, work: Callable[[tuple[Any, Sequence[T]]], R], rows: Sequence[T], before: Any
) -> Iterator[R | Lost]:
    parts: list[Sequence[T] | Lost] = [rows]
    while parts:
        part = parts.pop()
        if isinstance(part, Lost):
            yield part
            continue
        if not len(part):
            continue
        try:
            yield lane.ask(work, (before, part))
        except DiedError as death:
            at = death.row
            if len(part) == 1:
                yield Lost(death.reason)
            elif at is None or not 0 <= at < len(part):
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                alone = part[at : at + 1] if death.shared else Lost(death.reason)
                parts += [part[at + 1 :], alone, part[:at]]


def messages(rows: Sequence[T], size: Callable[[Any], int] = len) -> Iterator[Sequence[T]]:
    """Rows in pieces of at most `MESSAGE_ROWS` rows and, but for single rows, `MESSAGE_BYTES` bytes."""
    first, total = 0, 0
    for i, row in enumerate(rows):
        more = size(row)
        if i > first and (i - first == MESSAGE_ROWS or total + more > MESSAGE_BYTES):
            yield rows[first:i]
            first, total = i, 0
        total += more
    if first < len(rows):
        yield rows[first:]


def _each(order: tuple[Callable[[T], R], Sequence[T]]) -> list[R | Lost]:
    """Runs in the process: one row after the other."""
    work, rows = order
    answers: list[R | Lost] = []
    for i, row in enumerate(rows):
        row_watch.begin(i)
        try:
            answers.append(work(row))
        except MemoryError:
            raise
        except Exception as error:
            answers.append(Lost(f"the parser failed: {type(error).__name__}: {error}"))
    return answers


class SharedLane:
    """A parsing process that a program shares, started with its first work; a program that was forked has its own.

    Args:
        make: makes the lane.
    """

    def __init__(self, make: Callable[[], Lane]) -> None:
        self._make, self._owner = make, 0
        self._lane: Lane | None = None

    def __call__(self) -> Lane:
        """The lane of this program."""
        if self._lane is None or self._owner != os.getpid():
            self._lane, self._owner = self._make(), os.getpid()
            atexit.register(self._lane.stop)
        return self._lane


_LOCK = threading.RLock()
_shared_lane = SharedLane(Lane)
