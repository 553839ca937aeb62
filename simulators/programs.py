"""Programs that simulators run: limited in time and output, and gone with all that they started when they are left."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import simulators
from simulators.guarded import Ended, Guarded

#: Bytes that a program may print.
PRINTED = 100_000_000
BOOT = (
    "import json, sys; sys.path.insert(0, sys.argv[2]); "
    "from simulators.guard import become, guard; guard(json.loads(sys.argv[1])); become(sys.argv[3:])"
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
    """Run a program to its end, below a guard (`simulators.guard`).

    When this returns or raises, the program and everything that it started have ended; so they do when this process
    dies, however that dies.

    Args:
        command: path of the program, and arguments.
        folder: working directory.
        env: of the program.
        log: file for what it prints, on both of its streams.
        deadline: on the clock of `time.monotonic`; then it is killed.
        printed: bytes of output after which it is killed.

    Returns:
        How it ended; None if the deadline passed.
    """
    root = Path(simulators.__file__).parent.parent
    program = Guarded(BOOT, [str(root), *command], env, isolated=True, folder=folder, log=log, printed=printed)
    try:
        return program.wait(deadline - time.monotonic())
    finally:
        program.kill()
