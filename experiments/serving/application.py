"""The routes of a server: /predict, /health, /spec, /openapi.json and /metrics.

The event loop receives and sends bodies; large ones are parsed and written in a thread, and rows are answered by the
threads of `experiments.serving.batching`. Every error is JSON with a kind, a place and a remedy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from data.spec import Variable
from experiments.serving import arrow_bodies, json_bodies, metrics
from experiments.serving.batching import Batcher
from experiments.serving.kinds.answerer import Answerer
from experiments.serving.limits import BODIES, ReceivedBytes, RequestLimits
from experiments.serving.metrics import Metrics
from experiments.serving.refusals import ProblemDetails, RequestError
from experiments.serving.rows import Answer, Question

LOG = logging.getLogger(__name__)
ROUTES = ("/predict", "/health", "/spec", "/openapi.json", "/metrics")
#: Bytes or rows from which a body is parsed or written in a thread.
LARGE_BYTES, LARGE_ROWS = 65_536, 512
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass
class Service:
    """What the routes answer with.

    Attributes:
        answerer: what is served.
        batcher: answers rows.
        limits: the limits of the server.
        metrics: what is counted.
        identity: what stands in every answer.
        spec: answer of /spec.
        openapi: answer of /openapi.json.
        hosts: names under which the server may be asked; None for any. A page of a browser cannot reach a server on
            this machine under a name of its own then.
    """

    answerer: Answerer
    batcher: Batcher
    limits: RequestLimits
    metrics: Metrics
    identity: dict[str, str]
    spec: dict[str, Any]
    openapi: dict[str, Any]
    hosts: Sequence[str] | None = None
    received: ReceivedBytes = field(init=False)
    outputs: dict[str, Variable] = field(init=False)

    def __post_init__(self) -> None:
        self.received = ReceivedBytes(self.limits)
        self.outputs = {variable.name: variable for variable in self.answerer.outputs}


def application(service: Service) -> Starlette:
    """The application of ASGI that serves the routes."""

    async def predict(request: Request) -> Response:
        return await _predict(service, request)

    async def health(request: Request) -> Response:
        alive = service.batcher.is_alive
        state = {"status": "ready" if alive else "failed", "rows_waiting": service.batcher.waiting}
        return _json({**state, **service.identity}, 200 if alive else 503)

    async def spec(request: Request) -> Response:
        return _json(service.spec)

    async def document(request: Request) -> Response:
        return _json(service.openapi)

    async def counted(request: Request) -> Response:
        text = await asyncio.to_thread(service.metrics.text)
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        remedy = f"There are {', '.join(ROUTES)}"
        if error.status_code == 405:
            remedy = "POST the rows to /predict; the other routes are read by GET"
        problem = ProblemDetails(error.status_code, "not_served", str(error.detail), request.url.path, remedy)
        service.metrics.request("other", error.status_code, 0.0)
        return _refused(problem, error.headers)

    routes = [
        Route("/predict", _counting(service, "/predict", predict), methods=["POST"]),
        *(
            Route(path, _counting(service, path, endpoint), methods=["GET"])
            for path, endpoint in zip(ROUTES[1:], (health, spec, document, counted), strict=True)
        ),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refuse})


def _counting(service: Service, path: str, endpoint: Endpoint) -> Endpoint:
    """An endpoint whose requests are counted, and whose errors become answers."""

    async def run(request: Request) -> Response:
        began = time.perf_counter()
        try:
            _refuse_other_hosts(service, request)
            response = await endpoint(request)
        except RequestError as error:
            response = _refused(error.problem)
        except ClientDisconnect:
            # Nobody reads this answer.
            response = _refused(ProblemDetails(400, "disconnected", "the client went away"))
        except Exception:
            LOG.exception("a request to %s failed", path)
            response = _refused(
                ProblemDetails(
                    500, "fault", "the server has a fault", path, "The log of the server says more"
                ).closing()
            )
        service.metrics.request(path, response.status_code, time.perf_counter() - began)
        return response

    return run


def _refuse_other_hosts(service: Service, request: Request) -> None:
    """Refuse a request that names another host.

    Raises:
        RequestError: 400.
    """
    try:
        host = request.url.hostname
    except ValueError:
        host = request.headers.get("host")
    if service.hosts is not None and host not in service.hosts:
        remedy = f"Ask {' or '.join(service.hosts)}"
        raise RequestError(ProblemDetails(400, "not_served", f"the host is {host!r}", "Host", remedy, closes=True))


async def _predict(service: Service, request: Request) -> Response:
    service.batcher.arrive()
    arriving = True
    size = 0
    try:
        try:
            read, write = _types(request)
        except RequestError:
            await _discard(service, request)
            raise
        body = await _body(service, request)
        size = len(body)
        question, form = await _run(size > LARGE_BYTES, read, body, service)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        job = service.batcher.submit(question, lambda outcome: _set(loop, future, outcome))
        service.batcher.leave()
        arriving = False
        del body
        try:
            answer = await _answer_or_disconnect(service, request, future)
        except BaseException:
            service.batcher.cancel(job)
            raise
        content, kind = await _run(answer.rows > LARGE_ROWS, write, answer, service, form)
        return Response(content, 200 if answer.answered else 422, headers={"content-type": kind})
    finally:
        if arriving:
            service.batcher.leave()
        service.received.remove(size)


async def _run(large: bool, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, in a thread if it takes long enough to hold up others."""
    return await asyncio.to_thread(function, *arguments) if large else function(*arguments)


