"""What Dask adds to a campaign of xTB labels: processor and wall time on a local cluster against the local engine.

Each campaign is a command of its own with few imports, since each Dask worker imports the main module of the command
that started it. Called by `python -m benchmarks.scaling --only campaigns`.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

#: Engines that are compared.
ENGINES = ("local", "dask")
WORKERS = 2


def molecules() -> Iterator[str]:
    """Different molecules without end: rings with two substituents, and chains between these."""
    rings = ("c1cc({0})ccc1{1}", "c1nc({0})ccc1{1}", "C1CC({0})CCC1{1}", "c1oc({0})cc1{1}")
    groups = ("C", "N", "O", "F", "C#N", "C=O", "OC", "C(N)=O", "Cl")
    for length in itertools.count():
        for ring, a, b in itertools.product(rings, groups, groups):
            yield ring.format(a, "C" * length + b)


def overhead(folder: Path, sizes: tuple[int, int]) -> dict[str, float]:
    """xTB labels with two workers, by the local engine and on a local cluster of two; what starting costs stands apart.

    Args:
        folder: folder for the stores.
        sizes: numbers of labels of a small and of a large campaign.
    """
    wall: dict[tuple[str, int], float] = {}
    core: dict[tuple[str, int], float] = {}
    for size, engine in itertools.product(sizes, ENGINES):
        command = [
            sys.executable,
            "-m",
            "benchmarks.engine_overhead",
            engine,
            str(size),
            str(folder / f"{engine}{size}"),
        ]
        spent = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        wall[engine, size], core[engine, size] = spent["wall"], spent["core"]
    small, large = sizes
    each = {engine: (core[engine, large] - core[engine, small]) / (large - small) for engine in ENGINES}
    numbers = {f"{engine} {size}: core-s": core[engine, size] for engine, size in core}
    numbers |= {f"{engine} {size}: wall s": wall[engine, size] for engine, size in wall}
    numbers |= {f"{engine}: core-s a label": value for engine, value in each.items()}
    numbers |= {f"{engine}: core-s to start and end": core[engine, small] - small * each[engine] for engine in ENGINES}
    numbers["ratio of processor time, start included"] = core["dask", large] / core["local", large]
    numbers["ratio of processor time a label"] = each["dask"] / each["local"]
    numbers["ratio of wall time, start included"] = wall["dask", large] / wall["local", large]
    return numbers


def campaign(engine: str, size: int, store: Path) -> dict[str, float]:
    """Wall time and processor time of a campaign, s, with all processes that it started."""
    from data.processes.processor import tree_seconds
    from data.spec import dataset
    from simulators.campaigns.campaign import CampaignConfig, run_campaign
    from simulators.chemistry.conformers import ConformerConfig
    from simulators.chemistry.from_smiles import FromSmiles
    from simulators.chemistry.xtb import XTB

    simulator = FromSmiles(XTB(), ConformerConfig())
    inputs = [dataset(simulator.spec.inputs, {"smiles": text}) for text in itertools.islice(molecules(), size)]
    config = CampaignConfig(workers=WORKERS, engine=engine)
    began, before = time.perf_counter(), tree_seconds()
    chosen, at_close = None, []
    if engine == "dask":
        from simulators.campaigns.dask_engine import dask_engine

        connected = dask_engine(config)

        def close() -> None:
            # Dask kills its workers, which then cannot wait for what they started: its time would be in no sum.
            at_close.append(tree_seconds())
            connected.close()

        chosen = replace(connected, close=close)
    run_campaign(simulator, inputs, store, config, progress=False, engine=chosen)
    core = (at_close[0] if at_close else tree_seconds()) - before
    return {"wall": time.perf_counter() - began, "core": core}


if __name__ == "__main__":
    print(json.dumps(campaign(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
