"""The workers of a campaign on an engine: any `concurrent.futures.Executor`, such as that of Dask.

Requests are handed over in tasks of about a second, a few tasks at a time for each worker, so that there may be
millions of requests and what an engine costs for a task is shared by many. Finished frames lie in an inbox beside the
store, or come back with the result; one writer, the campaign, records them by key and then lets go of the result. A
task whose worker was lost is handed over again, three times at most, without the requests that it had answered. If a
worker that was believed lost answers after all, its frame is a duplicate: it is dropped, and its processor time counts
as waste.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from uuid import uuid4

from data.errors import InputError
from data.files import make_directory, write_text
from data.spec import SimulationError
from simulators.campaigns.config import CampaignConfig
from simulators.campaigns.guarded import Delivery, Limits, guarded
from simulators.campaigns.slot import Job
from simulators.campaigns.spool import SUFFIX, TOKEN, Finished, read_spool, spools_of
from simulators.campaigns.task_size import TaskSize
from simulators.workers.channel import GarbledError
from simulators.workers.worker import WorkerAnswer

LOG = logging.getLogger(__name__)
#: Tasks that are under way for each worker: one that it computes, and those that wait beside it.
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
            `simulators.campaigns.dask_engine.DaskExecutor`, it is given a group and a name for each task.
        workers: returns how many tasks it computes at a time at present.
        lost: exceptions that mean that the worker of a task was lost.
        close: ends it; called once.
        named: whether `submit` takes the argument `key`.
        hands_over_again: whether the engine itself runs a task again whose worker was lost, before it raises one of
            `lost`, as the scheduler of Dask does (`distributed.scheduler.allowed-failures`, 3 times by default).
    """

    executor: Executor
    workers: Callable[[], int]
    lost: tuple[type[BaseException], ...] = ()
    close: Callable[[], None] = lambda: None
    named: bool = False
    hands_over_again: bool = False


