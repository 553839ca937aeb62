"""Flow on the mesh of a request: exact flow, the solver of bodies on the same vertices, renumbering, bad meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.meshes.mesh_samples import read_meshes
from data.spec import SimulationError
from data.store.records import RecordStore
from simulators.fluids.ngsolve.flow import NGSolveFlow
from simulators.fluids.ngsolve.mesh_flow import NGSolveMeshFlow
from simulators.fluids.ngsolve.solution import FLAGS, MeshSizes, channel_mesh, mesh_vertices
from simulators.fluids.shapes import Channel
from simulators.rebuild import describe, rebuild
from surrogates.meshes.cheaper_answers import refuse_unfit, requests_of

pytest.importorskip("ngsolve", reason="needs the optional package ngsolve")

CHANNEL = Channel()
GEOMETRY = ("nodes", "elements", "boundary")
LABELS = NGSolveFlow(fields=True)
BODY = {"aspect": 1.5, "angle": 0.4, "cosine": [0.04, 0.02, 0.0], "sine": [-0.03, 0.0, 0.02]}


@pytest.fixture(scope="module")
def label() -> xr.Dataset:
    """The flow around a body, at the order of labels."""
    return LABELS.simulate(LABELS.spec.request(BODY))


def mesh_of(answer: xr.Dataset) -> dict[str, np.ndarray]:
    return {name: answer[name].values for name in GEOMETRY}


def relative(answer: xr.Dataset, truth: xr.Dataset, name: str) -> float:
    return float(np.linalg.norm(answer[name] - truth[name]) / np.linalg.norm(truth[name]))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_flow_in_the_empty_channel_is_exact_from_order_2_on(order: int) -> None:
    flow = NGSolveMeshFlow(order=order, tolerance=1e-9)
    vertices = mesh_vertices(channel_mesh(CHANNEL, None, MeshSizes(0.1, 0.1, 1.0, 0.3, 1)))
    mesh = {name: vertices[name] for name in GEOMETRY}
    answer = flow.simulate(flow.spec.request(mesh))
    x, y = mesh["nodes"].T
    speed = 4 * CHANNEL.peak * y * (CHANNEL.height - y) / CHANNEL.height**2
    viscosity = CHANNEL.mean * 2 * flow.radius / flow.reynolds
    pressure = 8 * viscosity * CHANNEL.peak / CHANNEL.height**2 * (CHANNEL.length - x)
    close = 0.2 if order == 1 else 1e-5
    assert np.abs(answer["velocity"].values - np.stack([speed, 0 * speed], -1)).max() < close * CHANNEL.peak
    assert np.abs(answer["pressure"].values - pressure).max() < close * pressure.max()
    assert float(answer["drag"]) == float(answer["lift"]) == 0.0


def test_it_approaches_the_flow_of_the_labels_with_its_order(label: xr.Dataset) -> None:
    errors = {}
    for order in (1, 2, 4):
        flow = NGSolveMeshFlow(order=order, tolerance=1e-6)
        answer = flow.simulate(flow.spec.request(mesh_of(label)))
        drag = abs(float(answer["drag"]) / float(label["drag"]) - 1)
        errors[order] = (relative(answer, label, "velocity"), relative(answer, label, "pressure"), drag)
    assert all(a > 2 * b for a, b in zip(errors[1], errors[2], strict=True))
    assert errors[2][0] < 0.06
    assert errors[2][2] < 0.02
    # What is left at the order of the labels is that its sides are straight.
    assert errors[4][0] < 0.02


def test_renumbered_vertices_have_the_same_flow(label: xr.Dataset) -> None:
    flow, mesh = NGSolveMeshFlow(order=1, tolerance=1e-9), mesh_of(label)
    places = np.random.default_rng(0).permutation(len(mesh["nodes"]))
    back = np.argsort(places)
    other = {"nodes": mesh["nodes"][places], "elements": back[mesh["elements"]], "boundary": mesh["boundary"][places]}
    first, second = (flow.simulate(flow.spec.request(m)) for m in (mesh, other))
    np.testing.assert_allclose(second["velocity"], first["velocity"].values[places], atol=1e-6)
    np.testing.assert_allclose(second["drag"], first["drag"], rtol=1e-6)


def test_the_reynolds_number_can_come_with_the_mesh(label: xr.Dataset) -> None:
    flow = NGSolveMeshFlow(order=1, varied=("reynolds",))
    drags = [
        float(flow.simulate(flow.spec.request({**mesh_of(label), "reynolds": value}))["drag"]) for value in (10.0, 20.0)
    ]
    assert drags[0] > 1.3 * drags[1]
    with pytest.raises(SimulationError, match="reynolds must be above 0"):
        flow.simulate(flow.spec.request({**mesh_of(label), "reynolds": 0.0}))


def test_surrogates_of_meshes_can_stand_on_it(label: xr.Dataset, tmp_path: Path) -> None:
    provenance = {**LABELS.provenance, "fingerprint": LABELS.fingerprint}
    spec = LABELS.spec
    with RecordStore.create(
        tmp_path / "s", spec.inputs, spec.outputs, coords=spec.coords, provenance=provenance, attrs=spec.attrs
    ) as store:
        values = {v.name: label[v.name].values for v in spec.outputs}
        store.append("a", {**values, **{k: np.asarray(v) for k, v in BODY.items()}}, seconds=1.0, core_seconds=1.0)
    samples, bad = read_meshes(tmp_path / "s", ["velocity", "pressure"], ["drag", "lift"])
    assert not bad
    flow = NGSolveMeshFlow()
    assert [v.name for v in refuse_unfit(flow, samples.layout)] == ["velocity", "pressure", "drag", "lift"]
    answer = flow.simulate(requests_of(flow, samples.layout, samples.meshes)[0])
    assert relative(answer, label, "velocity") < 0.06
    again = rebuild(describe(flow))
    assert again == flow
    with pytest.raises(InputError, match="cannot be varied"):
        NGSolveMeshFlow(varied=("aspect",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {"elements": m["elements"][:, ::-1]}, "not all anticlockwise"),
        (lambda m: m | {"elements": m["elements"] + 5}, "name vertices beyond"),
        (lambda m: m | {"elements": m["elements"][1:]}, "interior|no triangle"),
        (lambda m: m | {"nodes": m["nodes"] * 0.5}, r"the channel from \(0, 0\) to \(2.2, 0.41\)"),
        (lambda m: m | {"boundary": np.minimum(m["boundary"], 2)}, "no side of it lies at the outflow"),
        (lambda m: m | {"boundary": m["boundary"] + 1}, f"not 0 to {len(FLAGS) - 1}"),
        (lambda m: m | {"boundary": 0 * m["boundary"]}, "flagged as interior"),
    ],
)
def test_meshes_of_something_else_are_refused(label: xr.Dataset, change, message: str) -> None:  # type: ignore[no-untyped-def]
    flow = NGSolveMeshFlow()
    with pytest.raises(SimulationError, match=message) as caught:
        flow.simulate(flow.spec.request(change(mesh_of(label))))
    assert caught.value.kind == "invalid_input"
