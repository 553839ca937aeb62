"""Every reader of files that others wrote, each with a maker of small valid ones, for `broken_files` to break."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.faults.broken_files import FaultReader
from benchmarks.faults.program_files import make_grib_forecasts
from benchmarks.faults.program_readers import READERS as PROGRAM_READERS
from benchmarks.faults.valid_files import (
    classic_netcdf,
    compressed,
    fields_arrays,
    fields_dataset,
    forecasts_dataset,
    gzipped,
    make_case,
    make_description,
    make_foam_field,
    make_foam_table,
    make_grib,
    make_library,
    make_npy,
    make_npy_inside,
    make_npz,
    make_parquet,
    make_run,
    make_sdf,
    make_smiles,
    make_torch,
    make_trajectory,
    netcdf,
    old_netcdf,
    smiles_text,
    states_dataset,
    table_text,
    writer_of,
    zarr_store,
    zip_torch,
)


def _read_description(path: Path) -> object:
    """A changed description in an archive whose checksums are right."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "a.pt"
        zip_torch(whole, path.read_bytes(), fields_arrays(0))
        return _read_fields(whole)


def _read_fields(path: Path) -> object:
    from data.fields.field_reading import read_fields

    dims = ["sample", "x", "y"] if path.suffix in (".pt", ".npz") else None
    return read_fields(path, output="u", inputs=["a"], periodic=True, dims=dims)


def _read_npy(path: Path) -> object:
    from data.fields.files import open_samples

    return open_samples(path, ["sample", "x", "y"], None, []).data.load()


