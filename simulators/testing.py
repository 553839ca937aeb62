"""A simulator that misbehaves on request, to test campaigns and other code that runs simulators."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.spec import SimulationError, Spec, Variable, content_hash, dataset
from simulators.workers.channel import frame

MODES = (
    *("ok", "segfault", "hang", "grandchild", "orphan", "eat_memory", "leak", "raise", "exit", "nan"),
    *("not_converged", "missing", "flaky", "hang_once", "burn", "burn_program", "burn_and_hang"),
    *("daemon", "daemon_and_hang", "halt", "half_answer", "garbled_answer", "no_answer", "print", "print_and_hang"),
    *("fill_disk", "large_file", "sys_exit", "interrupt", "no_memory", "bad_message", "fork_and_exit"),
    *("close_descriptors", "kill_guard", "shape", "no_dataset", "objects"),
)
#: A program that has left its parents, its session and its environment behind.
DAEMON = """import os, sys, time
os.fork() and os._exit(0)
os.setsid()
os.fork() and os._exit(0)
print(os.getpid(), file=open(sys.argv[1], "w"), flush=True)
os.closerange(0, 64)
time.sleep(1e6)"""
#: Memory that the mode "leak" never releases.
_LEAKED: list[np.ndarray] = []
#: A program that uses the given processor time, s.
BURN = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass"
SPEC = Spec(
    (Variable("x", (), "1", "float64", "a number"), Variable("mode", (), "1", "str", "how to behave")),
    (
        Variable("y", (), "1", "float64", "its square"),
        Variable("omp_threads", (), "1", "int32", "threads it was given"),
    ),
)


@dataclass(frozen=True)
class Misbehaving:
    """Squares numbers, or fails in the way that the input `mode` names.

    Attributes:
        folder: folder in which each call writes a line to `calls`, and in which marker files are created.
        seconds: sleep of each call, s.
        version: part of the fingerprint.
        loads: whether another process can load it; if not, that process ends with status 7.
    """

    folder: str
    seconds: float = 0.0
    version: int = 1
    loads: bool = True

    name = "testing:misbehaving"
    spec = SPEC

    @property
    def provenance(self) -> dict[str, Any]:
        """Name and version."""
        return {"simulator": self.name, "version": str(self.version), "settings": {}}

    @property
    def fingerprint(self) -> str:
        """Hash of the provenance."""
        return content_hash(self.provenance)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self.loads:
            os._exit(7)

    def simulate(self, inputs: xr.Dataset) -> xr.Dataset:
        """Return the square of x if `mode` is "ok"."""
        x, mode = float(inputs["x"]), str(inputs["mode"].item())
        with open(Path(self.folder) / "calls", "a", encoding="utf-8") as calls:
            calls.write(f"{x:g} {mode} {os.getpid()}\n")
        time.sleep(self.seconds)
        self._misbehave(mode, x)
        self._misbehave_as_program(mode)
        y = {"nan": np.nan, "objects": lambda: None, "shape": np.ones(3)}.get(mode, x * x)
        if mode == "no_dataset":
            return y  # type: ignore[return-value]
        if mode in ("objects", "shape"):
            return xr.Dataset({"y": ("row", y) if mode == "shape" else ((), np.array(y)), "omp_threads": ((), 1)})
        return dataset(SPEC.outputs, {"y": y, "omp_threads": int(os.environ.get("OMP_NUM_THREADS", "0"))})

    def _misbehave(self, mode: str, x: float) -> None:
        if mode == "segfault":
            ctypes.string_at(0)
        elif mode == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1e6)
        elif mode == "grandchild":
            subprocess.run(["sleep", "1000000"], check=False)
        elif mode == "orphan":
            # A program that inherits every open file and outlives its parent.
            ctypes.CDLL(None).system(b"sleep 1000001 &")
            os._exit(4)
        elif mode == "leak":
            _LEAKED.append(np.ones(1_000_000))
            time.sleep(0.005)
        elif mode == "eat_memory":
            arrays = []
            while True:
                arrays.append(np.ones(1_000_000))
                time.sleep(0.002)
        elif mode == "raise":
            raise RuntimeError("on purpose")
        elif mode == "exit":
            os.write(2, b"from below Python\n")
            os._exit(3)
        elif mode == "not_converged":
            raise SimulationError("not_converged", "on purpose", {"cycles": 50})
        elif mode == "missing":
            raise SimulationError("missing_component", "on purpose", {"component": "basis set"})
        elif mode == "burn":
            end = time.process_time() + x
            while time.process_time() < end:
                pass
        elif mode.startswith("burn_"):
            hang = "\ntime.sleep(1e6)" if mode == "burn_and_hang" else ""
            subprocess.run([sys.executable, "-I", "-S", "-c", BURN + hang, str(x)], check=False)
        elif mode == "sys_exit":
            sys.exit(3)
        elif mode == "interrupt":
            raise KeyboardInterrupt
        elif mode == "no_memory":
            raise MemoryError("on purpose")
        elif mode == "bad_message":
            raise _SilentError
        elif mode == "flaky":
            marker = Path(self.folder) / f"flaky-{x:g}"
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif mode == "hang_once":
            marker = Path(self.folder) / f"hung-{x:g}"
            if not marker.exists():
                marker.touch()
                time.sleep(1e6)

    def _misbehave_as_program(self, mode: str) -> None:
        """Modes that affect the surrounding processes, descriptors and files."""
        # A file that nobody removes.
        tempfile.mkstemp()
        if mode.startswith("daemon"):
            pid = Path(self.folder) / "daemon"
            # That of an earlier one would say that this one has started.
            pid.unlink(missing_ok=True)
            subprocess.run([sys.executable, "-I", "-S", "-c", DAEMON, str(pid)], env={}, check=True)
            while not (pid.exists() and pid.read_text().endswith("\n")):
                time.sleep(0.002)
        if mode.startswith("print"):
            for _ in range(300 if mode.endswith("hang") else 1):
                os.write(1, b"x" * 2**16 + b"\n")
        if mode.endswith("_and_hang"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(1e6)
        elif mode == "halt":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif mode.endswith("_answer"):
            said = frame(b"y" * 400)[0] + b"y" * {"half_answer": 12, "garbled_answer": 399, "no_answer": 0}[mode]
            for sock in _sockets():
                sock.sendall(b"y" if mode == "no_answer" else said + b"x" * (mode == "garbled_answer"))
            time.sleep(1e6)
        elif mode == "fill_disk":
            for _ in range(40):
                Path(tempfile.mkstemp()[1]).write_bytes(bytes(10**6))
            time.sleep(1e6)
        elif mode == "large_file":
            Path(tempfile.mkstemp()[1]).write_bytes(bytes(31 * 10**6))
        elif mode == "fork_and_exit":
            if os.fork():
                os._exit(0)
        elif mode == "close_descriptors":
            os.closerange(3, 4096)
            time.sleep(1e6)
        elif mode == "kill_guard":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1e6)


@dataclass(frozen=True)
class MisbehavingTogether(Misbehaving):
    """The same for many requests together; each such call writes a line "together N" to `calls`."""

    def simulate_many(self, inputs: Sequence[xr.Dataset]) -> list[xr.Dataset | SimulationError]:
        """See `simulators.adapter.AnswersMany`."""
        with open(Path(self.folder) / "calls", "a", encoding="utf-8") as calls:
            calls.write(f"together {len(inputs)} {os.getpid()}\n")
        results: list[xr.Dataset | SimulationError] = []
        for request in inputs:
            try:
                results.append(self.simulate(request))
            except SimulationError as error:
                results.append(error)
        return results


class _SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


def _sockets() -> Iterator[socket.socket]:
    """The sockets of this process; its only one is the connection to the campaign."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(descriptor.stat().st_mode):
                yield socket.socket(fileno=int(descriptor.name))


def request(x: float, mode: str = "ok") -> xr.Dataset:
    """A request to `Misbehaving`."""
    return dataset(SPEC.inputs, {"x": x, "mode": mode})
