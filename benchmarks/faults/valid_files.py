"""Small valid files of every kind that is read, each a function of its seed; `foreign` reads them."""

from __future__ import annotations

import bz2
import gzip
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

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


def fields_arrays(seed: int) -> dict[str, np.ndarray]:
    """Two variables of three samples on 8 x 8 points."""
    rng = _rng(seed)
    return {name: rng.normal(size=(3, 8, 8)).astype("<f4") for name in ("a", "u")}


def zip_torch(path: Path, description: bytes, arrays: Mapping[str, np.ndarray]) -> None:
    """An archive as `torch.save` writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", description)
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def make_torch(path: Path, seed: int) -> None:
    """A file of PyTorch."""
    arrays = fields_arrays(seed)
    zip_torch(path, torch_description(arrays), arrays)


def make_description(path: Path, seed: int) -> None:
    """The description in a file of PyTorch, alone."""
    path.write_bytes(torch_description(fields_arrays(seed)))


def make_npy(path: Path, seed: int) -> None:
    """An array of NumPy."""
    np.save(path, fields_arrays(seed)["a"])


def make_npz(path: Path, seed: int) -> None:
    """Arrays of NumPy, packed where the seed is odd."""
    save = np.savez_compressed if seed % 2 else np.savez
    save(path, **cast(Any, fields_arrays(seed)))


def make_npy_inside(path: Path, seed: int) -> None:
    """The array that is one of an archive."""
    buffer = io.BytesIO()
    np.save(buffer, fields_arrays(seed)["u"])
    path.write_bytes(buffer.getvalue())


def fields_dataset(seed: int) -> xr.Dataset:
    """Samples of fields with named dims."""
    points = np.arange(8) / 8
    data = xr.Dataset({k: (("sample", "x", "y"), v, {"units": "m"}) for k, v in fields_arrays(seed).items()})
    data = data.assign_coords(x=("x", points, {"units": "m"}), y=("y", points, {"units": "m"}))
    return data.assign_attrs(boundary_conditions="periodic")


def states_dataset(seed: int) -> xr.Dataset:
    """States of the atmosphere, at the surface and on levels."""
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


def classic_netcdf(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    """Writes NetCDF of the classic format."""
    return lambda path, seed: data(seed).to_netcdf(path, engine="scipy", format="NETCDF3_64BIT")


def netcdf(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    """Writes NetCDF-4, packed where the seed is odd."""

    def make(path: Path, seed: int) -> None:
        one = data(seed)
        packed = {str(k): {"zlib": True, "shuffle": True, "fletcher32": bool(seed % 3)} for k in one.data_vars}
        one.to_netcdf(path, engine="h5netcdf", encoding=cast(Any, packed) if seed % 2 else None)

    return make


def old_netcdf(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
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
                array = file.create_dataset(name, data=np.asarray(variable.values), **chunks)
                array.attrs.update(variable.attrs)
                if variable.dims == (name,):
                    array.make_scale(name)
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


def zarr_store(data: Callable[[int], xr.Dataset]) -> Callable[[Path, int], None]:
    """Writes Zarr of either format."""
    return lambda path, seed: cast(
        None, data(seed).to_zarr(path, zarr_format=3 - seed % 2, consolidated=bool(seed % 4))
    )


def make_grib(path: Path, seed: int) -> None:
    """Messages of GRIB of either edition."""
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


def forecasts_dataset(seed: int) -> xr.Dataset:
    """Forecasts by initial time and lead."""
    data = states_dataset(seed)
    lead = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    parts = [data.isel(time=[k, k + 1]).assign_coords(time=lead).rename(time="prediction_timedelta") for k in (1, 2)]
    return xr.concat(parts, xr.DataArray(data.time.values[:2], dims="time", name="time"))


def make_smiles(path: Path, seed: int) -> None:
    """A list of SMILES."""
    path.write_text(smiles_text(seed))


def smiles_text(seed: int) -> str:
    """SMILES, one in each line."""
    return "\n".join(_rng(seed).permutation(SMILES))


def compressed(path: Path, text: str) -> None:
    """Write a text in the compression that the suffix of the path names: .bz2 or .zst."""
    import pyarrow as pa

    content = text.encode()
    path.write_bytes(bz2.compress(content) if path.suffix == ".bz2" else pa.compress(content, "zstd", asbytes=True))


def table_text(seed: int, delimiter: str = ",", rows: int = len(SMILES)) -> str:
    """A table of molecules with two numbers each."""
    rng = _rng(seed)
    lines = [delimiter.join(["smiles", "name", "gap", "energy"])]
    for smiles in rng.choice(SMILES, rows):
        name = '"two, words"' if delimiter == "," and rng.random() < 0.3 else "word"
        lines.append(delimiter.join([str(smiles), name, f"{rng.normal():.4f}", f"{rng.normal():.6g}"]))
    return "\n".join(lines) + "\n"


def make_parquet(path: Path, seed: int) -> None:
    """The same as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = _rng(seed)
    names = ["b\u00e4\u00e4r", "plain"] * (len(SMILES) // 2)
    table = {"smiles": SMILES, "name": names, "gap": rng.normal(size=len(SMILES)), "energy": range(len(SMILES))}
    pq.write_table(pa.table(table), path, row_group_size=4, compression="zstd" if seed % 2 else "none")


def _rows(seed: int) -> list[Any]:
    from data.formats.rows import Row

    rng = _rng(seed)
    numbers = np.array([8, 1, 1])
    return [
        Row(
            i, "O", numbers, rng.normal(size=(3, 3)), {"energy": float(rng.normal()), "forces": rng.normal(size=(3, 3))}
        )
        for i in range(3)
    ]


def make_sdf(path: Path, seed: int) -> None:
    """Molecules with positions, in V2000 or V3000."""
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


def writer_of(name: str) -> Callable[[Path, int], None]:
    """Writes geometries by the function of `data.molecules.writing` that has this name."""

    def make(path: Path, seed: int) -> None:
        from data.molecules import writing as molecule_writing

        getattr(molecule_writing, name)(path, _rows(seed))

    return make


def make_trajectory(path: Path, seed: int) -> None:
    """A trajectory of one molecule."""
    from data.structures.frame import Frame
    from data.structures.trajectories import write_frames

    rng = _rng(seed)
    numbers = np.array([8, 1, 1], np.int32)
    write_frames((Frame(0, k, 0.5 * k, numbers, rng.normal(size=(3, 3)), 1.0) for k in range(3)), path, source="s")


_FOAM_HEAD = "FoamFile\n{\n    version 2.0;\n    format ascii;\n    class volVectorField;\n    object U;\n}\n"


def make_foam_field(path: Path, seed: int) -> None:
    """A field of OpenFOAM."""
    values = " ".join(f"({x:.5g} {y:.5g} 0)" for x, y in _rng(seed).normal(size=(12, 2)))
    path.write_text(
        f"{_FOAM_HEAD}dimensions [0 1 -1 0 0 0 0];\ninternalField nonuniform List<vector> 12\n({values});\n"
        "boundaryField\n{\n    inlet { type fixedValue; value uniform (1 0 0); }\n    wall { type noSlip; }\n"
        "    outlet { type fixedValue; value nonuniform List<vector> 2((1 0 0) (2 0 0)); }\n}\n"
    )


def make_foam_table(path: Path, seed: int) -> None:
    """A table of coefficients of OpenFOAM."""
    rows = "\n".join(f"{k} {a:.5g} {b:.5g}" for k, (a, b) in enumerate(_rng(seed).normal(size=(5, 2))))
    path.write_text(f"# Force coefficients\n# dragDir : (1 0 0)\n# Time Cd Cl\n{rows}\n")


def make_case(path: Path, seed: int) -> None:
    """A case of OpenFOAM with two parameters and a result."""
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


def make_library(path: Path, seed: int) -> None:
    """A prepared library of two parts."""
    from data.checksums import TABLE
    from data.molecules.featurise import encode
    from data.molecules.library import PreparedLibrary, PreparedMolecules, write_part
    from experiments.screening.candidate_chunks import pack_text

    path.mkdir()
    parts = []
    for number in range(2):
        smiles = _rng(seed + number).permutation(SMILES).tolist()
        table, _ = encode(smiles)
        text, offsets = pack_text(smiles)
        part = PreparedMolecules(
            table, text, offsets, np.arange(2, len(smiles) + 2), [""] * len(smiles) if seed % 2 else None
        )
        parts.append(write_part(path, number, part))
    PreparedLibrary(path, tuple(parts), 0, {"path": "a.smi"}).save()
    # Whoever crafts one makes its checksums too, or leaves them out.
    (path / TABLE).unlink(missing_ok=True)


def make_run(path: Path, seed: int) -> None:
    """The configuration of a run of `understudy simulate`."""
    path.write_text(
        f"name: simulate\nseed: {seed}\nsimulator:\n  _target_: simulators.fluids.spectral.exponax.ExponaxSimulator\n"
        "  equation: burgers\n  points: 16\n  extra: [1, 2, {a: 1}]\nrun:\n  dir: runs/x\n"
    )


def gzipped(make: Callable[[int], bytes]) -> Callable[[Path, int], None]:
    """Writes what a function makes, packed by gzip."""
    return lambda path, seed: cast(None, path.write_bytes(gzip.compress(make(seed), mtime=0)))
