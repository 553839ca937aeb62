"""OpenFOAM against analytic flows and published benchmarks; its files and its failures."""

from __future__ import annotations

import json
import pickle
import shutil
import time
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr

from data.errors import InputError
from data.plain import from_plain, to_plain
from data.spec import SimulationError, Spec, check
from data.store.records import RecordStore
from simulators.adapter import Simulator
from simulators.campaigns.campaign import CampaignConfig, run_campaign
from simulators.fluids.openfoam.body import BodyInChannel
from simulators.fluids.openfoam.cases import CASES, Cavity
from simulators.fluids.openfoam.directory import Directory
from simulators.fluids.openfoam.files import read_field, read_table, units_of
from simulators.fluids.openfoam.simulator import OpenFOAM

needs_openfoam = pytest.mark.skipif(
    shutil.which("icoFoam") is None, reason="OpenFOAM is not installed: `make openfoam`"
)

CHANNEL = {"viscosity": "m2 s-1", "pressure_drop": "m2 s-2", "wall_velocity": "m s-1"}
CIRCLE = {"reynolds": 20.0, "body_width": 0.1, "body_height": 0.1, "body_x": 0.2, "body_y": 0.2}


def channel(cells: int = 8, path: str = "channel", **changes) -> OpenFOAM:  # type: ignore[no-untyped-def]
    settings = {
        "parameters": CHANNEL,
        "commands": ("blockMesh", "icoFoam"),
        "fields": ("U", "p"),
        "constants": {"cells": cells, "step": 0.05, "interval": 1.0, "end": 30.0},
        "grid": {"x": (0.0, 1.0, 4), "y": (0.0, 1.0, cells)},
        "times": (1.0, 30.0),
    }
    return OpenFOAM.from_directory(path, **(settings | changes))  # type: ignore[arg-type]


def flow(simulator: OpenFOAM, **values: float) -> xr.Dataset:
    parameters = {"viscosity": 0.1, "pressure_drop": 0.8, "wall_velocity": 0.5} | values
    return simulator.simulate(simulator.spec.request(parameters))


def plates(y: np.ndarray, t: float, viscosity: float, gradient: float, wall: float) -> np.ndarray:
    """Start-up of Couette-Poiseuille flow between plates at 0 and 1: steady profile less its decaying sine series."""
    steady = gradient / (2 * viscosity) * y * (1 - y) + wall * y
    n = np.arange(1, 200)
    odd = np.where(n % 2 == 1, 4 * gradient / (viscosity * np.pi**3 * n**3), 0.0)
    couette = 2 * wall * (-1.0) ** (n + 1) / (n * np.pi)
    modes = np.sin(np.pi * np.outer(y, n)) * np.exp(-viscosity * (np.pi * n) ** 2 * t)
    return steady - modes @ (odd + couette)


@cache
def cavity() -> tuple[OpenFOAM, xr.Dataset]:
    simulator = OpenFOAM(Cavity(cells_x=32, cells_y=32, end=16.0, saves=4))
    values = {"reynolds": 100.0, "lid_velocity": 1.0, "aspect": 1.0}
    return simulator, simulator.simulate(simulator.spec.request(values))


@cache
def body(cells: int, shape: str = "ellipse", **changes: float) -> xr.Dataset:
    simulator = OpenFOAM(BodyInChannel(shape=shape, cells=cells))  # type: ignore[arg-type]
    return simulator.simulate(simulator.spec.request(CIRCLE | changes))


def running(argument: str) -> list[int]:
    """Processes whose last argument is this one."""
    processes = psutil.process_iter(["cmdline"])
    return [p.pid for p in processes if (p.info["cmdline"] or [])[-1:] == [argument]]


def gone(seconds: str) -> bool:
    """Whether such a program ends long before it would by itself: on a busy machine a killed one takes a moment."""
    deadline = time.monotonic() + 30
    while running(seconds) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(seconds)


# --- analytic flows and benchmarks


