"""Runs the benchmarks of a suite one after the other, each in its own process; `--show` prints earlier results.

python -m benchmarks [--suite molecules|potentials|fluids|kinetics|weather] [--only NAME ...] [--train N ...]
    [--data DIR] [--peers BIN] [--out DIR] [--no-peers] [--learning ARGUMENTS OF potential_learning]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Result, arguments, run, show
from data.errors import InputError

#: The order matters: later benchmarks of a suite measure the models that the first one trains.
SUITES = {
    "molecules": ("qm9_gap", "screening", "memory", "serving", "training_loop", "distillation"),
    "potentials": ("potential_learning", "potential_speed", "roofline", "frontier", "learning_curve"),
    "fluids": (
        "darcy",
        "apebench",
        "navier_stokes",
        "corrector",
        "drag",
        "mesh_flow",
        "answer_bodies",
        "step",
        "turbulent_step",
    ),
    "kinetics": ("kinetics",),
    "weather": ("t2m_uk", "held_suarez", "weather_reading", "weather_size"),
}
NAMES = tuple(name for suite in SUITES.values() for name in suite)
#: The benchmarks that take `--no-peers`.
WITH_PEERS = ("qm9_gap", "screening", "potential_learning", "potential_speed", "darcy")


def command(name: str, options: argparse.Namespace) -> list[str]:
    """The command line of one benchmark."""
    line = [
        sys.executable,
        "-m",
        f"benchmarks.{name}",
        "--data",
        str(options.data),
        "--out",
        str(options.out),
    ]
    line += ["--cores", str(options.cores)]
    if options.peers is not None:
        line += ["--peers", str(options.peers)]
    if options.no_peers and name in WITH_PEERS:
        line.append("--no-peers")
    if name == "qm9_gap":
        line += ["--train", *map(str, options.train)]
    if name == "potential_learning":
        line += options.learning
    # Each of these surrogates has the default network, and therefore the same speed.
    surrogate = options.out / "qm9_gap" / str(options.train[0]) / "understudy" / "surrogate"
    if name in ("screening", "memory", "serving") and surrogate.is_dir():
        line += ["--surrogate", str(surrogate)]
    return line


def results(path: Path) -> list[Result]:
    """The results that a benchmark wrote.

    Raises:
        InputError: the benchmark has not run.
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
    parser.add_argument("--suite", choices=SUITES, default="molecules", help="suite to run (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=None, help="benchmarks to run instead of a suite")
    parser.add_argument(
        "--train", type=int, nargs="+", default=[10_000], help="number of training molecules of qm9_gap (10000)"
    )
    parser.add_argument(
        "--learning", nargs=argparse.REMAINDER, default=[], help="pass the rest of the line to potential_learning"
    )
    parser.add_argument("--no-peers", action="store_true", help="run Understudy alone")
    parser.add_argument("--show", action="store_true", help="print the tables of an earlier run")
    options = parser.parse_args(argv)
    failed = []
    for name in options.only or SUITES[options.suite]:
        if options.show:
            show(name, results(options.out / f"{name}.json"))
        elif subprocess.run(command(name, options)).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(run(main))
