"""What a server counts, as Prometheus reads it and as the closing table of the command shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from experiments.application.usage import cpu_seconds, memory_mb
from experiments.serving.batching import RequestPiece
from experiments.serving.rows import Answer
from surrogates.learning.box import IN_DOMAIN

CONTENT_TYPE = CONTENT_TYPE_LATEST
ANSWERED = "answered"
#: Upper ends of the classes of a histogram of seconds, and of one of rows.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ROWS = (1, 4, 16, 64, 256, 1024, 4096, 16384)


class Metrics:
    """The metrics of one server.

    Args:
        identity: labels that say what is served, such as its fingerprint.
        waiting: returns the number of rows that wait.
        compilations: returns the number of programs that were compiled.
    """

    def __init__(self, identity: dict[str, str], waiting: Callable[[], int], compilations: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        Gauge("understudy_served", "What is served; always 1", list(identity), registry=registry).labels(
            **identity
        ).set(1)
        self.requests = Counter("understudy_requests", "Requests that ended", ["route", "status"], registry=registry)
        self.rows = Counter("understudy_rows", "Rows, answered or refused by kind", ["outcome"], registry=registry)
        self.outside = Counter(
            "understudy_rows_out_of_domain", "Rows answered outside of the domain", registry=registry
        )
        self.batch_rows = Histogram("understudy_batch_rows", "Rows of a batch", buckets=ROWS, registry=registry)
        self.batch_requests = Counter("understudy_batch_requests", "Requests in all batches", registry=registry)
        self.predicting = Counter("understudy_predicting_seconds", "Seconds of prediction", registry=registry)
        self.seconds = Histogram(
            "understudy_request_seconds", "Seconds from the head of a request to its answer", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        for name, text, read in (
            ("understudy_rows_waiting", "Rows without an answer", waiting),
            ("understudy_compiled_programs", "Programs that were compiled", compilations),
            ("understudy_processor_seconds", "Processor time of the server and its processes, s", cpu_seconds),
            ("understudy_memory_bytes", "Memory of the server and its processes", lambda: 1e6 * memory_mb()),
        ):
            Gauge(name, text, registry=registry).set_function(read)
        self.rows.labels(ANSWERED)

    def batch(self, pieces: list[RequestPiece], answer: Answer, seconds: float) -> None:
        """Count a batch; see `experiments.serving.batching.Observer`."""
        self.batch_rows.observe(answer.rows)
        self.batch_requests.inc(len({id(piece.job) for piece in pieces}))
        self.predicting.inc(seconds)
        self.rows.labels(ANSWERED).inc(answer.answered)
        for why in answer.refusals.values():
            self.rows.labels(why.kind).inc()
        inside: Any = answer.columns.get(IN_DOMAIN)
        if inside is not None:
            self.outside.inc(sum(not flag for row, flag in enumerate(inside) if row not in answer.refusals))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that ended."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self.registry)


def sums(counter: Counter, label: str = "") -> dict[str, float]:
    """The counts of a counter, summed by the values of a label; by "" where it has none."""
    counts: dict[str, float] = {}
    for family in counter.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                value = sample.labels.get(label, "")
                counts[value] = counts.get(value, 0.0) + sample.value
    return counts
