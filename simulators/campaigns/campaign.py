"""Campaigns: a simulator answers many requests in isolated processes, with limits, retries and a record of the cost.

Requests are identified by their content, so that none is computed twice into the same store. Failures are recorded too,
with kind and message. Only the parent process writes, and each record is written before the next request is sent.

A simulator that answers many requests together (`simulators.adapter.AnswersMany`) is given as many as take it about a
second; if their process dies or exceeds a limit, each of them is asked alone.

The cost of a record is the wall time, and the processor time of its simulation and of all programs that it started. A
simulator with a `declared_cost_s`, such as a table of labels, has that cost instead of the measured processor time.
"""

from __future__ import annotations

import json
import logging
import pickle
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from data.errors import InputError
from data.spec import input_hash
from data.store.key_index import KeyIndex
from data.store.records import RecordStore
from data.terminal import progress_bar
from simulators.adapter import AnswersMany, DeclaresCost, Simulator
from simulators.campaigns.config import CampaignConfig as CampaignConfig
from simulators.campaigns.crew import Crew
from simulators.campaigns.engine_crew import Engine, EngineCrew
from simulators.campaigns.outlook import FirstRequests, Outlook
from simulators.campaigns.slot import Job
from simulators.campaigns.summary import CampaignSummary, Reasons
from simulators.workers.interrupts import Interrupts
from simulators.workers.worker import WorkerAnswer, request_values