@needs_openfoam
def test_couette_poiseuille_flow_is_the_analytic_one_to_second_order() -> None:
    errors = []
    for cells in (8, 16):
        answer = flow(channel(cells))
        u = answer.U.sel(channel="x").isel(time=-1)
        exact = plates(u.y.values, 30.0, 0.1, 0.8, 0.5)
        assert np.allclose(u, u.isel(x=0), atol=1e-6)
        assert np.abs(answer.U.sel(channel="y")).max() < 1e-5
        # A pressure drop of 0.8 over 1 m is linear along the channel.
        assert np.allclose(answer.p.isel(time=-1).T, 0.8 * (1 - answer.x.values), atol=1e-6)
        errors.append(float(np.abs(u.isel(x=0) - exact).max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.05)
    assert errors[1] < 0.01


@needs_openfoam
def test_the_start_of_a_flow_follows_its_series() -> None:
    answer = flow(channel(16))
    u = answer.U.sel(channel="x", x=0.125).isel(time=0)
    exact = plates(u.y.values, 1.0, 0.1, 0.8, 0.5)
    assert np.abs(exact - plates(u.y.values, 30.0, 0.1, 0.8, 0.5)).max() > 0.2
    assert np.allclose(u, exact, atol=0.01)


@needs_openfoam
def test_the_cavity_is_that_of_ghia() -> None:
    # Ghia, Ghia, Shin 1982, Tables I and II, Re 100, by a grid of 129 x 129; here 32 x 32, so within 0.01.
    _, answer = cavity()
    last = answer.velocity.isel(time=-1)
    u, v = last.sel(channel="x").interp(x=0.5), last.sel(channel="y").interp(y=0.5)
    down = {0.0547: -0.03717, 0.1719: -0.10150, 0.2813: -0.15662, 0.4531: -0.21090, 0.5: -0.20581, 0.7344: 0.00332}
    for y, value in (down | {0.9531: 0.68717}).items():
        assert float(u.interp(y=y)) == pytest.approx(value, abs=0.01), y
    for x, value in {0.0625: 0.09233, 0.1563: 0.16077, 0.2344: 0.17527, 0.5: 0.05454, 0.8047: -0.24533}.items():
        assert float(v.interp(x=x)) == pytest.approx(value, abs=0.01), x
    assert int(answer.steady) == 1


@needs_openfoam
def test_nothing_passes_through_the_cavity() -> None:
    _, answer = cavity()
    u, v = answer.velocity.sel(channel="x"), answer.velocity.sel(channel="y")
    # Net flux through a line from wall to wall, against what turns round. The sum over cells is second order, and worst
    # beside the corners, where the lid's velocity jumps.
    for across, along in ((u, "y"), (v.transpose("time", "y", "x"), "x")):
        net, turning = np.abs(across.mean(along)).values, float(np.abs(across).mean(along).max())
        assert net.max() < 0.03 * turning
        assert net[:, 3:-3].max() < 0.01 * turning
    assert json.loads(answer.log)["icoFoam"]["continuity_error"] < 1e-8
    assert np.allclose(answer.pressure.mean(("x", "y")), 0, atol=1e-6)


@needs_openfoam
def test_a_cavity_of_the_same_reynolds_number_is_the_same_flow() -> None:
    # Twice the velocity, half the times: the same flow in other units, so that the pressure is four times as large.
    values = {"reynolds": 50.0, "lid_velocity": 1.0, "aspect": 0.5}
    slow, fast = (OpenFOAM(Cavity(cells_x=8, cells_y=8, end=end, saves=1)) for end in (2.0, 1.0))
    one = slow.simulate(slow.spec.request(values))
    two = fast.simulate(fast.spec.request(values | {"lid_velocity": 2.0}))
    assert np.allclose(two.velocity, 2 * one.velocity, atol=1e-5)
    assert np.allclose(two.pressure, 4 * one.pressure, atol=1e-5)
    assert int(one.steady) == 0


@needs_openfoam
def test_drag_and_lift_are_those_of_the_benchmark() -> None:
    # Schäfer, Turek 1996, 2D-1: 5.5795 and 0.0106, which finer meshes approach to second order.
    drag, lift = ([float(body(n)[f"{name}_coefficient"]) for n in (12, 24)] for name in ("drag", "lift"))
    assert drag[1] == pytest.approx(5.5795, rel=0.01)
    assert lift[1] == pytest.approx(0.0106, abs=0.002)
    assert np.log2((5.5795 - drag[0]) / (5.5795 - drag[1])) == pytest.approx(2, abs=0.25)
    # Extrapolated by that order.
    assert (4 * drag[1] - drag[0]) / 3 == pytest.approx(5.5795, rel=0.002)


@needs_openfoam
def test_every_section_of_the_channel_carries_the_same_flux() -> None:
    answer = body(24)
    flux = answer.velocity.sel(channel="x").mean("y")
    assert np.allclose(flux, 0.2, rtol=0.02)
    area = float(answer.solid.sum()) * 2.2 / 128 * 0.41 / 32
    assert area == pytest.approx(np.pi * 0.05**2, rel=0.1)
    assert np.abs(answer.velocity.where(answer.solid == 1, 0)).max() == 0
    # Lost pressure drives the flow, and the front of the body feels more of it than its back.
    p = answer.pressure.interp(y=0.2)
    assert float(p.interp(x=0.13)) > float(p.interp(x=0.27))


@needs_openfoam
@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_a_mirrored_body_has_the_opposite_lift(shape: str) -> None:
    low, high = (body(8, shape, reynolds=5.0, body_y=y, body_width=0.06) for y in (0.15, 0.26))
    assert float(low.drag_coefficient) == pytest.approx(float(high.drag_coefficient), rel=1e-4)
    assert float(low.lift_coefficient) == pytest.approx(-float(high.lift_coefficient), rel=1e-3)
    assert abs(float(low.lift_coefficient)) > 0.01
    mirrored = high.velocity.values[:, :, ::-1] * np.array([1, -1])[:, None, None]
    # Not to rounding: the triangles of the interpolation are not mirrored.
    assert np.abs(low.velocity.values - mirrored).mean() < 5e-4


@needs_openfoam
def test_a_rectangle_resists_more_than_the_ellipse_in_it() -> None:
    assert float(body(8, "rectangle").drag_coefficient) > 1.2 * float(body(8).drag_coefficient)


# --- a person's own directory


@needs_openfoam
def test_cells_are_placed_by_their_centres() -> None:
    # The cavity's case as a plain directory, its cells placed on the grid by their centres, not by their order.
    simulator, answer = cavity()
    assert isinstance(simulator.case, Cavity)
    filled = simulator.case.fill({"reynolds": 100.0, "lid_velocity": 1.0, "aspect": 1.0})
    constants = {k: float(v) for k, v in filled.items() if k != "viscosity"}
    grid = {"x": (0.0, 1.0, 32), "y": (0.0, 1.0, 32), "z": (0.0, 0.1, 1)}
    other = channel(path="cavity", parameters={"viscosity": "m2 s-1"}, constants=constants, grid=grid, times=None)
    cube = other.simulate(other.spec.request({"viscosity": 0.01}))
    assert cube.U.dims == ("channel", "x", "y", "z")
    assert np.allclose(cube.U.values[:2, ..., 0], answer.velocity.values[-1], atol=1e-6)


@needs_openfoam
def test_without_a_grid_each_cell_has_its_centre() -> None:
    answer = flow(channel(8, grid=None, times=None), pressure_drop=0.0, wall_velocity=2.0)
    assert answer.U.dims == ("cell", "axis")
    assert answer.cell_centres.attrs["units"] == "m"
    # Couette flow is linear, so exact on any grid.
    assert np.allclose(answer.U[:, 0], 2.0 * answer.cell_centres[:, 1], atol=1e-6)
    both = flow(channel(8, grid=None))
    assert both.U.dims == ("cell", "time", "axis")
    assert both.p.dims == ("cell", "time")


@needs_openfoam
def test_one_simulator_is_one_identity(tmp_path: Path) -> None:
    one = channel()
    shutil.copytree(CASES / "channel", tmp_path / "channel")
    same = channel(path=str(tmp_path / "channel"), timeout_s=5.0)
    assert isinstance(one, Simulator)
    assert one.fingerprint == same.fingerprint == pickle.loads(pickle.dumps(one)).fingerprint
    assert one.fingerprint != channel(9).fingerprint
    (tmp_path / "channel" / "system" / "fvSchemes").open("a").write("\n// changed\n")
    assert one.fingerprint != channel(path=str(tmp_path / "channel")).fingerprint
    assert from_plain(Spec, json.loads(json.dumps(to_plain(one.spec)))) == one.spec
    assert one.spec.attrs["solver"].startswith("OpenFOAM ")
    assert one.spec.output("p").units == "m2 s-2"
    check(flow(same), same.spec.outputs, sizes=same.spec.sizes)


@needs_openfoam
def test_a_campaign_fills_a_store(tmp_path: Path) -> None:
    constants = {"cells": 8, "step": 0.1, "interval": 1.0, "end": 2.0}
    simulator = channel(constants=constants, times=(1.0, 2.0))
    parameters = ({"viscosity": nu, "pressure_drop": 0.8, "wall_velocity": 0.5} for nu in (0.1, 0.2))
    config = CampaignConfig(workers=1)
    requests = [simulator.spec.request(values) for values in parameters]
    summary = run_campaign(simulator, requests, tmp_path / "store", config, progress=False)
    assert summary.done == 2
    assert not summary.failed
    stored = RecordStore.open(tmp_path / "store").dataset()
    assert stored.U.dims == ("sample", "time", "channel", "x", "y")
    assert stored.U.attrs["units"] == "m s-1"
    direct = np.stack([simulator.simulate(r).U.values for r in requests])
    assert np.array_equal(stored.U.values, direct)
    assert stored.attrs["boundary_conditions"] == "as in the files of the case channel"


# --- what goes wrong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, "nowhere: no such directory"),
        ({"parameters": {"viscosity": "m2 s-1"}}, r"/0/U:29: \{\{wall_velocity\}\} has no value"),
        ({"parameters": CHANNEL | {"density": "kg m-3"}}, r"no file holds \{\{density\}\}, which parameters name"),
        ({"parameters": CHANNEL | {"cells": "1"}}, "cells is both a parameter and a constant"),
        ({"fields": ("U", "T")}, "no file 0/T that describes the field"),
        ({"commands": ()}, "no command"),
        ({"grid": {"r": (0, 1, 4)}}, "no axis 'r'"),
        ({"grid": {"x": (0, 1)}}, r"must be \[lower, upper, cells\]"),
        ({"timeout_s": 0.0}, "timeout_s must be above 0"),
        ({"timeout_s": float("inf")}, "timeout_s must be above 0 and finite"),
        ({"timeout_s": float("nan")}, "timeout_s must be above 0 and finite"),
    ],
)
def test_settings_that_make_no_case_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        channel(**changes)


