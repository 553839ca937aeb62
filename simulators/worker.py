"""One process of a campaign: takes requests over a pipe, answers them, and dies when it is told or orphaned.

What travels is numpy arrays and strings between two processes of this program; nothing is read from a file.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO, Any

import numpy as np
import psutil
import xarray as xr

from data.processor import descendants, living_seconds, session, tree_seconds, used
from simulators.base import SimulationError, Simulator, check, dataset

#: Environment variables that tell numerical libraries how many threads to start.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from simulators.worker import serve; serve(int(sys.argv[1]), int(sys.argv[3]))"
)
#: Bytes of what a process printed last that go into the record of its death.
TAIL = 2000
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes:
        status: "ok", or the kind of failure.
        values: outputs by name; empty for a failure.
        message: why it failed.
        log: JSON, how the answer was reached or what is known of the failure.
        seconds: wall time.
        core_seconds: processor time of this process and of every program that it started.
        counted: that of everything the process has done so far.
    """

    status: str
    values: Mapping[str, Any]
    message: str
    log: str
    seconds: float
    core_seconds: float
    counted: float = 0.0


@dataclass(frozen=True)
class Ready:
    """The greeting of a process that has loaded the simulator; `counted` is the processor time of that (s)."""

    counted: float


def answer(simulator: Simulator, values: Mapping[str, Any]) -> Answer:
    """Run a simulator on the values of one request; every way in which it can fail becomes an answer too."""
    start, before = time.perf_counter(), tree_seconds()

    def spent() -> tuple[float, float, float]:
        counted = tree_seconds()
        return time.perf_counter() - start, counted - before, counted

    def failed(kind: str, message: str, details: Mapping[str, Any]) -> Answer:
        text = json.dumps(dict(details), default=str)
        return Answer(kind, {}, message, text, *spent())

    try:
        try:
            inputs = dataset(simulator.spec.inputs, values)
        except (TypeError, ValueError) as error:
            return failed("invalid_input", f"the request does not fit the spec: {error}", {})
        found = simulator.simulate(inputs)
        try:
            check(found, simulator.spec.outputs, sizes=simulator.spec.sizes)
        except SimulationError as error:
            # The request was in order; it is the answer that does not fit.
            return failed("crashed", f"the answer does not fit the spec: {error.message}", {})
        outputs = {v.name: found[v.name].values for v in simulator.spec.outputs}
        return Answer("ok", outputs, "", str(found.attrs.get("log", "{}")), *spent())
    except SimulationError as error:
        return failed(error.kind, error.message, error.details)
    except MemoryError as error:
        return failed("out_of_memory", f"the simulator could not allocate: {error}", {})
    except Exception as error:
        lines = traceback.format_exc().strip().splitlines()[-12:]
        return failed("crashed", f"{type(error).__name__}: {error}", {"traceback": lines})


def serve(descriptor: int, parent: int) -> None:
    """What the process does: receive the simulator, then answer requests until the pipe closes."""
    # The kernel kills this process when its parent dies, however that dies.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # A program that outlives this process must not keep the pipe open, or the death would go unseen.
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):
        try:
            simulator = pickle.loads(connection.recv_bytes())
        except Exception as error:
            connection.send(f"{type(error).__name__}: {error}")
            return
        connection.send(Ready(tree_seconds()))
        while True:
            connection.send(answer(simulator, connection.recv()))


@dataclass
class Worker:
    """The parent's end of one process, which is started anew after each death.

    Attributes:
        simulator: pickled.
        threads: for the numerical libraries of the process.
        core_seconds: processor time of the process and of every program that it started; known once it is dead.
    """

    simulator: bytes
    threads: int
    core_seconds: float = field(init=False, default=0.0)
    connection: Connection = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)
    _output: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start a fresh process and hand it the simulator."""
        ours, theirs = Pipe(duplex=True)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-c", BOOT, str(theirs.fileno()), json.dumps(sys.path), str(os.getpid())],
            env=os.environ | dict.fromkeys(THREADS, str(self.threads)),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # A session of its own, so that a kill reaches the programs that the simulator starts.
            start_new_session=True,
        )
        theirs.close()
        self.connection = ours
        # A process that dies before it has read all of this is found by the end of its pipe.
        with suppress(OSError):
            ours.send_bytes(self.simulator)

    def memory_mb(self) -> float:
        """Resident memory of the process and of what it started, in 10^6 bytes."""
        total = 0
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            total = process.memory_info().rss
            for child in descendants(self.process.pid):
                with suppress(psutil.NoSuchProcess):
                    total += psutil.Process(child).memory_info().rss
        return total / 1e6

    def dead(self) -> bool:
        """Whether the process has ended; it stays unburied, so that `kill` still learns what it used."""
        if self.process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def core_seconds_so_far(self) -> float:
        """Processor time of a living process and of every program that it started, in ticks of about 0.01 s (s)."""
        return living_seconds([self.process.pid, *descendants(self.process.pid)])

    def kill(self) -> None:
        """Kill the process and everything in its session, at once, and count what all of them used."""
        pid = self.process.pid
        if self.process.returncode is None:
            # Who waits for the process learns what it and the programs that it waited for used. What else lives is
            # waited for by nobody here, and is asked before it is killed.
            self.core_seconds = living_seconds({*session(pid), *descendants(pid)})
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if self.process.returncode is None:
            _, status, usage = os.wait4(pid, 0)
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.core_seconds += used(usage)
        self.connection.close()

    def obituary(self) -> tuple[str, str]:
        """How a dead process ended, and the last that it printed."""
        code = self.process.wait()
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - TAIL))
        said = self._output.read().decode("utf-8", "replace").strip()
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return how, said

    def close(self) -> None:
        """End the process kindly, or else by force."""
        self.connection.close()
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class Job:
    """A request on its way."""

    key: str
    values: dict[str, Any]
    attempts: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0


@dataclass
class Slot:
    """A worker and what it is doing.

    Attributes:
        worker: the process.
        job: what it works on.
        started: when it began that, or was started itself (s).
        ready: whether it has greeted.
        checked: when its memory was looked at (s).
        deaths: in a row before a greeting.
        counted: its processor time up to its last message (s).
    """

    worker: Worker
    job: Job | None = None
    started: float = 0.0
    ready: bool = False
    checked: float = 0.0
    deaths: int = 0
    counted: float = 0.0

    def renew(self) -> None:
        """Put a fresh process in place of this one."""
        if not self.worker.connection.closed:
            self.worker.kill()
        self.worker.start()
        self.ready, self.started, self.counted = False, time.perf_counter(), 0.0


def plain(inputs: xr.Dataset) -> dict[str, np.ndarray]:
    """The values of a request by name, as they travel."""
    return {str(name): np.asarray(array.values) for name, array in inputs.data_vars.items()}
