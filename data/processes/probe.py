"""Files whose libraries may crash or never return are tried by a process that may die, before this one opens them.

HDF5 and ecCodes are written in C, and bytes that were changed can make them run into memory that is not theirs, or
count to 2^40: a single bit of a GRIB file is enough. The process is a parsing process (`data.processes.parsing`), kept
for all files and replaced when it dies; a file is tried once as long as it stays as it is. Errors that the libraries
raise are left to the code that opens the file.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from data.errors import DAMAGED, InputError
from data.processes.parsing import DiedError, Lane, RowLimits, SharedLane
from data.processes.probe_process import try_file

#: Processor time of one step, such as a message of a GRIB file or a variable of a NetCDF one (s).
PATIENCE = 60.0

_LOCK = threading.Lock()
_TRIED: set[tuple[str, str, int, int]] = set()
_shared_lane = SharedLane(lambda: Lane(RowLimits(PATIENCE), modules=(try_file.__module__,)))


def refuse_deadly(kind: str, path: Path | str) -> None:
    """Refuse a file that would end this process, hold it for ever, or fill its memory when it is opened.

    Args:
        kind: "hdf5", "grib" or "vtk".
        path: of the file.

    Raises:
        InputError: says where in the file its library ended.
    """
    path = Path(path)
    facts = path.stat()
    key = (kind, str(path.absolute()), facts.st_size, facts.st_mtime_ns)
    with _LOCK:
        if key in _TRIED:
            return
        try:
            refusal = _shared_lane().ask(try_file, (kind, str(path.absolute())))
        except DiedError as death:
            if death.shared:
                ending = "needs more memory than its content accounts for"
            elif death.ending in ("", signal.SIGPROF.name):
                ending = f"does not come to an end within {PATIENCE:g} s"
            else:
                ending = f"ended with {death.ending}"
            raise InputError(
                f"cannot be read: the library that reads it {ending} at {death.name}", where=str(path), remedy=DAMAGED
            ) from death
        if refusal is not None:
            problem, remedy = refusal
            raise InputError(problem, where=str(path), remedy=remedy or DAMAGED)
        _TRIED.add(key)
