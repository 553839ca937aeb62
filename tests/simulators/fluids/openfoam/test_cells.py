"""Fields on the cells of OpenFOAM's meshes, of runs and of finished cases: a step whose mesh has three blocks."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.errors import InputError
from data.meshes.graphs import Mesh, mesh_edges, node_areas
from data.meshes.mesh_samples import read_meshes
from data.spec import SimulationError, check
from data.store.records import RecordStore
from experiments.campaigns.named_simulator import named_simulator
from simulators.adapter import HoldsRequests
from simulators.fluids.openfoam.cells import patches_of_field, read_cells
from simulators.fluids.openfoam.dictionary import number_at
from simulators.fluids.openfoam.finished import FinishedCases
from simulators.fluids.openfoam.programs import environment, run
from simulators.fluids.openfoam.simulator import OpenFOAM

needs_openfoam = pytest.mark.skipif(
    shutil.which("simpleFoam") is None, reason="OpenFOAM is not installed: `make openfoam`"
)
SMALL = [f"simulator.case.constants.{name}" for name in ("cells_before=4", "cells_behind=8", "cells_across=4")]
REQUESTS = ({"velocity": 1.0, "step": 0.5}, {"velocity": 0.6, "step": 0.4})
NUMBERS = {"pressure_drop": {"object": "inletPressure", "column": "areaAverage(p)", "units": "m2 s-2"}}


def step(*settings: str) -> OpenFOAM:
    simulator = named_simulator("openfoam_step", [*SMALL, *settings], key="simulator")
    assert isinstance(simulator, OpenFOAM)
    return simulator


@pytest.fixture(scope="module")
def answer() -> xr.Dataset:
    solver = step()
    return solver.simulate(solver.spec.request(REQUESTS[0]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases that a user has run, one that did not end, and a table of their parameters."""
    folder = tmp_path_factory.mktemp("runs")
    solver = step()
    env = environment(folder / "home")
    for name, values in zip("ab", REQUESTS, strict=True):
        solver.case.template.write(folder / name, solver.case.fill(values))
        for command in solver.case.steps:
            run(command, folder / name, env, time.monotonic() + 600, 600)
    solver.case.template.write(folder / "c", solver.case.fill({"velocity": 1.1, "step": 0.3}))
    # It has a mesh and initial fields, which are no results.
    shutil.copytree(folder / "a" / "constant" / "polyMesh", folder / "c" / "constant" / "polyMesh")
    rows = "1;a;1.0;0.5\n2;b;0.6;0.4\n3;c;1.1;0.3\n4;d;1;1\n5;b;x;1\n"
    (folder / "runs.csv").write_text(f"note;case;velocity;step\n{rows}")
    return folder


def cases(folder: Path, **changes) -> FinishedCases:  # type: ignore[no-untyped-def]
    settings = {
        "parameters": {"velocity": "m s-1", "step": "m"},
        "table": str(folder / "runs.csv"),
        "fields": ("U", "p"),
        "mesh": ("x", "y"),
        "scalars": NUMBERS,
    }
    return FinishedCases(str(folder), **(settings | changes))  # type: ignore[arg-type]


@needs_openfoam
def test_cells_fill_the_channel_and_conserve_the_flow(answer: xr.Dataset) -> None:
    solver = step()
    check(answer, solver.spec.outputs, sizes=solver.spec.sizes)
    assert answer["nodes"].shape == (4 * 4 + 2 * 8 * 4, 2)
    # The inlet channel is 2 x 0.5, the channel behind the step 8 x 1, and both are 0.1 deep.
    assert np.isclose(answer["volumes"].sum(), 0.1 * (2 * 0.5 + 8 * 1.0))
    places, velocity, kinds = (answer[name].values for name in ("nodes", "U", "boundary"))
    # Inner faces of three blocks, of 4 x 4, 8 x 4 and 8 x 4 cells, and those between the blocks.
    assert len(answer["elements"]) == (2 * 4 * 3) + 2 * (7 * 4 + 8 * 3) + 4 + 8
    pairs = answer["elements"].values
    gaps = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    assert 0.1 < gaps.min() < gaps.max() < 2.5
    # What enters at 1 m/s through half of the height leaves through the whole of it.
    last = np.isclose(places[:, 0], places[:, 0].max())
    assert np.isclose(velocity[last, 0].mean(), 0.5, rtol=1e-3)
    # Corners count as the wall, which is named last.
    assert [int((kinds == k).sum()) for k in range(4)] == [80 - 2 - 6 - 27, 2, 6, 27]
    assert answer["boundary"].attrs["long_name"].startswith("0 inside, 1 inlet, 2 outlet, 3 walls")
    before = np.isclose(places[:, 0], places[:, 0].min())
    # The pressure has no gradient at the inlet, and its average there is a number of a function object.
    assert np.isclose(answer["pressure_drop"], answer["p"].values[before].mean(), rtol=1e-6)


