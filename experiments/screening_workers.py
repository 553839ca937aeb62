"""Parsing processes: chunks go in, numpy arrays come out, and a chunk that kills its process is narrowed down.

Each process is a fresh interpreter that imports RDKit but not JAX and talks over a socket pair. Arrays
travel as raw buffers beside the pickle that describes them (PEP 574), both ends being this program. When
the parent dies, however it dies, the socket closes and the processes end.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any, TypeVar

import numpy as np

from data.featurise import GraphTable
from experiments.screening_chunks import Chunk, Encoded, encode_chunk, rejected

#: Seconds in which an interpreter must have imported RDKit.
START_TIMEOUT_S = 300.0
#: A chunk may take this long, and this much more for each byte of it, before its process is killed.
CHUNK_TIMEOUT_S = 20.0
SECONDS_PER_BYTE = 1e-3
A = TypeVar("A")
B = TypeVar("B")
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from experiments.screening_workers import serve; serve(int(sys.argv[1]))"
)


class ParserPool:
    """Processes that parse chunks, as many at a time as there are `workers`.

    Args:
        workers: number of processes.
        niceness: added to theirs, so that the parent, which feeds the device, comes first.
        standardise: steps that each molecule takes before (`simulators.quantum.standardise`).
    """

    def __init__(self, workers: int, *, niceness: int = 0, standardise: tuple[str, ...] = ()) -> None:
        self._standardise = standardise
        self._niceness = niceness
        self._local = threading.local()
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="parser")
        self.workers = workers

    def start(self) -> None:
        """Start every process now rather than with its first chunk.

        Raises:
            RuntimeError: a process does not start; the message holds what it printed.
        """
        barrier = threading.Barrier(self.workers)

        def begin() -> None:
            lane = self._lane()
            barrier.wait(START_TIMEOUT_S)
            lane.handshake()

        for future in [self._threads.submit(begin) for _ in range(self.workers)]:
            future.result()

    def submit(self, chunk: Chunk) -> Future[Encoded]:
        """Parse a chunk in one of the processes."""
        return self._threads.submit(self._encode, replace(chunk, standardise=self._standardise))

    def close(self) -> None:
        """End the processes; chunks that are under way are dropped."""
        with self._lock:
            lanes = list(self._lanes)
        for lane in lanes:
            lane.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for lane in lanes:  # one that was being restarted just then
            lane.stop()

    def _lane(self) -> _Lane:
        lane: _Lane | None = getattr(self._local, "lane", None)
        if lane is None:
            lane = self._local.lane = _Lane(self._niceness)
            with self._lock:
                self._lanes.append(lane)
        return lane

    def _encode(self, chunk: Chunk) -> Encoded:
        lane = self._lane()
        try:
            return lane.encode(chunk)
        except _FailedError as failure:
            reason = str(failure)
        halves = chunk.halves()
        if halves is None:
            return rejected(chunk, reason)
        return _join([self._encode(half) for half in halves])


class _FailedError(Exception):
    """A process did not answer: it crashed, took too long, or raised."""


class _Lane:
    """One parsing process, started again when it dies; used by one thread."""

    def __init__(self, niceness: int) -> None:
        self._niceness = niceness
        self._stopped = False
        self._greeted = False
        self._start()

    def _start(self) -> None:
        ours, theirs = Pipe(duplex=True)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOT, str(theirs.fileno()), json.dumps(sys.path), str(self._niceness)],
            env=os.environ | threads,
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )
        theirs.close()
        self._connection = ours
        self._greeted = False

    def handshake(self) -> None:
        if self._greeted:
            return
        try:
            if not self._connection.poll(START_TIMEOUT_S):
                raise EOFError
            receive(self._connection)
        except (EOFError, OSError) as error:
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace").strip()
            self.stop()
            raise RuntimeError(f"a parsing process did not start: {said[-2000:]}") from error
        self._greeted = True

    def encode(self, chunk: Chunk) -> Encoded:
        if self._stopped:
            raise RuntimeError("the pool is closed")
        self.handshake()
        limit = CHUNK_TIMEOUT_S + SECONDS_PER_BYTE * len(chunk.data)
        try:
            send(self._connection, chunk)
            if not self._connection.poll(limit):
                self._restart()
                raise _FailedError(f"parsing took longer than {limit:.0f} s")
            ok, answer = receive(self._connection)
        except (EOFError, OSError) as error:
            if self._stopped:
                raise RuntimeError("the pool is closed") from error
            status = self._restart()
            raise _FailedError(f"the parser crashed ({status})") from error
        if not ok:
            raise _FailedError(f"the parser failed: {answer}")
        assert isinstance(answer, Encoded)
        return answer

    def _restart(self) -> str:
        self._end()
        status = self._process.returncode
        self._start()
        return signal.Signals(-status).name if status is not None and status < 0 else f"exit status {status}"

    def _end(self) -> None:
        self._connection.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def stop(self) -> None:
        self._stopped = True
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def serve(descriptor: int) -> None:
    """What a parsing process does: answer chunks until the parent closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.nice(int(sys.argv[3]))
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):
        send(connection, "jax" in sys.modules)
        while True:
            chunk = receive(connection)
            try:
                answer: tuple[bool, Any] = (True, encode_chunk(chunk))
            except Exception as error:
                traceback.print_exc()
                answer = (False, f"{type(error).__name__}: {error}")
            send(connection, answer)


def send(connection: Connection, value: object) -> None:
    """Send a value, its arrays as raw buffers that are not copied into a pickle."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    connection.send_bytes(len(buffers).to_bytes(4, "little") + head)
    for buffer in buffers:
        connection.send_bytes(buffer.raw())


def receive(connection: Connection) -> Any:
    """Receive what `send` sent."""
    head = connection.recv_bytes()
    buffers = [connection.recv_bytes() for _ in range(int.from_bytes(head[:4], "little"))]
    return pickle.loads(memoryview(head)[4:], buffers=buffers)


def in_order(items: Iterable[A], submit: Callable[[A], Future[B]], depth: int) -> Iterator[tuple[A, B]]:
    """Results in the order of `items`, with at most `depth` of them under way or waiting."""
    waiting: deque[tuple[A, Future[B]]] = deque()
    try:
        for item in items:
            waiting.append((item, submit(item)))
            if len(waiting) >= depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _join(parts: list[Encoded]) -> Encoded:
    sizes = np.cumsum([0] + [int(part.offsets[-1]) for part in parts])
    offsets = [part.offsets[:-1] + size for part, size in zip(parts, sizes[:-1], strict=True)]
    return Encoded(
        GraphTable.concat([part.table for part in parts]),
        np.concatenate([part.text for part in parts]),
        np.append(np.concatenate(offsets), sizes[-1]).astype(np.int32),
        np.concatenate([part.lines for part in parts]),
        [reject for part in parts for reject in part.rejects],
        None if parts[0].standard is None else [text for part in parts for text in part.standard or []],
    )
