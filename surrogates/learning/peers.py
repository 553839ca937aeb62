"""Connections among the processes of a training, by which each learns within a bounded time that another has ended.

A collective operation waits for every process. Where one has died the others would wait for minutes, or end with errors
that name nobody. Each process therefore keeps a connection to the first one. The kernel closes it when a process ends
in any way; a host that vanishes is noticed because it falls silent. The first process tells all others which process
ended, and each prints one line and ends: the state on its devices is of no use without the others.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from data.host import host_name

#: Seconds between two signs of life.
BEAT_S = 2.0
#: Seconds in which a process may end by itself after another one has said why it ends.
GRACE_S = 5.0
#: Seconds that the first process waits at most for the others to end; on a busy machine they may need many.
DEPARTURE_S = 60.0
DIED = "died"


@dataclass(frozen=True)
class Ending:
    """How a process ended.

    Attributes:
        process: its number.
        host, pid: where it was; "" and 0 where it has not said so yet.
        how: words that follow "process N".
        status: exit status with which the others end.
    """

    process: int
    host: str
    pid: int
    how: str
    status: int

    def line(self) -> str:
        """The line that the other processes print."""
        where = f" ({self.host}, pid {self.pid})" if self.host else ""
        return (
            f"Process {self.process}{where} of this training {self.how}. All its processes end; the same command "
            "resumes from the last checkpoint."
        )


@dataclass
class _Connection:
    """The connection to another process.

    Attributes:
        socket: non-blocking for the first process.
        process: number of the other one; None until it has said it.
        host, pid: where it is.
        heard: when it last gave a sign of life (`time.monotonic`), s.
        finished: whether it has come to its end.
        text: bytes of a line that is not complete yet.
    """

    socket: socket.socket
    process: int | None = None
    host: str = ""
    pid: int = 0
    heard: float = field(default_factory=time.monotonic)
    finished: bool = False
    text: bytes = b""

    def send(self, **message: Any) -> None:
        """Send a message; one that cannot be sent is dropped, since the end of the connection is noticed anyway."""
        with suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived; None where the connection has ended."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self.heard = time.monotonic()
        *lines, self.text = (self.text + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def ending(self, how: str, status: int) -> Ending:
        """That the process at the other side ended."""
        return Ending(-1 if self.process is None else self.process, self.host, self.pid, how, status)


class Peers:
    """The connections of one process.

    Args:
        process: number of this process.
        processes: number of all.
        lost_after_s: a process that gives no sign of life for this long counts as dead, s.
        end: called in another thread with the ending of another process; it is to end this one.
    """

    def __init__(self, process: int, processes: int, lost_after_s: float, end: Callable[[Ending], None]) -> None:
        self.process, self.processes, self.lost_after_s = process, processes, lost_after_s
        self._end = end
        self._changed = threading.Condition()
        self._finished, self._over = False, False
        self._ended: Ending | None = None
        self._began = time.monotonic()
        self._links: list[_Connection] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self._token = ""
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peers")

    def listen(self, token: str, host: str) -> int:
        """Wait for the others, as the first process.

        Args:
            token: what they have to know.
            host: name or address under which they reach this host.

        Returns:
            The port.
        """
        self._token = token
        if host in ("localhost", "127.0.0.1", "::1"):
            self._listener = socket.create_server(
                (host, 0), family=socket.AF_INET6 if host == "::1" else socket.AF_INET
            )
        elif socket.has_dualstack_ipv6():
            self._listener = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            self._listener = socket.create_server(("", 0))
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return int(self._listener.getsockname()[1])

    def connect(self, token: str, host: str, port: int) -> None:
        """Connect to the first process.

        Raises:
            OSError: it does not answer.
        """
        link = _Connection(socket.create_connection((host, port), timeout=self.lost_after_s), 0, host)
        link.send(token=token, process=self.process, host=host_name(), pid=os.getpid())
        self._links.append(link)
        self._selector.register(link.socket, selectors.EVENT_READ, link)
        self._thread.start()

    def finish(self) -> None:
        """Wait until all processes have come to this point; the death of one ends all as before."""
        with self._changed:
            self._finished = True
            for link in self._links:
                link.send(finished=True)
            self._waker.send(b".")
            self._changed.wait_for(lambda: self._over or self._ended is not None)
        # Where another process ended, the thread ends this one in a moment.
        self._stop(GRACE_S if self._ended is None else None)

    def tell(self, how: str, status: int) -> None:
        """Tell the others that this process ends.

        Args:
            how: words that follow "process N".
            status: exit status with which the others are to end.
        """
        with self._changed:
            if self._over or self._ended is not None:
                return
            self._ended = Ending(self.process, host_name(), os.getpid(), how, status)
            for link in self._links:
                link.send(ended=asdict(self._ended))

    def wait_for_news(self, seconds: float) -> bool:
        """Wait for the news that another process has ended; whether there is any."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended is not None, seconds)

    def _stop(self, seconds: float | None = GRACE_S) -> None:
        self._over = True
        with suppress(OSError):
            self._waker.send(b".")
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    # The thread

    def _watch(self) -> None:
        beaten = time.monotonic()
        while not self._over:
            for key, _ in self._selector.select(BEAT_S / 2):
                if key.fileobj is self._wake:
                    self._wake.recv(64)
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key.data)
                if self._over:
                    break
            now = time.monotonic()
            if now - beaten >= BEAT_S:
                beaten = now
                for link in self._links:
                    link.send()
            self._notice_silence(now)
            self._close_when_all_finished()
        self._selector.close()
        for link in self._links:
            link.socket.close()
        for one in (self._listener, self._wake, self._waker):
            if one is not None:
                one.close()

    def _accept(self) -> None:
        assert self._listener is not None
        with suppress(OSError):
            accepted, _ = self._listener.accept()
            # Messages are short, so that a send can only block where the other side has not read for long.
            accepted.settimeout(BEAT_S)
            self._selector.register(accepted, selectors.EVENT_READ, _Connection(accepted))

    def _read(self, link: _Connection) -> None:
        try:
            messages = link.receive()
        except ValueError:
            messages = None
        if messages is None:
            self._drop(link)
            return
        for message in messages:
            if link.process is None:
                if message.get("token") != self._token:
                    self._drop(link)
                    return
                link.process, link.host, link.pid = int(message["process"]), str(message["host"]), int(message["pid"])
                self._links.append(link)
                link.send(host=host_name(), pid=os.getpid())
            elif "pid" in message:
                link.host, link.pid = str(message["host"]), int(message["pid"])
            elif "ended" in message:
                self._hear(Ending(**message["ended"]), grace=True)
            elif "over" in message:
                with self._changed:
                    self._over = True
                    self._changed.notify_all()
            elif "finished" in message:
                link.finished = True

    def _drop(self, link: _Connection) -> None:
        self._selector.unregister(link.socket)
        link.socket.close()
        if link in self._links:
            self._links.remove(link)
            if not self._over:
                self._hear(link.ending(DIED, 130), grace=False)

    def _notice_silence(self, now: float) -> None:
        for link in list(self._links):
            if now - link.heard > self.lost_after_s:
                self._hear(link.ending(f"gave no sign of life for {self.lost_after_s:g} s", 130), grace=False)
        if self.process == 0 and len(self._links) < self.processes - 1 and now - self._began > self.lost_after_s:
            missing = sorted({*range(1, self.processes)} - {link.process for link in self._links})
            if missing:
                self._hear(Ending(missing[0], "", 0, "never came", 130), grace=False)

    def _close_when_all_finished(self) -> None:
        if self.process or not self._finished or len(self._links) < self.processes - 1:
            return
        if all(link.finished for link in self._links):
            for link in self._links:
                link.send(over=True)
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _hear(self, ending: Ending, *, grace: bool) -> None:
        with self._changed:
            if self._ended is not None or self._over:
                return
            self._ended = ending
            self._changed.notify_all()
            for link in self._links:
                link.send(ended=asdict(ending))
        if grace:
            # Where all have the same reason to end, each says so itself.
            time.sleep(GRACE_S)
        self._see_others_off()
        self._end(ending)

    def _see_others_off(self) -> None:
        """Let the others end before the first process, with which the service ends that JAX needs in all of them."""
        until = time.monotonic() + DEPARTURE_S
        while self.process == 0 and self._links and (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                link = key.data
                if isinstance(link, _Connection) and link.receive() is None:
                    self._selector.unregister(link.socket)
                    self._links.remove(link)
                elif key.fileobj is self._wake:
                    self._wake.recv(64)
