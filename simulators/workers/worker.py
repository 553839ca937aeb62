"""A worker process of a campaign, which receives requests over a socket and answers them, one or several at a time.

It runs below a guard (`simulators.workers.guard`). The campaign pickles requests; answers are JSON and bytes
(`simulators.workers.channel`), so that the campaign never unpickles data from a worker.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import psutil
import xarray as xr

from data.processes.descendants import children, descendants, kill
from data.processes.processor import living_seconds, tree_seconds
from data.spec import SimulationError, Spec, check, dataset
from simulators.adapter import AnswersMany, Simulator
from simulators.workers import channel
from simulators.workers.channel import WorkerConnection
from simulators.workers.guarded_program import Ended, Guarded
from simulators.workers.scratch import Scratch

#: Environment variables that set the number of threads of numerical libraries.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from simulators.workers.guard import guard; guard(json.loads(sys.argv[1])); "
    "from simulators.workers.worker import serve; serve(int(sys.argv[2]))"
)
#: Largest number of characters of a failure message that are kept.
MESSAGE = 4000


@dataclass(frozen=True)
class WorkerAnswer:
    """The answer to a request, or its failure.

    Attributes:
        status: "ok", or the kind of failure.
        values: outputs by name; empty for a failure.
        message: reason of a failure.
        log: JSON with facts about the computation or the failure.
        seconds: wall time, s.
        core_seconds: processor time of this process and of every program that it started, for this request, s.
        counted: processor time of the process for everything so far, s.
    """

    status: str
    values: Mapping[str, Any]
    message: str
    log: str
    seconds: float
    core_seconds: float
    counted: float = 0.0

    def pack(self) -> bytes:
        """Serialise the answer for the channel."""
        return channel.pack({"answer": {**asdict(self), "values": None}}, self.values)


@dataclass(frozen=True)
class Ready:
    """Message of a process that has loaded the simulator; `counted` is its processor time so far, s."""

    counted: float


@dataclass(frozen=True)
class Unloadable:
    """Message of a process that could not load the simulator, with the reason."""

    message: str


def unpack(payload: bytes) -> WorkerAnswer | Ready | Unloadable:
    """Parse a message of a worker.

    Raises:
        GarbledError: it is no valid message.
    """
    facts, arrays = channel.unpack(payload)
    try:
        if "answer" in facts:
            return WorkerAnswer(**{**facts["answer"], "values": arrays})
        if "ready" in facts:
            return Ready(float(facts["ready"]))
        return Unloadable(str(facts["unloadable"]))
    except (KeyError, TypeError, ValueError) as error:
        raise channel.GarbledError(f"it cannot be read: {error}") from error


def answer(simulator: Simulator, values: Mapping[str, Any], guard: int | None = None) -> WorkerAnswer:
    """Run a simulator on the values of a request; every failure becomes an answer too.

    Args:
        simulator: the simulator.
        values: values of the request by name.
        guard: id of the guard, which adopts orphans of this process; their processor time is counted.
    """
    start, before = time.perf_counter(), _counted(guard)

    def spent() -> tuple[float, float, float]:
        counted = _counted(guard)
        return time.perf_counter() - start, counted - before, counted

    def failed(kind: str, message: str, details: Mapping[str, Any]) -> WorkerAnswer:
        return WorkerAnswer(kind, {}, message[:MESSAGE], _json(details), *spent())

    try:
        try:
            inputs = dataset(simulator.spec.inputs, values)
        except (TypeError, ValueError) as error:
            return failed("invalid_input", f"the request does not fit the spec: {error}", {})
        result = simulator.simulate(inputs)
        try:
            outputs = _fitting(result, simulator.spec)
        except SimulationError as error:
            # The request was valid, but the answer does not fit the spec.
            return failed("crashed", f"the answer does not fit the spec: {error.message}", {})
        return WorkerAnswer("ok", outputs, "", str(result.attrs.get("log", "{}")), *spent())
    except SimulationError as error:
        return failed(error.kind, str(error.message), error.details)
    except MemoryError as error:
        return failed("out_of_memory", f"the simulator could not allocate: {error}", {})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        said = f": {end.code}" if isinstance(end.code, str) else ""
        return failed("crashed", f"exited with status {code}{said}", {"exit_status": code})
    except BaseException as error:  # KeyboardInterrupt and other BaseExceptions are failures too
        lines = traceback.format_exc().strip().splitlines()[-12:]
        return failed("crashed", _said(error), {"traceback": [line[:MESSAGE] for line in lines]})


def answer_together(
    simulator: Simulator, requests: Sequence[Mapping[str, Any]], guard: int | None = None
) -> Iterator[WorkerAnswer]:
    """Answer requests in their order: together where the simulator can, and each has the same share of the cost.

    Where that raises anything but the error of a request, each is answered by itself, so that one cannot fail others.

    Args:
        simulator: the simulator.
        requests: values by name of each request.
        guard: see `answer`.
    """
    start, before = time.perf_counter(), _counted(guard)
    inputs: dict[int, xr.Dataset] = {}
    results: dict[int, xr.Dataset | SimulationError] = {}
    if len(requests) > 1 and isinstance(simulator, AnswersMany):
        for place, values in enumerate(requests):
            # A request that does not fit the spec is refused by itself.
            with suppress(TypeError, ValueError):
                inputs[place] = dataset(simulator.spec.inputs, values)
        try:
            results = dict(zip(inputs, simulator.simulate_many(list(inputs.values())), strict=True))
        except BaseException:  # as in `answer`, where the request at fault gets its reason
            results = {}
    counted = _counted(guard)
    share = (time.perf_counter() - start) / len(requests), (counted - before) / len(requests)
    for place, values in enumerate(requests):
        if place not in results:
            alone = answer(simulator, values, guard)
            yield replace(alone, seconds=alone.seconds + share[0], core_seconds=alone.core_seconds + share[1])
            continue
        result = results[place]
        if isinstance(result, SimulationError):
            said, log = str(result.message)[:MESSAGE], _json(result.details)
            yield WorkerAnswer(result.kind, {}, said, log, *share, counted)
            continue
        try:
            outputs = _fitting(result, simulator.spec)
        except SimulationError as error:
            said = f"the answer does not fit the spec: {error.message}"[:MESSAGE]
            yield WorkerAnswer("crashed", {}, said, "{}", *share, counted)
            continue
        yield WorkerAnswer("ok", outputs, "", str(result.attrs.get("log", "{}")), *share, counted)


def _fitting(result: Any, spec: Spec) -> dict[str, np.ndarray]:
    """The outputs of a simulator with the dtypes of its spec.

    Raises:
        SimulationError: they do not fit the spec.
    """
    if not isinstance(result, xr.Dataset):
        raise SimulationError("crashed", f"it is no xarray.Dataset but {type(result).__name__}")
    check(result, spec.outputs, sizes=spec.sizes)
    outputs = {}
    for variable in spec.outputs:
        values = result[variable.name].values
        if variable.dtype == "str":
            if not all(isinstance(item, str) for item in values.flat):
                raise SimulationError("crashed", f"{variable.name} must hold strings, got {values.dtype}")
            outputs[variable.name] = values.astype(object)
            continue
        # Casts from float to integer, or from object, would lose information silently.
        if not np.can_cast(values.dtype, np.dtype(variable.dtype), "same_kind"):
            raise SimulationError("crashed", f"{variable.name} must be {variable.dtype}, got {values.dtype}")
        with np.errstate(over="ignore"):
            cast = outputs[variable.name] = values.astype(variable.dtype)
        lost = not np.isfinite(cast).all() if cast.dtype.kind == "f" else not np.array_equal(cast, values)
        if lost:
            raise SimulationError("crashed", f"{variable.name} holds values too large for {variable.dtype}")
    return outputs


def _said(error: BaseException) -> str:
    """Type and text of an exception, whose `__str__` may fail as well."""
    try:
        text = str(error)
    except Exception as second:
        text = f"its message cannot be made ({type(second).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _json(details: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(details), default=str)
    except Exception as error:  # keys that are no strings, circular references, a failing `__str__`
        return json.dumps({"details": f"cannot be written as JSON: {type(error).__name__}"})


def _counted(guard: int | None) -> float:
    """Processor time so far of this process, of its descendants, and of the orphans that a guard has adopted, s."""
    if guard is None:
        return tree_seconds()
    return tree_seconds() + living_seconds([guard, *_adopted(guard)])


def _adopted(guard: int) -> list[int]:
    """Descendants of the guard that are not below this process: programs whose parents have ended."""
    others = [pid for pid in children(guard) if pid != os.getpid()]
    return others + [below for pid in others for below in descendants(pid)]


def serve(descriptor: int) -> None:
    """Receive the simulator, then answer requests until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # A program that outlives this process must not keep the socket open, or the death would not be noticed.
    os.set_inheritable(descriptor, False)
    end = socket.socket(fileno=descriptor)
    pid, guard = os.getpid(), os.getppid()
    with suppress(EOFError):
        try:
            simulator = pickle.loads(channel.receive(end))
        except EOFError:
            raise
        except Exception as error:
            channel.send(end, channel.pack({"unloadable": _said(error)}, {}))
            return
        # The imports that xarray does with its first record must not count for a request.
        dataset(simulator.spec.inputs, {}).assign(x=((), 0.0))["x"].copy()
        channel.send(end, channel.pack({"ready": _counted(guard)}, {}))
        while True:
            requests = pickle.loads(channel.receive(end))
            for one in answer_together(simulator, requests, guard):
                payload = one.pack()
                if os.getpid() != pid:
                    # This is a copy of the process that the simulator forked and that returned from `simulate`.
                    os._exit(0)
                channel.send(end, payload)
            # Daemons that a request left behind must not affect the next one. Children of this process, such as a
            # server for all requests, keep running and end with it.
            kill(_adopted(guard))