@dataclass(eq=False)
class EngineTask:
    """Requests that were handed over together.

    Attributes:
        name: name of the task.
        jobs: requests without a record yet, by key.
        times: how often their workers were lost.
        began: when they were handed over (`time.monotonic`), s.
    """

    name: str
    jobs: dict[str, Job]
    times: int
    began: float
    future: Future[Delivery] = field(default_factory=Future)


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
        together: see `simulators.campaigns.crew.Crew`.
        sync: called before files are removed from the inbox; when it returns, what was recorded is on the disk.
        wasted: processor time of duplicates, s.
        duplicates: number of answers that came a second time.
    """

    pickled: bytes
    fingerprint: str
    config: CampaignConfig
    record: Callable[[Job, WorkerAnswer], None]
    engine: Engine
    inbox: Path
    sync: Callable[[], None] = lambda: None
    together: bool = False
    wasted: float = 0.0
    duplicates: int = 0
    _tasks: dict[str, EngineTask] = field(default_factory=dict)
    _ready: queue.SimpleQueue[EngineTask] = field(default_factory=queue.SimpleQueue)
    _size: TaskSize = field(default_factory=TaskSize)
    _limits: Limits = field(init=False)
    _worked: float = field(default_factory=time.monotonic)
    _looked: float = field(default_factory=time.monotonic)
    #: Files of the inbox whose answers have been recorded, and are removed with the next `sync`.
    _recorded: list[Path] = field(default_factory=list)
    #: Answers that were taken from files of lost workers, which may still write to them: name -> number.
    _taken: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_directory(self.inbox)
        token = uuid4().hex
        write_text(self.inbox / TOKEN, token)
        self._limits = Limits.of(self.config, self.inbox, token, together=self.together)

    def left_over(self, has: Callable[[str], bool]) -> Iterator[tuple[Job, WorkerAnswer]]:
        """Answers that an earlier campaign was killed before it recorded; their files are removed.

        Args:
            has: whether a key is recorded.
        """
        paths = sorted(self.inbox.glob(f"*{SUFFIX}"))
        for path in paths:
            for finished in self._read(path)[self._taken.pop(path.name, 0) :]:
                if finished.fingerprint != self.fingerprint:
                    continue
                if has(finished.job.key):
                    self._waste(finished)
                else:
                    yield finished.job, finished.answer
        self._recorded += paths
        self._settle()

    def feed(self, jobs: Iterator[Job]) -> bool:
        """Hand over requests until the window is full; returns whether any is under way."""
        workers, now = self.engine.workers(), time.monotonic()
        if workers:
            self._worked = now
        elif now - self._worked > ALONE_S:
            raise self._gone(TimeoutError(f"it has had no worker for {ALONE_S:.0f} s"))
        room = WINDOW * max(1, workers)
        while len(self._tasks) < room:
            batch = list(islice(jobs, self._size.requests(workers)))
            if not batch:
                break
            self._submit(batch, 0)
        return bool(self._tasks)

    def collect(self) -> None:
        """Record the answers that have come, or wait for one for a moment."""
        try:
            self._take(self._ready.get(timeout=POLL_S))
            while True:
                self._take(self._ready.get_nowait())
        except queue.Empty:
            if time.monotonic() - self._looked > INBOX_S:
                self._looked = time.monotonic()
                self._take_unacknowledged()
        self._settle()

    def running(self) -> list[tuple[float, float]]:
        """Wall time so far of the tasks that are under way, and 0 for their processor time, which is unknown, s."""
        now = time.monotonic()
        at_work = sorted(task.began for task in self._tasks.values())[: max(1, self.engine.workers())]
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
        for task in self._tasks.values():
            task.future.cancel()
        self.engine.close()

    def _submit(self, jobs: Sequence[Job], times: int) -> None:
        # The same requests have the same name, by which a cluster recognises what it computes already.
        keys = [job.key for job in jobs]
        name = keys[0] if len(keys) == 1 else hashlib.sha256(" ".join(keys).encode()).hexdigest()
        name = f"{name}-{times}"
        arguments = (self.pickled, self.fingerprint, name, [(job.key, job.values) for job in jobs], self._limits)
        # Names are global in a cluster, so that a name needs the fingerprint.
        key = {"key": (f"understudy-{self.fingerprint}", name)} if self.engine.named else {}
        try:
            future: Future[Delivery] = self.engine.executor.submit(guarded, *arguments, **key)  # type: ignore[arg-type]
        except (BrokenExecutor, RuntimeError) as error:
            raise self._gone(error) from error
        task = self._tasks[name] = EngineTask(name, {job.key: job for job in jobs}, times, time.monotonic(), future)
        future.add_done_callback(lambda done: self._ready.put(task))

    def _take(self, task: EngineTask) -> None:
        if self._tasks.get(task.name) is not task:
            return
        count = len(task.jobs)
        try:
            delivery = task.future.result()
        except self.engine.lost as error:
            self._take_from_lost(task)
            self._again(task, str(error), exhausted=self.engine.hands_over_again)
            return
        except (CancelledError, BrokenExecutor) as error:
            raise self._gone(error) from error
        size = self._take_frames(task, delivery)
        if delivery.kind == "missing_component":
            raise SimulationError("missing_component", delivery.refused)
        if delivery.refused:
            raise InputError(f"the simulator cannot be built in another process: {delivery.refused}")
        self._size.learn(count, delivery.seconds, size)
        self._again(task, "its answer was lost on the way", exhausted=False)

    def _take_frames(self, task: EngineTask, delivery: Delivery) -> int:
        """Record what a task delivered; returns its size, bytes."""
        size = len(delivery.frames)
        try:
            for finished in Finished.unpack(delivery.frames):
                self._finish(task, finished)
        except GarbledError as error:
            LOG.warning("answers to %s are damaged: %s", task.name, error)
        for path in (self.inbox / name for name in delivery.files):
            for finished in self._read(path):
                self._finish(task, finished)
            with suppress(OSError):
                size += path.stat().st_size
            self._recorded.append(path)
        return size

    def _take_from_lost(self, task: EngineTask) -> None:
        """Record answers whose worker was lost before it delivered them. It may live and go on, so the files stay."""
        for path in spools_of(self.inbox, task.name):
            answers, _ = read_spool(path)
            for finished in answers[self._taken.get(path.name, 0) :]:
                self._finish(task, finished)
            self._taken[path.name] = len(answers)

    def _take_unacknowledged(self) -> None:
        """Record tasks whose workers were lost between writing and acknowledging all answers: nothing is repeated."""
        for task in list(self._tasks.values()):
            # A task that has ended is on its way to be recorded.
            if task.future.done() or time.monotonic() - task.began < INBOX_S:
                continue
            answered = {
                finished.job.key
                for path in spools_of(self.inbox, task.name)
                for finished in read_spool(path)[0]
                if finished.fingerprint == self.fingerprint
            }
            if answered >= set(task.jobs):
                self._take_from_lost(task)
                del self._tasks[task.name]
                task.future.cancel()

    def _finish(self, task: EngineTask, finished: Finished) -> None:
        """Record an answer, unless the request has a record."""
        if finished.fingerprint != self.fingerprint:
            return
        job = task.jobs.pop(finished.job.key, None)
        if job is None:
            self._waste(finished)
            return
        job.attempts, job.seconds = finished.job.attempts, finished.job.seconds
        job.core_seconds = finished.job.core_seconds
        self.record(job, finished.answer)

    def _again(self, task: EngineTask, reason: str, *, exhausted: bool) -> None:
        """Hand the rest of a task over again after its worker was lost, or record that as the failure of a request.

        One of many requests may be what its workers died of, so that each goes alone then.
        """
        del self._tasks[task.name]
        jobs = list(task.jobs.values())
        if len(jobs) > 1 or not exhausted:
            # An engine that tried as often as allowed gave the others no chance; it counts again for each.
            times = 0 if exhausted else task.times + 1
            if times <= RESUBMITTED:
                for job in jobs:
                    self._submit([job], times)
                return
        for job in jobs:
            job.attempts = (RESUBMITTED if exhausted else task.times) + 1
            message = f"its worker was lost {job.attempts} times: {reason}"
            self.record(job, WorkerAnswer("lost", {}, message, "{}", 0.0, 0.0))

    def _settle(self) -> None:
        """Remove the files whose answers are in the store, once the disk has them."""
        if not self._recorded:
            return
        self.sync()
        for path in self._recorded:
            path.unlink(missing_ok=True)
        self._recorded.clear()

    def _read(self, path: Path) -> list[Finished]:
        """The whole frames of a file of the inbox; that there is anything else is said."""
        answers, problem = read_spool(path)
        if problem:
            LOG.warning("%s has %d whole answers; others are computed again: %s", path, len(answers), problem)
        return answers

    def _waste(self, finished: Finished) -> None:
        self.duplicates += 1
        self.wasted += finished.job.core_seconds

    def _gone(self, error: BaseException) -> InputError:
        return InputError(
            f"the engine is gone ({type(error).__name__}: {error})",
            where=str(self.inbox.with_suffix("")),
            remedy="Every answer that was finished is kept; start the engine and run the same command again",
        )
