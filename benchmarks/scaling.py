"""Overheads of campaigns on Dask, of shards and of the one writer, and kills: `python -m benchmarks.scaling`.

Each overhead is a ratio of processor times within one run. What starting costs is told apart from what each label
costs, by two campaigns of different sizes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path

from benchmarks.engine_kills import KINDS, KillTally, kills
from benchmarks.engine_overhead import overhead
from benchmarks.screen_shards import SURROGATES, by_size
from benchmarks.writing import peak_memory, writer
from data.terminal import columns_table, print_table


def kill_table(folder: Path, size: int, times: int, kinds: Sequence[str]) -> list[KillTally]:
    """What became of campaigns on a Dask cluster of which processes were killed -9 at random moments."""
    return [kills(folder / kind, [kind], size=size, times=times) for kind in kinds]


def _texts(tally: KillTally) -> tuple[str, ...]:
    return tuple(f"{value:.4g}" if isinstance(value, float) else str(value) for value in astuple(tally))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs=2, default=(50, 2000), help="sizes of the two campaigns")
    parser.add_argument(
        "--shard-sizes", type=int, nargs="+", default=(20_000, 200_000), help="molecules of the libraries"
    )
    parser.add_argument("--surrogates", nargs="*", choices=sorted(SURROGATES), default=["free"], help="of the shards")
    parser.add_argument("--commands", action="store_true", help="measure screens in shards as commands as well")
    parser.add_argument("--libraries", type=Path, help="folder that keeps the prepared libraries, to use them again")
    parser.add_argument("--records", type=int, default=10_000, help="records of the writer")
    parser.add_argument("--memory", type=int, nargs="+", default=(10_000, 100_000), help="sizes for the peak memory")
    parser.add_argument("--requests", type=int, default=1000, help="requests of each campaign with kills")
    parser.add_argument("--kills", type=int, default=10, help="kills of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="what is killed")
    parser.add_argument("--only", choices=("campaigns", "shards", "writer", "memory", "kills"), help="one of these")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    numbers: dict[str, dict[str, float]] = {}
    runs = {
        "writer": lambda folder: writer(folder, options.records),
        "shards": lambda folder: by_size(
            options.libraries or folder, options.shard_sizes, options.surrogates, commands=options.commands
        ),
        "campaigns": lambda folder: overhead(folder, tuple(options.labels)),
        "memory": lambda folder: peak_memory(folder, options.memory),
    }
    for name, run in runs.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="understudy-scaling-") as folder:
                numbers[name] = run(Path(folder))
            rows = [(key, f"{value:,.4g}") for key, value in numbers[name].items()]
            print_table(columns_table(name, ("what", "value"), rows))
    if options.only in (None, "kills"):
        with tempfile.TemporaryDirectory(prefix="understudy-scaling-") as folder:
            tallies = kill_table(Path(folder), options.requests, options.kills, options.kinds)
        print_table(columns_table("kills", tuple(column.name for column in fields(KillTally)), [*map(_texts, tallies)]))
        counts = {one.kind: {k: v for k, v in asdict(one).items() if k != "kind"} for one in tallies}
        numbers["kills"] = {f"{kind}: {name}": value for kind, of in counts.items() for name, value in of.items()}
    if options.out is not None:
        options.out.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
