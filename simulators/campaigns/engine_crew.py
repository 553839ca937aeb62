"""The workers of a campaign on an engine: any `concurrent.futures.Executor`, such as that of Dask.

Requests are handed over a few at a time for each worker, so that there may be millions. Finished frames lie in an inbox
beside the store, or come back with the result; one writer, the campaign, records them by key and then lets go of the
result. A request whose worker was lost is handed over again, three times at most. If a worker that was believed lost
answers after all, its frame is a duplicate: it is dropped, and its processor time counts as waste.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from data.errors import InputError
from data.files import make_directory, write_text
from data.spec import SimulationError
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.guarded import SUFFIX, TOKEN, Delivery, Finished, Limits, guarded
from simulators.campaigns.slot import Job
from simulators.workers.channel import GarbledError
from simulators.workers.worker import WorkerAnswer

LOG = logging.getLogger(__name__)
#: Requests that are under way for each worker: one that it computes, and those that wait beside it.
WINDOW = 3
#: Times that a request is handed over again after its worker was lost.
RESUBMITTED = 3
#: Time without any worker after which a campaign ends instead of waiting for ever, and time between two looks for
#: answers whose workers were lost before they said so, s.
ALONE_S, INBOX_S = 300.0, 2.0
#: Longest wait for a result between two looks at interrupts, s.
POLL_S = 0.2


@dataclass
class Engine:
    """Where requests are computed.

    Attributes:
        executor: what runs `simulators.campaigns.guarded.guarded`. If its `submit` takes the argument `key`, as that of
            `simulators.campaigns.dask_engine.DaskExecutor`, it is given a name for each request.
        workers: returns how many requests it computes at a time at present.
        lost: exceptions that mean that the worker of a request was lost.
        close: ends it; called once.
        named: whether `submit` takes the argument `key`.
        hands_over_again: whether the engine itself runs a request again whose worker was lost, before it raises one of
            `lost`, as the scheduler of Dask does (`distributed.scheduler.allowed-failures`, 3 times by default).
    """

    executor: Executor
    workers: Callable[[], int]
    lost: tuple[type[BaseException], ...] = ()
    close: Callable[[], None] = lambda: None
    named: bool = False
    hands_over_again: bool = False


@dataclass
class EngineCrew:
    """See `simulators.campaigns.crew.Crew`, whose place it takes.

    Attributes:
        pickled: the pickled simulator.
        fingerprint: fingerprint of the simulator.
        config: settings of the campaign.
        record: called once for each request, with its answer.
        engine: where requests are computed.
        inbox: folder for finished frames.
        wasted: processor time of duplicates, s.
        duplicates: number of answers that came a second time.
    """

    pickled: bytes
    fingerprint: str
    config: CampaignConfig
    record: Callable[[Job, WorkerAnswer], None]
    engine: Engine
    inbox: Path
    wasted: float = 0.0
    duplicates: int = 0
    _under_way: dict[str, tuple[Job, float, int]] = field(default_factory=dict)
    _futures: dict[str, Future[Delivery]] = field(default_factory=dict)
    _ready: queue.SimpleQueue[tuple[str, Future[Delivery]]] = field(default_factory=queue.SimpleQueue)
    _limits: Limits = field(init=False)
    _worked: float = field(default_factory=time.monotonic)
    _looked: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        make_directory(self.inbox)
        token = uuid4().hex
        write_text(self.inbox / TOKEN, token)
        self._limits = Limits.of(self.config, self.inbox, token)

    def left_over(self, has: Callable[[str], bool]) -> Iterator[tuple[Job, WorkerAnswer]]:
        """Answers that an earlier campaign was killed before it recorded; the others are removed.

        Args:
            has: whether a key is recorded.
        """
        for path in sorted(self.inbox.glob(f"*{SUFFIX}")):
            finished = self._read(path)
            if finished is not None and finished.fingerprint == self.fingerprint:
                if has(finished.job.key):
                    self._waste(finished)
                else:
                    yield finished.job, finished.answer
            path.unlink(missing_ok=True)

    def feed(self, jobs: Iterator[Job]) -> bool:
        """Hand over requests until the window is full; returns whether any is under way."""
        workers, now = self.engine.workers(), time.monotonic()
        if workers:
            self._worked = now
        elif now - self._worked > ALONE_S:
            raise self._gone(TimeoutError(f"it has had no worker for {ALONE_S:.0f} s"))
        room = WINDOW * max(1, workers)
        while len(self._under_way) < room:
            job = next(jobs, None)
            if job is None:
                break
            self._submit(job, 0)
        return bool(self._under_way)

    def collect(self) -> None:
        """Record the answers that have come, or wait for one for a moment."""
        try:
            key, future = self._ready.get(timeout=POLL_S)
            while True:
                self._take(key, future)
                key, future = self._ready.get_nowait()
        except queue.Empty:
            if time.monotonic() - self._looked > INBOX_S:
                self._looked = time.monotonic()
                self._take_unacknowledged()

    def _take_unacknowledged(self) -> None:
        """Record answers whose workers were lost between writing and acknowledging them, which need not be repeated."""
        for path in self.inbox.glob(f"*{SUFFIX}"):
            key = path.name.rpartition("-")[0]
            future = self._futures.get(key)
            # An acknowledged one is on its way to be recorded.
            if future is None or future.done() or (finished := self._read(path)) is None:
                continue
            if finished.job.key == key and finished.fingerprint == self.fingerprint:
                future.cancel()
                job = self._under_way[key][0]
                self._finish(job, finished, path)

    def running(self) -> list[tuple[float, float]]:
        """Wall time so far of the requests that are under way, and 0 for their processor time, which is unknown, s."""
        now = time.monotonic()
        at_work = sorted((began for _, began, _ in self._under_way.values()))[: max(1, self.engine.workers())]
        return [(now - began, 0.0) for began in at_work]

    def close(self) -> None:
        """End the engine; what a worker that was believed lost still delivered is waste."""
        for job, answer in self.left_over(lambda key: True):
            LOG.info("dropped: %s %s", job.key, answer.status)
        self.engine.close()
        (self.inbox / TOKEN).unlink(missing_ok=True)
        with suppress(OSError):
            self.inbox.rmdir()
        if self.duplicates:
            LOG.warning(
                "%d requests were answered twice, because a worker was believed lost: %.1f core-s were wasted",
                self.duplicates, self.wasted,
            )  # fmt: skip

    def kill(self) -> None:
        """Take back what has not begun, and end the engine; the inbox keeps what was finished."""
        for future in self._futures.values():
            future.cancel()
        self.engine.close()

    def _submit(self, job: Job, times: int) -> None:
        given = (self.pickled, self.fingerprint, job.key, job.values, self._limits)
        # Names are global in a cluster, so that a name needs the fingerprint.
        name = {"key": f"{self.fingerprint}-{job.key}-{times}"} if self.engine.named else {}
        try:
            future: Future[Delivery] = self.engine.executor.submit(guarded, *given, **name)  # type: ignore[arg-type]
        except (BrokenExecutor, RuntimeError) as error:
            raise self._gone(error) from error
        self._under_way[job.key] = (job, time.monotonic(), times)
        self._futures[job.key] = future
        future.add_done_callback(lambda done, key=job.key: self._ready.put((key, done)))  # type: ignore[misc]

    def _take(self, key: str, future: Future[Delivery]) -> None:
        if self._futures.get(key) is not future:
            return
        job, _, times = self._under_way[key]
        try:
            delivery = future.result()
        except self.engine.lost as error:
            self._again(job, RESUBMITTED if self.engine.hands_over_again else times, str(error))
            return
        except (CancelledError, BrokenExecutor) as error:
            raise self._gone(error) from error
        if delivery.kind == "missing_component":
            raise SimulationError("missing_component", delivery.refused)
        if delivery.refused:
            raise InputError(f"the simulator cannot be built in another process: {delivery.refused}")
        path = None if delivery.file is None else self.inbox / delivery.file
        try:
            finished = Finished.unpack(delivery.frame) if path is None else self._read(path)
        except GarbledError as error:
            LOG.warning("the answer to %s is damaged: %s", key, error)
            finished = None
        if finished is None:
            self._again(job, times, "its answer was lost on the way")
            return
        self._finish(job, finished, path)

    def _finish(self, job: Job, finished: Finished, path: Path | None) -> None:
        """Record an answer, and remove its file."""
        self._let_go(job.key)
        job.attempts, job.seconds = finished.job.attempts, finished.job.seconds
        job.core_seconds = finished.job.core_seconds
        self.record(job, finished.answer)
        if path is not None:
            path.unlink(missing_ok=True)

    def _again(self, job: Job, times: int, reason: str) -> None:
        """Hand a request over again after its worker was lost, or record that as its failure."""
        self._let_go(job.key)
        if times < RESUBMITTED:
            self._submit(job, times + 1)
            return
        message = f"its worker was lost {times + 1} times: {reason}"
        job.attempts = times + 1
        self.record(job, WorkerAnswer("lost", {}, message, "{}", 0.0, 0.0))

    def _let_go(self, key: str) -> None:
        self._under_way.pop(key, None)
        self._futures.pop(key, None)

    def _read(self, path: Path) -> Finished | None:
        """A frame of the inbox; None if it is gone or damaged, which is said."""
        try:
            return Finished.unpack(path.read_bytes())
        except (OSError, GarbledError) as error:
            LOG.warning("%s cannot be used and is computed again: %s", path, error)
            return None

    def _waste(self, finished: Finished) -> None:
        self.duplicates += 1
        self.wasted += finished.job.core_seconds

    def _gone(self, error: BaseException) -> InputError:
        return InputError(
            f"the engine is gone ({type(error).__name__}: {error})",
            where=str(self.inbox.with_suffix("")),
            remedy="Every answer that was finished is kept; start the engine and run the same command again",
        )
