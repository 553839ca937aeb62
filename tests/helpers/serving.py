"""A server of requests in a thread of the test, and clients of it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from data.spec import Spec, Variable
from experiments.serving.application import Service
from experiments.serving.batching import Batcher
from experiments.serving.description import described, identity
from experiments.serving.kinds.answerer import rows_read
from experiments.serving.limits import RequestLimits
from experiments.serving.metrics import Metrics
from experiments.serving.openapi import openapi
from experiments.serving.refusals import invalid
from experiments.serving.rows import Answer, Question, Readable
from experiments.serving.server import Server, hosts_of, listen
from experiments.serving.values import array_of

X = Variable("x", (), "m", "float64", "position")
SQUARE = Variable("square", (), "m2", "float64", "square of the position")
IN_DOMAIN = Variable("in_domain", (), "1", "bool", "whether the position is positive")


@dataclass
class Squares:
    """Answers x with its square: refuses x = 13, fails as a whole on x = 99, and waits for `gate` before answers."""

    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    simulator: Any = field(
        default_factory=lambda: SimpleNamespace(
            name="squares", fingerprint="ab" * 32, spec=Spec((X,), (SQUARE, IN_DOMAIN))
        )
    )
    inputs: tuple[Variable, ...] = (X,)
    optional: tuple[str, ...] = ()
    outputs: tuple[Variable, ...] = (SQUARE, IN_DOMAIN)
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate.set()

    def compile(self) -> None:
        """Nothing is compiled."""

    def read(self, question: Question) -> Readable:
        def read(row: int) -> float:
            value = float(array_of(X, question.column("x")[row], {}))
            if value == 13:
                raise invalid("13 is refused", "x", "Send another number")
            return value

        good, values, refusals = rows_read(question, read)
        return Readable(question.rows, np.array(good, np.int64), np.array(values, float), refusals)

    def answer(self, readable: Readable) -> Answer:
        self.gate.wait()
        self.batches.append(readable.rows)
        values = readable.inputs
        if 99 in values:
            raise RuntimeError("99 breaks the whole batch")
        return readable.answer({"square": values**2, "in_domain": values > 0})

    def close(self) -> None:
        """Nothing is ended."""


def service_of(answerer: Any, limits: RequestLimits) -> Service:
    """The service of an answerer whose programs are not counted."""
    batcher = Batcher(answerer, limits, lambda *batch: counted.batch(*batch))
    about = identity("numbers", answerer)
    counted = Metrics(about, lambda: batcher.waiting, lambda: 0)
    spec, document = described("numbers", answerer, limits), openapi("numbers", answerer, limits)
    batcher.start()
    return Service(answerer, batcher, limits, counted, about, spec, document, hosts_of("127.0.0.1"))


@contextmanager
def serving(service: Service) -> Iterator[Client]:
    """Run a real server on a free port until the block ends."""
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        server = Server(service)
        thread = threading.Thread(target=server.run_on, args=(listening,), daemon=True)
        thread.start()
        try:
            yield Client(port, server)
        finally:
            server.should_exit = True
            thread.join()
            service.batcher.stop()
            service.answerer.close()


@dataclass
class Reply:
    """What a server replied.

    Attributes:
        status: status of HTTP.
        headers: by their names in lower case.
        body: bytes.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON, in which NaN is an error."""

        def refuse(text: str) -> None:
            raise AssertionError(f"{text} in JSON")

        return json.loads(self.body, parse_constant=refuse)


@dataclass
class Client:
    """A client with a connection for each request.

    Attributes:
        port: of the server.
        server: the server.
    """

    port: int
    server: Server | None = None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def predict(self, rows: Sequence[Any], **headers: str) -> Reply:
        body = json.dumps({"rows": list(rows)}).encode()
        return self.ask("POST", "/predict", body, **{"content_type": "application/json"} | headers)