@pytest.mark.parametrize(
    "line",
    [
        'n #calc "1 + 1";',
        "n #codeStream { code #{ #}; };",
        "type codedFixedValue;",
        "type systemCall;",
        "InfoSwitches { allowSystemOperations 1; }",
        'libs ("./libmine.so");',
        'functionObjectLibs ( "$FOAM_CASE/libmine.so" );',
        '#include "../../secret"',
        '#includeIfPresent "/etc/secret"',
    ],
)
def test_a_case_runs_no_code_of_its_own(tmp_path: Path, line: str) -> None:
    shutil.copytree(CASES / "channel", tmp_path / "case")
    (tmp_path / "case" / "system" / "controlDict").open("a").write(f"{line}\n")
    with pytest.raises(InputError, match=r"system/controlDict:\d+: .*(code|library|outside)"):
        channel(path=str(tmp_path / "case"))


@needs_openfoam
def test_a_bad_request_is_named() -> None:
    simulator = channel()
    good = {"viscosity": 0.1, "pressure_drop": 0.8, "wall_velocity": 0.5}
    request = simulator.spec.request(good)
    for broken, message in (
        (request.assign(density=1.0), "no parameter 'density'; there are"),
        (request.drop_vars("viscosity"), "viscosity is missing"),
        (request.assign(viscosity=np.nan), "viscosity holds values that are not finite"),
    ):
        with pytest.raises(SimulationError, match=message) as caught:
            simulator.simulate(broken)
        assert caught.value.kind == "invalid_input"
    past = OpenFOAM(BodyInChannel())
    for change, message in (({"body_y": 0.06}, "the body leaves a gap of 0.01 m"), ({"reynolds": -1.0}, "above 0")):
        with pytest.raises(SimulationError, match=message):
            past.simulate(past.spec.request(CIRCLE | change))


