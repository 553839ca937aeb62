"""Every reader of files that others wrote, each with a maker of small valid ones, for `broken_files` to break."""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from experiments.benchmarks.broken_files import Reader

SMILES = ("CCO", "c1ccccc1", "CC(=O)O", "C1CC1", "O", "CN", "C#N", "OCC(F)F")


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 22])


def _opcode_text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _opcode_number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def torch_description(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The opcodes by which PyTorch describes a dict of tensors of float32."""
    items = []
    for key, (name, array) in enumerate(arrays.items()):
        steps = [s // array.itemsize for s in array.strides]
        storage = b"ctorch\nFloatStorage\n" + _opcode_text(str(key)) + _opcode_text("cpu") + _opcode_number(array.size)
        items.append(
            _opcode_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + _opcode_text("storage") + storage + b"tQ"
            + _opcode_number(0) + b"(" + b"".join(map(_opcode_number, array.shape)) + b"t"
            + b"(" + b"".join(map(_opcode_number, steps)) + b"t\x89ccollections\nOrderedDict\n)RtR"
        )  # fmt: skip
    return b"\x80\x02}(" + b"".join(items) + b"u."


def _fields_arrays(seed: int) -> dict[str, np.ndarray]:
    rng = _rng(seed)
    return {name: rng.normal(size=(3, 8, 8)).astype("<f4") for name in ("a", "u")}


def _zip_torch(path: Path, description: bytes, arrays: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def _make_torch(path: Path, seed: int) -> None:
    arrays = _fields_arrays(seed)
    _zip_torch(path, torch_description(arrays), arrays)


def _make_description(path: Path, seed: int) -> None:
    path.write_bytes(torch_description(_fields_arrays(seed)))


def _read_description(path: Path) -> object:
    """A changed description in an archive whose checksums are right."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "a.pt"
        _zip_torch(whole, path.read_bytes(), _fields_arrays(0))
        return _read_fields(whole)


def _read_fields(path: Path) -> object:
    from data.fields import read_fields

    dims = ["sample", "x", "y"] if path.suffix in (".pt", ".npz") else None
    return read_fields(path, output="u", inputs=["a"], periodic=True, dims=dims)


def _make_npy(path: Path, seed: int) -> None:
    np.save(path, _fields_arrays(seed)["a"])


def _read_npy(path: Path) -> object:
    from data.field_files import open_samples

    return open_samples(path, ["sample", "x", "y"], None, []).data.load()


def _make_npz(path: Path, seed: int) -> None:
    save = np.savez_compressed if seed % 2 else np.savez
    save(path, **cast(Any, _fields_arrays(seed)))


def _make_npy_inside(path: Path, seed: int) -> None:
    buffer = io.BytesIO()
    np.save(buffer, _fields_arrays(seed)["u"])
    path.write_bytes(buffer.getvalue())


def _read_npy_inside(path: Path) -> object:
    """A changed array in an archive whose checksums are right."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "a.npz"
        other = io.BytesIO()
        np.save(other, _fields_arrays(0)["a"])
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("u.npy", path.read_bytes())
            archive.writestr("a.npy", other.getvalue())
        return _read_fields(whole)


def _fields_dataset(seed: int) -> xr.Dataset:
    points = np.arange(8) / 8
    data = xr.Dataset({k: (("sample", "x", "y"), v, {"units": "m"}) for k, v in _fields_arrays(seed).items()})
    data = data.assign_coords(x=("x", points, {"units": "m"}), y=("y", points, {"units": "m"}))
    return data.assign_attrs(boundary_conditions="periodic")


def _states_dataset(seed: int) -> xr.Dataset:
    rng = _rng(seed)
    dims, times = ("time", "latitude", "longitude"), 4
    data = xr.Dataset(
        {
            "t2m": (dims, 280 + rng.normal(size=(times, 5, 8)).astype("f4"), {"units": "K"}),
            "t": (
                ("time", "level", *dims[1:]),
                250 + rng.normal(size=(times, 2, 5, 8)).astype("f4"),
                {"units": "K", "standard_name": "air_temperature"},
            ),
        },
        {
            "time": np.datetime64("2020-02-28", "ns") + np.arange(times) * np.timedelta64(6, "h"),
            "level": ("level", [500, 850], {"units": "hPa"}),
            "latitude": ("latitude", np.linspace(80, -80, 5), {"units": "degrees_north"}),
            "longitude": ("longitude", np.arange(8) * 45.0, {"units": "degrees_east"}),
        },
    )
    data["t2m"].encoding |= {"dtype": "i2", "scale_factor": 0.01, "add_offset": 280.0, "_FillValue": -32767}
    return data


def _classic(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    return lambda path, seed: data(seed).to_netcdf(path, engine="scipy", format="NETCDF3_64BIT")


def _netcdf(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    def make(path: Path, seed: int) -> None:
        one = data(seed)
        packed = {str(k): {"zlib": True, "shuffle": True, "fletcher32": bool(seed % 3)} for k in one.data_vars}
        one.to_netcdf(path, engine="h5netcdf", encoding=cast(Any, packed) if seed % 2 else None)

    return make


def _old_netcdf(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    """As most programs write it: the older layout of HDF5, whose metadata have no checksums."""

    def make(path: Path, seed: int) -> None:
        import h5py  # type: ignore[import-untyped]

        one = data(seed)
        encoded = {str(k): xr.conventions.encode_cf_variable(v, name=k) for k, v in one.variables.items()}
        with h5py.File(path, "w", libver="earliest") as file:
            for name, variable in encoded.items():
                chunks = (
                    {"chunks": (1, *variable.shape[1:]), "compression": "gzip"}
                    if seed % 2 and variable.ndim > 1
                    else {}
                )
                held = file.create_dataset(name, data=np.asarray(variable.values), **chunks)
                held.attrs.update(variable.attrs)
                if variable.dims == (name,):
                    held.make_scale(name)
            for dim in {str(d) for d in one.dims} - {*encoded}:
                file.create_dataset(dim, (one.sizes[dim],), "f4").make_scale(
                    f"This is a netCDF dimension but not a netCDF variable.{one.sizes[dim]:>10}"
                )
            for name, variable in encoded.items():
                if variable.dims != (name,):
                    for axis, along in enumerate(variable.dims):
                        file[name].dims[axis].attach_scale(file[str(along)])
            file.attrs.update(one.attrs)

    return make


def _zarr(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    return lambda path, seed: cast(
        None, data(seed).to_zarr(path, zarr_format=3 - seed % 2, consolidated=bool(seed % 4))
    )


def _read_states(path: Path) -> object:
    from simulators.weather.reanalysis import Reanalysis

    source = Reanalysis(str(path))
    source.reading()
    return [source.layout.stack(s.read(0, len(s.times))) for s in source.segments()]


def _make_grib(path: Path, seed: int) -> None:
    import eccodes

    rng = _rng(seed)
    with open(path, "wb") as out:
        for hour in range(2):
            for short, level in (("2t", 0), ("t", 850)):
                message = eccodes.codes_grib_new_from_samples(
                    "regular_ll_sfc_grib2" if seed % 2 else "regular_ll_sfc_grib1"
                )
                ours = {
                    "Ni": 8, "Nj": 5, "latitudeOfFirstGridPointInDegrees": 80, "latitudeOfLastGridPointInDegrees": -80,
                    "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 315,
                    "iDirectionIncrementInDegrees": 45, "jDirectionIncrementInDegrees": 40, "date": 20200228,
                    "hour": 6 * hour, "typeOfLevel": "isobaricInhPa" if level else "surface", "level": level,
                    "shortName": short,
                }  # fmt: skip
                for key, value in ours.items():
                    eccodes.codes_set(message, key, value)
                eccodes.codes_set_values(message, 260 + rng.normal(size=40))
                eccodes.codes_write(message, out)
                eccodes.codes_release(message)


@cache
def _truth() -> Any:
    from data.windows import write_windows
    from simulators.weather.reanalysis import Reanalysis

    folder = Path(tempfile.mkdtemp())
    _classic(_states_dataset)(folder / "truth.nc", 0)
    source = Reanalysis(str(folder / "truth.nc"))
    return write_windows(folder / "windows", source.segments(), source.layout, fingerprint="f" * 64)


def _forecasts_dataset(seed: int) -> xr.Dataset:
    data = _states_dataset(seed)
    lead = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    parts = [data.isel(time=[k, k + 1]).assign_coords(time=lead).rename(time="prediction_timedelta") for k in (1, 2)]
    return xr.concat(parts, xr.DataArray(data.time.values[:2], dims="time", name="time"))


def _read_forecasts(path: Path) -> object:
    from experiments.weather.external import ExternalForecasts

    truth = _truth()
    found = ExternalForecasts.open(path, truth)
    rows, reading = found.starts(truth, (0, 4), None)
    return found.forecast_arrays(np.zeros(0), truth.times[rows], 2), reading


def _make_smiles(path: Path, seed: int) -> None:
    path.write_text("\n".join(_rng(seed).permutation(SMILES)))


def _table_text(seed: int, delimiter: str = ",", rows: int = len(SMILES)) -> str:
    rng = _rng(seed)
    lines = [delimiter.join(["smiles", "name", "gap", "energy"])]
    for smiles in rng.choice(SMILES, rows):
        name = '"two, words"' if delimiter == "," and rng.random() < 0.3 else "word"
        lines.append(delimiter.join([str(smiles), name, f"{rng.normal():.4f}", f"{rng.normal():.6g}"]))
    return "\n".join(lines) + "\n"


def _read_table(path: Path) -> object:
    from data import molecules
    from data.tally import TableTally

    tally = TableTally()
    found = list(molecules.read(path, columns=["gap", "energy"], tally=tally))
    return found, tally.reading(path)


def _read_molecules(path: Path) -> object:
    from data import molecules

    return list(molecules.read(path))


def _read_chunks(path: Path) -> object:
    from data import molecules

    return list(molecules.iter_smiles_chunks(path, 4))


def _read_candidates(path: Path) -> object:
    from experiments.screening_sources import open_source

    source = open_source(path, "smiles")
    return [cast(Any, piece.chunk).rows() for piece in source.pieces(4, *source.start)]


def _read_designs(path: Path) -> object:
    from experiments.screening_designs import designs_in

    source = designs_in(path, ["gap", "energy"]).source
    return list(source.pieces(4, *source.start))


def _make_parquet(path: Path, seed: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = _rng(seed)
    names = ["b\u00e4\u00e4r", "plain"] * (len(SMILES) // 2)
    table = {"smiles": SMILES, "name": names, "gap": rng.normal(size=len(SMILES)), "energy": range(len(SMILES))}
    pq.write_table(pa.table(table), path, row_group_size=4, compression="zstd" if seed % 2 else "none")


def _rows(seed: int) -> list[Any]:
    from data.rows import Row

    rng = _rng(seed)
    numbers = np.array([8, 1, 1])
    return [
        Row(
            i, "O", numbers, rng.normal(size=(3, 3)), {"energy": float(rng.normal()), "forces": rng.normal(size=(3, 3))}
        )
        for i in range(3)
    ]


def _make_sdf(path: Path, seed: int) -> None:
    from rdkit import Chem

    rng = _rng(seed)
    blocks = []
    for smiles in rng.permutation(SMILES)[:3]:
        molecule = Chem.AddHs(Chem.MolFromSmiles(str(smiles)))
        conformer = Chem.Conformer(molecule.GetNumAtoms())
        for i, position in enumerate(rng.normal(size=(molecule.GetNumAtoms(), 3)).tolist()):
            conformer.SetAtomPosition(i, position)
        molecule.AddConformer(conformer)
        write = Chem.MolToV3KMolBlock if rng.random() < 0.5 else Chem.MolToMolBlock
        blocks.append(f"{write(molecule)}>  <energy>\n{rng.normal():.4f}\n\n$$$$\n")
    path.write_text("".join(blocks))


def _writer(name: str) -> Callable[[Path, int], None]:
    def make(path: Path, seed: int) -> None:
        from data import molecules

        getattr(molecules, name)(path, _rows(seed))

    return make


def _read_frames(path: Path) -> object:
    from data import molecules
    from data.frame_names import FrameKeys
    from data.frame_reading import FrameTally
    from data.structures import Structures

    tally = FrameTally(path, FrameKeys())
    rows = []
    for row in molecules.read(path, rejects=cast(Any, tally)):
        tally.take(row)
        rows.append(row)
    tally.reading(spins=True)
    return Structures.from_frames([r for r in rows if r.positions is not None], where=str(path)) if rows else None


def _make_trajectory(path: Path, seed: int) -> None:
    from data.frames import Frame
    from data.trajectories import write_frames

    rng = _rng(seed)
    numbers = np.array([8, 1, 1], np.int32)
    write_frames((Frame(0, k, 0.5 * k, numbers, rng.normal(size=(3, 3)), 1.0) for k in range(3)), path, source="s")


def _read_trajectory(path: Path) -> object:
    from data.trajectories import read_trajectory

    return read_trajectory(path)


_FOAM_HEAD = "FoamFile\n{\n    version 2.0;\n    format ascii;\n    class volVectorField;\n    object U;\n}\n"


def _make_foam_field(path: Path, seed: int) -> None:
    values = " ".join(f"({x:.5g} {y:.5g} 0)" for x, y in _rng(seed).normal(size=(12, 2)))
    path.write_text(
        f"{_FOAM_HEAD}dimensions [0 1 -1 0 0 0 0];\ninternalField nonuniform List<vector> 12\n({values});\n"
        "boundaryField\n{\n    inlet { type fixedValue; value uniform (1 0 0); }\n    wall { type noSlip; }\n"
        "    outlet { type fixedValue; value nonuniform List<vector> 2((1 0 0) (2 0 0)); }\n}\n"
    )


def _read_foam_field(path: Path) -> object:
    from simulators.fluids.foam_files import read_field

    return read_field(path).over(12)


def _make_foam_table(path: Path, seed: int) -> None:
    rows = "\n".join(f"{k} {a:.5g} {b:.5g}" for k, (a, b) in enumerate(_rng(seed).normal(size=(5, 2))))
    path.write_text(f"# Force coefficients\n# dragDir : (1 0 0)\n# Time Cd Cl\n{rows}\n")


def _read_foam_table(path: Path) -> object:
    from simulators.fluids.foam_files import read_table

    return read_table(path)


def _make_case(path: Path, seed: int) -> None:
    for name, text in {
        "system/controlDict": (
            "application icoFoam;\nstartFrom startTime;\nstartTime 0;\nendTime 1;\ndeltaT {{step}};\n"
            "// a comment\nwriteFormat ascii;\n"
            "functions { forces { type forceCoeffs; libs (forces); patches (body); } }\n"
        ),
        "system/fvSchemes": "ddtSchemes { default Euler; }\ngradSchemes { default Gauss linear; }\n",
        "system/fvSolution": 'solvers { p { solver PCG; tolerance 1e-6; } "(U|k)" { solver PBiCG; } }\n',
        "constant/transportProperties": f'nu [0 2 -1 0 0 0 0] {{{{nu}}}}; /* {seed} */\n#include "values"\n',
        "constant/values": "rho 1.0;\n",
        "0/p": "dimensions [0 2 -2 0 0 0 0];\ninternalField uniform 0;\nboundaryField { inlet { type zeroGradient; } }",
        "0.5/p": "internalField uniform 0;\n",
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)


def _read_case(path: Path) -> object:
    from simulators.fluids.foam_files import at_time, latest
    from simulators.fluids.foam_template import Template, match_placeholders

    template = Template.read(path)
    match_placeholders(template, {"step": "parameters", "nu": "parameters"}, str(path))
    at_time(path, 0.5)
    latest(path)
    with tempfile.TemporaryDirectory() as folder:
        template.write(Path(folder), {"step": 0.1, "nu": 0.01})
    return template.hash, template.idle


def _make_library(path: Path, seed: int) -> None:
    from data.featurise import encode
    from data.library import Prepared, PreparedLibrary, write_part
    from experiments.screening_chunks import pack_text

    path.mkdir()
    parts = []
    for number in range(2):
        smiles = _rng(seed + number).permutation(SMILES).tolist()
        table, _ = encode(smiles)
        text, offsets = pack_text(smiles)
        held = Prepared(table, text, offsets, np.arange(2, len(smiles) + 2), [""] * len(smiles) if seed % 2 else None)
        parts.append(write_part(path, number, held))
    PreparedLibrary(path, tuple(parts), 0, {"path": "a.smi"}).save()


def _read_library(path: Path) -> object:
    from experiments.screening_sources import open_source
    from surrogates.graph.molecular import MolecularSurrogate  # noqa: F401

    source = open_source(path, "smiles")
    found = []
    for piece in source.pieces(3, *source.start):
        chunk: Any = piece.chunk
        found += [{k: v.to_pylist() for k, v in chunk.columns().items()}, chunk.table.take(slice(0, 2))]
        found += [chunk.table.atoms.sum(), chunk.table.bonds.sum(), chunk.lines.sum()]
    return found


def _make_run(path: Path, seed: int) -> None:
    path.write_text(
        f"name: simulate\nseed: {seed}\nsimulator:\n  _target_: simulators.fluids.exponax.ExponaxSimulator\n"
        "  equation: burgers\n  points: 16\n  extra: [1, 2, {a: 1}]\nrun:\n  dir: runs/x\n"
    )


def _read_run(path: Path) -> object:
    from experiments.named_simulator import _used_by

    return _used_by(path, ["simulator.points=8"], key="simulator")


def _packed(make: Callable[[int], bytes]) -> Callable[[Path, int], None]:
    return lambda path, seed: cast(None, path.write_bytes(gzip.compress(make(seed), mtime=0)))


_ALL = (
    Reader("torch", "a.pt", _make_torch, _read_fields),
    Reader("torch description", "a.pkl", _make_description, _read_description),
    Reader("npy", "a.npy", _make_npy, _read_npy),
    Reader("npz", "a.npz", _make_npz, _read_fields),
    Reader("npz inside", "a.npy", _make_npy_inside, _read_npy_inside),
    Reader("fields netcdf3", "a.nc", _classic(_fields_dataset), _read_fields),
    Reader("fields netcdf4", "a.nc", _netcdf(_fields_dataset), _read_fields),
    Reader("fields netcdf4 old", "a.nc", _old_netcdf(_fields_dataset), _read_fields),
    Reader("fields zarr", "a.zarr", _zarr(_fields_dataset), _read_fields, "*"),
    Reader("fields zarr metadata", "a.zarr", _zarr(_fields_dataset), _read_fields, "*z*[!0-9]"),
    Reader("states netcdf3", "a.nc", _classic(_states_dataset), _read_states),
    Reader("states netcdf4", "a.nc", _netcdf(_states_dataset), _read_states),
    Reader("states netcdf4 old", "a.nc", _old_netcdf(_states_dataset), _read_states),
    Reader("states zarr", "a.zarr", _zarr(_states_dataset), _read_states, "*"),
    Reader("states zarr metadata", "a.zarr", _zarr(_states_dataset), _read_states, "*z*[!0-9]"),
    Reader("states grib", "a.grib", _make_grib, _read_states),
    Reader("forecasts netcdf3", "a.nc", _classic(_forecasts_dataset), _read_forecasts),
    Reader("forecasts netcdf4", "a.nc", _netcdf(_forecasts_dataset), _read_forecasts),
    Reader("forecasts netcdf4 old", "a.nc", _old_netcdf(_forecasts_dataset), _read_forecasts),
    Reader("forecasts zarr", "a.zarr", _zarr(_forecasts_dataset), _read_forecasts, "*"),
    *(
        Reader(f"{kind} {what}", f"a.{suffix}", make, read)
        for kind, suffix, make in (
            ("csv", "csv", lambda path, seed: cast(None, path.write_text(_table_text(seed)))),
            ("csv gzip", "csv.gz", _packed(lambda seed: _table_text(seed, rows=400).encode())),
            ("csv utf-16", "csv", lambda path, seed: cast(None, path.write_bytes(_table_text(seed).encode("utf-16")))),
            ("tsv", "tsv", lambda path, seed: cast(None, path.write_text(_table_text(seed, "\t")))),
            ("parquet", "parquet", _make_parquet),
        )
        for what, read in (
            ("table", _read_table),
            ("chunks", _read_chunks),
            ("candidates", _read_candidates),
            ("designs", _read_designs),
        )
    ),
    *(
        Reader(f"smiles {what}", "a.smi", _make_smiles, read)
        for what, read in (("table", _read_molecules), ("chunks", _read_chunks), ("candidates", _read_candidates))
    ),
    Reader("sdf", "a.sdf", _make_sdf, _read_frames),
    Reader("extxyz", "a.extxyz", _writer("write_extxyz"), _read_frames),
    Reader("extxyz gzip", "a.xyz.gz", _writer("write_extxyz"), _read_frames),
    Reader("ase database", "a.db", _writer("write_ase_db"), _read_frames),
    Reader("trajectory", "a.xyz", _make_trajectory, _read_trajectory),
    Reader("trajectory gzip", "a.xyz.gz", _make_trajectory, _read_trajectory),
    Reader("foam field", "U", _make_foam_field, _read_foam_field),
    Reader("foam table", "coefficient.dat", _make_foam_table, _read_foam_table),
    Reader("foam case", "case", _make_case, _read_case),
    Reader("prepared library", "library", _make_library, _read_library),
    Reader("prepared library card", "library", _make_library, _read_library, "library.json"),
    Reader("run of simulate", "config.yaml", _make_run, _read_run),
)  # fmt: skip
#: By name.
READERS: Mapping[str, Reader] = {reader.name: reader for reader in _ALL}
