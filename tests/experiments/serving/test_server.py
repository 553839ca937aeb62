"""A real server on a free port: routes, limits, slow and broken clients, and the end after its answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import queue
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families
from serving import Client, Reply, Squares, service_of, serving
from uvicorn.server import ServerState

from data.errors import InputError
from experiments.serving.connections import timed_protocol
from experiments.serving.limits import RequestLimits
from experiments.serving.server import hosts_of, listen

LIMITS = RequestLimits(max_batch=4, queue=50, body_mb=0.01, timeout_s=1.0)


@pytest.fixture(scope="module")
def squares() -> Squares:
    return Squares()


@pytest.fixture(scope="module")
def client(squares: Squares) -> Iterator[Client]:
    with serving(service_of(squares, LIMITS)) as client:
        yield client


def raw(client: Client, text: bytes) -> bytes:
    """What the server sends back to these bytes before it closes the connection."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=300) as connection:
        connection.sendall(text)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
        return b"".join(parts)


def error(reply: Reply) -> dict[str, Any]:
    said: dict[str, Any] = reply.json["error"]
    assert set(said) == {"kind", "problem", "where", "remedy"}
    assert said["problem"]
    return said


def test_good_rows_are_answered_and_bad_rows_are_named(client: Client) -> None:
    reply = client.predict([{"x": 2}, {"x": 13}, {"x": -3}, {"y": 1}])
    assert reply.status == 200
    answer = reply.json
    assert answer["rows"] == [{"square": 4.0, "in_domain": True}, None, {"square": 9.0, "in_domain": False}, None]
    assert [(e["row"], e["kind"]) for e in answer["errors"]] == [(1, "invalid_input"), (3, "invalid_input")]
    assert answer["units"] == {"square": "m2", "in_domain": "1"}
    assert answer["fingerprint"] == "ab" * 32


def test_a_request_without_any_good_row_has_status_422_and_names_each(client: Client) -> None:
    reply = client.predict([{"x": 13}, {"x": "a"}])
    assert reply.status == 422
    assert [e["where"] for e in reply.json["errors"]] == ["row 0, x", "row 1, x"]


def test_rows_beyond_a_batch_come_back_in_order(client: Client) -> None:
    reply = client.predict([{"x": n} for n in range(20, 40)])
    assert [row["square"] for row in reply.json["rows"]] == [n**2 for n in range(20, 40)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"accept": "text/html"}, 406),
        ({"host": "pages.example"}, 400),
    ],
)
def test_other_types_and_hosts_are_refused(client: Client, headers: dict[str, str], status: int) -> None:
    reply = client.predict([{"x": 1}], **headers)
    assert reply.status == status
    assert error(reply)["remedy"]


def test_the_answer_has_the_type_of_accept(client: Client) -> None:
    arrow = "application/vnd.apache.arrow.stream"
    reply = client.predict([{"x": 3}], accept=f"text/html, {arrow};q=0.5")
    assert reply.headers["content-type"] == arrow
    assert client.predict([{"x": 3}], accept="*/*").json["answered"] == 1


def test_a_large_body_is_refused_by_its_length_and_as_it_arrives(client: Client) -> None:
    large = b" " * 20_000
    reply = client.ask("POST", "/predict", large, content_type="application/json")
    assert (reply.status, error(reply)["kind"]) == (413, "too_large")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + (b"2000\r\n" + b" " * 0x2000 + b"\r\n") * 3 + b"0\r\n\r\n"
    assert raw(client, chunked).startswith(b"HTTP/1.1 413")
    assert client.predict([{"x": 1}] * 51).status == 413


def test_a_client_that_is_slow_in_its_head_or_its_body_is_cut_off(client: Client) -> None:
    outcomes: queue.Queue[bytes] = queue.Queue()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    slow = [b"", b"GET /hea", head]
    threads = [threading.Thread(target=lambda text=text: outcomes.put(_cut(client, text))) for text in slow]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers = sorted(outcomes.get() for _ in slow)
    assert answers[:2] == [b"", b""]
    assert answers[2].startswith(b"HTTP/1.1 408")
    assert client.get("/health").status == 200


def _cut(client: Client, text: bytes) -> bytes:
    try:
        return raw(client, text)
    except ConnectionResetError:
        return b""


class Stuck(asyncio.Transport):
    """A connection whose other side takes nothing."""

    def __init__(self, ended: asyncio.Event, connection: socket.socket | None = None) -> None:
        super().__init__({"socket": connection})
        self._ended = ended

    def abort(self) -> None:
        self._ended.set()


