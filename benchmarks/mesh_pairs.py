"""The pairs of `benchmarks.rung_pairs` whose samples are flows on meshes: NGSolve at low order on the same mesh.

Newton's method may stop early on the rung: what it leaves is smooth, and learned with the rest. The solver's own lower
orders, with the same choice of tolerances, are the references; all costs count meshing.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.pair import Pair

#: Store of the flows on meshes.
FLOWS = "flows.zarr"
#: Name of each rung -> its settings.
RUNGS = {
    "order 1": 'rung.settings=["simulator.order=1"]',
    "order 2": 'rung.settings=["simulator.order=2"]',
    "order 2, tolerance 0.1": 'rung.settings=["simulator.order=2","simulator.tolerance=0.1"]',
}
#: Order and tolerance of the solvers to compare with; the labels have order 4 and a tolerance of 1e-7.
SOLVERS = ((2, 1e-7), (2, 1e-3), (2, 0.1), (3, 1e-3), (3, 0.1))
#: Bodies that these solve and that are meshed for the cost, and meshes of which the answers are timed.
SOLVED, TIMED = 12, 64
ERRORS = {
    "relative L2 of the velocity": ("test/velocity/relative_l2", "%", 100.0),
    "relative L2 of the pressure": ("test/pressure/relative_l2", "%", 100.0),
    "mean error over mean size of the drag": ("test/drag/mean_relative_error", "%", 100.0),
}


def meshes(options: Namespace, folder: Path) -> list[Pair]:
    """Flows around bodies by NGSolve at its defaults, on lower orders of the same mesh; 70% are learned from."""
    from understudy.stages import simulate

    where = {"sampling.count": options.bodies, "out": str(folder / FLOWS), "run.dir": str(folder / "flows")}
    simulate("simulator=ngsolve", "simulator.fields=true", "sampling=drag", **where)
    settings = ["task=fluids/meshes", f"data.file={folder / FLOWS}", "data.parts=[0.7,0,0.1,0.2]"]
    references, rivals = solvers(folder)
    return [
        Pair(
            f"Flow around bodies, {name}",
            "ngsolve_mesh",
            options.epochs or 40,
            settings,
            ERRORS,
            references,
            rung=[setting],
            line=_line,
            answer=partial(_answer_s, folder),
            labels=options.bodies,
            rivals=rivals,
        )
        for name, setting in RUNGS.items()
        if not options.rungs or name in options.rungs
    ]


def _requests(store: Path, flow: Any) -> list[Any]:
    """The requests of the records of a store."""
    from data.store.records import RecordStore

    with RecordStore.open(store) as records:
        data = records.dataset()
    return [
        flow.spec.request({v.name: data[v.name].values[i] for v in flow.spec.inputs})
        for i in range(data.sizes["sample"])
    ]


def solvers(folder: Path) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Errors (%) and core-seconds of the solver at lower orders on the first bodies, meshing counted, by its name."""
    from benchmarks.mesh_flow import lower_order
    from data.meshes.mesh_samples import read_meshes
    from simulators.fluids.ngsolve.flow import NGSolveFlow

    flow, names = NGSolveFlow(fields=True), ("drag", "lift")
    samples, bad = read_meshes(folder / FLOWS, ["velocity", "pressure"], names)
    left_out = {number for number, _ in bad}
    bodies = [body for i, body in enumerate(_requests(folder / FLOWS, flow)) if i not in left_out][:SOLVED]
    errors, costs = {}, {}
    for order, tolerance in SOLVERS:
        solver = replace(flow.with_mesh(order=order), tolerance=tolerance)
        lower_order(solver, bodies[:1], samples.meshes[:1], names)
        rung = lower_order(solver, bodies, samples.meshes[:SOLVED], names)
        name = f"NGSolve of order {order}, tolerance {tolerance:g}"
        errors[name] = {what: 100 * rung[metric.split("/")[1]] for what, (metric, _, _) in ERRORS.items()}
        costs[name] = rung["seconds"]
    return errors, costs


def _answer_s(flows: Path, folder: Path) -> float:
    """Core-seconds of an answer of the surrogate in a folder: a mesh, its rung, and the network on many at a time."""
    from benchmarks.mesh_flow import least
    from data.meshes.mesh_samples import read_meshes
    from simulators.fluids.ngsolve.flow import NGSolveFlow
    from surrogates.meshes.surrogate import MeshSurrogate

    surrogate, flow = MeshSurrogate.load(folder / "surrogate"), NGSolveFlow(fields=True)
    some = read_meshes(flows / FLOWS, ["velocity", "pressure"], ["drag", "lift"])[0].meshes[:TIMED]
    bodies = _requests(flows / FLOWS, flow)[:SOLVED]
    surrogate.predict_meshes(some)
    flow.mesh(bodies[0])
    meshing: float = least(lambda: [flow.mesh(body) for body in bodies]) / len(bodies)
    return meshing + least(lambda: surrogate.predict_meshes(some)) / len(some)


def _line(folder: Path) -> float:
    """Relative L2 of the velocity, in %, of the lines through the answers of the rung on the test part."""
    import numpy as np

    from data.json_files import read_plain
    from data.meshes.graphs import node_areas
    from data.meshes.mesh_samples import read_meshes
    from simulators.rebuild import rebuild
    from surrogates.learning.rung import ask_here
    from surrogates.meshes.cheaper_answers import answers_wanted, first_estimate, requests_of, with_answers
    from surrogates.meshes.surrogate import MeshSurrogate

    surrogate = MeshSurrogate.load(folder / "surrogate")
    layout, standing = surrogate.facts.layout, surrogate.facts.on
    assert standing is not None
    names: Sequence[list[str]] = [[v.name for v in group] for group in (layout.fields, layout.scalars)]
    samples, _ = read_meshes(folder.parent.parent / FLOWS, *names)
    rows = read_plain(folder / "split.json", dict[str, list[int]], remedy="Remove the folder")["test"]
    test, rung = samples.take(np.array(rows)), rebuild(standing.simulator)
    answers = ask_here(rung, requests_of(rung, layout, test.meshes), answers_wanted(layout))
    errors = []
    for mesh in with_answers(test, answers, rung)[0].meshes:
        assert mesh.fields is not None
        area, truth = node_areas(mesh)[:, None], mesh.fields[:, :2]
        gap = first_estimate(standing, mesh, len(layout.channels))[0][:, :2] - truth
        errors.append(float(np.sqrt((area * gap**2).sum() / (area * truth**2).sum())))
    return float(100 * np.mean(errors))
