"""What two shards by submitit and their merge add to a screen of a prepared library.

Every side is the command that a user types, with the start of all of its processes. Libraries of two sizes tell what
sharding costs once from what it costs a molecule, and so from which size on it stays below a share of the whole.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Result, arguments, pin, report, run
from benchmarks.screening import add_surrogate, prepare
from data.processes.descendants import adopt_orphans

#: Share of the unsharded processor time that sharding may add.
GOAL = 0.05


def core_seconds(arguments: Sequence[str]) -> float:
    """Processor time of a command of `understudy` and of all processes that it starts, s.

    This process adopts those whose parents end before them, so that the time of each is counted once it has ended.

    Raises:
        subprocess.CalledProcessError: the command fails.
    """
    adopt_orphans()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "understudy", *arguments], check=True, stdout=subprocess.DEVNULL)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def screens(surrogate: Path, folder: Path, size: int, workers: int) -> dict[str, float]:
    """Processor time of an unsharded screen of a library of so many molecules, of two shards, and of their merge, s."""
    folder.mkdir(parents=True)
    table = folder / "candidates.csv.gz"
    # In a process of its own, because processes that help it would be children of this one until it ends.
    code = (
        "import sys; from pathlib import Path; from experiments.pipelines.enumeration import write_library; "
        "write_library(Path(sys.argv[1]), int(sys.argv[2]), workers=int(sys.argv[3]), progress=False)"
    )
    subprocess.run([sys.executable, "-c", code, str(table), str(size), str(workers)], check=True)
    library = folder / "library"
    core_seconds(["prepare", f"candidates={table}", f"out={library}"])
    screen = ["screen", f"surrogate={surrogate}", f"candidates={library}", "top_k=1000"]
    array = ["launcher=submitit", "launcher.cluster=local", "launcher.shards=2"]
    costs = {
        "unsharded": core_seconds([*screen, f"out={folder / 'whole'}"]),
        "two shards": core_seconds([*screen, f"out={folder / 'merged'}", *array]),
        "merge": core_seconds(["merge", str(folder / "merged")]),
    }
    if (folder / "merged" / "top.csv").read_bytes() != (folder / "whole" / "top.csv").read_bytes():
        raise RuntimeError("the merged screen differs from the unsharded one")
    return costs


def results_of(sizes: Sequence[int], costs: Sequence[dict[str, float]]) -> list[Result]:
    """The ratios at both sizes, and the size from which sharding adds less than `GOAL`."""
    results = []
    for size, cost in zip(sizes, costs, strict=True):
        added = cost["two shards"] + cost["merge"] - cost["unsharded"]
        results += [Result(f"{size:,} molecules: {name}", value, "core-s") for name, value in cost.items()]
        ratio = 1 + added / cost["unsharded"]
        results.append(Result(f"{size:,} molecules: two shards and merge over unsharded", ratio, "1"))
    small, large = costs
    each = {name: (large[name] - small[name]) / (sizes[1] - sizes[0]) for name in small}
    once = {name: large[name] - sizes[1] * each[name] for name in small}
    added = each["two shards"] + each["merge"] - each["unsharded"]
    added_once = once["two shards"] + once["merge"] - once["unsharded"]
    results += [
        Result("unsharded: core-us a molecule", 1e6 * each["unsharded"], "core-us"),
        Result("added by sharding: core-us a molecule", 1e6 * added, "core-us"),
        Result("added by sharding: once", added_once, "core-s"),
    ]
    # once + added n < GOAL (unsharded once + each n)
    slope, constant = GOAL * each["unsharded"] - added, added_once - GOAL * once["unsharded"]
    if slope > 0:
        name = f"molecules from which it adds less than {GOAL:.0%}"
        results.append(Result(name, max(0.0, constant / slope), "molecules"))
    return results


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__ or "")
    add_surrogate(parser)
    parser.add_argument(
        "--molecules", type=int, nargs=2, default=(200_000, 2_000_000), help="molecules of the two libraries"
    )
    options = parser.parse_args(argv)
    pin(options.cores)
    folder, surrogate = prepare(options, "sharded_screen")
    costs = [screens(surrogate.resolve(), folder / str(size), size, options.cores) for size in options.molecules]
    report("sharded_screen", results_of(options.molecules, costs), options.out, argv)


if __name__ == "__main__":
    sys.exit(run(main))
