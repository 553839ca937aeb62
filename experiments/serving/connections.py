"""Connections with a limit of time for each of their sides, and errors of the protocol as JSON.

uvicorn limits how long an idle connection stays open after an answer. A client that sends half of a head, sends nothing
at all, or does not take its answer, would keep its connection for ever; here it is closed.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiments.serving.refusals import ProblemDetails


def timed_protocol(seconds: float) -> type[H11Protocol]:
    """The protocol of connections.

    Args:
        seconds: time in which a client has to send the head of a request, and to take what was written.
    """

    class TimedProtocol(H11Protocol):
        """Connections of HTTP/1.1 that end after a time without progress."""

        _head: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            _send_at_once(transport)
            self._head = self.loop.call_later(seconds, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop("_head")
            self._stop("_writing")
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # A head that has begun has to end; an idle connection has a limit of its own.
            begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            if begun and self._head is None:
                self._head = self.loop.call_later(seconds, self.transport.abort)
            elif not begun:
                self._stop("_head")

        def pause_writing(self) -> None:
            self.flow.pause_writing()
            if self._writing is None:
                self._writing = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop("_writing")
            self.flow.resume_writing()

        def _stop(self, name: str) -> None:
            """Stop one of the two timers."""
            timer: asyncio.TimerHandle | None = getattr(self, name)
            if timer is not None:
                timer.cancel()
            setattr(self, name, None)

        def send_400_response(self, msg: str) -> None:
            problem = ProblemDetails(400, "malformed", msg, "request", "Send a request of HTTP/1.1")
            body = json.dumps(problem.plain()).encode()
            headers = [
                (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]  # fmt: skip
            try:
                for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            except h11.LocalProtocolError:
                # An answer is on its way already.
                pass
            self.transport.close()

    return TimedProtocol


def _send_at_once(transport: Any) -> None:
    """Let the kernel send each piece of an answer without waiting for the client to confirm the one before.

    Head and body are two pieces, and a client confirms the first one up to 40 ms later. asyncio sets the option only on
    sockets that were made with the number of the protocol, which accepted ones of a given socket are not.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
