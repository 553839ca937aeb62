"""Learns velocity and pressure on the cells of an OpenFOAM case: laminar flow over a step, on a mesh of three blocks.

The inlet velocity and the height of the step vary. The network needs the mesh of a request, so the time of blockMesh is
included in its cost as in that of the solver. The solver on coarser cells, interpolated to those of the labels, is the
cheap rung to compare with. `make openfoam` installs OpenFOAM.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, pin, report
from benchmarks.mesh_flow import least, train_surrogate

FIELDS = ("U", "p")
#: Constants of the case with larger cells.
COARSER = {
    "cells twice as large": {"cells_before": 5, "cells_behind": 16, "cells_across": 3},
    "cells three times as large": {"cells_before": 4, "cells_behind": 11, "cells_across": 2},
}
#: Size of the network and training for a few dozen runs on some hundred cells.
SETTINGS = (
    "data.parts=[0.65,0.07,0.0,0.28]",
    "model.network.features=32",
    "model.network.blocks=5",
    "train.batch_size=2",
    "train.epochs=110",
    "train.learning_rate=4e-3",
)


def step_solver(constants: Mapping[str, int] | None = None) -> Any:
    """The packaged case of the step, with other numbers of cells."""
    from experiments.campaigns.named_simulator import named_simulator

    settings = [f"simulator.case.constants.{name}={value}" for name, value in (constants or {}).items()]
    return named_simulator("openfoam_step", settings, key="simulator")


def label_runs(folder: Path, count: int, workers: int) -> tuple[Path, list[Any]]:
    """Run a Latin hypercube of cases, resuming an earlier store; return the store and the request of each record."""
    from data.store.records import RecordStore
    from simulators.campaigns.campaign import CampaignConfig, run_campaign
    from simulators.requests import DrawSettings, Range, draw_numbers

    solver = step_solver()
    ranges = {"velocity": Range(0.5, 1.5), "step": Range(0.3, 0.6)}
    drawn = draw_numbers(solver.name, solver.spec, DrawSettings(count, ranges=ranges, method="lhs"), 0)
    run_campaign(solver, drawn, folder / "labels.zarr", CampaignConfig(workers=workers), total=count, progress=False)
    with RecordStore.open(folder / "labels.zarr") as records:
        dataset = records.dataset()
    asked = [
        solver.spec.request({v.name: dataset[v.name].values[i] for v in solver.spec.inputs})
        for i in range(dataset.sizes["sample"])
    ]
    return folder / "labels.zarr", asked


def coarser(constants: Mapping[str, int], requests: Sequence[Any], truth: Sequence[Any]) -> dict[str, float]:
    """Mean relative errors of the solver on coarser cells, interpolated linearly, and its core-seconds a run."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    from data.processes.processor import tree_seconds

    solver = step_solver(constants)
    errors: dict[str, list[float]] = {name: [] for name in FIELDS}
    seconds = []
    for request, mesh in zip(requests, truth, strict=True):
        start = tree_seconds()
        answer = solver.simulate(request)
        seconds.append(tree_seconds() - start)
        places = answer["nodes"].values
        for name, columns in (("U", slice(0, 2)), ("p", slice(2, 3))):
            values = answer[name].values.reshape(len(places), -1)
            interpolated = LinearNDInterpolator(places, values)(mesh.nodes)
            outside = ~np.isfinite(interpolated[:, 0])
            interpolated[outside] = NearestNDInterpolator(places, values)(mesh.nodes[outside])
            reference, volumes = mesh.fields[:, columns], mesh.volumes[:, None]
            gap = (volumes * (interpolated - reference) ** 2).sum() / (volumes * reference**2).sum()
            errors[name].append(float(np.sqrt(gap)))
    return {name: float(np.mean(e)) for name, e in errors.items()} | {"seconds": float(np.median(seconds))}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=60, help="number of runs of the solver (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the configuration")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    folder = (options.out / "step").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store, requests = label_runs(folder, options.runs, len(cores))
    scores = train_surrogate(store, folder / "run", None, [*SETTINGS, *options.set], "fluids/cells")
    from data.meshes.mesh_samples import read_meshes
    from experiments.screening.hit_rates import break_even
    from surrogates.saved import load_surrogate

    surrogate = load_surrogate(folder / "run" / "surrogate")
    samples, bad = read_meshes(store, list(FIELDS), [], None)
    good = [request for k, request in enumerate(requests) if k not in {number for number, _ in bad}]
    rows = json.loads((folder / "run" / "split.json").read_text())["test"]
    truth, asked = [samples.meshes[i] for i in rows], [good[i] for i in rows]
    solver = step_solver()
    meshing = least(lambda: [solver.mesh(request) for request in asked[:4]]) / 4
    surrogate.predict_meshes(samples.meshes)
    network = least(lambda: surrogate.predict_meshes(samples.meshes)) / len(samples)
    labels, training = scores["train/label_core_seconds"], scores["train/core_seconds"]
    cost = labels / options.runs
    head = f"on {len(rows)} held-out runs"
    results = [
        Result(f"network on the cells: relative L2 of {name} {head}", scores[f"test/{name}/relative_l2"], "1")
        for name in FIELDS
    ]
    results += [
        Result(f"labels: {options.runs} runs, failures counted", labels, "core-s"),
        Result("training, compilation counted", training, "core-s"),
        Result("a mesh, by blockMesh", meshing, "core-s"),
        Result("the network on it, many at a time, host work counted", network, "core-s"),
        Result("the solver, meshing counted: a run", cost, "core-s"),
        Result("the solver over mesh and network", cost / (meshing + network), "1"),
    ]
    count = break_even(labels + training, cost, meshing + network)
    if count is not None:
        results.append(Result("break-even with the solver", count, "runs"))
    for label, constants in COARSER.items():
        rung = coarser(constants, asked, truth)
        results += [Result(f"solver on {label}: relative L2 of {name}", rung[name], "1") for name in FIELDS]
        results.append(Result(f"solver on {label}: a run", rung["seconds"], "core-s"))
    report("step", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
