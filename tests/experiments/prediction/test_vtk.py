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
from vtkmodules import vtkCommonCore, vtkCommonDataModel, vtkIOLegacy, vtkIOXML
from vtkmodules.util import numpy_support
from vtkmodules.vtkFiltersVerdict import vtkCellSizeFilter

from data.errors import InputError
from data.fields.field_reading import read_fields
from data.formats.vtk_file import CellMesh, Numbers, read_collection, write_collection, write_mesh
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
    values = arrays(data)
    points = np.array([data.GetPoint(i) for i in range(24)])
    for i, j, k in np.ndindex(4, 3, 2):
        (row,) = np.flatnonzero((points == [x[i], y[j], z[k]]).all(axis=1))
        assert np.array_equal(values["velocity [m s-1]"][row], velocity[1, :, i, j, k])
        assert values["pressure [Pa]"][row] == pressure[1, i, j, k]
        assert np.array_equal(values["velocity_difference [m s-1]"][row], (velocity - velocity / 2)[1, :, i, j, k])
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
        values = arrays(read(path))
        assert (sample, time) == (index[0], float(times[index[1]]))
        assert np.array_equal(values["u [m]"], answer[(*index, 0)])
        assert np.array_equal(values["u_difference [m]"], answer[(*index, 0)] - truth[(*index, 0)])
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
        values = arrays(data)
        assert mesh.fields is not None
        assert np.array_equal(values["velocity [m s-1]"][:, :2], mesh.fields[:, :2].astype(np.float32))
        assert np.array_equal(values["pressure [m2 s-2]"], mesh.fields[:, 2].astype(np.float32))
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
        values = arrays(read(path))
        label = f"[{record['pressure'].attrs['units']}]"
        assert np.array_equal(values[f"pressure {label}"], record["pressure"])
        assert np.array_equal(values[f"pressure_difference {label}"], record["pressure"] - record["pressure_true"])


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
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    bow = CellMesh(points, {9: np.array([[0, 2, 1, 3]])}, {"p": Numbers(np.arange(4.0))})
    with pytest.raises(InputError, match="cross themselves"):
        read_mesh_files(write_mesh(tmp_path / "bow", bow))
    lonely = CellMesh(points, {9: np.array([[0, 1, 2, 3]])}, {}, {"p": Numbers(np.ones(1))})
    with pytest.raises(InputError, match=r"in its cells alone.*Cell Data To Point Data"):
        read_mesh_files(write_mesh(tmp_path / "lonely", lonely))
    assert len(waves) == 1


def test_a_mesh_of_another_program_has_its_boundary_found(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0.0]])
    triangles = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    mesh = CellMesh(points, {3: np.array([[0, 1]]), 5: triangles}, {"p": Numbers(np.arange(5.0), "Pa")})
    samples, _ = read_mesh_files(write_mesh(tmp_path / "square", mesh))
    assert samples.meshes[0].flags.tolist() == [1, 1, 1, 1, 0]
    assert samples.layout.fields[0].units == "Pa"


#: A plane of one cell of each kind: an L (concave), a quadrilateral and a triangle.
CORNERS = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2], [3, 0], [3, 1], [4, 0]]) * [1.0, 0.5]
L, QUAD, TRIANGLE = (0, 1, 2, 3, 4, 5), (1, 6, 7, 2), (6, 8, 7)


def written_by_vtk(path: Path, cells: dict[int, tuple[int, ...]]) -> Path:
    """A file with a cell of each type, and x + 10 y at the points, written by VTK's own writer."""
    surface = path.suffix == ".vtp"
    data = vtkCommonDataModel.vtkPolyData() if surface else vtkCommonDataModel.vtkUnstructuredGrid()
    points = vtkCommonCore.vtkPoints()
    for x, y in CORNERS:
        points.InsertNextPoint(x, y, 0.0)
    data.SetPoints(points)
    data.Allocate(10)
    for kind, cell in cells.items():
        if kind == 42:
            faces = vtkCommonCore.vtkIdList()
            for number in cell:
                faces.InsertNextId(number)
            data.InsertNextCell(kind, faces)
        else:
            data.InsertNextCell(kind, len(cell), cell)
    for place, name, values in (
        (data.GetPointData(), "p [Pa]", CORNERS @ [1, 10]),
        (data.GetCellData(), "area", np.ones(len(cells))),
    ):
        array = numpy_support.numpy_to_vtk(values, deep=True)
        array.SetName(name)
        place.AddArray(array)
    writer = vtkIOXML.vtkXMLPolyDataWriter() if surface else vtkIOXML.vtkXMLUnstructuredGridWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(data)
    assert writer.Write()
    return path


