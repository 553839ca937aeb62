"""Fields and meshes as files of VTK: what VTK's own readers find in them, and what is read of them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_fields
import small_meshes
import xarray as xr
from predicting import predicted_by
from saved_files import unpack
from vtkmodules import vtkIOXML
from vtkmodules.util import numpy_support

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.formats.vtk_file import CellMesh, Numbers, read_collection, write_mesh
from data.meshes.vtk_meshes import read_mesh_files
from data.store.records import RecordStore
from experiments.prediction import mesh_records
from experiments.prediction.array_output import AnswerArray, AnswerStore, write_arrays
from experiments.prediction.vtk_output import export_vtk, records_of, write_fields


def read(path: Path) -> Any:
    """A file as VTK's own reader for it reads it."""
    name = {".vti": "ImageData", ".vtr": "RectilinearGrid", ".vtu": "UnstructuredGrid"}[path.suffix]
    reader = getattr(vtkIOXML, f"vtkXML{name}Reader")()
    reader.SetFileName(str(path))
    reader.Update()
    return reader.GetOutput()


def arrays(data: Any) -> dict[str, np.ndarray]:
    place = data.GetPointData()
    return {
        place.GetArrayName(i): numpy_support.vtk_to_numpy(place.GetArray(i)) for i in range(place.GetNumberOfArrays())
    }


@pytest.mark.parametrize("even", [True, False])
def test_a_trajectory_of_a_vector_in_space_is_what_vtk_reads(tmp_path: Path, even: bool) -> None:
    rng = np.random.default_rng(0)
    x, y, z = np.arange(4) * 0.5, np.arange(3) + 1.0, np.arange(2) * 2.0
    y = y if even else y**2
    velocity = rng.normal(size=(2, 3, 4, 3, 2)).astype(np.float32)
    pressure = rng.normal(size=(2, 4, 3, 2))
    sample = xr.Dataset(
        {
            "velocity": (("time", "channel", "x", "y", "z"), velocity, {"units": "m s-1"}),
            "velocity_true": (("time", "channel", "x", "y", "z"), velocity / 2, {"units": "m s-1"}),
            "pressure": (("time", "x", "y", "z"), pressure, {"units": "Pa"}),
            "viscosity": ((), 0.25, {"units": "m2 s-1"}),
        },
        coords={
            "x": ("x", x, {"units": "m"}), "y": ("y", y, {"units": "m"}), "z": ("z", z, {"units": "m"}),
            "time": ("time", [0.5, 2.0], {"units": "s"}), "channel": ["x", "y", "z"],
        },
    )  # fmt: skip
    out = tmp_path / "flow.pvd"
    write_fields(out, [sample, sample + 1])
    parts = read_collection(out)
    assert [(time, part) for time, part, _ in parts] == [(0.5, 0), (2.0, 0), (0.5, 1), (2.0, 1)]
    assert {path.suffix for _, _, path in parts} == {".vti" if even else ".vtr"}
    data = read(parts[1][2])
    assert data.GetDimensions() == (4, 3, 2)
    found = arrays(data)
    points = np.array([data.GetPoint(i) for i in range(24)])
    for i, j, k in np.ndindex(4, 3, 2):
        (row,) = np.flatnonzero((points == [x[i], y[j], z[k]]).all(axis=1))
        assert np.array_equal(found["velocity [m s-1]"][row], velocity[1, :, i, j, k])
        assert found["pressure [Pa]"][row] == pressure[1, i, j, k]
        assert np.array_equal(found["velocity_difference [m s-1]"][row], (velocity - velocity / 2)[1, :, i, j, k])
    if not even:
        return
    fields, bad = read_fields(out, output="velocity", inputs=["viscosity"])
    assert not bad
    assert np.array_equal(fields.states[0], np.moveaxis(velocity, 1, -1))
    assert fields.parameters.ravel().tolist() == [0.25, 1.25]
    assert fields.layout.output.units == "m s-1"
    assert [axis.units for axis in fields.layout.axes] == ["s", "1", "m", "m", "m"]
    assert fields.layout.axis("time").values == (0.5, 2.0)


def test_answers_to_fields_are_written_with_their_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    answer, truth, speed = rng.normal(size=(3, 3, 1, 8)), rng.normal(size=(3, 3, 1, 8)), rng.uniform(0.02, 0.2, 3)
    answer, truth = answer.astype(np.float32), truth.astype(np.float32)
    dims, attrs = ("sample", "time", "channel", "x"), {"units": "m", "channels": "height"}
    times, x = np.array([0.0, 0.5, 1.0]), np.arange(8) / 8
    store = AnswerStore(
        tmp_path / "parts",
        [
            AnswerArray("time", ("time",), (3,), "float64", {"units": "s"}, times),
            AnswerArray("x", ("x",), (8,), "float64", {"units": "m"}, x),
            AnswerArray("sample", ("sample",), (3,), "int64", {}, np.arange(3)),
            AnswerArray("speed", ("sample",), (3,), "float64", {"units": "m s-1"}, speed),
            AnswerArray("u", dims, answer.shape, "float32", attrs),
            AnswerArray("u_true", dims, truth.shape, "float32", attrs),
            AnswerArray("status", ("sample",), (3,), "int8", {}),
        ],
        {},
        2,
    )
    for start in (0, 2):
        rows = slice(start, start + 2)
        store.write(start, {"u": answer[rows], "u_true": truth[rows], "status": np.zeros(len(answer[rows]), np.int8)})
    for name in ("out.pvd", "out.nc"):
        write_arrays(store, tmp_path / name, {}, "u")
    parts = read_collection(tmp_path / "out.pvd")
    assert len(parts) == 9
    for (time, sample, path), index in zip(parts, np.ndindex(3, 3), strict=True):
        found = arrays(read(path))
        assert (sample, time) == (index[0], times[index[1]])
        assert np.array_equal(found["u [m]"], answer[(*index, 0)])
        assert np.array_equal(found["u_difference [m]"], answer[(*index, 0)] - truth[(*index, 0)])
    assert export_vtk(tmp_path / "out.nc", tmp_path / "again.pvd").metrics["export/samples"] == 3
    for (_, _, one), (_, _, other) in zip(parts, read_collection(tmp_path / "again.pvd"), strict=True):
        assert np.array_equal(arrays(read(one))["u [m]"], arrays(read(other))["u [m]"])
    # The files are samples to learn from, too.
    fields, bad = read_fields(tmp_path / "out.pvd", output="u_true", inputs=["initial", "speed"])
    assert not bad
    assert np.array_equal(fields.states[..., 0], truth[:, :, 0])
    assert np.array_equal(fields.parameters[:, 0], speed)


