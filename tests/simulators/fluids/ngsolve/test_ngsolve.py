"""Flow around bodies: the DFG benchmark, exact solutions, balances and mirror images."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, check
from data.store.records import RecordStore
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.fluids.ngsolve.flow import NGSolveFlow
from simulators.fluids.ngsolve.solution import FLAGS, MeshSizes, SteadyFlow, channel_mesh, solve
from simulators.fluids.shapes import Body, Channel, ShapeRanges, draw_bodies, with_parameters

ng = pytest.importorskip("ngsolve", reason="needs the optional package ngsolve")

#: Schäfer, Turek 1996, with the digits of later spectral computations (Nabh 1998, as featflow.de lists them).
DFG = {"drag": 5.57953523384, "lift": 0.010618948146, "pressure_difference": 0.11752016697}
CYLINDER = NGSolveFlow(varied=())
CHANNEL = Channel()


def coefficients(flow: NGSolveFlow, body: Body | None = None) -> dict[str, float]:
    body = body or flow.body
    return flow.coefficients(body, flow.flow(body, flow.reynolds))


def errors(flow: NGSolveFlow) -> dict[str, float]:
    answer = flow.simulate(flow.spec.request({}))
    return {name: abs(float(answer[name]) / truth - 1) for name, truth in DFG.items()}


@pytest.fixture(scope="module")
def crooked() -> tuple[NGSolveFlow, Body, SteadyFlow]:
    """A body without symmetry, and the flow around it."""
    flow = NGSolveFlow(fields=True)
    body = Body(aspect=1.8, angle=0.5, cosine=(0.08, -0.03, 0.02), sine=(0.05, 0.03, -0.02))
    return flow, body, flow.flow(body, flow.reynolds)


def test_the_dfg_cylinder_has_its_published_drag_lift_and_pressure_difference() -> None:
    usual, fine = errors(CYLINDER), errors(CYLINDER.with_mesh(0.1, 6))
    assert usual["drag"] < 1e-4
    assert usual["lift"] < 1e-2
    assert usual["pressure_difference"] < 2e-2
    assert fine["drag"] < 2e-6
    assert fine["lift"] < 5e-4
    assert fine["pressure_difference"] < 2e-4


def test_drag_converges_with_the_order_and_with_the_mesh() -> None:
    by_order = [errors(CYLINDER.with_mesh(0.2, order))["drag"] for order in (2, 3, 5)]
    assert by_order[1] < by_order[0] / 2
    assert by_order[2] < by_order[1] / 20
    # The forces converge at twice the order of the velocity's gradient: by 16 a halving for P2, once it is resolved.
    sizes = [errors(CYLINDER.with_mesh(maxh, 2, curvature=1.0))["drag"] for maxh in (0.1, 0.025)]
    assert sizes[1] < sizes[0] / 16


@pytest.mark.parametrize("order", [2, 4])
def test_flow_in_the_empty_channel_is_exact(order: int) -> None:
    mesh = channel_mesh(CHANNEL, None, MeshSizes(0.2, 0.2, 1.0, 0.3, order))
    flow = solve(mesh, CHANNEL, 1e-3, order, 1e-10, 5, 0.1)
    exact = ng.CF((4 * 0.3 * ng.y * (0.41 - ng.y) / 0.41**2, 0))
    # The outflow condition sets the pressure to nought there, as the exact flow does not change along x.
    pressure = 8 * 1e-3 * 0.3 / 0.41**2 * (2.2 - ng.x)
    assert math.sqrt(ng.Integrate(ng.InnerProduct(flow.velocity - exact, flow.velocity - exact), mesh)) < 1e-12
    assert math.sqrt(ng.Integrate((flow.pressure - pressure) ** 2, mesh)) < 1e-12
    assert flow.force == (0.0, 0.0)


def test_what_flows_in_flows_out(crooked: tuple[NGSolveFlow, Body, SteadyFlow]) -> None:
    flow = crooked[2]
    through = {
        name: ng.Integrate(flow.velocity * ng.specialcf.normal(2), flow.mesh, ng.BND, 10, flow.mesh.Boundaries(name))
        for name in ("inflow", "outflow", "wall", "body")
    }
    assert through["inflow"] == pytest.approx(-0.2 * 0.41, rel=1e-12)
    assert through["outflow"] == pytest.approx(0.2 * 0.41, rel=1e-6)
    assert abs(through["wall"]) + abs(through["body"]) < 1e-14


def test_a_symmetric_body_on_the_centre_line_has_no_lift() -> None:
    body = Body(aspect=1.5, y=0.205, cosine=(0.1, 0.05, -0.03))
    lifted = coefficients(CYLINDER, body)
    # The mesh is not symmetric, so lift falls with the error of the discretisation.
    assert abs(lifted["lift"]) < 1e-3
    assert abs(coefficients(CYLINDER.with_mesh(order=6), body)["lift"]) < 1e-5
    assert lifted["drag"] > 3


def test_the_mirror_image_has_the_opposite_lift(crooked: tuple[NGSolveFlow, Body, SteadyFlow]) -> None:
    flow, body, solution = crooked
    original, mirrored = flow.coefficients(body, solution), coefficients(flow, body.reflected(CHANNEL.height))
    assert abs(original["lift"]) > 0.5
    assert mirrored["lift"] == pytest.approx(-original["lift"], rel=1e-3)
    assert mirrored["drag"] == pytest.approx(original["drag"], rel=1e-4)


def test_slow_flow_is_stokes_flow() -> None:
    # Without inertia the force is proportional to viscosity, so drag times Reynolds number is a constant. A cylinder
    # looks the same from both ends, so inertia changes it in second order only.
    slow = [re * coefficients(replace(CYLINDER, reynolds=re))["drag"] for re in (0.01, 0.1)]
    assert slow[0] == pytest.approx(slow[1], rel=1e-4)


@pytest.mark.parametrize("reynolds", [20.0, 90.0])
def test_the_surface_integral_of_stress_approaches_the_force(reynolds: float) -> None:
    gaps = []
    for maxh, order in ((0.2, 3), (0.1, 5)):
        flow = CYLINDER.with_mesh(maxh, order)
        solution = flow.flow(flow.body, reynolds)
        viscosity = 0.2 * 0.1 / reynolds
        gradient = ng.BoundaryFromVolumeCF(ng.Grad(solution.velocity))
        stress = viscosity * (gradient + gradient.trans) - solution.pressure * ng.Id(2)
        normal, body = ng.specialcf.normal(2), solution.mesh.Boundaries("body")
        # Gauss's theorem tells which way the normal points: out of the body, its flux of (x, y) is twice the area.
        flux = ng.Integrate(ng.CF((ng.x - 0.2, ng.y - 0.2)) * normal, solution.mesh, ng.BND, 12, body)
        assert abs(flux) == pytest.approx(2 * math.pi * 0.05**2, rel=1e-4)
        surface = np.sign(flux) * np.array(ng.Integrate(stress * normal, solution.mesh, ng.BND, 12, body))
        gaps.append(abs(surface[0] / solution.force[0] - 1))
    assert gaps[0] < 2e-2
    assert gaps[1] < min(1e-3, gaps[0] / 5)


def test_nodes_carry_the_solution(crooked: tuple[NGSolveFlow, Body, SteadyFlow]) -> None:
    _, body, solution = crooked
    at = solution.vertices()
    nodes, elements, flags = at["nodes"], at["elements"], at["boundary"]
    assert sorted(set(elements.ravel())) == list(range(len(nodes)))
    for node in np.flatnonzero(flags == FLAGS.index("interior"))[::7]:
        point = solution.mesh(*nodes[node])
        assert np.allclose(at["velocity"][node], solution.velocity(point), atol=1e-6)
        assert at["pressure"][node] == pytest.approx(solution.pressure(point), abs=1e-6)
    a, b, c = nodes[elements].transpose(1, 0, 2)
    areas = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert (areas > 0).all()
    # Straight sides cut corners of the body, by a part of its area.
    assert 0 < areas.sum() - (2.2 * 0.41 - body.area) < 0.1 * body.area
    x, y = nodes.T
    wall = (y < 1e-12) | (y > 0.41 - 1e-12)
    assert ((flags == 1) == wall).all()
    assert ((flags == 2) == ((x < 1e-12) & ~wall)).all()
    assert ((flags == 3) == ((x > 2.2 - 1e-12) & ~wall)).all()
    outline = body.outline(np.linspace(0, 2 * np.pi, 20000))[0]
    off = np.array([np.hypot(*(outline - node).T).min() for node in nodes])
    assert ((flags == 4) == (off < 1e-4)).all()
    still = (flags == 1) | (flags == 4)
    assert np.abs(at["velocity"][still]).max() < 1e-12
    assert np.allclose(at["velocity"][flags == 2, 0], 1.2 * y[flags == 2] * (0.41 - y[flags == 2]) / 0.41**2)
    front = body.outline(np.array([body.facing(math.pi)]))[0, 0]
    assert np.hypot(*(nodes - front).T).min() < 1e-7


def test_meshes_of_drawn_bodies_fill_the_fluid() -> None:
    flow = NGSolveFlow().with_mesh(0.4, 3, curvature=1.0)
    for request in draw_bodies(flow, ShapeRanges(wave=0.2), 12, 1):
        body = with_parameters(flow.body, {k: v.values for k, v in request.items()})
        mesh = channel_mesh(CHANNEL, body, flow.sizes)
        determinant = ng.Det(ng.specialcf.JacobianMatrix(2))
        assert ng.Integrate(ng.IfPos(determinant, 1, 0), mesh, order=9) == pytest.approx(
            2.2 * 0.41 - body.area, rel=1e-4
        )


def test_what_newton_cannot_reach_is_said_in_numbers() -> None:
    flow = NGSolveFlow(varied=("reynolds",), maxh=0.4, order=2, max_steps=2)
    with pytest.raises(SimulationError, match=r"left .* of the residual at .* at most 2 each time") as caught:
        flow.simulate(flow.spec.request({"reynolds": 1e6}))
    assert caught.value.kind == "not_converged"
    assert "\n" not in caught.value.message
    assert caught.value.details["steps"] > 0


def test_high_reynolds_numbers_are_approached_from_lower_ones() -> None:
    plate = Body(aspect=2.0, angle=1.5)
    solution = CYLINDER.flow(plate, 70.0)
    assert solution.residual < CYLINDER.tolerance
    # Drag falls with the Reynolds number, but less than as its inverse.
    before = CYLINDER.flow(plate, 35.0).force[0]
    assert before / 2 < solution.force[0] < before
    # In one go Newton's method fails there, from the same start.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("simulators.fluids.ngsolve.solution.APPROACH", ())
        with pytest.raises(SimulationError, match="not_converged"):
            CYLINDER.flow(plate, 70.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cosine": [0.5, 0.5, 0.5]}, "waves leave .* of the radius"),
        ({"aspect": 20.0}, "corner has a radius"),
        ({"aspect": 0.0}, "body.aspect: must be above 0"),
        ({"aspect": np.nan}, "aspect holds values that are not finite"),
        ({"cosine": [0.1, 0.1], "sine": [0, 0]}, "cosine must have 3 entries along mode, got 2"),
        ({"aspect": 13.0, "angle": 1.57}, "from the lower wall"),
    ],
)
def test_bad_shapes_are_named_in_one_line(values: dict, said: str) -> None:
    flow = NGSolveFlow()
    good = {"aspect": 1.5, "angle": 0.1, "cosine": [0, 0, 0], "sine": [0, 0, 0]}
    request = xr.Dataset(
        {k: (v.dims, np.asarray({**good, **values}[k], float)) for k, v in ((v.name, v) for v in flow.spec.inputs)}
    )
    with pytest.raises(SimulationError, match=said) as caught:
        flow.simulate(request)
    assert caught.value.kind == "invalid_input"
    assert "\n" not in str(caught.value)


def test_a_varied_parameter_acts_as_the_setting_of_that_name() -> None:
    flow = NGSolveFlow(varied=("x", "y", "angle", "reynolds"), body=Body(aspect=1.6)).with_mesh(0.4, 3)
    varied = flow.simulate(flow.spec.request({"x": 0.25, "y": 0.18, "angle": 0.4, "reynolds": 30.0}))
    fixed = replace(flow, varied=(), reynolds=30.0, body=Body(aspect=1.6, x=0.25, y=0.18, angle=0.4))
    assert varied.equals(fixed.simulate(fixed.spec.request({})))


def test_inputs_that_are_not_taken_are_refused() -> None:
    with pytest.raises(SimulationError, match="reynolds is not an input; they are"):
        NGSolveFlow().simulate(next(draw_bodies(NGSolveFlow(), ShapeRanges(), 1, 0)).assign(reynolds=10.0))
    flow = NGSolveFlow(varied=("reynolds",))
    with pytest.raises(SimulationError, match="reynolds must be above 0, got -1"):
        flow.simulate(flow.spec.request({"reynolds": -1.0}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"varied": ("size",)}, "simulator.varied: no input 'size'. Choose from"),
        ({"order": 1}, "simulator.order: order must be 2 or more"),
        ({"maxh": 0.0}, "simulator.maxh: maxh must be above 0"),
        ({"grading": 1.5}, "simulator.grading: grading must be between 0 and 1"),
        ({"body": Body(y=0.02)}, "from the lower wall"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        NGSolveFlow(**settings)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    request = CYLINDER.spec.request({})
    monkeypatch.setitem(__import__("sys").modules, "ngsolve", None)
    monkeypatch.setattr("simulators.fluids.ngsolve.identity.version", missing)
    for call in (lambda: NGSolveFlow(varied=()).spec, lambda: CYLINDER.simulate(request)):
        with pytest.raises(SimulationError, match=r"pip install .*\[ngsolve\]") as caught:
            call()
        assert caught.value.kind == "missing_component"


def test_it_keeps_the_promises_of_a_simulator() -> None:
    flow = NGSolveFlow(fields=True).with_mesh(0.4, 2)
    assert isinstance(flow, Simulator)
    request = next(draw_bodies(flow, ShapeRanges(), 1, 2))
    answer = flow.simulate(request)
    check(answer, flow.spec.outputs, sizes=flow.spec.sizes)
    again = pickle.loads(pickle.dumps(flow))
    assert again.fingerprint == flow.fingerprint
    assert again.simulate(request).identical(answer)
    others = [
        flow.with_mesh(0.2),
        flow.with_mesh(order=3),
        replace(flow, body=Body(radius=0.04)),
        replace(flow, fields=False),
    ]
    assert len({flow.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert flow.with_mesh(0.1).body_maxh == pytest.approx(0.01)
    assert from_plain(Spec, json.loads(json.dumps(to_plain(flow.spec)))) == flow.spec
    assert json.loads(answer.attrs["log"])["residual"] < 1e-7
    assert "no slip" in answer.attrs["boundary_conditions"]


def test_a_campaign_stores_meshes_of_different_sizes(tmp_path: Path) -> None:
    flow = NGSolveFlow(fields=True).with_mesh(0.4, 2)
    asked = list(draw_bodies(flow, ShapeRanges(), 2, 0))
    summary = run_campaign(flow, asked, tmp_path / "flows", CampaignConfig(workers=1), progress=False)
    assert (summary.done, summary.failed) == (2, {})
    records = [values for _, values in RecordStore.open(tmp_path / "flows").records()]
    assert len({len(r["nodes"]) for r in records}) == 2
    for request, record in zip(asked, records, strict=True):
        answer = flow.simulate(request)
        for name in (v.name for v in flow.spec.outputs):
            assert np.array_equal(record[name], answer[name].values), name
        assert np.array_equal(record["sine"], request["sine"].values)
        assert record["elements"].max() == len(record["nodes"]) - 1


def test_the_mesh_of_a_request_is_that_of_its_answer() -> None:
    flow = NGSolveFlow(fields=True, order=2)
    request = flow.spec.request({"aspect": 1.5, "angle": 0.3, "cosine": [0.05, 0, 0], "sine": [0, 0.02, 0]})
    mesh, answer = flow.mesh(request), flow.simulate(request)
    assert set(mesh.data_vars) == {"nodes", "elements", "boundary"}
    for name in mesh.data_vars:
        xr.testing.assert_identical(mesh[name], answer[name])
    with pytest.raises(SimulationError, match="aspect is missing"):
        flow.mesh(request.drop_vars("aspect"))
