"""The workers of a campaign: sends requests, collects answers, enforces limits and replaces dead workers."""

from __future__ import annotations

import json
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from data.errors import InputError
from data.spec import SimulationError
from simulators.campaigns.config import RETRIED, CampaignConfig
from simulators.campaigns.slot import Job, Slot
from simulators.campaigns.task_size import TaskSize
from simulators.workers.channel import GarbledError
from simulators.workers.worker import Unloadable, Worker, WorkerAnswer, unpack

#: Interval between checks of time limits, s.
POLL_S = 0.1
#: Time without further bytes after which a partial answer counts as a crash, s.
STALL_S = 30.0
#: Time limit for a process to load the simulator, s.
START_TIMEOUT_S = 300.0
#: Number of consecutive deaths while loading the simulator after which the campaign ends.
MAX_STARTS = 3


@dataclass
class Crew:
    """The workers of one campaign.

    Attributes:
        pickled: the pickled simulator.
        config: settings of the campaign.
        record: called once for each request, with its answer.
        together: whether the simulator answers many requests at a smaller cost (`simulators.adapter.AnswersMany`): a
            worker then gets as many as take about a second. If it dies or exceeds a limit, each is asked alone, and
            the attempt does not count.
        slots: one slot for each worker that was started.
    """

    pickled: bytes
    config: CampaignConfig
    record: Callable[[Job, WorkerAnswer], None]
    together: bool = False
    slots: list[Slot] = field(default_factory=list)
    _alone: deque[Job] = field(default_factory=deque)
    _size: TaskSize = field(default_factory=TaskSize)

    def close(self) -> None:
        """End the workers, which must be idle."""
        for slot in self.slots:
            slot.worker.close()

    def kill(self) -> None:
        """Kill the workers and all that they started."""
        for slot in self.slots:
            slot.worker.tell_to_end()
        for slot in self.slots:
            slot.worker.kill()

    def running(self) -> list[tuple[float, float]]:
        """Wall and processor time so far of each running request, s."""
        now = time.monotonic()
        return [
            (
                job.seconds + (now - slot.started) / slot.sent,
                job.core_seconds + max(0.0, slot.worker.core_seconds_so_far() - slot.counted) / slot.sent,
            )
            for slot in self.slots
            if slot.ready
            for job in slot.jobs
        ]

    def feed(self, jobs: Iterator[Job]) -> bool:
        """Send requests to every idle worker; returns whether any worker is busy."""
        idle = [slot for slot in self.slots if not slot.jobs]
        while idle or len(self.slots) < self.config.processes:
            some = self._next(jobs)
            if not some:
                break
            if idle:
                slot = idle.pop()
            else:
                limits = self.config
                worker = Worker(self.pickled, limits.threads, limits.scratch_mb)
                slot = Slot(worker, limits.memory_mb, limits.scratch_mb, started=time.monotonic())
                self.slots.append(slot)
            slot.jobs = some
            self._hand_over(slot)
        return any(slot.jobs for slot in self.slots)

    def _next(self, jobs: Iterator[Job]) -> list[Job]:
        """The next requests for a worker: one that is to be alone, or as many as are asked together."""
        if self._alone:
            return [self._alone.popleft()]
        return list(islice(jobs, self._size.requests(self.config.processes) if self.together else 1))

    def _hand_over(self, slot: Slot) -> None:
        for job in slot.jobs:
            job.attempts += 1
        if slot.ready:
            self._send(slot)

    def _send(self, slot: Slot) -> None:
        slot.started, slot.sent = time.monotonic(), len(slot.jobs)
        slot.worker.request([job.values for job in slot.jobs])

    def collect(self) -> None:
        """Collect answers, and kill workers that exceed their limits."""
        self._wait()
        for slot in self.slots:
            # Checked before the channel is read, so that an answer sent just before the end is still collected.
            dead = slot.worker.dead()
            over = None if dead else slot.over()
            if not slot.jobs:
                # A leak or a death after the last answer must not count for the next request.
                if over or (dead and slot.ready):
                    slot.renew()
                continue
            slot.worker.channel.push()
            if self._take_all(slot):
                if over and not slot.jobs and slot.ready:
                    # With quick requests an answer is there at nearly every check.
                    slot.renew()
                continue
            if dead:
                self._died(slot)
            elif late := self._late(slot):
                self._replace(slot, *late, again=late[0] in RETRIED)
            elif over:
                self._exceeded(slot, *over)

    def _exceeded(self, slot: Slot, kind: str, message: str) -> None:
        """End a worker that uses too much memory or disk space."""
        others = slot.answered > 0
        if others and len(slot.jobs) == 1:
            # Earlier requests of this process may have left what fills it, so that this attempt does not count.
            slot.jobs[0].attempts -= 1
        # A request that fills the disk by itself would do so again, so that only lack of memory is retried.
        self._replace(slot, kind, message, again=others or kind == "out_of_memory")

    def _wait(self) -> None:
        """Wait until a worker sends something, or until the next check of the limits."""
        with selectors.DefaultSelector() as selector:
            for slot in self.slots:
                if slot.jobs:
                    writing = selectors.EVENT_WRITE if slot.worker.channel.sending else 0
                    selector.register(slot.worker.channel, selectors.EVENT_READ | writing)
            selector.select(POLL_S)

    def _late(self, slot: Slot) -> tuple[str, str] | None:
        """Kind and message of an exceeded time limit; None if there is none."""
        now, channel = time.monotonic(), slot.worker.channel
        limit = self.config.timeout_s if slot.ready else START_TIMEOUT_S
        if limit is not None and now - slot.started > limit:
            what = f"no answer in {limit:g} s" if slot.ready else "the process did not start"
            return "timeout", f"{what}; killed"
        if channel.begun and now - channel.heard > STALL_S:
            what = f"half an answer: {channel.begun:,} bytes, and no more for {STALL_S:g} s"
            return "crashed", f"{what}; killed"
        return None

    def _take_all(self, slot: Slot) -> bool:
        """Process all messages of a worker that have arrived; returns whether there was any, or it has ended."""
        taken = False
        while slot.jobs and self._take(slot):
            taken = True
        return taken

    def _take(self, slot: Slot) -> bool:
        """Process a message of a worker; returns whether there was one, or the worker has ended."""
        try:
            payload = slot.worker.channel.receive()
            if payload is None:
                return False
            received = unpack(payload)
        except EOFError:
            self._died(slot)
            return True
        except GarbledError as error:
            self._replace(slot, "crashed", f"its answer is damaged: {error}; killed", again=True)
            return True
        if isinstance(received, WorkerAnswer):
            job, together = slot.jobs.pop(0), slot.sent > 1
            job.seconds += received.seconds
            job.core_seconds += received.core_seconds
            slot.counted, slot.answered = received.counted, slot.answered + 1
            if received.status == "missing_component":
                raise SimulationError("missing_component", received.message, json.loads(received.log))
            if not slot.jobs and self.together:
                self._size.learn(slot.sent, time.monotonic() - slot.started, 0)
            if received.status not in RETRIED or job.attempts > self.config.retries:
                self.record(job, received)
            elif together:
                self._alone.append(job)
            else:
                slot.jobs = [job]
                self._hand_over(slot)
            return True
        if isinstance(received, Unloadable):
            raise InputError(f"the simulator cannot be built in another process: {received.message}")
        slot.ready, slot.deaths, slot.counted = True, 0, received.counted
        self._send(slot)
        return True

    def _died(self, slot: Slot) -> None:
        ended = slot.worker.bury()
        if ended.code is None:
            message = f"{ended.trouble or 'the process closed the socket on which it answers'}; killed"
        else:
            last = f": {ended.said.splitlines()[-1]}" if ended.said else ""
            message = f"the process ended with {ended.how}{last}"
        self._replace(slot, "crashed", message, {"output": ended.said}, again=True)

    def _replace(
        self, slot: Slot, kind: str, message: str, details: dict[str, Any] | None = None, *, again: bool
    ) -> None:
        """Replace a worker; its request is retried in the new one, or recorded as failed; several go alone."""
        jobs, ready, counted = list(slot.jobs), slot.ready, slot.counted
        spent = time.monotonic() - slot.started
        slot.deaths += not ready
        if slot.deaths >= MAX_STARTS:
            raise InputError(f"the simulator cannot be loaded in another process: {message}")
        slot.worker.kill()
        used = max(0.0, slot.worker.core_seconds - counted)
        slot.renew()
        # The request had not been sent yet, so it did not cause the failure.
        if not ready:
            return
        for job in jobs:
            job.seconds += spent / len(jobs)
            job.core_seconds += used / len(jobs)
        if slot.sent > 1:
            # One of them may be what it ended for, so that each goes alone now.
            for job in jobs:
                job.attempts -= 1
            slot.jobs = []
            self._alone.extend(jobs)
            return
        (job,) = jobs
        if again and job.attempts <= self.config.retries:
            self._hand_over(slot)
            return
        slot.jobs = []
        self.record(job, WorkerAnswer(kind, {}, message, json.dumps(details or {}), spent, used))
