"""Many clients at once for a server of molecules: good requests, and malformed, huge, slow and abandoned ones.

Each good answer is compared with the answer of the same surrogate in the process of the caller.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
#: Kind of request -> its share.
SHARES: Mapping[str, float] = {
    "rows": 0.5,
    "arrow": 0.3,
    "malformed": 0.12,
    "huge": 0.02,
    "nonsense": 0.03,
    "abandoned": 0.02,
    "slow": 0.01,
}
#: Largest difference from the answer in the process, relative to the spread of the answers: batches of other sizes add
#: up float32 numbers in another order.
TOLERANCE = 1e-4
#: Texts that are no molecules.
BAD = ("", "C(", "not a molecule", "C1CC", "[Xx]", "ÿþ", "c1cccc1")


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        requests: kind of request -> how many ended as they should.
        statuses: status of the answers to good requests -> count.
        rows: good rows that were answered and compared.
        largest_difference: largest difference from the truth, relative to the spread of each output.
        wrong: descriptions of whatever was not as it should be.
    """

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    rows: int = 0
    largest_difference: float = 0.0
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, kind: str, problem: str | None) -> None:
        """Count a request that ended."""
        with self._lock:
            if problem is None:
                self.requests[kind] += 1
            elif len(self.wrong) < 100:
                self.wrong.append(f"{kind}: {problem}")

    def compared(self, rows: int, difference: float, status: int) -> None:
        """Count an answer to a good request."""
        with self._lock:
            self.rows += rows
            self.statuses[status] += 1
            self.largest_difference = max(self.largest_difference, difference)


@dataclass(frozen=True)
class Truth:
    """Molecules and the answers to them.

    Attributes:
        smiles: the molecules.
        answers: name of each output -> its value for each molecule.
    """

    smiles: Sequence[str]
    answers: Mapping[str, np.ndarray]

    def difference(self, name: str, row: int, value: Any) -> float:
        """The difference of a value from the truth, relative to the spread of the output; infinite for a wrong flag."""
        truth = self.answers[name]
        if truth.dtype == bool:
            return 0.0 if value is not None and bool(value) == bool(truth[row]) else math.inf
        spread = float(np.ptp(truth)) or 1.0
        return abs(float(value) - float(truth[row])) / spread if value is not None else math.inf


