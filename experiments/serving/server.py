"""Runs the routes on a socket until the server is asked to end, and then answers what it has received."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from types import FrameType

import uvicorn

from data.errors import InputError
from experiments.serving.application import Service, application
from experiments.serving.connections import timed_protocol
from experiments.serving.limits import CONNECTIONS

LOG = logging.getLogger(__name__)
#: Signals that end the server; a second one ends it at once.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: Largest head of a request, bytes, and seconds for which an idle connection stays open.
HEAD_BYTES, KEEP_ALIVE_S = 16_384, 30
LOCAL = ("localhost", "127.0.0.1", "::1")


class Server(uvicorn.Server):
    """A server of uvicorn whose signals are handled here, and which calls a function every second.

    Args:
        service: what the routes answer with.
        tick: called by the event loop about once a second.
    """

    def __init__(self, service: Service, tick: Callable[[], None] = lambda: None) -> None:
        seconds = service.limits.timeout_s
        super().__init__(
            uvicorn.Config(
                application(service),
                http=timed_protocol(seconds),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",  # a line for each broken request would fill the log
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(seconds),
                h11_max_incomplete_event_size=HEAD_BYTES,
            )
        )
        self._tick = tick

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the first signal end the server after its answers, and the second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        before = {number: signal.signal(number, end) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn; also calls the function."""
        if counter % 10 == 0:
            self._tick()
        return await super().on_tick(counter)

    def run_on(self, listening: socket.socket) -> None:
        """Serve on a socket until a signal, or `should_exit`, ends it."""
        # The event loop of uvicorn is that of asyncio, and the socket is closed with it.
        asyncio.run(self.serve(sockets=[listening]))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: name or address.
        port: number; 0 for a free one.

    Raises:
        InputError: the address cannot be listened on.
    """
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = places[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(
            f"cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}",
            where="port",
            remedy="Give another port=N (port=0 takes a free one), or another host=ADDRESS",
        ) from error


def address_of(listening: socket.socket, host: str) -> str:
    """The URL of a socket that listens."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"


def hosts_of(host: str) -> tuple[str, ...] | None:
    """Names under which a server that listens on an address of this machine alone may be asked; None for any."""
    try:
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local = False
    return tuple(dict.fromkeys((*LOCAL, host))) if local else None