def _read_npy_inside(path: Path) -> object:
    """A changed array in an archive whose checksums are right."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "a.npz"
        other = io.BytesIO()
        np.save(other, fields_arrays(0)["a"])
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("u.npy", path.read_bytes())
            archive.writestr("a.npy", other.getvalue())
        return _read_fields(whole)


def _read_states(path: Path) -> object:
    from simulators.atmosphere.reanalysis.reanalysis import Reanalysis

    source = Reanalysis(str(path))
    source.reading()
    return [source.layout.stack(s.read(0, len(s.times))) for s in source.segments()]


@cache
def _truth() -> Any:
    from data.sphere.writing import write_windows
    from simulators.atmosphere.reanalysis.reanalysis import Reanalysis

    folder = Path(tempfile.mkdtemp())
    classic_netcdf(states_dataset)(folder / "truth.nc", 0)
    source = Reanalysis(str(folder / "truth.nc"))
    return write_windows(folder / "windows", source.segments(), source.layout, fingerprint="f" * 64)


def _read_forecasts(path: Path) -> object:
    from experiments.forecasting.external_forecasts import ExternalForecasts

    truth = _truth()
    forecasts = ExternalForecasts.open(path, truth)
    rows, reading = forecasts.starts(truth, (0, 4), None)
    return forecasts.forecast_arrays(np.zeros(0), truth.times[rows], 2), reading


def _read_table(path: Path) -> object:
    from data.molecules import files as molecules
    from data.molecules.tally import TableTally

    tally = TableTally()
    rows = list(molecules.read(path, columns=["gap", "energy"], tally=tally))
    return rows, tally.reading(path)


def _read_molecules(path: Path) -> object:
    from data.molecules import files as molecules

    return list(molecules.read(path))


def _read_chunks(path: Path) -> object:
    from data.molecules import files as molecules

    return list(molecules.iter_smiles_chunks(path, 4))


def _read_candidates(path: Path) -> object:
    from experiments.screening.candidate_sources import open_source

    source = open_source(path, "smiles")
    return [cast(Any, piece.chunk).rows() for piece in source.pieces(4, *source.start)]


def _read_designs(path: Path) -> object:
    from experiments.screening.designs import designs_in

    source = designs_in(path, ["gap", "energy"]).source
    return list(source.pieces(4, *source.start))


def _read_frames(path: Path) -> object:
    from data.molecules import files as molecules
    from data.structures.frame_names import FrameKeys
    from data.structures.frame_reading import FrameTally
    from data.structures.structures import Structures

    tally = FrameTally(path, FrameKeys())
    rows = []
    for row in molecules.read(path, rejects=cast(Any, tally)):
        tally.take(row)
        rows.append(row)
    tally.reading(spins=True)
    return Structures.from_frames([r for r in rows if r.positions is not None], where=str(path)) if rows else None


def _read_trajectory(path: Path) -> object:
    from data.structures.trajectories import read_trajectory

    return read_trajectory(path)


def _read_foam_field(path: Path) -> object:
    from simulators.fluids.openfoam.files import read_field

    return read_field(path).over(12)


def _read_foam_table(path: Path) -> object:
    from simulators.fluids.openfoam.files import read_table

    return read_table(path)


def _read_case(path: Path) -> object:
    from simulators.fluids.openfoam.files import at_time, latest
    from simulators.fluids.openfoam.template import Template, match_placeholders

    template = Template.read(path)
    match_placeholders(template, {"step": "parameters", "nu": "parameters"}, str(path))
    at_time(path, 0.5)
    latest(path)
    with tempfile.TemporaryDirectory() as folder:
        template.write(Path(folder), {"step": 0.1, "nu": 0.01})
    return template.hash, template.idle


def _read_library(path: Path) -> object:
    from experiments.screening.candidate_sources import open_source
    from surrogates.properties.surrogate import PropertySurrogate  # noqa: F401

    source = open_source(path, "smiles")
    contents = []
    for piece in source.pieces(3, *source.start):
        chunk: Any = piece.chunk
        contents += [{k: v.to_pylist() for k, v in chunk.columns().items()}, chunk.table.take(slice(0, 2))]
        contents += [chunk.table.atoms.sum(), chunk.table.bonds.sum(), chunk.lines.sum()]
    return contents


def _read_run(path: Path) -> object:
    from experiments.campaigns.named_simulator import _used_by

    return _used_by(path, ["simulator.points=8"], key="simulator")


_ALL = (
    FaultReader("torch", "a.pt", make_torch, _read_fields),
    FaultReader("torch description", "a.pkl", make_description, _read_description),
    FaultReader("npy", "a.npy", make_npy, _read_npy),
    FaultReader("npz", "a.npz", make_npz, _read_fields),
    FaultReader("npz inside", "a.npy", make_npy_inside, _read_npy_inside),
    FaultReader("fields netcdf3", "a.nc", classic_netcdf(fields_dataset), _read_fields),
    FaultReader("fields netcdf4", "a.nc", netcdf(fields_dataset), _read_fields),
    FaultReader("fields netcdf4 old", "a.nc", old_netcdf(fields_dataset), _read_fields),
    FaultReader("fields zarr", "a.zarr", zarr_store(fields_dataset), _read_fields, "*"),
    FaultReader("fields zarr metadata", "a.zarr", zarr_store(fields_dataset), _read_fields, "*z*[!0-9]"),
    FaultReader("states netcdf3", "a.nc", classic_netcdf(states_dataset), _read_states),
    FaultReader("states netcdf4", "a.nc", netcdf(states_dataset), _read_states),
    FaultReader("states netcdf4 old", "a.nc", old_netcdf(states_dataset), _read_states),
    FaultReader("states zarr", "a.zarr", zarr_store(states_dataset), _read_states, "*"),
    FaultReader("states zarr metadata", "a.zarr", zarr_store(states_dataset), _read_states, "*z*[!0-9]"),
    FaultReader("states grib", "a.grib", make_grib, _read_states),
    FaultReader("forecasts netcdf3", "a.nc", classic_netcdf(forecasts_dataset), _read_forecasts),
    FaultReader("forecasts netcdf4", "a.nc", netcdf(forecasts_dataset), _read_forecasts),
    FaultReader("forecasts netcdf4 old", "a.nc", old_netcdf(forecasts_dataset), _read_forecasts),
    FaultReader("forecasts grib", "a.grib", make_grib_forecasts, _read_forecasts),
    FaultReader("forecasts zarr", "a.zarr", zarr_store(forecasts_dataset), _read_forecasts, "*"),
    *(
        FaultReader(f"{kind} {what}", f"a.{suffix}", make, read)
        for kind, suffix, make in (
            ("csv", "csv", lambda path, seed: cast(None, path.write_text(table_text(seed)))),
            ("csv gzip", "csv.gz", gzipped(lambda seed: table_text(seed, rows=400).encode())),
            ("csv bzip2", "csv.bz2", lambda path, seed: compressed(path, table_text(seed, rows=400))),
            ("csv zstandard", "csv.zst", lambda path, seed: compressed(path, table_text(seed, rows=400))),
            ("csv utf-16", "csv", lambda path, seed: cast(None, path.write_bytes(table_text(seed).encode("utf-16")))),
            ("tsv", "tsv", lambda path, seed: cast(None, path.write_text(table_text(seed, "\t")))),
            ("parquet", "parquet", make_parquet),
        )
        for what, read in (
            ("table", _read_table),
            ("chunks", _read_chunks),
            ("candidates", _read_candidates),
            ("designs", _read_designs),
        )
    ),
    *(
        FaultReader(f"smiles {what}", "a.smi", make_smiles, read)
        for what, read in (("table", _read_molecules), ("chunks", _read_chunks), ("candidates", _read_candidates))
    ),
    FaultReader("sdf", "a.sdf", make_sdf, _read_frames),
    FaultReader("sdf candidates", "a.sdf", make_sdf, _read_candidates),
    FaultReader("smiles zstandard candidates", "a.smi.zst", lambda path, seed: compressed(path, smiles_text(seed)),
                _read_candidates),
    FaultReader("extxyz", "a.extxyz", writer_of("write_extxyz"), _read_frames),
    FaultReader("extxyz gzip", "a.xyz.gz", writer_of("write_extxyz"), _read_frames),
    FaultReader("ase database", "a.db", writer_of("write_ase_db"), _read_frames),
    FaultReader("trajectory", "a.xyz", make_trajectory, _read_trajectory),
    FaultReader("trajectory gzip", "a.xyz.gz", make_trajectory, _read_trajectory),
    FaultReader("foam field", "U", make_foam_field, _read_foam_field),
    FaultReader("foam table", "coefficient.dat", make_foam_table, _read_foam_table),
    FaultReader("foam case", "case", make_case, _read_case),
    FaultReader("prepared library", "library", make_library, _read_library),
    FaultReader("prepared library card", "library", make_library, _read_library, "library.json"),
    FaultReader("run of simulate", "config.yaml", make_run, _read_run),
)  # fmt: skip


#: By name.
READERS: Mapping[str, FaultReader] = {reader.name: reader for reader in (*_ALL, *PROGRAM_READERS)}
