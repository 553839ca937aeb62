"""Overheads of campaigns on Dask, of shards with their merge, and of the one writer: `python -m benchmarks.scaling`.

Each overhead is a ratio of processor times within one run. What starting costs is told apart from what each label
costs, by two campaigns of different sizes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from omegaconf import OmegaConf

from data.claim import claim
from data.files import write_text
from data.molecules.graph_tables import GraphTable
from data.processes.processor import tree_seconds
from data.shards import Shard
from data.spec import dataset, input_hash
from data.store.records import RecordStore
from data.terminal import columns_table, print_table
from experiments.merging.merge import merge
from experiments.screening.library_screen import ScreenConfig, screen
from experiments.screening.library_writing import prepare
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.campaigns.dask_engine import dask_engine
from simulators.campaigns.engine_crew import Engine
from simulators.campaigns.guarded import Delivery, Finished
from simulators.campaigns.slot import Job
from simulators.chemistry.conformers import ConformerConfig
from simulators.chemistry.from_smiles import FromSmiles
from simulators.chemistry.xtb import XTB
from simulators.testing import Misbehaving, request
from simulators.workers.worker import WorkerAnswer, request_values


class AtomCounts:
    """A surrogate that costs next to nothing, so that what is measured is the screen around it."""

    fingerprint = "atom counts"

    def compile(self) -> None:
        """Nothing is compiled."""

    def predict_table(self, table: GraphTable) -> dict[str, np.ndarray]:
        """The number of atoms and an interval around it."""
        atoms = np.diff(table.atom_start).astype(np.float32)
        return {"in_domain": atoms > 0, "size": atoms, "size_std": atoms, "size_low": atoms - 1, "size_high": atoms + 1}


def molecules() -> Iterator[str]:
    """Different molecules without end: rings with two substituents, and chains between these."""
    rings = ("c1cc({0})ccc1{1}", "c1nc({0})ccc1{1}", "C1CC({0})CCC1{1}", "c1oc({0})cc1{1}")
    groups = ("C", "N", "O", "F", "C#N", "C=O", "OC", "C(N)=O", "Cl")
    for length in itertools.count():
        for ring, a, b in itertools.product(rings, groups, groups):
            yield ring.format(a, "C" * length + b)


def measured(run: Any) -> tuple[float, float]:
    """Wall and processor time of a call, s; processes that it started have ended and count."""
    wall, core = time.perf_counter(), tree_seconds()
    run()
    return time.perf_counter() - wall, tree_seconds() - core


def campaigns(folder: Path, sizes: tuple[int, int]) -> dict[str, float]:
    """xTB labels with two workers, by the local engine and on a LocalCluster of two."""
    simulator = FromSmiles(XTB(), ConformerConfig())
    spent: dict[tuple[str, int], tuple[float, float]] = {}
    at_close: list[float] = []
    for size, engine in itertools.product(sizes, ("local", "dask")):
        inputs = [dataset(simulator.spec.inputs, {"smiles": s}) for s in itertools.islice(molecules(), size)]
        config = CampaignConfig(workers=2, engine=engine)

        def run(
            inputs: list[xr.Dataset] = inputs, config: CampaignConfig = config, store: Path = folder / f"{engine}{size}"
        ) -> None:
            engine = _noting(dask_engine(config), at_close) if config.engine == "dask" else None
            run_campaign(simulator, inputs, store, config, progress=False, engine=engine)

        at_close.clear()
        before = tree_seconds()
        wall, core = measured(run)
        spent[engine, size] = wall, at_close[0] - before if at_close else core
    small, large = sizes
    found = {f"{engine} {size}: core-s": cost for (engine, size), (_, cost) in spent.items()}
    found |= {f"{engine} {size}: wall s": wall for (engine, size), (wall, _) in spent.items()}
    each = {e: (spent[e, large][1] - spent[e, small][1]) / (large - small) for e in ("local", "dask")}
    found |= {f"{engine}: core-s a label": value for engine, value in each.items()}
    found["ratio of processor time, start included"] = spent["dask", large][1] / spent["local", large][1]
    found["ratio of processor time a label"] = each["dask"] / each["local"]
    found["ratio of wall time, start included"] = spent["dask", large][0] / spent["local", large][0]
    return found


def _noting(engine: Engine, spent: list[float]) -> Engine:
    """An engine that notes the processor time of all processes when it is closed.

    Dask kills its workers, which then cannot wait for what they started: its time would be in no sum afterwards.
    """

    def close() -> None:
        spent.append(tree_seconds())
        engine.close()

    return replace(engine, close=close)


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


class Answered(Executor):
    """An executor whose requests are answered at once, so that what is measured is the writer."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
        """The answer of a request, as a worker without a shared folder returns it."""
        _, _, key, values, _ = arguments
        answer = WorkerAnswer("ok", {"y": float(values["x"]) ** 2, "omp_threads": 1}, "", "{}", 0.0, 0.0)
        future: Future[Any] = Future()
        future.set_result(Delivery(key, frame=Finished(Job(key, dict(values), 1), answer, self._fingerprint).pack()))
        return future


def writer(folder: Path, size: int) -> dict[str, float]:
    """Small records that one writer takes, from a lazy stream of requests."""
    simulator = Misbehaving(str(folder))
    requests = (request(float(x)) for x in range(size))
    engine = Engine(Answered(simulator.fingerprint), lambda: 64)
    wall, core = measured(
        lambda: run_campaign(simulator, requests, folder / "s", CampaignConfig(), progress=False, engine=engine)
    )
    with RecordStore.open(folder / "s") as records:
        assert len(records) == size
    # What hashing and making requests costs is the same in any campaign.
    _, made = measured(
        lambda: [input_hash(one) and request_values(one) for one in map(request, map(float, range(500)))]
    )
    return {
        "records a second of wall time": size / wall,
        "records a core-second": size / core,
        "share of requests in it": made / 500 * size / core,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs=2, default=(50, 2000), help="sizes of the two campaigns")
    parser.add_argument("--molecules", type=int, default=200_000, help="molecules of the library")
    parser.add_argument("--records", type=int, default=10_000, help="records of the writer")
    parser.add_argument("--only", choices=("campaigns", "shards", "writer"), help="one of the three")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    runs = {
        "writer": lambda folder: writer(folder, options.records),
        "shards": lambda folder: shards(folder, options.molecules),
        "campaigns": lambda folder: campaigns(folder, tuple(options.labels)),
    }
    for name, run in runs.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="understudy-scaling-") as folder:
                found[name] = run(Path(folder))
            rows = [(key, f"{value:,.4g}") for key, value in found[name].items()]
            print_table(columns_table(name, ("what", "value"), rows))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