@needs_openfoam
def test_a_mesh_is_made_without_the_solver(answer: xr.Dataset) -> None:
    solver = step()
    mesh = solver.mesh(solver.spec.request(REQUESTS[0]))
    assert set(mesh.data_vars) == {"nodes", "elements", "boundary", "volumes"}
    for name in mesh.data_vars:
        np.testing.assert_array_equal(mesh[name], answer[name])


@needs_openfoam
def test_times_of_a_transient_flow_are_those_of_the_grid() -> None:
    settings = {
        "parameters": {"viscosity": "m2 s-1", "pressure_drop": "m2 s-2", "wall_velocity": "m s-1"},
        "commands": ("blockMesh", "icoFoam"),
        "fields": ("U", "p"),
        "constants": {"cells": 4, "step": 0.1, "interval": 0.5, "end": 1.0},
        "times": (0.5, 1.0),
    }
    request = {"viscosity": 0.1, "pressure_drop": 0.8, "wall_velocity": 0.5}
    cells = OpenFOAM.from_directory("channel", **settings, mesh=("x", "y"))  # type: ignore[arg-type]
    grid = OpenFOAM.from_directory("channel", **settings, grid={"x": (0.0, 1.0, 4), "y": (0.0, 1.0, 4)})  # type: ignore[arg-type]
    on_grid, here = (s.simulate(s.spec.request(request)) for s in (grid, cells))
    assert here["U"].dims == ("node", "time", "component")
    columns, rows = np.floor(here["nodes"].values * 4).astype(int).T
    np.testing.assert_array_equal(here["U"].values, on_grid["U"].values.transpose(2, 3, 0, 1)[columns, rows])
    np.testing.assert_array_equal(here["p"].values, on_grid["p"].values.transpose(1, 2, 0)[columns, rows])
    assert not np.allclose(here["U"][:, 0], here["U"][:, 1], rtol=0.01)


@needs_openfoam
def test_finished_cases_answer_as_the_solver_did(finished: Path, answer: xr.Dataset, tmp_path: Path) -> None:
    finished_cases = cases(finished)
    assert isinstance(finished_cases, HoldsRequests)
    assert len(finished_cases.requests()) == 3
    reading = finished_cases.reading()
    assert reading is not None
    assert (reading.used, reading.total) == (3, 5)
    assert "line 5, d: no such folder of a case" in reading.left_out
    assert "line 6, b: a parameter that is no finite number" in reading.left_out
    assert reading.quantities["mesh of cells"] == "along x and y, kinds of boundary 1 inlet, 2 outlet, 3 walls"
    assert finished_cases.declared_cost_s > 0
    assert reading.assumed == ("1 cases, such as c, have no log: their last time is their result",)
    fields = cases(finished, scalars=None)
    with pytest.raises(SimulationError, match="results of c cannot be read: nothing was written after time 0"):
        fields.simulate(fields.spec.request({"velocity": 1.1, "step": 0.3}))
    read = finished_cases.simulate(finished_cases.spec.request(REQUESTS[0]))
    for name in answer.data_vars:
        np.testing.assert_array_equal(read[name], answer[name])
    spec = finished_cases.spec
    with RecordStore.create(
        tmp_path / "s.zarr",
        spec.inputs,
        spec.outputs,
        provenance={"fingerprint": finished_cases.fingerprint},
        coords=spec.coords,
    ) as store:
        for key, request in enumerate(finished_cases.requests()):
            values = {str(name): array.values for name, array in request.items()}
            try:
                answered = finished_cases.simulate(request)
            except SimulationError as error:
                store.append(str(key), values, status=error.kind, seconds=1.0, threads=1)
                continue
            values |= {str(name): array.values for name, array in answered.items()}
            store.append(str(key), values, seconds=1.0, threads=1)
    samples, bad = read_meshes(tmp_path / "s.zarr", ["U", "p"], ["pressure_drop"], None)
    assert len(samples) == 2
    assert [reason for _, reason in bad] == ["crashed"]
    assert samples.layout.channels == ("U_x", "U_y", "p")
    assert [v.name for v in samples.layout.parameters] == ["velocity", "step"]
    mesh = next(m for m in samples.meshes if m.parameters[1] == 0.5)
    np.testing.assert_allclose(node_areas(mesh), answer["volumes"])
    assert samples.layout.plane == 2


