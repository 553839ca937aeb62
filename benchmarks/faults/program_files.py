"""Small valid files as other programs write them: VTK, MATLAB, PDEBench and The Well, VASP, DeePMD-kit, OpenFOAM.

Each is a function of its path and its seed, as in `valid_files`; `program_readers` reads them.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.faults.valid_files import fields_arrays, forecasts_dataset

#: Cells of the row of boxes that is a mesh of OpenFOAM.
CELLS = 3


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 25])


def _text_mode(path: Path, kind: str) -> None:
    """Write a file of VTK anew as text."""
    from vtkmodules import vtkIOXML

    reader = getattr(vtkIOXML, f"vtkXML{kind}Reader")()
    reader.SetFileName(str(path))
    reader.Update()
    writer = getattr(vtkIOXML, f"vtkXML{kind}Writer")()
    writer.SetInputData(reader.GetOutput())
    writer.SetFileName(str(path))
    writer.SetDataModeToAscii()
    writer.Write()


def make_vti(path: Path, seed: int) -> None:
    """Two fields on a uniform grid; as text where the seed is odd."""
    from data.formats.vtk_file import Grid, Numbers, write_grid

    arrays = {name: Numbers(values[0].ravel(), "m") for name, values in fields_arrays(seed).items()}
    write_grid(path, Grid((np.arange(8.0), np.arange(8.0), np.zeros(1)), arrays, {}, {"nu": Numbers(np.ones(1))}))
    if seed % 2:
        _text_mode(path, "ImageData")


def make_vtr(path: Path, seed: int) -> None:
    """The same on an uneven grid."""
    from data.formats.vtk_file import Grid, Numbers, write_grid

    arrays = {name: Numbers(values[0].ravel(), "m") for name, values in fields_arrays(seed).items()}
    write_grid(path, Grid((np.arange(8.0) ** 2, np.arange(8.0), np.zeros(1)), arrays))
    if seed % 2:
        _text_mode(path, "RectilinearGrid")


def make_vts(path: Path, seed: int) -> None:
    """The same on a grid of points."""
    from vtkmodules import vtkCommonCore, vtkCommonDataModel, vtkIOXML
    from vtkmodules.util import numpy_support

    data, points = vtkCommonDataModel.vtkStructuredGrid(), vtkCommonCore.vtkPoints()
    for y in range(8):
        for x in range(8):
            points.InsertNextPoint(x, y, 0.0)
    data.SetDimensions(8, 8, 1)
    data.SetPoints(points)
    for name, values in fields_arrays(seed).items():
        array = numpy_support.numpy_to_vtk(values[0].ravel(), deep=True)
        array.SetName(name)
        data.GetPointData().AddArray(array)
    writer = vtkIOXML.vtkXMLStructuredGridWriter()
    writer.SetInputData(data)
    writer.SetFileName(str(path))
    if seed % 2:
        writer.SetDataModeToAscii()
    writer.Write()


def make_collection(path: Path, seed: int) -> None:
    """A collection of two grids and the folder that it names."""
    from data.formats.vtk_file import write_collection

    path.mkdir()
    for number in range(2):
        make_vti(path / f"{number}.vti", 2 * seed + 2 * number)
    write_collection(path / "a.pvd", [(0.0, 0, "0.vti"), (1.0, 1, "1.vti")])


def mesh_of(kinds: bool) -> Callable[[Path, int], None]:
    """Writes a mesh of triangles, or of a quadrilateral, a polygon and a triangle, with a field on it."""

    def make(path: Path, seed: int) -> None:
        from vtkmodules import vtkCommonCore, vtkCommonDataModel, vtkIOXML
        from vtkmodules.util import numpy_support

        surface = path.suffix == ".vtp"
        data = vtkCommonDataModel.vtkPolyData() if surface else vtkCommonDataModel.vtkUnstructuredGrid()
        points = vtkCommonCore.vtkPoints()
        for x, y in ((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2), (3, 0), (3, 1), (4, 0)):
            points.InsertNextPoint(x, y, 0.0)
        data.SetPoints(points)
        data.Allocate(8)
        cells: list[tuple[int, tuple[int, ...]]] = [(7, (0, 1, 2, 3, 4, 5)), (9, (1, 6, 7, 2)), (5, (6, 8, 7))]
        triangles = [(5, c) for c in ((0, 1, 3), (1, 2, 3), (0, 3, 5), (3, 4, 5), (1, 6, 2), (6, 7, 2), (6, 8, 7))]
        for kind, cell in cells if kinds else triangles:
            data.InsertNextCell(kind, len(cell), cell)
        array = numpy_support.numpy_to_vtk(_rng(seed).normal(size=9).astype(np.float32), deep=True)
        array.SetName("p [Pa]")
        data.GetPointData().AddArray(array)
        writer: Any = vtkIOXML.vtkXMLPolyDataWriter() if surface else vtkIOXML.vtkXMLUnstructuredGridWriter()
        writer.SetInputData(data)
        writer.SetFileName(str(path))
        if seed % 2:
            writer.SetDataModeToAscii()
        writer.Write()

    return make


def make_mat(path: Path, seed: int) -> None:
    """Arrays of MATLAB before version 7.3, packed where the seed is odd."""
    from scipy.io import savemat

    savemat(path, cast(Any, fields_arrays(seed)), do_compression=bool(seed % 2))


def make_mat_73(path: Path, seed: int) -> None:
    """Arrays of MATLAB 7.3: HDF5 of its older layout behind 512 bytes, columns first."""
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "w", userblock_size=512, libver="earliest") as file:
        for name, values in fields_arrays(seed).items():
            packed = {"chunks": (8, 8, 1), "compression": "gzip"} if seed % 2 else {}
            file.create_dataset(name, data=values.T, **packed).attrs["MATLAB_class"] = np.bytes_("single")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(508) + b"\0\2IM")


def make_pdebench(path: Path, seed: int) -> None:
    """A trajectory in the layout of PDEBench."""
    import h5py

    with h5py.File(path, "w", libver="earliest") as file:
        file["tensor"] = _rng(seed).normal(size=(3, 4, 9)).astype("f4")
        file["x-coordinate"], file["t-coordinate"] = np.arange(9) / 9, np.arange(4.0)


def make_well(path: Path, seed: int) -> None:
    """A trajectory in the layout of The Well."""
    import h5py

    rng = _rng(seed)
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs.update(
            {"dataset_name": "small", "grid_type": "cartesian", "n_spatial_dims": 1, "n_trajectories": 3,
             "simulation_parameters": ["viscosity"], "viscosity": 0.25}
        )  # fmt: skip
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x"]
        for name, values in (("time", np.arange(4.0)), ("x", np.arange(6) / 6)):
            dimensions[name] = values.astype(np.float32)
            dimensions[name].attrs["sample_varying"] = False
        wall = file.create_group("boundary_conditions/x_periodic")
        wall.attrs["bc_type"], wall.attrs["associated_dims"] = "PERIODIC", ["x"]
        wall["mask"] = np.zeros(6, bool)
        field = file.create_dataset("t0_fields/density", data=rng.normal(size=(3, 4, 6)).astype("f4"))
        field.attrs.update({"sample_varying": True, "time_varying": True, "dim_varying": [True]})


def _molecule(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers, positions, energies and forces of three frames of water."""
    rng = _rng(seed)
    water = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
    positions = water + 0.05 * rng.normal(size=(3, 3, 3))
    return np.array([8, 1, 1]), positions, rng.normal(size=3) - 76.0, rng.normal(size=(3, 3, 3))


