"""The process of `data.processes.parsing`: it answers over a socket until that is closed, and may die of a row."""

from __future__ import annotations

import importlib
import mmap
import os
import pickle
import resource
import signal
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from data.processes import row_watch
from data.processes.wire import pack

#: What stands for the row of an answer that has none.
NOWHERE = (row_watch.NO_ROW, "")


def serve(settings: dict[str, Any]) -> None:
    """What a parsing process does: work until the parent closes the socket."""
    # Ctrl-C is the parent's to handle, and so is what a queue sends to all processes before a job is over.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.nice(settings["niceness"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in settings["modules"]:
        importlib.import_module(name)
    memory, hard = settings["memory_mb"] * 10**6, resource.getrlimit(resource.RLIMIT_DATA)[1]
    memory = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
    connection = Connection(settings["descriptor"])
    row_watch.watch(mmap.mmap(settings["page"], row_watch.PAGE.size), settings["seconds"])
    with suppress(EOFError, OSError):
        _send(connection, "ready")
        while True:
            row_watch.end()
            work, argument = receive_question(connection)
            row_watch.begin()
            try:
                answer: tuple[str, Any, tuple[int, str]] = ("", work(argument), NOWHERE)
            except MemoryError:
                answer = (f"parsing it takes more than {settings['memory_mb']:,} MB of memory", True, row_watch.last())
            except Exception as error:
                traceback.print_exc()
                answer = (f"the parser failed: {type(error).__name__}: {error}", False, row_watch.last())
            row_watch.end()
            _send(connection, answer)


def _send(connection: Connection, value: object) -> None:
    try:
        parts = pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        parts = pack((f"the parser's answer cannot be sent: {error}", False, NOWHERE))
    connection.send_bytes(len(parts).to_bytes(4, "little"))
    for part in parts:
        connection.send_bytes(part)


def receive_question(connection: Connection) -> Any:
    """The parent's next question, which is trusted: it is the program that started this process."""
    head = connection.recv_bytes()
    # A bytearray, so that the arrays over it can be written to.
    buffers = [bytearray(connection.recv_bytes()) for _ in range(int.from_bytes(head[:4], "little"))]
    return pickle.loads(memoryview(head)[4:], buffers=buffers)