@dataclass
class Worker:
    """The campaign's side of a worker process, which can be restarted.

    Attributes:
        simulator: the pickled simulator.
        threads: number of threads of numerical libraries in the process.
        scratch_mb: size of the largest file that the process may write, 10^6 bytes; None: no limit.
        channel: connection to the process.
        scratch: directory for its temporary files.
    """

    simulator: bytes
    threads: int
    scratch_mb: int | None = None
    channel: WorkerConnection = field(init=False)
    scratch: Scratch = field(init=False)
    _guarded: Guarded = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start a new process and send it the simulator."""
        ours, theirs = socket.socketpair()
        self.scratch = Scratch.make()
        handed = theirs.detach()
        self._guarded = Guarded(
            BOOT,
            [str(handed), json.dumps(sys.path)],
            env=os.environ | dict.fromkeys(THREADS, str(self.threads)),
            scratch=self.scratch,
            handed=[handed],
            file_bytes=None if self.scratch_mb is None else self.scratch_mb * 10**6,
        )
        self.channel = WorkerConnection(ours)
        self.channel.send(self.simulator)

    def request(self, values: Sequence[Mapping[str, Any]]) -> None:
        """Send requests that are answered together, without blocking; each is answered by a message of its own."""
        self.channel.send(pickle.dumps([dict(one) for one in values], protocol=5))

    def memory_mb(self) -> float:
        """Resident memory of the process and its descendants, 10^6 bytes."""
        total = 0
        for pid in self._guarded.descendants():
            with suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return total / 1e6

    def dead(self) -> bool:
        """Whether the process and all of its descendants have ended."""
        return self._guarded.done()

    def core_seconds_so_far(self) -> float:
        """Processor time of a running process and its descendants, s, with a resolution of about 0.01 s."""
        return self._guarded.core_seconds_so_far()

    @property
    def core_seconds(self) -> float:
        """Processor time of an ended process and its descendants, s; 0 while it runs."""
        return 0.0 if self._guarded.ended is None else self._guarded.ended.core_seconds

    def tell_to_end(self) -> None:
        """Have the process and its descendants killed, without waiting."""
        self._guarded.tell_to_end()

    def kill(self) -> Ended:
        """Kill the process and its descendants at once; repeated calls have no effect."""
        self.channel.close()
        return self._guarded.kill()

    def bury(self) -> Ended:
        """Wait for a process that has ended or is about to; returns how it ended."""
        ended = self._guarded.end()
        self.channel.close()
        return ended

    def close(self) -> None:
        """End the process by closing the channel, or kill it if it does not end."""
        self.channel.close()
        if self._guarded.wait(0.5) is None:
            self.kill()


def request_values(inputs: xr.Dataset) -> dict[str, np.ndarray]:
    """The values of a request by name."""
    return {str(name): np.asarray(array.values) for name, array in inputs.data_vars.items()}
