"""Compares `understudy serve` with the call of its surrogate in Python, and puts many clients of all manners on it.

Three sizes of requests are asked in turns with the same call in this process, which parses the SMILES and predicts.
Rates are of the fastest round by the clock, and of all rounds by the processor time of the server and its processes.
Then many clients ask at once for a time, among them broken, slow and abandoned ones; every good answer is compared with
that of the call, and the memory of the server is followed.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from benchmarks.chemprop import read_smiles
from benchmarks.common import Result, arguments, data_file, pin, report, run
from benchmarks.screening import add_surrogate, prepare
from benchmarks.serving_load import ARROW, JSON, Truth, run_load, stream
from data.errors import InputError

#: Molecules of a request, and how often each size is asked by default.
SIZES = {1: 200, 64: 60, 4096: 6}
BODY_MB, TIMEOUT_S = 4.0, 10.0
#: Molecules among which the clients of the load choose.
POOL = 2_000
PROGRAMS = "understudy_compiled_programs"


@dataclass
class Rounds:
    """Times of requests of one size by one way.

    Attributes:
        wall: seconds of each round by the clock.
        core: processor time of all rounds, s.
    """

    wall: list[float] = field(default_factory=list)
    core: float = 0.0


@contextmanager
def server(surrogate: Path, run_dir: Path) -> Iterator[tuple[psutil.Process, tuple[str, int]]]:
    """The command in a process of its own, and its host and port."""
    keys = [f"surrogate={surrogate}", "port=0", f"body_mb={BODY_MB}", f"timeout_s={TIMEOUT_S}", f"run.dir={run_dir}"]
    process = subprocess.Popen([sys.executable, "-m", "understudy", "serve", *keys])
    try:
        while not (run_dir / "server.json").exists():
            if process.poll() is not None:
                raise InputError("the server did not start", where="understudy serve")
            time.sleep(0.05)
        address = json.loads((run_dir / "server.json").read_text())["address"]
        yield psutil.Process(process.pid), ("127.0.0.1", int(address.rpartition(":")[2]))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if process.wait() != 0:
            raise InputError(f"the server ended with status {process.returncode}", where="understudy serve")


def measured(address: tuple[str, int], name: str) -> float:
    """A metric of the server."""
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name)


def asker(address: tuple[str, int], kind: str) -> Callable[[Sequence[str]], Any]:
    """Asks about molecules on one connection, and reads the answer; in JSON or Arrow."""
    connection = http.client.HTTPConnection(*address)

    def ask(smiles: Sequence[str]) -> Any:
        if kind == ARROW:
            body = stream(pa.table({"smiles": pa.array(smiles, pa.string())}))
        else:
            body = json.dumps({"columns": {"smiles": smiles}}).encode()
        connection.request("POST", "/predict", body, {"Content-Type": kind})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise InputError(f"status {response.status}: {answer[:200]!r}", where="understudy serve")
        return pa.ipc.open_stream(answer).read_all() if kind == ARROW else json.loads(answer)

    return ask


def spent(process: psutil.Process) -> float:
    """Processor time of a process and of all below it that live, s."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def compare(
    process: psutil.Process, address: tuple[str, int], surrogate: Any, smiles: Sequence[str], scale: float
) -> list[Result]:
    """The rates of the server and of the call, in turns."""
    from data.molecules.featurise import encode

    def call(some: Sequence[str]) -> Any:
        table, _ = encode(some)
        return surrogate.predict_table(table)

    results = []
    ways = {"call": call, "JSON": asker(address, JSON), "Arrow": asker(address, ARROW)}
    for size, count in SIZES.items():
        rounds = {way: Rounds() for way in ways}
        for number in range(max(2, int(count * scale)) + 1):
            start = number * size % (len(smiles) - size)
            some = list(smiles[start : start + size])
            for way, ask in ways.items():
                of_server = way != "call"
                before = spent(process) if of_server else time.process_time()
                began = time.perf_counter()
                ask(some)
                wall = time.perf_counter() - began
                after = spent(process) if of_server else time.process_time()
                if number:  # the first round warms caches
                    rounds[way].wall.append(wall)
                    rounds[way].core += after - before
        done = len(rounds["call"].wall)
        ours = rounds["call"]
        for way in ("JSON", "Arrow"):
            one = rounds[way]
            results += [
                Result.against(
                    f"{size:,} molecules in {way}: rate of the fastest round", size / min(one.wall), "molecules/s",
                    "the call", size / min(ours.wall),
                ),
                Result.against(
                    f"{size:,} molecules in {way}: rate by processor time", size * done / one.core,
                    "molecules/core-s", "the call", size * done / ours.core,
                ),
            ]  # fmt: skip
            if size == 1:
                results += [
                    Result(f"1 molecule in {way}: time added, median", added(one, ours, np.median), "ms"),
                    Result(f"1 molecule in {way}: time added, fastest round", added(one, ours, np.min), "ms"),
                ]
    return results


