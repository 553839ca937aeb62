"""Serves the board on localhost, with the standard library alone: the page, and the end points that it asks for news.

It listens on the loopback interface only, and answers requests that are addressed to it by that name, so that no page
of another site can read it by a name that leads here.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from data.encodable import encodable, encodable_json
from data.errors import InputError
from experiments.board.board_page import board_facts, render_board
from experiments.board.run_records import RunRecords, run_details

LOG = logging.getLogger(__name__)
HOST, PORT = "127.0.0.1", 8050
#: Least time for which a list of runs is served again before the folder is read anew, s, and the same as a multiple of
#: the time that reading took.
FRESH_S, REST = 0.5, 10.0
#: Seconds after which a client that sends nothing is left.
TIMEOUT_S = 30.0
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class BoardServer(ThreadingHTTPServer):
    """The server of one folder.

    Args:
        root: the folder.
        port: where it listens; 0 for a free one.

    Raises:
        InputError: there is no such folder.
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, root: Path, port: int = 0) -> None:
        self._lock, self._fresh_until = threading.Lock(), 0.0
        self._records = RunRecords(root)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def page(self) -> str:
        """The page, which asks for news."""
        with self._lock:
            return render_board(self._updated(), is_live=True)

    def facts(self) -> dict[str, Any]:
        """The list of runs."""
        with self._lock:
            return board_facts(self._updated())

    def details(self, directory: str) -> dict[str, Any] | None:
        """What is shown of one run; None if the list has no such run, so that no other path is read."""
        with self._lock:
            is_listed = directory in self._records.rows
        return run_details(self._records.root / directory) if is_listed else None

    def _updated(self) -> RunRecords:
        if (began := time.monotonic()) > self._fresh_until:
            self._records.update()
            ended = time.monotonic()
            self._fresh_until = ended + max(FRESH_S, REST * (ended - began))
        return self._records


class _Handler(BaseHTTPRequestHandler):
    server: BoardServer
    timeout = TIMEOUT_S
    server_version, sys_version = "understudy", ""

    def do_GET(self) -> None:
        """Answer one request."""
        names = [f"{name}:{self.server.server_port}" for name in (HOST, "localhost")]
        if self.headers.get("Host") not in names:
            self._send(403, "text/plain", f"This server is addressed as {names[0]}.\n")
            return
        parts = urlsplit(self.path)
        try:
            if parts.path == "/":
                self._send(200, "text/html", self.server.page())
            elif parts.path == "/runs.json":
                self._send_json(200, self.server.facts())
            elif parts.path == "/run.json":
                directory = parse_qs(parts.query).get("directory", [""])[0]
                details = self.server.details(directory)
                refusal = {"error": {"kind": "input_error", "problem": "no such run", "where": directory}}
                self._send_json(404 if details is None else 200, refusal if details is None else details)
            else:
                self._send(404, "text/plain", "There is /, /runs.json and /run.json?directory=RUN.\n")
        except InputError as error:  # the folder was removed
            self._send_json(404, {"error": error.facts()})

    do_HEAD = do_GET  # noqa: N815

    def _send_json(self, status: int, value: Any) -> None:
        self._send(status, "application/json", json.dumps(encodable_json(value), allow_nan=False))

    def _send(self, status: int, kind: str, text: str) -> None:
        body = encodable(text).encode("utf-8")
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": f"{kind}; charset=utf-8", "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are no news on the terminal."""
        LOG.debug(format, *arguments)
