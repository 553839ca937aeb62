"""The one writer of a campaign whose answers cost nothing: records a second, and its peak memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from data.processes.processor import tree_seconds
from data.spec import input_hash
from data.store.records import RecordStore
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.engine_crew import Engine
from simulators.campaigns.guarded import Delivery
from simulators.campaigns.slot import Job
from simulators.campaigns.spool import Finished
from simulators.testing import Misbehaving, request
from simulators.workers.worker import WorkerAnswer, request_values

#: Workers of the campaign; tasks of up to 512 requests are under way for each, whose requests are in memory.
WORKERS = 2
#: Requests by which the costs outside the writer are measured.
SAMPLE = 500


class AnsweredExecutor(Executor):
    """An executor whose requests are answered at once, so that what is measured is the writer."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        """The answers of a task, as a worker without a shared folder returns them."""
        _, _, _, requests, _ = arguments
        future: Future[Any] = Future()
        future.set_result(
            Delivery(frames=b"".join(self.frame(key, values) for key, values in requests), seconds=1e-4 * len(requests))
        )
        return future

    def frame(self, key: str, values: Any) -> bytes:
        """The frame of one answer."""
        answer = WorkerAnswer("ok", {"y": float(values["x"]) ** 2, "omp_threads": 1}, "", "{}", 0.0, 0.0)
        return Finished(Job(key, dict(values), 1), answer, self._fingerprint).pack()


def answer_all(folder: Path, size: int) -> None:
    """Run a campaign of so many requests, made one by one."""
    folder.mkdir(parents=True, exist_ok=True)
    simulator = Misbehaving(str(folder))
    requests = (request(float(x)) for x in range(size))
    engine = Engine(AnsweredExecutor(simulator.fingerprint), lambda: WORKERS)
    run_campaign(simulator, requests, folder / "s", CampaignConfig(), progress=False, engine=engine)


def writer(folder: Path, size: int) -> dict[str, float]:
    """Small records that one writer takes, from a lazy stream of requests."""
    # What is imported once counts for nothing.
    answer_all(folder / "first", 2)
    wall, core = time.perf_counter(), tree_seconds()
    answer_all(folder, size)
    wall, core = time.perf_counter() - wall, tree_seconds() - core
    with RecordStore.open(folder / "s") as records:
        assert len(records) == size
    # The requests are made by whoever asks, and the frames by workers.
    requested = _each(lambda x: request_values(request(x)))
    worker = AnsweredExecutor("f")
    framed = _each(lambda x: worker.frame("k" * 64, {"x": x, "mode": "ok"}))
    one = request(1.0)
    hashed = _each(lambda x: input_hash(one))
    alone = core / size - requested - framed
    return {
        "records a second of wall time": size / wall,
        "records a core-second": size / core,
        "the writer alone: records a core-second": 1 / alone,
        "making a request: core-ms": 1000 * requested,
        "a worker's frame: core-ms": 1000 * framed,
        "hashing a request: core-ms": 1000 * hashed,
        "writer alone, with hashing: core-ms": 1000 * alone,
    }


def _each(call: Callable[[float], object]) -> float:
    """Processor time of one call, s."""
    began = time.process_time()
    for number in range(SAMPLE):
        call(float(number))
    return (time.process_time() - began) / SAMPLE


def peak_memory(folder: Path, sizes: Sequence[int]) -> dict[str, float]:
    """Peak memory of the process of a campaign by its number of requests, 10^6 bytes, each in a process of its own."""
    peaks: dict[str, float] = {}
    for size in sizes:
        where = folder / str(size)
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.writing", str(where), str(size)],
            check=True,
            capture_output=True,
            text=True,
        )
        peaks[f"{size:,} requests: peak MB"] = float(ended.stdout)
    return peaks


if __name__ == "__main__":
    answer_all(Path(sys.argv[1]), int(sys.argv[2]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