def added(one: Rounds, other: Rounds, middle: Callable[[list[float]], Any]) -> float:
    """How much longer a round takes than another one, ms."""
    return 1000 * float(middle(one.wall) - middle(other.wall))


def load(
    process: psutil.Process,
    address: tuple[str, int],
    surrogate: Any,
    smiles: Sequence[str],
    clients: int,
    seconds: float,
) -> list[Result]:
    """Many clients at once for a time.

    Raises:
        InputError: an answer is wrong.
    """
    from data.molecules.featurise import encode

    pool = list(smiles[:POOL])
    table, bad = encode(pool)
    if bad:
        raise InputError(f"{len(bad)} molecules of the pool cannot be read", where="--data")
    truth = Truth(pool, surrogate.predict_table(table))
    programs = measured(address, PROGRAMS)
    memory: list[float] = []
    over = threading.Event()

    def follow() -> None:
        while not over.wait(max(0.2, seconds / 60)):
            memory.append(measured(address, "understudy_memory_bytes") / 1e6)

    follower = threading.Thread(target=follow, daemon=True)
    began, core = time.monotonic(), spent(process)
    follower.start()
    seen = run_load(
        address, truth, clients, lambda count: time.monotonic() - began < seconds,
        body_bytes=int(BODY_MB * 1e6), timeout_s=TIMEOUT_S,
    )  # fmt: skip
    passed = time.monotonic() - began
    over.set()
    follower.join()
    core = spent(process) - core
    for kind, count in sorted(seen.requests.items()):
        print(f"  {kind}: {count:,} requests ended as they should")
    print(f"  statuses of good requests: {dict(seen.statuses)}")
    if seen.wrong:
        raise InputError("; ".join(seen.wrong[:5]), where=f"{len(seen.wrong)} requests")
    third = max(1, len(memory) // 3)
    middle, last = np.mean(memory[third : 2 * third]), np.mean(memory[-third:])
    what = f"{clients} clients for {passed:.0f} s"
    return [
        Result(f"{what}: requests", float(sum(seen.requests.values())), "1"),
        Result(f"{what}: requests whose answer is wrong", float(len(seen.wrong)), "1"),
        Result(f"{what}: rows compared with the call", float(seen.rows), "1"),
        Result(f"{what}: largest difference, over the spread of the answers", seen.largest_difference, "1"),
        Result(f"{what}: good requests refused as busy", float(seen.statuses[429] + seen.statuses[503]), "1"),
        Result(f"{what}: programs compiled meanwhile", measured(address, PROGRAMS) - programs, "1"),
        Result(f"{what}: rows for a core-second", seen.rows / core, "rows/core-s"),
        Result(f"{what}: memory in the last third", float(last), "MB"),
        Result(f"{what}: memory in the last third over that in the middle one", float(last / middle), "1"),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    add_surrogate(parser)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the rounds of each size (%(default)s)")
    parser.add_argument("--clients", type=int, default=100, help="clients at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which they ask (%(default)s)")
    options = parser.parse_args(argv)
    pin(options.cores)
    folder, directory = prepare(options, "serving")
    smiles = read_smiles(data_file(options.data, "qm9_smiles.csv"))
    run_dir = folder / f"server-{os.getpid()}"
    with server(directory, run_dir) as (process, address):
        from surrogates.learning.devices import enable_compilation_cache
        from surrogates.properties.surrogate import PropertySurrogate

        enable_compilation_cache()
        surrogate = PropertySurrogate.load(directory)
        surrogate.compile()
        results = compare(process, address, surrogate, smiles, options.scale)
        report("serving", results, options.out, argv)
        results += load(process, address, surrogate, smiles, options.clients, options.seconds)
    report("serving", results, options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
