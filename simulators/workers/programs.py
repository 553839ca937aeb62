"""Runs the programs of simulators with limits of time and output, and ends them with all of their descendants."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import simulators
from simulators.workers.guarded_program import Ended, Guarded

#: Largest size of a program's output, bytes.
PRINTED = 100_000_000
BOOT = (
    "import json, sys; sys.path.insert(0, sys.argv[2]); "
    "from simulators.workers.guard import become, guard; guard(json.loads(sys.argv[1])); become(sys.argv[3:])"
)


def run_program(
    command: Sequence[str],
    folder: Path,
    env: Mapping[str, str],
    log: Path,
    deadline: float,
    *,
    printed: int = PRINTED,
) -> Ended | None:
    """Run a program to its end, below a guard (`simulators.workers.guard`).

    When this returns or raises, the program and all of its descendants have ended. They also end when this process dies
    for any reason.

    Args:
        command: path of the program, and arguments.
        folder: working directory.
        env: environment of the program.
        log: file for its standard output and standard error.
        deadline: time on the clock of `time.monotonic` at which it is killed, s.
        printed: size of the output above which it is killed, bytes.

    Returns:
        How the program ended; None if the deadline passed.
    """
    root = Path(simulators.__file__).parent.parent
    program = Guarded(BOOT, [str(root), *command], env, isolated=True, folder=folder, log=log, printed=printed)
    try:
        return program.wait(deadline - time.monotonic())
    finally:
        program.kill()
