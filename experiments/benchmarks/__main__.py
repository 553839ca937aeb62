"""The benchmarks of a suite, one after the other and each in a process of its own; `--show` prints what is there.

python -m experiments.benchmarks [--suite molecules|potentials|fluids|weather] [--only NAME ...] [--train N ...]
    [--data DIR] [--peers BIN] [--out DIR] [--no-peers] [--learning ARGUMENTS OF potential_learning]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from experiments.benchmarks.common import Result, arguments, run, show

#: In this order: what the first of a suite trains is what the next ones measure.
SUITES = {
    "molecules": ("qm9_gap", "screening", "memory", "training_loop"),
    "potentials": ("potential_learning", "potential_speed", "roofline", "frontier", "learning_curve"),
    "fluids": ("darcy", "apebench", "navier_stokes", "drag", "mesh_flow"),
    "weather": ("t2m_uk", "held_suarez", "weather_reading", "weather_size"),
}
NAMES = tuple(name for suite in SUITES.values() for name in suite)
#: Those that take `--no-peers`.
WITH_PEERS = ("qm9_gap", "screening", "potential_learning", "potential_speed", "darcy")


def command(name: str, given: argparse.Namespace) -> list[str]:
    """The command line of one benchmark."""
    line = [sys.executable, "-m", f"experiments.benchmarks.{name}", "--data", str(given.data), "--out", str(given.out)]
    line += ["--cores", str(given.cores)]
    if given.peers is not None:
        line += ["--peers", str(given.peers)]
    if given.no_peers and name in WITH_PEERS:
        line.append("--no-peers")
    if name == "qm9_gap":
        line += ["--train", *map(str, given.train)]
    if name == "potential_learning":
        line += given.learning
    # Any of them has the default network, and so the same speed.
    surrogate = given.out / "qm9_gap" / str(given.train[0]) / "understudy" / "surrogate"
    if name in ("screening", "memory") and surrogate.is_dir():
        line += ["--surrogate", str(surrogate)]
    return line


def results(path: Path) -> list[Result]:
    """What a benchmark wrote.

    Raises:
        InputError: it has not run.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}", where="--show", remedy="Run the benchmarks first")
    return [Result(**entry) for entry in json.loads(path.read_text())]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmarks; see `--help`.

    Raises:
        SystemExit: with status 1, after the last one, if any of them failed.
    """
    parser = arguments("Side-by-side benchmarks; JSON and tables.")
    parser.set_defaults(peers=None)
    parser.add_argument("--suite", choices=SUITES, default="molecules", help="which ones (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=None, help="these instead of a suite")
    parser.add_argument("--train", type=int, nargs="+", default=[10_000], help="training molecules of qm9_gap (10000)")
    parser.add_argument(
        "--learning", nargs=argparse.REMAINDER, default=[], help="the rest of the line is for potential_learning"
    )
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--show", action="store_true", help="print the tables of an earlier run")
    given = parser.parse_args(argv)
    failed = []
    for name in given.only or SUITES[given.suite]:
        if given.show:
            show(name, results(given.out / f"{name}.json"))
        elif subprocess.run(command(name, given)).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(run(main))