@needs_openfoam
def test_a_fatal_error_is_one_line_and_its_case_is_kept(tmp_path: Path) -> None:
    shutil.copytree(CASES / "channel", tmp_path / "case")
    schemes = tmp_path / "case" / "system" / "fvSchemes"
    schemes.write_text(schemes.read_text().replace("default backward", "default sideways"))
    simulator = channel(path=str(tmp_path / "case"), keep_failed=str(tmp_path / "kept"))
    with pytest.raises(
        SimulationError, match=r"icoFoam: Unknown ddt type sideways .* file: system/fvSchemes"
    ) as caught:
        flow(simulator)
    assert caught.value.kind == "crashed"
    assert "\n" not in caught.value.message
    kept = Path(caught.value.details["kept"])
    assert "sideways" in (kept / "log.icoFoam").read_text()
    assert caught.value.details["log"][-1].startswith("FOAM ")


@needs_openfoam
def test_a_flow_that_blows_up_is_no_answer() -> None:
    simulator = channel(constants={"cells": 8, "step": 5.0, "interval": 300.0, "end": 300.0}, times=(300.0,))
    with pytest.raises(SimulationError, match=r"floating point exception at time|not finite") as caught:
        flow(simulator, viscosity=1e-4, pressure_drop=1e4)
    assert caught.value.kind == "crashed"


