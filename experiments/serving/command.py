"""Serves a surrogate until it is stopped, with its progress, and says at the end what was served and what it cost."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.files import write_json
from data.progress import Step, current_progress
from data.terminal import show_pairs
from experiments.application.run_directory import configuration_checked
from experiments.application.usage import PeakMemory, cpu_seconds
from experiments.serving.application import Service
from experiments.serving.batching import Batcher
from experiments.serving.compilations import CompilationCounter
from experiments.serving.description import described, identity
from experiments.serving.kinds.answerer import Answerer
from experiments.serving.limits import RequestLimits
from experiments.serving.metrics import ANSWERED, Metrics, sums
from experiments.serving.openapi import openapi
from experiments.serving.server import Server, address_of, hosts_of, listen

#: File of a run with the address and the process of the server; it is removed when the server ends.
ADDRESS = "server.json"
#: Seconds between two looks at the memory, which cost some milliseconds each.
MEMORY_EVERY_S = 5.0


@dataclass(frozen=True)
class Running:
    """A service that answers, and what counts its compilations.

    Attributes:
        service: the service, whose threads run.
        compilations: counts the programs that were compiled.
    """

    service: Service
    compilations: CompilationCounter

    def close(self) -> None:
        """Answer what waits, and end the threads and processes."""
        self.service.batcher.stop()
        self.service.answerer.close()


def start_service(kind: str, answerer: Answerer, limits: RequestLimits, hosts: tuple[str, ...] | None) -> Running:
    """Compile what is served, and start the threads that answer.

    Args:
        kind: word of the kind of what is served.
        answerer: what is served.
        limits: the limits.
        hosts: names under which the server may be asked; None for any.
    """
    compilations = CompilationCounter()
    try:
        answerer.compile()
    except BaseException:
        answerer.close()
        raise
    batcher = Batcher(answerer, limits, lambda *batch: metrics.batch(*batch))
    about = identity(kind, answerer)
    metrics = Metrics(about, lambda: batcher.waiting, lambda: compilations.count)
    service = Service(
        answerer, batcher, limits, metrics, about, described(kind, answerer, limits), openapi(kind, answerer, limits),
        hosts,
    )  # fmt: skip
    batcher.start()
    return Running(service, compilations)


def serve(kind: str, answerer: Answerer, limits: RequestLimits, host: str, port: int, run_dir: Path) -> None:
    """Serve until a signal ends the server; see `experiments.stages.serve`.

    Args:
        kind: word of the kind of what is served.
        answerer: what is served.
        limits: the limits.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        run_dir: directory of the run.

    Raises:
        InputError: the address cannot be listened on.
    """
    began, cpu = time.perf_counter(), cpu_seconds()
    with listen(host, port) as listening, PeakMemory(MEMORY_EVERY_S) as memory:
        running = start_service(kind, answerer, limits, hosts_of(host))
        try:
            configuration_checked(run_dir)
            address = address_of(listening, host)
            starting = {"seconds": time.perf_counter() - began, "core_seconds": cpu_seconds() - cpu}
            show_pairs("Serving", {
                "address": address,
                "surrogate": answerer.simulator.name,
                "fingerprint": answerer.simulator.fingerprint[:12],
                **answerer.settings,
                "programs": f"{running.compilations.count} compiled in {starting['seconds']:.1f} s",
                "stop": "Ctrl-C answers what has been received, and ends",
            })  # fmt: skip
            write_json(run_dir / ADDRESS, {"address": address, "pid": os.getpid()}, listed=False)
            step = Step("requests", None)
            if (progress := current_progress()) is not None:
                progress.begin(step)
            Server(running.service, lambda: _follow(step, running.service)).run_on(listening)
            _follow(step, running.service)
        finally:
            (run_dir / ADDRESS).unlink(missing_ok=True)
            running.close()
    metrics = _metrics(running, starting, time.perf_counter() - began, cpu_seconds() - cpu, memory.peak_mb)
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    show_pairs("Served", _rows(running.service, metrics))


def _follow(step: Step, service: Service) -> None:
    """Say how much was served in `progress.json` of the run."""
    rows = sums(service.metrics.rows, "outcome")
    step.done = sum(sums(service.metrics.requests).values())
    step.failures = {kind: int(count) for kind, count in rows.items() if kind != ANSWERED and count}
    step.note = f"{rows.get(ANSWERED, 0):,.0f} rows answered, {service.batcher.waiting:,} wait"


def _metrics(
    running: Running, starting: Mapping[str, float], seconds: float, core_seconds: float, peak_mb: float
) -> dict[str, float]:
    counted, rows = running.service.metrics, sums(running.service.metrics.rows, "outcome")
    answered = rows.get(ANSWERED, 0.0)
    spent = core_seconds - starting["core_seconds"]
    statuses = sums(counted.requests, "status")
    values = {
        "requests": sum(statuses.values()),
        "requests_refused": sum(count for status, count in statuses.items() if not status.startswith("2")),
        "answered": answered,
        "refused": sum(rows.values()) - answered,
        "out_of_domain": sum(sums(counted.outside).values()),
        "compiled_programs": float(running.compilations.count),
        "seconds": seconds,
        "startup_seconds": starting["seconds"],
        "core_seconds": core_seconds,
        "predicting_seconds": sum(sums(counted.predicting).values()),
        "peak_memory_mb": peak_mb,
    }
    if answered:
        values["core_seconds_per_row"] = spent / answered
    return {f"serve/{name}": value for name, value in values.items()}


def _rows(service: Service, metrics: Mapping[str, float]) -> dict[str, object]:
    value = {name.removeprefix("serve/"): number for name, number in metrics.items()}
    statuses = sums(service.metrics.requests, "status")
    rows = sums(service.metrics.rows, "outcome")
    refused = {kind: count for kind, count in sorted(rows.items()) if kind != ANSWERED and count}
    shown: dict[str, object] = {
        "requests": f"{value['requests']:,.0f}"
        + "".join(f", {count:,.0f} with status {status}" for status, count in sorted(statuses.items())),
        "rows answered": f"{value['answered']:,.0f}, {value['out_of_domain']:,.0f} of them outside the domain",
        "rows refused": ", ".join(f"{count:,.0f} {kind}" for kind, count in refused.items()) or "none",
        "time": f"{value['seconds']:,.1f} s, {value['startup_seconds']:.1f} s of them to start",
        "cost": f"{value['core_seconds']:,.1f} core-s",
        "peak memory": f"{value['peak_memory_mb']:,.0f} MB",
    }
    if "core_seconds_per_row" in value:
        shown["cost"] = (
            f"{shown['cost']}, {1000 * value['core_seconds_per_row']:.4g} core-ms for each row after the start"
        )
    return shown