def make_grib_forecasts(path: Path, seed: int) -> None:
    """The forecasts of `forecasts_dataset` as messages of GRIB 2."""
    import eccodes

    data = forecasts_dataset(seed)
    with open(path, "wb") as out:
        for time in data["time"].values:
            for lead in data["prediction_timedelta"].values:
                for short, level in (("2t", None), ("t", 500), ("t", 850)):
                    field = data["t2m" if level is None else "t"].sel(time=time, prediction_timedelta=lead)
                    field = field if level is None else field.sel(level=level)
                    kind = "sfc" if level is None else "pl"
                    message = eccodes.codes_grib_new_from_samples(f"regular_ll_{kind}_grib2")
                    keys = {
                        "Ni": 8, "Nj": 5, "latitudeOfFirstGridPointInDegrees": 80,
                        "latitudeOfLastGridPointInDegrees": -80, "longitudeOfFirstGridPointInDegrees": 0,
                        "longitudeOfLastGridPointInDegrees": 315, "iDirectionIncrementInDegrees": 45,
                        "jDirectionIncrementInDegrees": 40, "dataDate": int(str(time)[:10].replace("-", "")),
                        "dataTime": int(str(time)[11:13]) * 100, "stepUnits": 1,
                        "endStep": int(lead / np.timedelta64(1, "h")), "shortName": short,
                    }  # fmt: skip
                    for key, value in (keys | ({} if level is None else {"level": level})).items():
                        eccodes.codes_set(message, key, value)
                    eccodes.codes_set_values(
                        message, field.transpose("latitude", "longitude").values.ravel().astype(float)
                    )
                    eccodes.codes_write(message, out)
                    eccodes.codes_release(message)