@pytest.mark.parametrize("suffix", [".vtp", ".vtu"])
def test_polygons_are_cut_into_triangles_of_the_same_area(tmp_path: Path, suffix: str) -> None:
    path = written_by_vtk(tmp_path / f"plane{suffix}", {7: L, 9: QUAD, 5: TRIANGLE})
    samples, bad = read_mesh_files(path)
    mesh = samples.meshes[0]
    assert not bad
    assert mesh.nodes == pytest.approx(CORNERS)
    assert mesh.fields is not None
    assert mesh.fields[:, 0] == pytest.approx(CORNERS @ [1, 10])
    assert samples.layout.fields[0].units == "Pa"
    # What VTK's own filter says of the file that its own reader reads.
    reader = vtkIOXML.vtkXMLPolyDataReader() if suffix == ".vtp" else vtkIOXML.vtkXMLUnstructuredGridReader()
    reader.SetFileName(str(path))
    sizes = vtkCellSizeFilter()
    sizes.SetInputConnection(reader.GetOutputPort())
    sizes.Update()
    areas = numpy_support.vtk_to_numpy(sizes.GetOutput().GetCellData().GetArray("Area"))
    assert areas == pytest.approx([1.5, 0.5, 0.25])
    corners = np.asarray(mesh.nodes)[mesh.elements]
    cut = np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / 2
    assert len(cut) == 4 + 2 + 1
    assert cut.sum() == pytest.approx(areas.sum())
    # Triangles that overlap, or leave a gap, would have other edges that only one of them has.
    edges = np.sort(mesh.elements[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    assert {tuple(edge) for edge in unique[times == 1]} == {
        (0, 1), (2, 3), (3, 4), (4, 5), (0, 5), (1, 6), (2, 7), (6, 8), (7, 8)
    }  # fmt: skip
    assert mesh.flags.tolist() == [1] * len(CORNERS)
    assert samples.reading is not None
    assert samples.reading.assumed[-1] == "2 polygons of the files were cut into triangles"
    assert "Cell Data To Point Data" in samples.reading.unused["area"]


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        (10, (0, 1, 2, 3), r"type 10 \(tetrahedra\).*Slice and Triangulate.*openfoam_finished"),
        (42, (4, 3, 0, 1, 2, 3, 0, 1, 3, 3, 1, 2, 3, 3, 0, 2, 3), r"type 42 \(polyhedra\).*Slice"),
        (22, (0, 1, 2, 3, 4, 5), r"type 22 \(quadratic triangles\).*Tessellate"),
        (6, (0, 1, 2, 3), r"type 6 \(triangle strips\).*Triangulate"),
    ],
)
def test_cells_that_no_mesh_has_are_named_with_the_remedy(
    tmp_path: Path, kind: int, cell: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_mesh_files(written_by_vtk(tmp_path / "volume.vtu", {kind: cell}))


def test_a_pixel_is_a_quadrilateral_and_a_tilted_plane_is_refused(tmp_path: Path) -> None:
    samples, _ = read_mesh_files(written_by_vtk(tmp_path / "a.vtu", {7: L, 5: TRIANGLE, 8: (1, 6, 2, 7)}))
    corners = np.asarray(samples.meshes[0].nodes)[samples.meshes[0].elements]
    assert np.abs(np.linalg.det(corners[:, 1:] - corners[:, :1])).sum() / 2 == pytest.approx(2.25)
    points = np.array([[0, 0, 0], [1, 0, 0.5], [0, 1, 0]])
    mesh = CellMesh(points, {5: np.array([[0, 1, 2]])}, {"p": Numbers(np.ones(3))})
    with pytest.raises(InputError, match="plane of constant z"):
        read_mesh_files(write_mesh(tmp_path / "tilted", mesh))


@pytest.mark.parametrize("suffix", [".vti", ".vts"])
def test_a_grid_of_vtks_own_writer_has_its_axes_and_fields(tmp_path: Path, suffix: str) -> None:
    x, y = 0.5 * np.arange(2, 7), 3.0 + np.arange(4)
    if suffix == ".vti":
        # A part of a larger grid, whose points are counted from 2 and 3.
        data: Any = vtkCommonDataModel.vtkImageData()
        data.SetSpacing(0.5, 1.0, 1.0)
        data.SetExtent(2, 6, 3, 6, 0, 0)
        writer: Any = vtkIOXML.vtkXMLImageDataWriter()
    else:
        data, points = vtkCommonDataModel.vtkStructuredGrid(), vtkCommonCore.vtkPoints()
        for b in y:
            for a in x:
                points.InsertNextPoint(a, b, 0.0)
        data.SetDimensions(5, 4, 1)
        data.SetPoints(points)
        writer = vtkIOXML.vtkXMLStructuredGridWriter()
    for name, values in (("u [m]", np.add.outer(10 * y, x)), ("a", np.multiply.outer(y, x))):
        array = numpy_support.numpy_to_vtk(values.ravel(), deep=True)
        array.SetName(name)
        data.GetPointData().AddArray(array)
    writer.SetInputData(data)
    writer.SetFileName(str(tmp_path / f"grid{suffix}"))
    assert writer.Write()
    fields, _ = read_fields(tmp_path / f"grid{suffix}", output="u", inputs=["a"])
    assert fields.states[0, 0, ..., 0] == pytest.approx(np.add.outer(x, 10 * y))
    assert fields.layout.axis("x").values == pytest.approx(x)
    assert fields.layout.axis("y").values == pytest.approx(y)
    assert fields.layout.output.units == "m"


@pytest.mark.parametrize("kind", ["file", "folder", "collection"])
def test_legacy_files_are_refused_with_what_turns_them_into_ones_that_are_read(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "old"
    place.mkdir()
    writer = vtkIOLegacy.vtkStructuredPointsWriter()
    image = vtkCommonDataModel.vtkImageData()
    image.SetDimensions(3, 3, 1)
    writer.SetInputData(image)
    writer.SetFileName(str(place / "a.vtk"))
    assert writer.Write()
    write_collection(tmp_path / "old.pvd", [(0.0, 0, "old/a.vtk")])
    path = {"file": place / "a.vtk", "folder": place, "collection": tmp_path / "old.pvd"}[kind]
    for read_files in (read_mesh_files, read_fields):
        with pytest.raises(InputError, match=r"legacy format.*ParaView.*pyvista\.read\('a\.vtk'\).*\.vti.*\.vtu"):
            read_files(path)
