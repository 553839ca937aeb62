"""Processes that parse chunks into numpy arrays; a chunk that kills its process is halved until its row is found."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from data.molecules.graph_tables import GraphTable
from data.processes.parsing import LIMITS, START_TIMEOUT_S, DiedError, Lane, RowLimits
from experiments.screening.candidate_chunks import Chunk, Encoded, encode_chunk, reject_chunk

A = TypeVar("A")
B = TypeVar("B")


class ParserPool:
    """Processes that parse chunks, as many at a time as there are `workers`.

    Args:
        workers: number of processes.
        niceness: increment of their niceness, so that the parent, which feeds the device, has priority.
        standardise: steps of standardisation of each molecule (`simulators.chemistry.standardise`).
        limits: limits on the time and memory of each row.
    """

    def __init__(
        self, workers: int, *, niceness: int = 0, standardise: tuple[str, ...] = (), limits: RowLimits = LIMITS
    ) -> None:
        self._standardise = standardise
        self._niceness, self._limits = niceness, limits
        self._local = threading.local()
        self._lanes: list[Lane] = []
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
            # Each thread takes one of these jobs, and keeps its process.
            barrier.wait(START_TIMEOUT_S)
            lane.start()

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

    def _lane(self) -> Lane:
        lane: Lane | None = getattr(self._local, "lane", None)
        if lane is None:
            modules = ("experiments.screening.candidate_chunks", "data.molecules.featurise")
            lane = self._local.lane = Lane(self._limits, niceness=self._niceness, modules=modules)
            with self._lock:
                self._lanes.append(lane)
        return lane

    def _encode(self, chunk: Chunk) -> Encoded:
        try:
            return self._lane().ask(encode_chunk, chunk)
        except DiedError as death:
            line, reason, shared = death.row, death.reason, death.shared
        if line is not None and not shared:
            # The row at fault is rejected from now on.
            chunk = chunk.losing(line, reason)
        halves = chunk.halves()
        if halves is None:
            return reject_chunk(chunk, reason)
        # Halves, because a chunk with many such rows would be read as many times.
        return _join([self._encode(half) for half in halves])


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