def test_a_client_that_does_not_take_its_answer_is_cut_off(squares: Squares) -> None:
    async def run() -> None:
        ended = asyncio.Event()
        config = uvicorn.Config(lambda: None, log_config=None)
        protocol: Any = timed_protocol(0.05)(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(Stuck(ended))
        protocol._head.cancel()
        protocol.pause_writing()
        protocol.resume_writing()
        assert protocol._writing is None
        assert not ended.is_set()
        protocol.pause_writing()
        await asyncio.wait_for(ended.wait(), 60)

    asyncio.run(run())


def test_pieces_of_an_answer_do_not_wait_for_the_client_to_confirm_the_one_before() -> None:
    async def run(connection: socket.socket) -> None:
        config = uvicorn.Config(lambda: None, log_config=None)
        protocol: Any = timed_protocol(60.0)(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.connection_made(Stuck(asyncio.Event(), connection))
        protocol._head.cancel()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
            asyncio.run(run(accepted))
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_rows_that_are_not_answered_in_time_have_status_503(client: Client, squares: Squares) -> None:
    squares.gate.clear()
    try:
        reply = client.predict([{"x": 1}])
    finally:
        squares.gate.set()
    assert (reply.status, error(reply)["kind"]) == (503, "timeout")
    assert int(reply.headers["retry-after"]) >= 1


def test_beyond_the_queue_requests_are_refused_with_retry_after(squares: Squares) -> None:
    with serving(service_of(squares, RequestLimits(max_batch=1, queue=3, timeout_s=60))) as client:
        squares.gate.clear()
        outcomes: queue.Queue[Reply] = queue.Queue()
        threads = [threading.Thread(target=lambda: outcomes.put(client.predict([{"x": 5}]))) for _ in range(8)]
        for thread in threads:
            thread.start()
        refused = [outcomes.get(timeout=300) for _ in range(5)]
        squares.gate.set()
        for thread in threads:
            thread.join()
        answered = [outcomes.get(timeout=300) for _ in range(3)]
    assert {reply.status for reply in refused} == {429}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
    assert {reply.status for reply in answered} == {200}


def test_what_is_no_http_gets_an_error_and_the_server_goes_on(client: Client) -> None:
    answer = raw(client, b"\x00\x01\x02 no HTTP at all\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["kind"] == "malformed"
    assert raw(client, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 4")
    assert client.get("/health").json["status"] == "ready"


def test_a_fault_of_the_program_is_an_answer_without_its_traceback(client: Client) -> None:
    reply = client.predict([{"x": 99}])
    assert (reply.status, error(reply)["kind"]) == (500, "fault")
    assert b"Traceback" not in reply.body
    assert b"breaks" not in reply.body
    assert client.predict([{"x": 2}]).json["rows"][0]["square"] == 4


def test_paths_and_methods_that_are_not_served_name_those_that_are(client: Client) -> None:
    assert (client.get("/nothing").status, client.get("/predict").status) == (404, 405)
    assert "/predict" in error(client.get("/nothing"))["remedy"]
    assert client.ask("DELETE", "/health").status == 405


def test_the_metrics_are_those_of_prometheus_and_count_what_was_served(client: Client) -> None:
    def value(name: str, **labels: str) -> float:
        text = client.get("/metrics").body.decode()
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    before = value("understudy_rows_total", outcome="answered")
    refused = value("understudy_rows_total", outcome="invalid_input")
    outside = value("understudy_rows_out_of_domain_total")
    client.predict([{"x": 2}, {"x": 13}, {"x": -3}])
    assert value("understudy_rows_total", outcome="answered") == before + 2
    assert value("understudy_rows_total", outcome="invalid_input") == refused + 1
    assert value("understudy_rows_out_of_domain_total") == outside + 1
    assert value("understudy_requests_total", route="/predict", status="200") >= 1
    assert value("understudy_memory_bytes") > 1e6
    assert value("understudy_served", fingerprint="ab" * 32) == 1


def test_the_openapi_document_is_valid_and_names_the_routes(client: Client) -> None:
    document = client.get("/openapi.json").json
    validate(document)
    assert set(document["paths"]) == {"/predict", "/health", "/spec", "/openapi.json", "/metrics"}
    for path in set(document["paths"]) - {"/predict"}:
        assert client.get(path).status == 200
    spec = client.get("/spec").json
    assert [v["name"] for v in spec["inputs"]] == ["x"]
    assert spec["limits"]["queue"] == 50


def test_at_the_end_what_was_received_is_answered(squares: Squares) -> None:
    squares.gate.clear()
    outcome: queue.Queue[Reply] = queue.Queue()
    with serving(service_of(squares, RequestLimits(timeout_s=60))) as client:
        server = client.server
        assert server is not None
        thread = threading.Thread(target=lambda: outcome.put(client.predict([{"x": 7}])))
        thread.start()
        step = threading.Event()
        while not server.server_state.tasks:
            step.wait(0.01)
        server.should_exit = True
        squares.gate.set()
        thread.join()
        assert outcome.get(timeout=300).json["rows"] == [{"square": 49.0, "in_domain": True}]
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.get("/health")


def test_an_address_that_cannot_be_listened_on_is_refused() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(InputError, match="port=0"):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="cannot listen"):
        listen("no.such.host.invalid", 0)
    assert hosts_of("0.0.0.0") is None
    assert "localhost" in (hosts_of("127.0.0.1") or ())