async def _body(service: Service, request: Request) -> bytes:
    """The body of a request.

    Raises:
        RequestError: 408, 413 or 429.
    """
    received, seconds = service.received, service.limits.timeout_s
    chunks: list[bytes] = []
    size, more = 0, True

    async def receive() -> None:
        nonlocal size, more
        while more:
            chunk, more = await _chunk(request)
            received.add(len(chunk), size + len(chunk))
            size += len(chunk)
            chunks.append(chunk)

    try:
        length = request.headers.get("content-length", "")
        received.refuse_length(int(length) if length.isdecimal() else 0)
        await asyncio.wait_for(receive(), seconds)
    except TimeoutError:
        received.remove(size)
        raise RequestError(
            ProblemDetails(408, "timeout", f"the body did not arrive within {seconds:g} s", "body",
                    "Send it faster, or raise timeout_s of understudy serve", closes=True)
        ) from None  # fmt: skip
    except RequestError as error:
        received.remove(size)
        chunks.clear()
        if more:
            await _discard(service, request)
        raise RequestError(error.problem.closing()) from None
    except BaseException:
        received.remove(size)
        raise
    return b"".join(chunks)


async def _chunk(request: Request) -> tuple[bytes, bool]:
    """A piece of a body, and whether there are more.

    Raises:
        ClientDisconnect: the client went away.
    """
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _discard(service: Service, request: Request) -> None:
    """Read what is left of a refused body without keeping it, within limits.

    A client that sends all of its body before it reads would lose the answer with the connection.
    """

    async def discard() -> None:
        size, more = 0, True
        while more and size < BODIES * service.limits.body_bytes:
            chunk, more = await _chunk(request)
            size += len(chunk)

    with suppress(TimeoutError):
        await asyncio.wait_for(discard(), service.limits.timeout_s)


async def _answer_or_disconnect(service: Service, request: Request, future: asyncio.Future[Answer]) -> Answer:
    """The answer, unless the client goes away or the time is over.

    Raises:
        RequestError: 503: it is not there in time.
        ClientDisconnect: the client went away.
    """
    seconds = service.limits.timeout_s
    leaving: asyncio.Future[Any] = asyncio.ensure_future(request.receive())
    both: list[asyncio.Future[Any]] = [future, leaving]
    try:
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        if leaving.done():
            raise ClientDisconnect
        raise RequestError(
            ProblemDetails(503, "timeout", f"the rows were not answered within {seconds:g} s", "body",
                    "Send fewer rows, or send them later", retry_after_s=service.batcher.retry_after_s())
        )  # fmt: skip
    finally:
        future.cancel()
        leaving.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await leaving


def _set(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Answer], outcome: Answer | Exception) -> None:
    """Hand an outcome from a thread to the event loop."""

    def hand_over() -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(hand_over)


# Types of bodies


def _types(request: Request) -> tuple[Callable[..., tuple[Question, str]], Callable[..., tuple[bytes, str]]]:
    """The functions that read the body of a request and write the answer to it.

    Raises:
        RequestError: 406 or 415.
    """
    types = {
        json_bodies.CONTENT_TYPE: (_read_json, _write_json),
        arrow_bodies.CONTENT_TYPE: (_read_arrow, _write_arrow),
    }
    both = " or ".join(types)

    def refused(status: int, problem: str, where: str, remedy: str) -> RequestError:
        return RequestError(ProblemDetails(status, "unsupported_type", problem, where, remedy, closes=True))

    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in types:
        problem = f"the body is of the type {kind}" if kind else "the body has no type"
        raise refused(415, problem, "Content-Type", f"Send {both}")
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise refused(415, f"the body is encoded as {coding}", "Content-Encoding", "Send it as it is")
    accept = request.headers.get("accept", "").lower()
    ranges = [part.partition(";")[0].strip() for part in accept.split(",") if part.strip()] or ["*/*"]
    if any(name in (kind, "*/*", "application/*") for name in ranges):
        return types[kind][0], types[kind][1]
    named = [name for name in types if name in ranges]
    if not named:
        raise refused(406, f"Accept is {accept}", "Accept", f"Ask for {both}")
    return types[kind][0], types[named[0]][1]


def _read_json(body: bytes, service: Service) -> tuple[Question, str]:
    return json_bodies.read_json(body, service.answerer.inputs, service.limits)


def _read_arrow(body: bytes, service: Service) -> tuple[Question, str]:
    return arrow_bodies.read_arrow(body, service.answerer.inputs, service.limits), json_bodies.COLUMNS


def _write_json(answer: Answer, service: Service, form: str) -> tuple[bytes, str]:
    units = {name: variable.units for name, variable in service.outputs.items()}
    return json_bodies.write_json(answer, service.identity, units, form), json_bodies.CONTENT_TYPE


def _write_arrow(answer: Answer, service: Service, form: str) -> tuple[bytes, str]:
    return arrow_bodies.write_arrow(answer, service.identity, service.outputs), arrow_bodies.CONTENT_TYPE


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, allow_nan=False), status, media_type=json_bodies.CONTENT_TYPE)


def _refused(problem: ProblemDetails, headers: Any = None) -> Response:
    response = _json(problem.plain(), problem.status)
    for name, value in dict(headers or {}).items():
        response.headers[name] = value
    if problem.retry_after_s is not None:
        response.headers["retry-after"] = str(problem.retry_after_s)
    if problem.closes:
        response.headers["connection"] = "close"
    return response