@needs_openfoam
def test_a_steady_flow_above_its_targets_is_not_converged(tmp_path: Path) -> None:
    simulator = OpenFOAM(BodyInChannel(cells=4, max_iterations=3))
    with pytest.raises(SimulationError, match=r"simpleFoam stopped after 3 iterations above its .*: Ux ") as caught:
        simulator.simulate(simulator.spec.request(CIRCLE))
    assert caught.value.kind == "not_converged"
    # The same solver without targets says nothing of convergence.
    shutil.copytree(CASES / "channel", tmp_path / "case")
    shutil.copy(CASES / "body" / "constant" / "turbulenceProperties", tmp_path / "case" / "constant")
    shutil.copy(CASES / "body" / "system" / "fvSchemes", tmp_path / "case" / "system")
    solution = tmp_path / "case" / "system" / "fvSolution"
    solution.write_text(solution.read_text().replace("PISO", "SIMPLE"))
    constants = {"cells": 4, "step": 1, "interval": 2, "end": 2}
    steady = channel(4, str(tmp_path / "case"), commands=("blockMesh", "simpleFoam"), constants=constants, times=None)
    with pytest.raises(SimulationError, match="simpleFoam has no convergence targets") as caught:
        flow(steady)
    assert caught.value.kind == "not_converged"


@needs_openfoam
def test_a_run_over_time_is_killed_with_all_that_it_started() -> None:
    # Only what a slow machine does at once comes before the limit.
    commands = ("sh -c '(setsid sleep 61.25 &); sleep 61.25'",)
    began = time.monotonic()
    with pytest.raises(SimulationError, match="sh was not done 1 s after the case began; killed") as caught:
        flow(channel(commands=commands, timeout_s=1.0))
    assert caught.value.kind == "timeout"
    # Nobody waited for the end of what it started.
    assert time.monotonic() - began < 61.25
    assert gone("61.25")


@needs_openfoam
def test_a_campaign_that_kills_its_process_kills_the_solver_too(tmp_path: Path) -> None:
    simulator = channel(commands=("blockMesh", "sleep 61.75"))
    request = simulator.spec.request({"viscosity": 0.1, "pressure_drop": 0.8, "wall_velocity": 0.5})
    config = CampaignConfig(workers=1, timeout_s=1.0)
    assert run_campaign(
        simulator, [request], tmp_path / "store", config, progress=False, none_answered=True
    ).failed == {"timeout": 1}
    assert gone("61.75")


@needs_openfoam
def test_results_that_do_not_fit_are_named() -> None:
    for changes, message in (
        ({"times": (0.5,)}, "nothing was written at time 0.5; there are"),
        ({"grid": {"x": (0.0, 1.0, 4), "y": (0.0, 1.0, 9)}, "times": None}, "not those of the grid along y"),
        ({"grid": {"x": (0.0, 1.0, 4)}, "times": None}, "32 cells on a grid of"),
        ({"commands": ("blockMesh",), "times": None}, "no command has written U: 0/U is as the case begins with it"),
        ({"commands": ("./Allrun",)}, "the command ./Allrun is not a file of the case"),
    ):
        with pytest.raises(SimulationError, match=message):
            flow(channel(constants={"cells": 8, "step": 0.1, "interval": 1, "end": 2}, **changes))


def test_a_missing_program_names_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for simulator in (channel(), OpenFOAM(Cavity()), OpenFOAM(BodyInChannel())):
        with pytest.raises(SimulationError, match=r"`make openfoam` or `apt-get install openfoam`") as caught:
            simulator.simulate(xr.Dataset())
        assert caught.value.kind == "missing_component"


# --- files

HEAD = "FoamFile { version 2.0; format ascii; class volVectorField; object U; }\ndimensions [0 1 -1 0 0 0 0];\n"
REST = "\nboundaryField { wall { type noSlip; } inlet { type fixedValue; value uniform (3 0 0); } }\n"


