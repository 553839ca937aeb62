"""A web server on this machine that answers ranges of bytes of the files of a folder, and fails as it is told."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class RangeServer:
    """What the server answers.

    Attributes:
        folder: its files.
        url: its address.
        failures: status codes of the next answers; 206 where there are none. 0: the connection ends in the middle.
        redirects: path -> where it is redirected to.
        ranges: whether ranges are answered; otherwise the whole file is.
        asked: the ranges that were asked for, as (path, start, end).
    """

    folder: Path
    url: str = ""
    failures: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, int, int]] = field(default_factory=list)


@contextmanager
def range_server(folder: Path) -> Iterator[RangeServer]:
    """The server, until the block ends."""
    state = RangeServer(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def _end(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content_Length": "0", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path in state.redirects:
                return self._end(302, Location=state.redirects[path])
            file = state.folder / path.lstrip("/")
            if not file.is_file():
                return self._end(404)
            start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())  # type: ignore[union-attr]
            state.asked.append((path, start, end + 1))
            failure = state.failures.pop(0) if state.failures else 206
            if failure not in (0, 206):
                return self._end(failure)
            content = file.read_bytes()
            tag = hashlib.md5(content).hexdigest()
            if not state.ranges:
                self._end(200, Content_Length=str(len(content)))
                self.wfile.write(content)
                return None
            if start >= len(content):
                return self._end(416, Content_Range=f"bytes */{len(content)}", ETag=f'"{tag}"')
            some = content[start : end + 1]
            place = f"bytes {start}-{start + len(some) - 1}/{len(content)}"
            self._end(206, Content_Length=str(len(some)), Content_Range=place, ETag=f'"{tag}"')
            self.wfile.write(some if failure else some[: len(some) // 2])
            self.close_connection = not failure
            return None

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that closes early is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
