"""Readers of files of other programs, each with a maker of small valid ones; `foreign` lists them with the others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.faults import program_files as program_files
from benchmarks.faults.broken_files import FaultReader


def _finite(*arrays: np.ndarray | None) -> None:
    """Numbers that are not finite never reach a training."""
    wrong = [a for a in arrays if a is not None and not np.isfinite(np.asarray(a, np.float64)).all()]
    if wrong:
        raise AssertionError("an answer is not finite")


def _read_grid(path: Path) -> object:
    from data.fields.field_reading import read_fields

    fields, bad = read_fields(path / "a.pvd" if path.is_dir() else path, output="u", inputs=["a"])
    _finite(fields.states, fields.parameters)
    return fields, bad


def _open_grid(path: Path) -> object:
    """A grid with uneven axes, which fields are not learned on."""
    from data.fields.vtk_fields import open_fields

    opened = open_fields(path)
    assert opened is not None
    return opened[0].load()


def _read_arrays(path: Path) -> object:
    from data.fields.field_reading import read_fields

    fields, bad = read_fields(path, output="u", inputs=["a"], periodic=True, dims=["sample", "x", "y"])
    _finite(fields.states, fields.parameters)
    return fields, bad


def _read_layout(path: Path) -> object:
    from data.fields.field_reading import read_fields

    fields, bad = read_fields(path)
    _finite(fields.states, fields.parameters)
    return fields, bad


def _read_mesh(path: Path) -> object:
    from data.meshes.vtk_meshes import read_mesh_files

    samples, bad = read_mesh_files(path)
    for mesh in samples.meshes:
        _finite(mesh.nodes, mesh.fields)
    return samples, bad


def _read_frames(path: Path) -> object:
    from data.structures.frame_settings import KeySettings, LabelUnits
    from surrogates.potentials.structure_reading import read_structures

    units = LabelUnits(energy="kcal/mol", forces="kcal/mol/Angstrom") if path.suffix == ".npz" else LabelUnits()
    table = read_structures(path, None, KeySettings(units=units).keys("data."))
    _finite(table.positions, table.lattice)
    return table


def _read_md17_inside(path: Path) -> object:
    """A changed array in an archive whose checksums are right."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"{path.stem}.npz"
        program_files.md17_with(whole, path.read_bytes())
        return _read_frames(whole)


def _read_foam_field(path: Path) -> object:
    from simulators.fluids.openfoam.files import read_field

    return read_field(path).over(12)


def _read_poly_mesh(path: Path) -> object:
    from simulators.fluids.openfoam.poly_mesh import read_poly_mesh

    mesh = read_poly_mesh(path)
    return mesh.cell_centres, mesh.cell_volumes, mesh.face_areas, mesh.patches


#: Those that take part in `foreign.READERS`.
READERS = (
    FaultReader("vtk uniform grid", "a.vti", program_files.make_vti, _read_grid),
    FaultReader("vtk uneven grid", "a.vtr", program_files.make_vtr, _open_grid),
    FaultReader("vtk grid of points", "a.vts", program_files.make_vts, _read_grid),
    FaultReader("vtk collection", "grids", program_files.make_collection, _read_grid, "*.pvd"),
    FaultReader("vtk mesh", "a.vtu", program_files.mesh_of(kinds=False), _read_mesh),
    FaultReader("vtk polygons", "a.vtu", program_files.mesh_of(kinds=True), _read_mesh),
    FaultReader("vtk surface", "a.vtp", program_files.mesh_of(kinds=True), _read_mesh),
    FaultReader("fields mat", "a.mat", program_files.make_mat, _read_arrays),
    FaultReader("fields mat 7.3", "a.mat", program_files.make_mat_73, _read_arrays),
    FaultReader("fields pdebench", "a.hdf5", program_files.make_pdebench, _read_layout),
    FaultReader("fields well", "a.hdf5", program_files.make_well, _read_layout),
    FaultReader("md17", "a.npz", program_files.make_md17, _read_frames),
    FaultReader("md17 inside", "a.npy", program_files.make_positions, _read_md17_inside),
    FaultReader("deepmd", "system", program_files.make_deepmd, _read_frames),
    FaultReader("ase trajectory", "a.traj", program_files.make_traj, _read_frames),
    FaultReader("vasprun", "vasprun.xml", program_files.make_vasprun, _read_frames),
    FaultReader("foam field binary", "U", program_files.foam_field(packed=False), _read_foam_field),
    FaultReader("foam field binary gzip", "U.gz", program_files.foam_field(packed=True), _read_foam_field),
    FaultReader("foam mesh binary", "polyMesh", program_files.make_poly_mesh, _read_poly_mesh),
)