class Client(threading.Thread):
    """One client, which asks until `goes_on` says no.

    Args:
        address: host and port of the server.
        truth: the molecules.
        load: what is counted.
        goes_on: of the number of requests so far.
        body_bytes: size of the largest body that the server takes.
        timeout_s: limit of the server for slow clients, s.
        seed: of the choices.
    """

    def __init__(
        self,
        address: tuple[str, int],
        truth: Truth,
        load: Load,
        goes_on: Callable[[int], bool],
        body_bytes: int,
        timeout_s: float,
        seed: int,
    ) -> None:
        super().__init__(daemon=True)
        self._address, self._truth, self._load, self._goes_on = address, truth, load, goes_on
        self._body_bytes, self._timeout_s = body_bytes, timeout_s
        self._rng = np.random.default_rng([seed, 29])
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        """Ask, one request after the other."""
        names, shares = list(SHARES), list(SHARES.values())
        count = 0
        while self._goes_on(count):
            kind = str(self._rng.choice(names, p=shares))
            try:
                problem = getattr(self, f"_{kind}")()
            except Exception as error:  # the server went away, or sent what is no HTTP
                self._close()
                problem = f"{type(error).__name__}: {error}"
            self._load.add(kind, problem)
            count += 1
        self._close()

    # Good requests

    def _rows(self) -> str | None:
        rows, texts, bad = self._mixed()
        status, body = self._post(json.dumps({"rows": [{"smiles": text} for text in texts]}).encode(), JSON)
        if status != 200:
            return self._not_answered(status)
        answer = json.loads(body, parse_constant=_refuse_constant)
        if {error["row"] for error in answer["errors"]} != bad:
            return f"errors of {[e['row'] for e in answer['errors']]}, bad rows are {sorted(bad)}"
        if any((answer["rows"][i] is None) != (i in bad) for i in range(len(texts))):
            return "a good row is null, or a bad one is not"
        good = [i for i in range(len(texts)) if i not in bad]
        return self._compare([rows[i] for i in good], {n: [answer["rows"][i][n] for i in good] for n in self._names})

    def _arrow(self) -> str | None:
        rows, texts, bad = self._mixed()
        status, body = self._post(stream(pa.table({"smiles": pa.array(texts, pa.string())})), ARROW)
        if status != 200:
            return self._not_answered(status)
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        refused = {i for i, reason in enumerate(table.column("reason").to_pylist()) if reason is not None}
        if refused != bad:
            return f"reasons of {sorted(refused)}, bad rows are {sorted(bad)}"
        good = [i for i in range(len(texts)) if i not in bad]
        return self._compare(
            [rows[i] for i in good], {name: table.column(name).take(good).to_pylist() for name in self._names}
        )

    @property
    def _names(self) -> list[str]:
        return list(self._truth.answers)

    def _mixed(self) -> tuple[list[int], list[str], set[int]]:
        """Molecules, by number, their texts, and which of them are bad; one is good in any case."""
        count = int(self._rng.choice([1, 1, 2, 8, 64]))
        rows = self._rng.integers(len(self._truth.smiles), size=count).tolist()
        texts = [self._truth.smiles[row] for row in rows]
        bad = {i for i in range(1, count) if self._rng.random() < 0.05}
        for i in bad:
            texts[i] = str(self._rng.choice(BAD))
        return rows, texts, bad

    def _compare(self, rows: list[int], columns: Mapping[str, Sequence[Any]]) -> str | None:
        worst = 0.0
        for name, values in columns.items():
            for row, value in zip(rows, values, strict=True):
                worst = max(worst, self._truth.difference(name, row, value))
        self._load.compared(len(rows), worst, 200)
        return None if worst <= TOLERANCE else f"an answer differs by {worst:.3g} of its spread"

    def _not_answered(self, status: int) -> str | None:
        """A busy server may say so; anything else is wrong."""
        self._load.compared(0, 0.0, status)
        return None if status in (429, 503) else f"status {status}"

    # Others

    def _malformed(self) -> str | None:
        bodies = (
            (b'{"rows": [{"smiles": "C"}', JSON), (b'{"rows": [{"smiles": NaN}]}', JSON), (b"[]", JSON),
            (b'{"rows": 1}', JSON), (b'{"columns": {"smiles": "C"}}', JSON), (b"\xff\xfe", JSON), (b"", JSON),
            (b"[" * 50_000, JSON), (b'{"rows": [{"smiles": 1}]}', JSON), (b'{"rows": [null]}', JSON),
            (self._rng.bytes(500), ARROW), (stream(pa.table({"smiles": ["C"]}))[:-20], ARROW),
            (stream(pa.table({"smiles": ["C" * 1000]}), "zstd"), ARROW), (stream(pa.table({"x": [1]})), ARROW),
            (b"C", "chemical/x-daylight-smiles"),
        )  # fmt: skip
        body, kind = bodies[int(self._rng.integers(len(bodies)))]
        status, answer = self._post(body, kind)
        if status not in (400, 415, 422):
            return f"status {status} for {body[:30]!r}"
        if kind == JSON and not {"error", "errors"} & json.loads(answer, parse_constant=_refuse_constant).keys():
            return f"no error in the answer to {body[:30]!r}"
        return None

    def _huge(self) -> str | None:
        status, _ = self._post(b" " * (self._body_bytes + 1), JSON)
        return None if status in (413, 429) else f"status {status}"

    def _nonsense(self) -> str | None:
        with socket.create_connection(self._address, timeout=300) as raw:
            raw.sendall(b"\x00\x01 no HTTP\r\n\r\n")
            answer = _all_of(raw)
        return None if answer.startswith(b"HTTP/1.1 400") else f"answer {answer[:60]!r}"

    def _abandoned(self) -> str | None:
        body = json.dumps({"rows": [{"smiles": self._truth.smiles[0]}] * 64}).encode()
        with socket.create_connection(self._address, timeout=300) as raw:
            raw.sendall(self._head(len(body)) + body[: int(self._rng.integers(len(body) + 1))])
        return None

    def _slow(self) -> str | None:
        with socket.create_connection(self._address, timeout=self._timeout_s * 20 + 60) as raw:
            raw.sendall(self._head(1000) + b"{" if self._rng.random() < 0.5 else b"POST /predict HT")
            answer = _all_of(raw)
        return None if not answer or answer.startswith(b"HTTP/1.1 408") else f"answer {answer[:60]!r}"

    def _head(self, length: int) -> bytes:
        return (
            f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    # Connections

    def _post(self, body: bytes, kind: str) -> tuple[int, bytes]:
        """The status of a request and the body of the answer, on a connection that is kept."""
        for attempt in range(2):
            fresh = self._connection is None
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=300)
            try:
                self._connection.request("POST", "/predict", body, {"Content-Type": kind, "Accept": kind})
                response = self._connection.getresponse()
                answer = response.status, response.read()
            except (http.client.RemoteDisconnected, ConnectionError):
                self._close()
                # A kept connection may be closed while it is idle.
                if fresh or attempt:
                    raise
                continue
            if response.will_close:
                self._close()
            return answer
        raise AssertionError("unreachable")

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def run_load(
    address: tuple[str, int],
    truth: Truth,
    clients: int,
    goes_on: Callable[[int], bool],
    *,
    body_bytes: int,
    timeout_s: float,
    seed: int = 0,
) -> Load:
    """Let many clients ask at once, and wait for them; see `Client`."""
    load = Load()
    threads = [Client(address, truth, load, goes_on, body_bytes, timeout_s, seed + i) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    """A table as a stream of Arrow."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _all_of(raw: socket.socket) -> bytes:
    """What a server sends until it closes the connection."""
    parts = []
    try:
        while part := raw.recv(65_536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} in JSON")