def make_md17(path: Path, seed: int) -> None:
    """Frames in the layout of MD17, packed where the seed is odd."""
    numbers, positions, energy, forces = _molecule(seed)
    arrays: dict[str, Any] = {"z": numbers, "R": positions, "E": energy[:, None], "F": forces, "md5": np.array("none")}
    (np.savez_compressed if seed % 2 else np.savez)(path, **arrays)


def make_positions(path: Path, seed: int) -> None:
    """The positions that are one array of such a file."""
    np.save(path, _molecule(seed)[1])


def md17_with(path: Path, positions: bytes) -> None:
    """Write such a file with the positions that some bytes are."""
    import io
    import zipfile

    numbers, _, energy, forces = _molecule(0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("R.npy", positions)
        for name, values in (("z", numbers), ("E", energy), ("F", forces)):
            buffer = io.BytesIO()
            np.save(buffer, values)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def make_deepmd(path: Path, seed: int) -> None:
    """A system of DeePMD-kit."""
    _, positions, energy, forces = _molecule(seed)
    folder = path / "set.000"
    folder.mkdir(parents=True)
    box = np.broadcast_to(9.0 * np.eye(3), (3, 3, 3)).reshape(3, 9)
    for name, values in (
        ("coord", positions.reshape(3, 9)), ("energy", energy), ("force", forces.reshape(3, 9)), ("box", box),
        ("virial", np.ones((3, 9))),
    ):  # fmt: skip
        np.save(folder / f"{name}.npy", values)
    (path / "type.raw").write_text("1 0 0\n")
    (path / "type_map.raw").write_text("H\nO\n")


def make_traj(path: Path, seed: int) -> None:
    """A trajectory of ASE."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io.trajectory import Trajectory

    numbers, positions, energy, forces = _molecule(seed)
    with Trajectory(str(path), "w") as out:
        for at, e, f in zip(positions, energy, forces, strict=True):
            atoms = Atoms(numbers, at, info={"name": "water"})
            atoms.calc = SinglePointCalculator(atoms, energy=e, forces=f)
            out.write(atoms)


def make_vasprun(path: Path, seed: int) -> None:
    """Two ionic steps of VASP."""
    rng = _rng(seed)

    def rows(values: np.ndarray) -> str:
        return "".join(f"<v>{a:.6f} {b:.6f} {c:.6f}</v>" for a, b, c in values)

    def structure(x: np.ndarray, name: str = "") -> str:
        return (
            f'<structure {name}><crystal><varray name="basis">{rows(5.4 * np.eye(3))}</varray></crystal>'
            f'<varray name="positions">{rows(x)}</varray></structure>'
        )

    positions = np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]])
    parts = []
    for _ in range(2):
        moved, energy = positions + 0.01 * rng.random((2, 3)), rng.normal()
        energies = f'<energy><i name="e_fr_energy">{energy}</i><i name="e_0_energy">{energy}</i></energy>'
        parts.append(
            f"<calculation><scstep>{energies}</scstep>{structure(moved)}"
            f'<varray name="forces">{rows(rng.normal(size=(2, 3)))}</varray>'
            f'<varray name="stress">{rows(np.eye(3))}</varray>{energies}</calculation>'
        )
    atoms, first = "<rc><c>Si</c><c>1</c></rc>" * 2, structure(positions, 'name="initialpos"')
    path.write_text(
        '<?xml version="1.0"?><modeling><kpoints><varray name="kpointlist"/></kpoints>'
        '<parameters><separator><i type="int" name="NELM">60</i></separator></parameters>'
        f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>'
        f"{first}{''.join(parts)}</modeling>"
    )


def _foam_head(kind: str) -> bytes:
    return (
        f'FoamFile\n{{\n    version 2.0;\n    format binary;\n    arch "LSB;label=32;scalar=64";\n    class {kind};\n'
        "    object x;\n}\n"
    ).encode()


def _packed(content: bytes, packed: bool) -> bytes:
    return gzip.compress(content, mtime=0) if packed else content


def foam_field(packed: bool) -> Callable[[Path, int], None]:
    """Writes a field of OpenFOAM in binary."""

    def make(path: Path, seed: int) -> None:
        values = _rng(seed).normal(size=(12, 3)).astype("<f8").tobytes()
        content = (
            b"dimensions [0 1 -1 0 0 0 0];\ninternalField nonuniform List<vector>\n12\n(" + values + b");\n"
            b"boundaryField\n{\n inlet { type fixedValue; value uniform (1 0 0); }\n"
            b" outlet { type fixedValue; value nonuniform List<vector>\n2\n(" + values[:48] + b");\n }\n}\n"
        )
        path.write_bytes(_packed(_foam_head("volVectorField") + content, packed))

    return make


def make_poly_mesh(path: Path, seed: int) -> None:
    """The mesh of a row of boxes in binary, compressed where the seed is odd."""
    path.mkdir()
    points = np.array([(x, y, z) for z in (0, 1) for y in (0, 1) for x in range(CELLS + 1)], "<f8")
    points[:, 0] *= 1 + 0.1 * seed

    def at(x: int, y: int, z: int) -> int:
        return x + (CELLS + 1) * (y + 2 * z)

    def across(x: int) -> list[int]:
        return [at(x, 0, 0), at(x, 1, 0), at(x, 1, 1), at(x, 0, 1)]

    faces = [across(x) for x in range(1, CELLS)]
    owner, neighbour = list(range(CELLS - 1)), list(range(1, CELLS))
    patches = [("inlet", "patch", [across(0)[::-1]], [0]), ("outlet", "patch", [across(CELLS)], [CELLS - 1])]
    walls = [
        [at(x, y, 0), at(x, y, 1), at(x + 1, y, 1), at(x + 1, y, 0)][:: 1 if y else -1]
        for x in range(CELLS)
        for y in (0, 1)
    ]
    sides = [
        [at(x, 0, z), at(x, 1, z), at(x + 1, 1, z), at(x + 1, 0, z)][:: -1 if z else 1]
        for x in range(CELLS)
        for z in (0, 1)
    ]
    both = [x for x in range(CELLS) for _ in range(2)]
    patches += [("walls", "wall", walls, both), ("sides", "empty", sides, both)]
    entries, start = [], len(faces)
    for name, kind, of_patch, owners in patches:
        entries.append(f"{name} {{ type {kind}; nFaces {len(of_patch)}; startFace {start}; }}")
        faces, owner, start = faces + of_patch, owner + owners, start + len(of_patch)
    starts = np.cumsum([0, *map(len, faces)])

    def listed(values: Any, dtype: str) -> bytes:
        array = np.asarray(values, dtype)
        return f"\n{len(array)}\n(".encode() + array.tobytes() + b")\n"

    contents = {
        "points": _foam_head("vectorField") + listed(points, "<f8"),
        "faces": _foam_head("faceCompactList") + listed(starts, "<i4") + listed(np.concatenate(faces), "<i4"),
        "owner": _foam_head("labelList") + listed(owner, "<i4"),
        "neighbour": _foam_head("labelList") + listed(neighbour, "<i4"),
        "boundary": f"FoamFile {{ class polyBoundaryMesh; }}\n{len(entries)}\n(\n{' '.join(entries)}\n)\n".encode(),
    }
    for name, content in contents.items():
        (path / (f"{name}.gz" if seed % 2 else name)).write_bytes(_packed(content, bool(seed % 2)))
