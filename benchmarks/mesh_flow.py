"""Compares a mesh network of the flow around bodies with lower orders of the solver on the same meshes.

The reference for both is the solver at its default order, at the vertices, on bodies that the network has not seen. The
network needs a mesh, so the time of meshing is included in its cost as in that of the solver.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Result, arguments, pin, report
from data.files import write_json

#: Polynomial orders of the solver's velocity that are compared; the labels have order 4.
ORDERS = (2, 3)
#: Number of held-out bodies that are timed.
TIMED = 12
FIELDS = ("velocity", "pressure")


def label_flows(folder: Path, count: int, workers: int) -> tuple[Path, list[Any]]:
    """Label flows with their meshes, resuming an earlier store; return the store and the request of each record."""
    from data.store.records import RecordStore
    from simulators.campaigns.campaign import CampaignConfig, run_campaign
    from simulators.fluids.ngsolve.flow import NGSolveFlow
    from simulators.fluids.shapes import ShapeRanges, draw_bodies

    flow = NGSolveFlow(fields=True)
    bodies = draw_bodies(flow, ShapeRanges(), count, 0)
    run_campaign(flow, bodies, folder / "labels.zarr", CampaignConfig(workers=workers), total=count, progress=False)
    with RecordStore.open(folder / "labels.zarr") as records:
        dataset = records.dataset()
    # The records are in the order in which the workers finished them.
    asked = [
        flow.spec.request({v.name: dataset[v.name].values[i] for v in flow.spec.inputs})
        for i in range(dataset.sizes["sample"])
    ]
    return folder / "labels.zarr", asked


def train_surrogate(
    store: Path, folder: Path, seconds: float | None, overrides: Sequence[str], task: str = "fluids/meshes"
) -> dict[str, float]:
    """Train a mesh surrogate below `folder` and return its scores; one trained with the same settings is reused.

    Args:
        store: store of the labels.
        folder: folder of the run.
        seconds: training time; None: the number of epochs is that of `overrides`.
        overrides: overrides of the configuration.
        task: name of the task.
    """
    from hydra import compose, initialize_config_dir

    from data.meshes.mesh_samples import read_meshes
    from data.settings import build
    from experiments.application.choices import CONF
    from experiments.stages.train import task_of, train_on
    from surrogates.learning.sample_task import SampleSets
    from surrogates.meshes.task import MeshData
    from surrogates.saved import load_surrogate

    settings = [f"task={task}", f"data.file={store}", "train.mlflow=false", "train.checkpoint_every_s=null"]
    settings += [] if seconds is None else [f"train.max_seconds={seconds}", "train.epochs=100000"]
    settings += overrides
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", settings)
    data = build(MeshData, config.data, where="data")
    samples, _ = read_meshes(store, data.fields, data.scalars, data.parameters)
    asked = {"settings": settings[2:], "samples": samples.content()}
    note = folder / "asked.json"
    if note.exists() and json.loads(note.read_text()) == asked:
        return dict(load_surrogate(folder / "surrogate").scores)
    shutil.rmtree(folder, ignore_errors=True)
    metrics = train_on(task_of(config), SampleSets(samples, {}), folder, progress=False)
    write_json(note, asked)
    return metrics


def least(call: Callable[[], Any], times: int = 3) -> float:
    """Processor seconds of the cheapest of `times` calls."""
    from data.processes.processor import tree_seconds

    seconds = []
    for _ in range(times):
        start = tree_seconds()
        call()
        seconds.append(tree_seconds() - start)
    return min(seconds)


def lower_order(flow: Any, bodies: Sequence[Any], truth: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    """Mean errors of a solver of lower order at the same vertices, as in `score_meshes`; core-seconds per body."""
    from data.meshes.graphs import node_areas
    from data.processes.processor import tree_seconds

    errors: dict[str, list[float]] = {name: [] for name in (*FIELDS, *names)}
    seconds = []
    for body, mesh in zip(bodies, truth, strict=True):
        start = tree_seconds()
        answer = flow.simulate(body)
        seconds.append(tree_seconds() - start)
        if not np.allclose(answer["nodes"], mesh.nodes):
            raise RuntimeError("the mesh depends on the order, so that its vertices cannot be compared")
        area = node_areas(mesh)[:, None]
        for name, columns in (("velocity", slice(0, 2)), ("pressure", slice(2, 3))):
            reference = mesh.fields[:, columns]
            gap = answer[name].values.reshape(reference.shape) - reference
            errors[name].append(float(np.sqrt((area * gap**2).sum() / (area * reference**2).sum())))
        for k, name in enumerate(names):
            errors[name].append(abs(float(answer[name]) - mesh.scalars[k]))
    size = {name: float(np.mean([abs(m.scalars[k]) for m in truth])) for k, name in enumerate(names)}
    return {
        **{name: float(np.mean(errors[name])) for name in FIELDS},
        **{name: float(np.mean(errors[name])) / size[name] for name in names},
        "seconds": float(np.median(seconds)),
    }


def figure(path: Path, meshes: Sequence[Any], answers: Sequence[Any]) -> None:
    """Draw the speed around some bodies by the solver and by the network, and the error of the network, as a PNG."""
    from typing import cast

    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

    from experiments.pages.style import STYLE

    titles = ("solver", "mesh network", "difference")
    with matplotlib.rc_context(cast(Any, {**STYLE, "axes.grid": False})):
        drawing = Figure(figsize=(11.0, 0.6 + 1.05 * len(meshes)), dpi=150)
        axes = drawing.subplots(len(meshes), 3, sharex=True, sharey=True, squeeze=False)
        speeds = [[np.linalg.norm(v.fields[:, :2], axis=1) for v in pair] for pair in zip(meshes, answers, strict=True)]
        vectors = [
            np.linalg.norm(a.fields[:, :2] - m.fields[:, :2], axis=1) for m, a in zip(meshes, answers, strict=True)
        ]
        top, off = max(s[0].max() for s in speeds), max(v.max() for v in vectors)
        for row, mesh, (solver_speed, network_speed), gap in zip(axes, meshes, speeds, vectors, strict=True):
            mesh_of = Triangulation(mesh.nodes[:, 0], mesh.nodes[:, 1], mesh.elements)
            for axis, values, high, colours in zip(
                row, (solver_speed, network_speed, gap), (top, top, off), ("viridis", "viridis", "magma"), strict=True
            ):
                shown = axis.tripcolor(mesh_of, values, shading="gouraud", vmin=0, vmax=high, cmap=colours)
                axis.triplot(mesh_of, color="white", linewidth=0.15, alpha=0.5)
                axis.set_aspect("equal")
                axis.set_xlim(0, 1.1)
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
                if axis is row[1]:
                    speed_image = shown
                elif axis is row[2]:
                    gap_image = shown
        for axis, text in zip(axes[0], titles, strict=True):
            axis.set_title(text)
        for image, columns, label in (
            (speed_image, axes[:, :2], "speed (m/s)"),
            (gap_image, axes[:, 2], "error (m/s)"),
        ):
            drawing.colorbar(image, ax=columns, label=label, shrink=0.8, pad=0.015, aspect=18)
        drawing.savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; see `--help`."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--labels", type=int, default=400, help="number of bodies that the solver labels (%(default)s)")
    parser.add_argument("--seconds", type=float, default=600.0, help="training time (%(default)s)")
    parser.add_argument("--figure", type=Path, default=None, help="PNG file for flows around three held-out bodies")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the configuration")
    options = parser.parse_args(argv)
    cores = pin(options.cores)
    folder = (options.out / "mesh_flow").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store, bodies = label_flows(folder, options.labels, len(cores))
    scores = train_surrogate(store, folder / "run", options.seconds, options.set)
    training = scores["train/core_seconds"]
    from data.meshes.mesh_samples import read_meshes
    from experiments.screening.hit_rates import break_even
    from simulators.fluids.ngsolve.flow import NGSolveFlow
    from surrogates.saved import load_surrogate

    surrogate = load_surrogate(folder / "run" / "surrogate")
    names = [v.name for v in surrogate.facts.layout.scalars]
    samples, bad = read_meshes(store, list(FIELDS), names)
    good = [body for k, body in enumerate(bodies) if k not in {number for number, _ in bad}]
    rows = json.loads((folder / "run" / "split.json").read_text())["test"]
    some = rows[:TIMED]
    truth, asked = [samples.meshes[i] for i in some], [good[i] for i in some]
    flow = NGSolveFlow(fields=True)
    flow.mesh(asked[0])
    meshing = least(lambda: [flow.mesh(body) for body in asked]) / len(asked)
    many = [samples.meshes[i] for i in range(min(256, len(samples)))]
    surrogate.predict_meshes(many)
    network = least(lambda: surrogate.predict_meshes(many)) / len(many)
    solver_cost = scores["train/label_core_seconds"] / options.labels
    head = f"on {len(rows)} held-out bodies"
    results = [
        Result(f"mesh network: relative L2 of the {name} {head}", scores[f"test/{name}/relative_l2"], "1")
        for name in FIELDS
    ]
    for name in names:
        results.append(
            Result(
                f"mesh network: mean error over mean size of the {name}",
                scores[f"test/{name}/mean_relative_error"],
                "1",
            )
        )
    results += [
        Result("velocity bands that hold 90% of the vertices", scores["test/velocity/fields_in_band"], "1"),
        Result(f"labels: {options.labels} bodies, failures counted", scores["train/label_core_seconds"], "core-s"),
        Result("training, compilation counted", training, "core-s"),
        Result("training: share of the time spent waiting for batches", scores["train/data_wait_share"], "1"),
        Result("a mesh", meshing, "core-s"),
        Result("the network on it, many at a time, host work counted", network, "core-s"),
        Result("solver at the order of the labels, meshing counted: a body", solver_cost, "core-s"),
    ]
    together = meshing + network
    worst = {name: scores[f"test/{name}/relative_l2"] for name in FIELDS}
    for order in ORDERS:
        lower_order(flow.with_mesh(order=order), asked[:1], truth[:1], names)
        rung = lower_order(flow.with_mesh(order=order), asked, truth, names)
        label = f"solver at order {order}"
        results += [Result(f"{label}: relative L2 of the {name}", rung[name], "1") for name in FIELDS]
        results += [Result(f"{label}: mean error over mean size of the {name}", rung[name], "1") for name in names]
        results.append(Result(f"{label}: a body", rung["seconds"], "core-s"))
        if all(rung[name] <= worst[name] for name in FIELDS):
            results.append(
                Result(f"{label}, which errs no more, over mesh and network", rung["seconds"] / together, "1")
            )
            count = break_even(scores["train/label_core_seconds"] + training, rung["seconds"], together)
            if count is not None:
                results.append(Result(f"break-even with {label}", count, "bodies"))
            break
    if options.figure is not None:
        bodies_shown = [samples.meshes[i] for i in rows[:3]]
        figure(options.figure, bodies_shown, surrogate.predict_meshes(bodies_shown))
    report("mesh_flow", results, options.out, argv)


if __name__ == "__main__":
    from benchmarks.common import run

    sys.exit(run(main))
