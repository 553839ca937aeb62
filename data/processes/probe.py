"""Files whose libraries may crash or never return are tried by a process that may die, before this one opens them.

HDF5 and ecCodes are written in C, and bytes that were changed can make them run into memory that is not theirs, or
count to 2^40: a single bit of a GRIB file is enough. One process is kept for all files and replaced when it dies; a
file is tried once as long as it stays as it is. Errors that the libraries raise are left to the code that opens the
file.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from data.errors import DAMAGED, InputError

#: Seconds for one step, such as a message of a GRIB file or a variable of a NetCDF one.
PATIENCE = 60.0
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from data.processes.probe_process import main; main()"
)


class _Prober:
    """The process that tries files, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._tried: set[tuple[str, str, int, int]] = set()

    def refuse_deadly(self, kind: str, path: Path) -> None:
        """See `refuse_deadly`."""
        facts = path.stat()
        key = (kind, str(path.absolute()), facts.st_size, facts.st_mtime_ns)
        with self._lock:
            if key not in self._tried:
                self._try(kind, path)
                self._tried.add(key)

    def _try(self, kind: str, path: Path) -> None:
        order = json.dumps([kind, str(path.absolute()), PATIENCE]).encode() + b"\n"
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(order)
            process.stdin.flush()
        except BrokenPipeError:  # it was ended from outside, such as where memory ran out
            self.stop()
            self._try(kind, path)
            return
        step = "its beginning"
        while line := process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            if "step" in answer:
                step = answer["step"]
                continue
            if problem := answer.get("problem"):
                raise InputError(problem, where=str(path), remedy=answer.get("remedy") or DAMAGED)
            return
        status = process.wait()
        self._process = None
        if status == -signal.SIGALRM:
            ending = f"does not come to an end within {PATIENCE:g} s"
        else:
            ending = f"ended with {signal.Signals(-status).name if status < 0 else f'status {status}'}"
        raise InputError(
            f"cannot be read: the library that reads it {ending} at {step}", where=str(path), remedy=DAMAGED
        )

    def _running(self) -> subprocess.Popen[bytes]:
        # After a fork, the process belongs to the parent, and a new one is needed.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._owner = os.getpid()
        return self._process

    def stop(self) -> None:
        """End the process."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
            self._process = None


_PROBER = _Prober()
atexit.register(_PROBER.stop)


def refuse_deadly(kind: str, path: Path | str) -> None:
    """Refuse a file that would end this process, hold it for ever, or fill its memory when it is opened.

    Args:
        kind: "hdf5" or "grib".
        path: of the file.

    Raises:
        InputError: says where in the file its library ended.
    """
    _PROBER.refuse_deadly(kind, Path(path))
