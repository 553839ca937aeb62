"""A simulator over many inputs: isolated, limited in time and memory, retried, resumable, and its cost counted.

Requests are identified by their content, so none is ever computed twice into the same store. A failure is a
record too, with its kind and message. Only the parent writes, and a record is on disk before the next is asked for.

A record's cost is the processor time of its simulation and of every program that this started, beside the wall time.
"""

from __future__ import annotations

import pickle
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
from data.spec import input_hash
from data.store import RecordStore
from simulators.base import Simulator
from simulators.campaign_config import CampaignConfig as CampaignConfig
from simulators.campaign_outlook import Outlook, Trial
from simulators.campaign_summary import CampaignSummary, Reasons
from simulators.crew import Crew
from simulators.interrupts import Interrupts
from simulators.slot import Job
from simulators.worker import Answer, request_values

#: Marks a later try of a request whose earlier record is a failure.
AGAIN = "+"


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
        owner = records.attrs.get("simulator", "another simulator")
        records.close()
        raise InputError(
            f"holds records of {owner} with other settings or another version than those of {simulator.name}",
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
    failed: Counter[str] = field(default_factory=Counter)
    done: int = 0
    cached: int = 0
    requested: int = 0
    answered: int = 0
    job_seconds: float = 0.0
    core_seconds: float = 0.0
    reasons: Reasons = field(default_factory=Reasons)
    trial: Trial = field(init=False)
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        self.trial = Trial(self.config.give_up_after, self.total, str(self.records.path), self.key)
        self.crew = Crew(self.pickled, self.config, self._record)

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
                    busy = self.crew.feed(jobs)
                    if not busy:
                        break
                    self.crew.collect()
                    ended = self.done + sum(self.failed.values())
                    rate = ended / (time.perf_counter() - began)
                    failures = "  ".join(f"{kind} {count:,}" for kind, count in self.failed.items())
                    text = f"{rate:,.1f}/s" + (f"  [red]failed: {failures}[/]" if failures else "")
                    bar.update(task, completed=self.cached + ended, rate=text)
                    if self.show and outlook.due(time.perf_counter() - began, ended):
                        left = None if self.total is None else max(0, self.total - self.cached - ended)
                        spent = (self.job_seconds, self.core_seconds)
                        if sentence := outlook.say(spent, ended, self.crew.running(), left):
                            bar.console.print(escape(sentence))
            except BaseException:
                self.crew.kill()
                raise
        self.crew.close()
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
                yield Job(key, request_values(record))
                continue
            last, state, said = latest.pop(key)
            if self.config.retry_failed and state != "ok":
                _, _, count = last.partition(AGAIN)
                yield Job(f"{key}{AGAIN}{int(count or 0) + 1}", request_values(record))
            else:
                self.cached += 1
                self._ended(state, said)

    def _record(self, job: Job, answer: Answer) -> None:
        facts: dict[str, Any] = {
            "status": answer.status,
            "message": answer.message,
            "seconds": job.seconds,
            "core_seconds": job.core_seconds,
            "threads": self.config.threads,
            "attempts": job.attempts,
            "log": answer.log,
        }
        try:
            self.records.append(job.key, {**job.values, **answer.values}, **facts)
        except (InputError, TypeError, ValueError):
            # Inputs of a wrong shape fit no column either; their key and the message remain.
            if answer.status != "invalid_input":
                raise
            self.records.append(job.key, {}, **facts)
        self.job_seconds += job.seconds
        self.core_seconds += job.core_seconds
        if answer.status == "ok":
            self.done += 1
        else:
            self.failed[answer.status] += 1
        self._ended(answer.status, answer.message)