def test_fields_are_read_in_each_form(tmp_path: Path) -> None:
    path = tmp_path / "U"
    for body_, expected in (
        ("uniform (1 2e-3 -3)", [[1, 2e-3, -3]]),
        ("nonuniform List<vector>\n2\n(\n(1 2 3)\n(4 5 6)\n)\n", [[1, 2, 3], [4, 5, 6]]),
        ("nonuniform List<vector> 2((1 2 3) (4 5 6))", [[1, 2, 3], [4, 5, 6]]),
        ("nonuniform List<vector> 2{(1 2 3)}", [[1, 2, 3], [1, 2, 3]]),
    ):
        path.write_text(f"{HEAD}// internalField of a comment;\ninternalField {body_};{REST}")
        field = read_field(path)
        assert np.array_equal(field.values, expected)
        assert (field.kind, field.units) == ("volVectorField", "m s-1")
        assert set(field.patches) == {"inlet"}
        assert np.array_equal(field.patches["inlet"], [[3, 0, 0]])
    assert np.array_equal(read_field(path).over(2), [[1, 2, 3], [1, 2, 3]])
    with pytest.raises(InputError, match="2 values on a mesh of 3 cells"):
        read_field(path).over(3)


def test_a_random_field_comes_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((50, 3)) * 10.0 ** np.arange(-20, 30)[:, None]
    rows = "\n".join("(" + " ".join(repr(float(v)) for v in row) + ")" for row in values)
    (tmp_path / "U").write_text(f"{HEAD}internalField nonuniform List<vector> 50 (\n{rows}\n);{REST}")
    assert np.array_equal(read_field(tmp_path / "U").values, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "not an OpenFOAM file"),
        (
            HEAD.replace("ascii", "binary") + f"internalField nonuniform List<vector> 1((1 2 3));{REST}",
            "does not end where its length says",
        ),
        (HEAD.replace("volVectorField", "dictionary"), "class dictionary is not a field"),
        (HEAD.split("\n")[0], "no entry `dimensions"),
        (HEAD.replace("[0 1 -1 0 0 0 0]", "[0 1]"), "5 or 7 whole numbers"),
        (HEAD, "no entry `internalField`; the file may be cut short"),
        (HEAD + "internalField nonuniform List<vector> 2((1 2 3) (4 5", r"U \(internalField\): the file ends within"),
        (HEAD + "internalField nonuniform List<vector> 2((1 2 3) (4 5;", "without its closing"),
        (HEAD + f"internalField nonuniform List<vector> 3((1 2 3) (4 5 6));{REST}", "9 expected|6 numbers found"),
        (HEAD + f"internalField nonuniform List<vector> 1((1 2 x));{REST}", "not a number"),
        (HEAD + f"internalField $other;{REST}", "neither `uniform` nor a list"),
        (HEAD + "internalField uniform (1 2 3);", "no entry `boundaryField`"),
        (HEAD + "internalField uniform (1 2 3); boundaryField { wall { type", "ends within boundaryField"),
    ],
)
def test_a_broken_field_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "U").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_field(tmp_path / "U")
    assert str(tmp_path / "U") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="p: no such file"):
        read_field(tmp_path / "p")
    (tmp_path / "p").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text"):
        read_field(tmp_path / "p")


def test_tables_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "coefficient.dat"
    path.write_text("# Force\n# Time  Cd  Cl\n1 2.5 0\n2 2.25 -1e-3\n")
    names, rows = read_table(path)
    assert names == ("Time", "Cd", "Cl")
    assert np.array_equal(rows[-1], [2, 2.25, -1e-3])
    for text, message in (("", "no rows"), ("# a b\n1\n", "2 columns"), ("# a\nx\n", "not a number")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_table(path)


def test_dimensions_are_written_as_cf_units() -> None:
    assert units_of("0 2 -2 0 0 0 0") == "m2 s-2"
    assert units_of("1 -1 -2 0 0") == "kg m-1 s-2"
    assert units_of("0 0 -1 0 0 0 0") == "s-1"
    assert units_of("0 0 0 0 0 0 0") == "1"


def test_directory_settings_come_from_lists_too() -> None:
    case = Directory(
        "channel", CHANNEL, [["blockMesh"], "icoFoam"], ["U"], {"cells": 4, "step": 1, "interval": 1, "end": 1}
    )  # type: ignore[arg-type]
    assert case.steps[:2] == (("blockMesh",), ("icoFoam",))
