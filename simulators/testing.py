"""A simulator that misbehaves on request, to try campaigns and whatever else runs simulators."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from simulators.base import SimulationError, Spec, Variable, content_hash, dataset

MODES = (
    *("ok", "segfault", "hang", "grandchild", "orphan", "eat_memory", "leak", "raise", "exit", "nan"),
    *("not_converged", "missing", "flaky", "burn", "burn_program", "burn_and_hang"),
)
#: What the mode "leak" never gives back.
_LEAKED: list[np.ndarray] = []
#: Uses so many seconds of processor time, however long that takes.
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
    """Squares numbers, or fails as `mode` says.

    Attributes:
        folder: gets a line in `calls` for each call, and marker files.
        seconds: each call takes.
        version: enters the fingerprint.
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
        """The square of x, unless `mode` is another than "ok"."""
        x, mode = float(inputs["x"]), str(inputs["mode"].item())
        with open(Path(self.folder) / "calls", "a", encoding="utf-8") as calls:
            calls.write(f"{x:g} {mode} {os.getpid()}\n")
        time.sleep(self.seconds)
        self._misbehave(mode, x)
        y = np.nan if mode == "nan" else x * x
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
            held = []
            while True:
                held.append(np.ones(1_000_000))
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
        elif mode == "flaky":
            marker = Path(self.folder) / f"flaky-{x:g}"
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)


def request(x: float, mode: str = "ok") -> xr.Dataset:
    """One request."""
    return dataset(SPEC.inputs, {"x": x, "mode": mode})
