"""The process that `kills` and `random_kills` fork from: it imports everything, and starts no thread."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.trials import FaultTrial


def kill_everywhere(
    operations: Sequence[str], *, most: int | None = None, seed: int = 0, paths: Sequence[Path] = ()
) -> Iterator[FaultTrial]:
    """Kill operations everywhere, or commands at random moments, in a process of their own.

    Args:
        operations: each a name of `kill_operations`, "module:function", or "command/NAME" of `commands.COMMANDS`.
        most: kills of each; None: one before each call that finds the files changed.
        seed: of the moments.
        paths: put before `sys.path`.

    Raises:
        RuntimeError: the process fails; with what it printed.
    """
    arguments = [*operations, "--seed", str(seed), "--paths", *map(str, paths)]
    if most is not None:
        arguments = ["--most", str(most), *arguments]
    command = [sys.executable, "-m", "benchmarks.faults.forking", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield FaultTrial(**json.loads(line))
            if process.wait():
                said.seek(0)
                raise RuntimeError(said.read()[-4000:])
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("operations", nargs="+")
    parser.add_argument("--most", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paths", nargs="*", default=[])
    asked = parser.parse_args()
    sys.path[:0] = asked.paths
    from benchmarks.faults import kills, random_kills

    # What a killed process wrote is kept by the system: only a power failure needs the disk.
    os.fsync = os.fdatasync = lambda fd: None
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.operations:
            place = Path(folder) / name.replace(":", "-")
            if name.startswith("command/"):
                trials = random_kills.kills_of_command(name.partition("/")[2], asked.most or 10, place, asked.seed)
            else:
                trials = kills.kills_of(name, place, asked.most, asked.seed)
            for trial in trials:
                print(json.dumps(asdict(trial)), flush=True)


if __name__ == "__main__":
    _main()
