"""Shared by all benchmarks: command-line arguments, pinning to cores, and results as a table and as JSON."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data.errors import InputError
from data.files import write_json
from data.terminal import columns_table, print_table
from experiments.application.heap import keep_freed_memory

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Result:
    """One measured number, with the same number of a peer where there is one.

    Attributes:
        name: description of the measured quantity.
        value: value of Understudy.
        unit: unit of both values.
        peer: name and version of the peer, or None.
        peer_value: value of the peer, from the same run on the same cores.
        ratio: `value / peer_value`.
        command: command line that repeats the measurement.
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    command: str = ""

    @staticmethod
    def against(name: str, value: float, unit: str, peer: str | None, peer_value: float | None) -> Result:
        """A result with its ratio to a peer; without a peer's value, peer and ratio are None."""
        if peer_value is None:
            return Result(name, value, unit)
        return Result(name, value, unit, peer, peer_value, value / peer_value if peer_value else None)


def arguments(description: str, peers: str = ".venv-peers") -> argparse.ArgumentParser:
    """A parser with the arguments that all benchmarks take.

    Args:
        description: description for `--help`.
        peers: name of the environment with the programs to compare with.
    """
    parser = argparse.ArgumentParser(description=description)
    default = os.environ.get("UNDERSTUDY_DATA", str(REPOSITORY.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of real data (%(default)s)")
    parser.add_argument(
        "--peers",
        type=Path,
        default=REPOSITORY / peers / "bin",
        help="bin folder of the environment made by `make peers` (%(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the JSON files (%(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="processor cores for every side (%(default)s)")
    return parser


def pin(cores: int) -> list[int]:
    """Pin this process and its children to that many cores and keep its freed memory; call before JAX is imported.

    Raises:
        InputError: fewer cores are available.
    """
    have = sorted(os.sched_getaffinity(0))
    if len(have) < cores:
        raise InputError(f"only {len(have)} cores are available", where="--cores", remedy=f"Give --cores {len(have)}")
    if "jax" in sys.modules:
        raise RuntimeError("JAX is imported already, so its threads would not keep to the cores")
    os.sched_setaffinity(0, have[:cores])
    keep_freed_memory()
    return have[:cores]


def data_file(folder: Path, name: str, field: str = "molecules") -> Path:
    """Path of a file of real data, from the folder of one field of science.

    Raises:
        InputError: the file does not exist.
    """
    path = folder / field / name
    if not path.is_file():
        raise InputError(
            f"no such file: {path}", where="--data", remedy="Point --data or UNDERSTUDY_DATA at the folder"
        )
    return path


def report(name: str, results: Sequence[Result], out: Path, argv: Sequence[str] | None) -> Path:
    """Print the table and write `<out>/<name>.json`.

    Args:
        name: name of the benchmark, which is a module of this package.
        results: measured numbers.
        out: output folder.
        argv: command-line arguments of this run, from which `command` is built; None for `sys.argv`.
    """
    command_arguments = list(sys.argv[1:] if argv is None else argv)
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *command_arguments])
    rows = [asdict(r) | {"command": r.command or command} for r in results]
    path = out / f"{name}.json"
    write_json(path, rows)
    show(name, results)
    return path


def show(name: str, results: Sequence[Result]) -> None:
    """Print the table of a benchmark."""
    table = columns_table(name, ("what", "Understudy", "unit", "peer", "peer's", "ratio"))
    for r in results:
        peer = "" if r.peer_value is None else f"{r.peer_value:,.4g}"
        ratio = "" if r.ratio is None else f"{r.ratio:.2f}"
        value = f"{r.value:,.0f}" if abs(r.value) >= 1000 else f"{r.value:.4g}"
        table.add_row(r.name, value, r.unit, r.peer or "", peer, ratio)
    print_table(table)


def run(main: Callable[[], None]) -> int:
    """Run a benchmark as a program and return its exit status; an input error gives one line and status 2."""
    try:
        main()
    except InputError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