LOG = logging.getLogger(__name__)
#: Separates the key of a request and the number of a later attempt, after a recorded failure.
AGAIN = "+"
#: Share of the wall time of a campaign in which records may be folded into Zarr.
FOLD_SHARE = 0.05


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
    engine: Engine | None = None,
) -> CampaignSummary:
    """Answer all requests that have no record in the store yet; the same call again resumes a stopped campaign.

    Args:
        simulator: picklable simulator, of which each process gets a copy.
        inputs: requests, consumed lazily as workers become idle, so that there may be millions.
        store: directory of the records, created if it does not exist.
        config: number of processes, limits and retries.
        total: number of requests for the estimate of the remaining time, if `inputs` has no length.
        progress: whether to show a progress bar, an estimate of the total cost after the first requests, and a final
            table.
        key: configuration key of `config`, for messages.
        none_answered: whether to return normally even if every request failed.
        engine: where requests are computed, such as any `concurrent.futures.Executor`; None: as `config` says. It is
            closed at the end.

    Raises:
        InputError: the store has records of another simulator, the simulator cannot be pickled, most of the first
            requests failed, or all requests failed.
        SimulationError: `missing_component`: every request would fail, so the campaign ends.
        KeyboardInterrupt: raised after the workers were killed; every finished record is in the store.
    """
    config = config or CampaignConfig()
    total = len(inputs) if total is None and isinstance(inputs, Sized) else total
    try:
        pickled = pickle.dumps(simulator, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(f"{simulator.name} cannot be sent to another process: {error}") from error
    with _open(simulator, store) as records:
        added = _outputs_without_column(simulator, records)
        if engine is None and config.engine == "dask":
            from simulators.campaigns.dask_engine import dask_engine

            engine = dask_engine(config)
        campaign = _Campaign(
            records, config, pickled, total, progress, key, declared_cost(simulator), added,
            engine=engine, fingerprint=simulator.fingerprint, together=isinstance(simulator, AnswersMany),
        )  # fmt: skip
        summary = campaign.run(iter(inputs))
    if progress:
        summary.show(simulator.name)
    if not none_answered:
        summary.refuse_no_answer(key)
    return summary


def declared_cost(simulator: Simulator) -> float | None:
    """The declared cost of one answer in core-seconds; None for a simulator whose processor time is measured."""
    return float(simulator.declared_cost_s) if isinstance(simulator, DeclaresCost) else None


def _open(simulator: Simulator, path: Path) -> RecordStore:
    if not (path / "store.json").exists():
        facts, spec = {"fingerprint": simulator.fingerprint}, simulator.spec
        # Each record is passed to the operating system at once and survives a kill of this process; only folds of the
        # journal into Zarr wait for the disk.
        return RecordStore.create(
            path,
            spec.inputs,
            spec.outputs,
            coords=spec.coords,
            provenance=simulator.provenance,
            attrs={**spec.attrs, **facts},
            sync=False,
            fold_share=FOLD_SHARE,
        )
    records = RecordStore.open(path, "a", sync=False, fold_share=FOLD_SHARE)
    if records.attrs.get("fingerprint") != simulator.fingerprint:
        owner = records.attrs.get("simulator", "another simulator")
        records.close()
        raise InputError(
            f"holds records of {owner} with other settings or another version than those of {simulator.name}",
            where=str(path),
            remedy="Name another store, so that labels of two methods are not mixed",
        )
    return records


def _outputs_without_column(simulator: Simulator, records: RecordStore) -> frozenset[str]:
    """Outputs of a simulator for which a store has no column; records of the store go without them.

    A surrogate keeps its fingerprint when a later version of the program adds an output to its spec, such as
    `in_domain`, so that a store that was begun before has no place for it.

    Raises:
        InputError: the simulator does not give an output that the records hold.
    """
    outputs = [v.name for v in simulator.spec.outputs]
    if absent := [name for name in records.outputs if name not in outputs]:
        raise InputError(
            f"holds {', '.join(absent)}, which {simulator.name} does not give",
            where=str(records.path),
            remedy="Name another store",
        )
    added = [name for name in outputs if name not in records.outputs]
    if added:
        LOG.warning(
            "%s was begun by an earlier version, in which %s did not give %s: its records go without. "
            "Name another store to keep them",
            records.path,
            simulator.name,
            ", ".join(added),
        )
    return frozenset(added)


@dataclass
class _Campaign:
    """The state of one call of `run_campaign`."""

    records: RecordStore
    config: CampaignConfig
    pickled: bytes
    total: int | None
    show: bool
    key: str
    declared: float | None = None
    left_out: frozenset[str] = frozenset()
    failed: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    done: int = 0
    cached: int = 0
    requested: int = 0
    answered: int = 0
    job_seconds: float = 0.0
    core_seconds: float = 0.0
    reasons: Reasons = field(default_factory=Reasons)
    trial: FirstRequests = field(init=False)
    engine: Engine | None = None
    fingerprint: str = ""
    together: bool = False
    crew: Crew | EngineCrew = field(init=False)

    def __post_init__(self) -> None:
        self.trial = FirstRequests(self.config.give_up_after, self.total, str(self.records.path), self.key)
        if self.engine is None:
            self.crew = Crew(self.pickled, self.config, self._record, self.together)
            return
        inbox = self.records.path.with_name(f"{self.records.path.name}.inbox")
        self.crew = EngineCrew(
            self.pickled,
            self.fingerprint,
            self.config,
            self._record,
            self.engine,
            inbox,
            self.records.sync,
            self.together,
        )
        for job, answer in self.crew.left_over(self.records.has):
            self._append(job, answer)

    def run(self, inputs: Iterator[xr.Dataset]) -> CampaignSummary:
        """Send requests to the workers until all have ended."""
        began = time.perf_counter()
        outlook = Outlook(self.config.processes, self.config.timeout_s, self.key)
        jobs = self._new(inputs)
        shown = progress_bar("simulating (Ctrl-C is safe)", self.total, done=self.cached, show=self.show)
        with Interrupts() as interrupts, shown as bar:
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
                    text = f"{rate:,.1f}/s" + (f"  failed: {failures}" if failures else "")
                    bar.update(self.cached + ended, note=text, failures=dict(self.kinds))
                    if self.show and self.declared is None and outlook.due(time.perf_counter() - began, ended):
                        left = None if self.total is None else max(0, self.total - self.cached - ended)
                        spent = (self.job_seconds, self.core_seconds)
                        if sentence := outlook.say(spent, ended, self.crew.running(), left):
                            bar.say(sentence)
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
            self.declared is not None,
        )

    def _ended(self, status: str, message: str) -> None:
        """Count a request that has a record, from this or from an earlier run."""
        if status == "ok":
            self.answered += 1
        else:
            self.reasons.add(status, message)
            self.kinds[status] += 1
        self.trial.take(status, message)

    def _new(self, inputs: Iterator[xr.Dataset]) -> Iterator[Job]:
        """Yield jobs for requests without a record, and count the others."""
        latest, seen = KeyIndex(), KeyIndex()
        for recorded, state, said in self.records.facts_by_record(("key", "status", "message")):
            latest.replace(str(recorded).split(AGAIN)[0], json.dumps([str(recorded), str(state), str(said)]))
        for record in inputs:
            key = input_hash(record)
            if not seen.add(key):
                continue
            self.requested += 1
            entry = latest.text(key) if len(latest) else None
            if entry is None:
                yield Job(key, request_values(record))
                continue
            last, state, said = json.loads(entry)
            if self.config.retry_failed and state != "ok":
                _, _, count = last.partition(AGAIN)
                yield Job(f"{key}{AGAIN}{int(count or 0) + 1}", request_values(record))
            else:
                self.cached += 1
                self._ended(state, said)
        latest.close()
        seen.close()

    def _append(self, job: Job, answer: WorkerAnswer) -> float:
        """Add the record of an answer to the store; returns its cost in core-seconds."""
        spent = job.core_seconds if self.declared is None else self.declared
        facts: dict[str, Any] = {
            "status": answer.status,
            "message": answer.message,
            "seconds": job.seconds,
            "core_seconds": spent,
            "threads": self.config.threads,
            "attempts": job.attempts,
            "log": answer.log,
        }
        outputs = {name: value for name, value in answer.values.items() if name not in self.left_out}
        try:
            self.records.append(job.key, {**job.values, **outputs}, **facts)
        except (InputError, TypeError, ValueError):
            # Inputs of a wrong shape do not fit the columns, so that only key and message are stored.
            if answer.status != "invalid_input":
                raise
            self.records.append(job.key, {}, **facts)
        return spent

    def _record(self, job: Job, answer: WorkerAnswer) -> None:
        spent = self._append(job, answer)
        self.job_seconds += job.seconds
        self.core_seconds += spent
        if answer.status == "ok":
            self.done += 1
        else:
            self.failed[answer.status] += 1
        self._ended(answer.status, answer.message)
