"""Overheads of campaigns on Dask, of shards and of the one writer, and kills: `python -m benchmarks.scaling`.

Each overhead is a ratio of processor times within one run. What starting costs is told apart from what each label
costs, by two campaigns of different sizes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from benchmarks.engine_kills import KINDS, KillTally, kills
from benchmarks.engine_overhead import molecules, overhead
from benchmarks.writing import peak_memory, writer
from data.claim import claim
from data.files import write_text
from data.molecules.graph_tables import GraphTable
from data.processes.processor import tree_seconds
from data.shards import Shard
from data.terminal import columns_table, print_table
from experiments.merging.merge import merge
from experiments.screening.library_screen import ScreenConfig, screen
from experiments.screening.library_writing import prepare


class AtomCounts:
    """A surrogate that costs next to nothing, so that what is measured is the screen around it."""

    fingerprint = "atom counts"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        """The number of atoms and an interval around it."""
        atoms = np.diff(table.atom_start).astype(np.float32)
        return {"in_domain": atoms > 0, "size": atoms, "size_std": atoms, "size_low": atoms - 1, "size_high": atoms + 1}


def measured(run: Any) -> tuple[float, float]:
    """Wall and processor time of a call, s; processes that it started have ended and count."""
    wall, core = time.perf_counter(), tree_seconds()
    run()
    return time.perf_counter() - wall, tree_seconds() - core


def shards(folder: Path, size: int) -> dict[str, float]:
    """A screen of a prepared library in two shards and their merge, against the unsharded one."""
    table = folder / "library.smi"
    table.write_text("\n".join(itertools.islice(molecules(), size)) + "\n")
    prepare(table, folder / "library", workers=2, progress=False)

    def screened(out: Path, shard: Shard | None) -> None:
        directory = out if shard is None else shard.directory(out)
        settings = {
            "stage": "screen", "run": {"dir": str(directory)}, "out": str(directory), "workers": 1, "top_k": 1000,
            "shard": None if shard is None else str(shard), "candidates": str(folder / "library"), "distinct": True,
        }  # fmt: skip
        with claim(directory, "screen"):
            config = ScreenConfig(workers=1, shard=shard)
            screen(AtomCounts(), folder / "library", directory, config, progress=False)
            write_text(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)), listed=True)

    def in_shards() -> None:
        for number in (1, 2):
            screened(folder / "merged", Shard(number, 2))

    screened(folder / "first", None)  # so that what is imported and opened once counts for neither
    _, whole = measured(lambda: screened(folder / "whole", None))
    _, parts = measured(in_shards)
    _, merged = measured(lambda: merge(folder / "merged"))
    assert (folder / "merged" / "top.csv").read_bytes() == (folder / "whole" / "top.csv").read_bytes()
    return {
        "unsharded: core-s": whole,
        "two shards: core-s": parts,
        "merge: core-s": merged,
        "ratio of processor time, merge included": (parts + merged) / whole,
    }


def kill_table(folder: Path, size: int, times: int, kinds: Sequence[str]) -> list[KillTally]:
    """What became of campaigns on a Dask cluster of which processes were killed -9 at random moments."""
    return [kills(folder / kind, [kind], size=size, times=times) for kind in kinds]


def _texts(tally: KillTally) -> tuple[str, ...]:
    return tuple(f"{value:.4g}" if isinstance(value, float) else str(value) for value in astuple(tally))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs=2, default=(50, 2000), help="sizes of the two campaigns")
    parser.add_argument("--molecules", type=int, default=200_000, help="molecules of the library")
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
        "shards": lambda folder: shards(folder, options.molecules),
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