def test_answers_on_meshes_are_what_vtk_reads_and_the_files_are_meshes_again(
    once: Callable[[str, Callable[[Path], object]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = once("saved-meshes", lambda place: unpack("surrogates/meshes", place))
    truth = small_meshes.samples(2)
    for mesh in truth.meshes:
        mesh.flags[mesh.flags == 2] = 1
    store = small_meshes.write_store(tmp_path / "in.zarr", truth)
    assert export_vtk(store, tmp_path / "truth.pvd").metrics["export/samples"] == 2
    for (number, _, path), mesh in zip(read_collection(tmp_path / "truth.pvd"), truth.meshes, strict=True):
        data = read(path)
        assert np.array_equal(numpy_support.vtk_to_numpy(data.GetPoints().GetData())[:, :2], mesh.nodes)
        cells = numpy_support.vtk_to_numpy(data.GetCells().GetConnectivityArray()).reshape(-1, 3)
        assert np.array_equal(cells, mesh.elements)
        assert {data.GetCellType(i) for i in range(data.GetNumberOfCells())} == {5}
        found = arrays(data)
        assert mesh.fields is not None
        assert np.array_equal(found["velocity [m s-1]"][:, :2], mesh.fields[:, :2].astype(np.float32))
        assert np.array_equal(found["pressure [m2 s-2]"], mesh.fields[:, 2].astype(np.float32))
        assert number in (0.0, 1.0)
    folder = tmp_path / "truth.pvd.files"
    direct, _ = read_mesh_files(store, scalars=["drag"], parameters=["speed"])
    again, _ = read_mesh_files(folder, scalars=["drag"], parameters=["speed"])
    assert again.layout.question == direct.layout.question
    for one, other in zip(direct.meshes, again.meshes, strict=True):
        for name in ("nodes", "elements", "flags", "parameters", "fields", "scalars"):
            assert np.array_equal(getattr(one, name), getattr(other, name))
    records: list[xr.Dataset] = []

    def kept(answers: RecordStore) -> list[xr.Dataset]:
        records.extend(records_of(answers))
        return records

    monkeypatch.setattr(mesh_records, "records_of", kept)
    predicted_by(saved, folder, tmp_path / "out.pvd")
    assert len(records) == 2
    for record, (_, _, path) in zip(records, read_collection(tmp_path / "out.pvd"), strict=True):
        found = arrays(read(path))
        label = f"[{record['pressure'].attrs['units']}]"
        assert np.array_equal(found[f"pressure {label}"], record["pressure"])
        assert np.array_equal(found[f"pressure_difference {label}"], record["pressure"] - record["pressure_true"])


def test_files_that_are_no_samples_are_named(tmp_path: Path) -> None:
    waves = small_fields.waves(1, 0)
    with pytest.raises(InputError, match="no such file"):
        read_fields(tmp_path / "none.vti")
    (tmp_path / "a.vti").write_text("<VTKFile")
    with pytest.raises(InputError, match="cannot be read"):
        read_fields(tmp_path / "a.vti", output="u", inputs=["speed"])
    (tmp_path / "b.pvd").write_text(
        '<VTKFile><Collection><DataSet file="../../etc/passwd.vti"/></Collection></VTKFile>'
    )
    with pytest.raises(InputError, match="lies outside of its folder"):
        read_fields(tmp_path / "b.pvd", output="u", inputs=["speed"])
    (tmp_path / "c").mkdir()
    grid = {"x": ("x", np.arange(8.0))}
    for name, units in (("0", "m"), ("1", "km")):
        write_fields(tmp_path / f"{name}.pvd", [xr.Dataset({"u": ("x", np.ones(8), {"units": units})}, grid)])
        (tmp_path / f"{name}.pvd.files" / "sample_000000.vti").rename(tmp_path / "c" / f"{name}.vti")
    with pytest.raises(InputError, match="comes twice"):
        read_fields(tmp_path / "c", output="u", inputs=["speed"])
    quads = CellMesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), {9: np.array([[0, 1, 2, 3]])})
    with pytest.raises(InputError, match="no mesh of triangles"):
        read_mesh_files(write_mesh(tmp_path / "quad", quads))
    assert len(waves) == 1


def test_a_mesh_of_another_program_has_its_boundary_found(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0.0]])
    triangles = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    mesh = CellMesh(points, {3: np.array([[0, 1]]), 5: triangles}, {"p": Numbers(np.arange(5.0), "Pa")})
    samples, _ = read_mesh_files(write_mesh(tmp_path / "square", mesh))
    assert samples.meshes[0].flags.tolist() == [1, 1, 1, 1, 0]
    assert samples.layout.fields[0].units == "Pa"