@needs_openfoam
def test_parameters_are_read_from_the_dictionaries_of_cases(finished: Path) -> None:
    places = {"velocity": "0/U:boundaryField.inlet.value[0]", "nu": "constant/transportProperties:nu"}
    finished_cases = cases(finished, table=None, places=places, parameters={"velocity": "m s-1", "nu": "m2 s-1"},
                           fields=(), mesh=None)  # fmt: skip
    assert set(finished_cases.values) == {(1.0, 0.01), (0.6, 0.01), (1.1, 0.01)}


@needs_openfoam
def test_cases_that_make_no_samples_are_refused(finished: Path) -> None:
    (finished / "same.csv").write_text("case,velocity,step\na,1,1\nb,1,1\n")
    with pytest.raises(InputError, match="no column height; there are note, case"):
        cases(finished, parameters={"height": "m"})
    with pytest.raises(InputError, match="a and b have the same parameters"):
        cases(finished, table=str(finished / "same.csv"))
    finished_cases, other = cases(finished), cases(finished, patches=("inlet", "outlet"))
    with pytest.raises(SimulationError, match="no case in"):
        finished_cases.simulate(finished_cases.spec.request({"velocity": 9.0, "step": 0.5}))
    with pytest.raises(SimulationError, match=r"which is no kind of boundary.*patches=\[inlet,outlet,walls\]"):
        other.simulate(other.spec.request(REQUESTS[0]))
    with pytest.raises(InputError, match="several layers of cells along y"):
        read_cells(finished / "a" / "constant" / "polyMesh", ("x", "z"), ("inlet", "outlet", "walls"))


def test_cells_in_space_are_edges_between_neighbours() -> None:
    places = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    near = np.linalg.norm(places[:, None] - places[None], axis=-1)
    pairs = np.argwhere(np.triu(np.isclose(near, 1.0)))
    mesh = Mesh(places, pairs, np.zeros(27, int), volumes=np.arange(1.0, 28.0))
    assert mesh_edges(mesh.elements).shape == (2, 2 * 3 * 2 * 9)
    assert node_areas(mesh).tolist() == list(range(1, 28))
    with pytest.raises(InputError, match="volumes are not above 0"):
        Mesh(places, pairs, np.zeros(27, int), volumes=np.zeros(27))


def test_names_of_patches_are_those_that_can_be_told() -> None:
    field = "internalField uniform 0;\nboundaryField {{ in {{ type fixedValue; value uniform {{{{a}}}}; }} {} }}".format
    assert patches_of_field(field("out { type zeroGradient; } front { type empty; }")) == ("in", "out")
    assert patches_of_field(field('"wall.*" { type noSlip; }')) is None
    assert patches_of_field(field('#includeEtc "caseDicts/setConstraintTypes"')) is None


def test_a_number_of_a_dictionary_is_found_by_its_path(tmp_path: Path) -> None:
    text = (
        "FoamFile { class dictionary; }\n// nu 5;\ntransportModel Newtonian;\nnu nu [0 2 -1 0 0 0 0] 1e-5;\n"
        "inlet { type fixedValue; inner { value 3; } value uniform (1 2 $z); }\nouter { inlet { value (4 5 6); } }\n"
    )
    (tmp_path / "d").write_text(text)
    assert number_at(tmp_path, "d:nu") == 1e-5
    assert number_at(tmp_path, "d:outer.inlet.value[2]") == 6
    assert number_at(tmp_path, "d:inlet.inner.value") == 3
    for place, message in (
        ("d:inlet.value[0]", "a macro"),
        ("d:outer.inlet.value", "holds 3 numbers"),
        ("d:mu", "no entry mu"),
        ("d:other.value", "no dictionary other"),
        ("../d:nu", "leads out of the case"),
    ):
        with pytest.raises(InputError, match=message):
            number_at(tmp_path, place)
