"""A simulator over many inputs: isolated, limited in time and memory, retried, resumable, and its cost counted.

Requests are identified by their content, so none is ever computed twice into the same store. A failure is a
record too, with its kind and message. Only the parent writes, and a record is on disk before the next is asked for.

A record's cost is the processor time of its simulation and of every program that this started, beside the wall time.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import selectors
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data.errors import InputError
from data.store import RecordStore
from simulators.base import SimulationError, Simulator, input_hash
from simulators.campaign_outlook import Outlook, Trial
from simulators.campaign_summary import CampaignSummary, Reasons
from simulators.channel import GarbledError
from simulators.interrupts import Interrupts
from simulators.slot import Job, Slot
from simulators.worker import Answer, Unloadable, Worker, plain, unpack

#: Kinds of failure that may pass on a second try.
RETRIED = ("crashed", "out_of_memory")
#: Seconds between looks at clocks.
POLL_S = 0.1
#: Seconds without another byte after which half an answer is no answer.
STALL_S = 30.0
#: Seconds in which a process must have imported the simulator.
START_TIMEOUT_S = 300.0
#: Processes in a row that may die before they have loaded the simulator.
MAX_STARTS = 3
#: Marks a later try of a request whose earlier record is a failure.
AGAIN = "+"


@dataclass(frozen=True)
class CampaignConfig:
    """How to run a campaign.

    Attributes:
        workers: processes; None: as many as the cores that this process may use, over `threads`.
        threads: of each process.
        timeout_s: wall seconds of one simulation, after which its process is killed; None: no limit.
        memory_mb: resident memory (10^6 bytes) of a process, above which it is killed; None: no limit.
        scratch_mb: disk (10^6 bytes) that the temporary files of a process may take, above which it is killed, and the
            size of the largest file that it may write anywhere; None: no limit.
        retries: more tries for what may pass on a second one (`RETRIED`).
        retry_failed: try again what the store holds as failed; the new record stands behind the old one.
        give_up_after: the campaign ends when of so many first requests more than half failed; None: it goes on.

    Raises:
        ValueError: a number is out of range.
    """

    workers: int | None = None
    threads: int = 1
    timeout_s: float | None = 3600.0
    memory_mb: int | None = 4000
    scratch_mb: int | None = 20_000
    retries: int = 1
    retry_failed: bool = False
    give_up_after: int | None = 10

    def __post_init__(self) -> None:
        for name in ("workers", "threads", "timeout_s", "memory_mb", "scratch_mb", "give_up_after"):
            value = getattr(self, name)
            # Not a number is no limit to anything.
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        if not 0 <= self.retries < math.inf:
            raise ValueError(f"retries must be 0 or more, got {self.retries}")

    @property
    def processes(self) -> int:
        """Worker processes."""
        return self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)


def run_campaign(
    simulator: Simulator,
    inputs: Iterable[xr.Dataset],
    store: Path,
    config: CampaignConfig | None = None,
    *,
    total: int | None = None,
    progress: bool = True,
    key: str = "campaign",
    none_answered: bool = False,
) -> CampaignSummary:
    """Answer every input that the store does not hold yet; the same call again goes on where it was stopped.

    Args:
        simulator: picklable; each process gets a copy.
        inputs: requests; consumed as workers come free, so there may be millions.
        store: directory of the records, made if absent.
        config: how.
        total: number of inputs, where `inputs` does not tell, for the time left.
        progress: whether to show a bar, what the whole will cost once the first requests tell, and a final table.
        key: of `config` among the settings, for messages.
        none_answered: whether to return also when every request failed.

    Raises:
        InputError: the store holds another simulator's records, the simulator cannot be sent to a process, most of the
            first requests failed, or in the end all of them.
        SimulationError: `missing_component`; nothing would pass, so the campaign ends.
        KeyboardInterrupt: after the workers were killed; every finished record is in the store.
    """
    config = config or CampaignConfig()
    total = len(inputs) if total is None and isinstance(inputs, Sized) else total
    try:
        pickled = pickle.dumps(simulator, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"{simulator.name} cannot be sent to another process: {error}") from error
    with _open(simulator, store) as records:
        campaign = _Campaign(records, config, pickled, total, progress, key)
        summary = campaign.run(iter(inputs))
    if progress:
        summary.show(simulator.name)
    if not none_answered:
        summary.refuse_no_answer(key)
    return summary


def _open(simulator: Simulator, path: Path) -> RecordStore:
    if not (path / "store.json").exists():
        facts, spec = {"fingerprint": simulator.fingerprint}, simulator.spec
        # Each record is handed to the system at once, which outlives a kill of this process; the folds wait
        # for the disk.
        return RecordStore.create(
            path,
            spec.inputs,
            spec.outputs,
            coords=spec.coords,
            provenance=simulator.provenance,
            attrs={**spec.attrs, **facts},
            sync=False,
        )
    records = RecordStore.open(path, "a", sync=False)
    if records.attrs.get("fingerprint") != simulator.fingerprint:
        held = records.attrs.get("simulator", "another simulator")
        records.close()
        raise InputError(
            f"holds records of {held} with other settings or another version than those of {simulator.name}",
            where=str(path),
            remedy="Name another store, so that labels of two methods are not mixed",
        )
    return records


@dataclass
class _Campaign:
    """The state of one call of `run_campaign`."""

    records: RecordStore
    config: CampaignConfig
    pickled: bytes
    total: int | None
    show: bool
    key: str
    slots: list[Slot] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    done: int = 0
    cached: int = 0
    requested: int = 0
    answered: int = 0
    job_seconds: float = 0.0
    core_seconds: float = 0.0
    reasons: Reasons = field(default_factory=Reasons)
    trial: Trial = field(init=False)

    def __post_init__(self) -> None:
        self.trial = Trial(self.config.give_up_after, self.total, str(self.records.path), self.key)

    def run(self, inputs: Iterator[xr.Dataset]) -> CampaignSummary:
        """Feed the workers until nothing is left."""
        began = time.perf_counter()
        outlook = Outlook(self.config.processes, self.config.timeout_s, self.key)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}" + (f" of {self.total:,}" if self.total is not None else "")),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        jobs = self._new(inputs)
        bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not self.show)
        with Interrupts() as interrupts, bar:
            task = bar.add_task("simulating (Ctrl-C is safe)", total=self.total, rate="")
            try:
                while True:
                    interrupts.check()
                    busy = self._feed(jobs)
                    if not busy:
                        break
                    self._collect()
                    made = self.done + sum(self.failed.values())
                    rate = made / (time.perf_counter() - began)
                    failures = "  ".join(f"{kind} {count:,}" for kind, count in self.failed.items())
                    text = f"{rate:,.1f}/s" + (f"  [red]failed: {failures}[/]" if failures else "")
                    bar.update(task, completed=self.cached + made, rate=text)
                    if self.show and outlook.due(time.perf_counter() - began, made):
                        left = None if self.total is None else max(0, self.total - self.cached - made)
                        spent = (self.job_seconds, self.core_seconds)
                        if sentence := outlook.say(spent, made, self._running(), left):
                            bar.console.print(escape(sentence))
            except BaseException:
                for slot in self.slots:
                    slot.worker.tell_to_end()
                for slot in self.slots:
                    slot.worker.kill()
                raise
        for slot in self.slots:
            slot.worker.close()
        seconds = time.perf_counter() - began
        return CampaignSummary(
            self.requested,
            self.done,
            dict(self.failed),
            self.cached,
            seconds,
            self.core_seconds,
            self.records.path,
            self.answered,
            self.reasons,
        )

    def _running(self) -> list[tuple[float, float]]:
        """Wall and processor seconds so far of each request that a worker has."""
        now = time.monotonic()
        return [
            (
                slot.job.seconds + now - slot.started,
                slot.job.core_seconds + max(0.0, slot.worker.core_seconds_so_far() - slot.counted),
            )
            for slot in self.slots
            if slot.job is not None and slot.ready
        ]

    def _ended(self, status: str, message: str) -> None:
        """Count a request that has a record, from now or from before."""
        if status == "ok":
            self.answered += 1
        else:
            self.reasons.add(status, message)
        self.trial.take(status, message)

    def _new(self, inputs: Iterator[xr.Dataset]) -> Iterator[Job]:
        """Requests that have no record yet."""
        latest: dict[str, tuple[str, str, str]] = {}
        if len(self.records):
            status, message = self.records.column("status"), self.records.column("message")
            for key, state, said in zip(self.records.keys(), status, message, strict=True):
                latest[key.split(AGAIN)[0]] = (key, str(state), str(said))
        seen: set[str] = set()
        for record in inputs:
            key = input_hash(record)
            if key in seen:
                continue
            seen.add(key)
            self.requested += 1
            if key not in latest:
                yield Job(key, plain(record))
                continue
            last, state, said = latest.pop(key)
            if self.config.retry_failed and state != "ok":
                _, _, count = last.partition(AGAIN)
                yield Job(f"{key}{AGAIN}{int(count or 0) + 1}", plain(record))
            else:
                self.cached += 1
                self._ended(state, said)

    def _feed(self, jobs: Iterator[Job]) -> bool:
        """Give every idle worker a request; whether any is busy."""
        idle = [slot for slot in self.slots if slot.job is None]
        while idle or len(self.slots) < self.config.processes:
            job = next(jobs, None)
            if job is None:
                break
            if idle:
                slot = idle.pop()
            else:
                limits = self.config
                worker = Worker(self.pickled, limits.threads, limits.scratch_mb)
                slot = Slot(worker, limits.memory_mb, limits.scratch_mb, started=time.monotonic())
                self.slots.append(slot)
            slot.job = job
            self._hand_over(slot)
        return any(slot.job is not None for slot in self.slots)

    def _hand_over(self, slot: Slot) -> None:
        assert slot.job is not None
        slot.job.attempts += 1
        if slot.ready:
            self._send(slot)

    def _send(self, slot: Slot) -> None:
        assert slot.job is not None
        slot.started = time.monotonic()
        slot.worker.request(slot.job.values)

    def _collect(self) -> None:
        """Take what is ready, and kill what is over its limits."""
        self._wait()
        for slot in self.slots:
            # Asked before the pipe, so that an answer sent just before the end is still taken.
            dead = slot.worker.dead()
            over = None if dead else slot.over()
            if slot.job is None:
                # A leak or a death after the last answer is not the next request's fault.
                if over or (dead and slot.ready):
                    slot.renew()
                continue
            slot.worker.channel.push()
            if self._take(slot):
                continue
            if dead:
                self._died(slot)
            elif late := self._late(slot):
                self._replace(slot, *late, again=late[0] in RETRIED)
            elif over:
                # What fills the disk once would do it twice.
                self._replace(slot, *over, again=over[0] == "out_of_memory")

    def _wait(self) -> None:
        """Until a worker has something to say, or it is time to look at the clock."""
        with selectors.DefaultSelector() as selector:
            for slot in self.slots:
                if slot.job is not None:
                    writing = selectors.EVENT_WRITE if slot.worker.channel.sending else 0
                    selector.register(slot.worker.channel, selectors.EVENT_READ | writing)
            selector.select(POLL_S)

    def _late(self, slot: Slot) -> tuple[str, str] | None:
        """Kind and message of what has taken too long; None while there is time."""
        now, channel = time.monotonic(), slot.worker.channel
        limit = self.config.timeout_s if slot.ready else START_TIMEOUT_S
        if limit is not None and now - slot.started > limit:
            what = f"no answer in {limit:g} s" if slot.ready else "the process did not start"
            return "timeout", f"{what}; killed"
        if channel.begun and now - channel.heard > STALL_S:
            what = f"half an answer: {channel.begun:,} bytes, and no more for {STALL_S:g} s"
            return "crashed", f"{what}; killed"
        return None

    def _take(self, slot: Slot) -> bool:
        """Take what a worker says; whether it has said something, or has gone."""
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
        assert slot.job is not None
        if isinstance(received, Answer):
            job = slot.job
            job.seconds += received.seconds
            job.core_seconds += received.core_seconds
            slot.counted = received.counted
            if received.status == "missing_component":
                raise SimulationError("missing_component", received.message, json.loads(received.log))
            if received.status in RETRIED and job.attempts <= self.config.retries:
                self._hand_over(slot)
            else:
                slot.job = None
                self._record(job, received)
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
        """Bury a worker; its request is tried again in a fresh one, or recorded as failed."""
        assert slot.job is not None
        job, ready, counted = slot.job, slot.ready, slot.counted
        spent = time.monotonic() - slot.started
        slot.deaths += not ready
        if slot.deaths >= MAX_STARTS:
            raise InputError(f"the simulator cannot be loaded in another process: {message}")
        slot.worker.kill()
        used = max(0.0, slot.worker.core_seconds - counted)
        slot.renew()
        # A request that was not sent yet is not to blame.
        if not ready:
            return
        job.seconds += spent
        job.core_seconds += used
        if again and job.attempts <= self.config.retries:
            self._hand_over(slot)
            return
        slot.job = None
        self._record(job, Answer(kind, {}, message, json.dumps(details or {}), spent, used))

    def _record(self, job: Job, found: Answer) -> None:
        facts: dict[str, Any] = {
            "status": found.status,
            "message": found.message,
            "seconds": job.seconds,
            "core_seconds": job.core_seconds,
            "threads": self.config.threads,
            "attempts": job.attempts,
            "log": found.log,
        }
        try:
            self.records.append(job.key, {**job.values, **found.values}, **facts)
        except (InputError, TypeError, ValueError):
            # Inputs of a wrong shape fit no column either; their key and the message remain.
            if found.status != "invalid_input":
                raise
            self.records.append(job.key, {}, **facts)
        self.job_seconds += job.seconds
        self.core_seconds += job.core_seconds
        if found.status == "ok":
            self.done += 1
        else:
            self.failed[found.status] += 1
        self._ended(found.status, found.message)
