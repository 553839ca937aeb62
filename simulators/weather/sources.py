"""Opening what forecasters have: Zarr stores by path or URL, NetCDF files, GRIB files; lazily, through xarray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import CorruptStoreError, InputError
from data.netcdf import open_netcdf
from simulators.base import SimulationError
from simulators.weather.cf import named
from simulators.weather.forecast_steps import flattened
from simulators.weather.joining import INSTALL, Joined, joined
from simulators.weather.members import Member, of_member

GRIB, NETCDF = (".grib", ".grb", ".grib2", ".grb2"), (".nc", ".nc4", ".netcdf", ".cdf")
#: What a URL's scheme needs beside fsspec, and how to open it without an account.
SCHEMES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gs": ("gcsfs", {"token": "anon"}),
    "s3": ("s3fs", {"anon": True}),
    "http": ("aiohttp", {}),
    "https": ("aiohttp", {}),
}


def open_source(path: str | Sequence[str], member: Member = None) -> Joined:
    """A Dataset with our names, whose arrays are read when they are needed, and what has to be said of it.

    Args:
        path: a Zarr store (a directory, or a URL that begins with gs://, s3://, http:// or https://), NetCDF files (a
            file, a list of files, or a pattern such as `data/*.nc`), or GRIB files.
        member: of an ensemble; see `members.of_member`.

    Raises:
        InputError: there is nothing, or it cannot be read.
        CorruptStoreError: chunks of a local Zarr store are missing or cut short.
        SimulationError: `missing_component`: what reads it is not installed.
    """
    if not isinstance(path, str):
        return _files([str(p) for p in path], ", ".join(map(str, path)), member)
    if "://" in path:
        [(_, data)] = of_member([(path, _open_zarr(_remote(path), path))], member)
        return Joined(named(data, path))
    pattern = any(c in path for c in "*?[") and not Path(path).exists()
    return _files(sorted(glob(path)) if pattern else [path], path, member)


def _files(found: list[str], path: str, member: Member) -> Joined:
    absent = [f for f in found if not Path(f).exists()]
    if not found or absent:
        raise InputError("no such file or directory", where=absent[0] if absent else path, remedy="Check the path")
    first = Path(found[0])
    if first.is_dir():
        if len(found) > 1:
            raise InputError(f"{len(found)} directories match", where=path, remedy="Name one Zarr store")
        refuse_damaged(first)
        [(_, data)] = of_member([(path, _open_zarr(str(first), path))], member)
        return Joined(named(data, path))
    kind = {Path(f).suffix.lower() for f in found}
    if kind <= set(GRIB):
        parts = [(f, part) for f in found for part in _grib(f)]
    elif kind <= set(NETCDF):
        parts = [(f, _netcdf(f)) for f in found]
    else:
        raise InputError(
            f"a file of kind {', '.join(sorted(kind))}", where=path, remedy="Give Zarr, NetCDF (.nc) or GRIB (.grib)"
        )
    notes: list[str] = []
    flat = [(f, named(flattened(part, notes), f)) for f, part in of_member(parts, member)]
    result = joined(flat, path)
    result.assumed = [*dict.fromkeys(notes), *result.assumed]
    return result


def _remote(url: str) -> Any:
    """A mapping of a URL's keys, without an account.

    Raises:
        InputError: the scheme is unknown.
        SimulationError: what it needs is not installed.
    """
    scheme = url.split("://", 1)[0]
    if scheme not in SCHEMES:
        raise InputError(f"no scheme {scheme}://", where=url, remedy=f"There are {', '.join(SCHEMES)}")
    package, options = SCHEMES[scheme]
    try:
        __import__(package)
        from zarr.storage import FsspecStore
    except ImportError as error:
        raise SimulationError("missing_component", f"{url} needs {package}. {INSTALL}") from error
    return FsspecStore.from_url(url, storage_options=options, read_only=True)


def _open_zarr(store: Any, where: str) -> xr.Dataset:
    try:
        # Without dask a time step of a store of terabytes is read alone all the same.
        return xr.open_zarr(store, chunks=None)
    except Exception as error:  # each protocol raises its own kind where a store cannot be reached
        if "decode time units" in str(error):
            raise _unreadable(where, error) from error
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "Check the path, and the connection" if "://" in where else "Check the path"
        raise InputError(f"cannot be opened as Zarr: {text}", where=where, remedy=remedy) from error


def _netcdf(path: str) -> xr.Dataset:
    try:
        return open_netcdf(path)
    except ImportError as error:
        raise SimulationError("missing_component", f"{path} needs h5netcdf. {INSTALL}") from error
    except (ValueError, OSError, KeyError) as error:
        raise _unreadable(path, error) from error


def _grib(path: str) -> list[xr.Dataset]:
    """One Dataset, or one a variable where they do not fit the same levels.

    They have our names, as those of GRIB may be the same on levels and at the surface.
    """
    try:
        from cfgrib import DatasetBuildError
        from cfgrib.xarray_store import open_variable_datasets
        from eccodes import CodesInternalError
    except (ImportError, RuntimeError) as error:
        raise SimulationError("missing_component", f"{path} needs cfgrib and ecCodes. {INSTALL}") from error
    # An index would be written beside the file; a message that is cut short would be left out with a warning.
    options = {"indexpath": "", "errors": "raise"}
    try:
        try:
            parts = [xr.open_dataset(path, engine="cfgrib", backend_kwargs=options)]
        except DatasetBuildError:
            parts = open_variable_datasets(path, backend_kwargs=options)
    except (ValueError, OSError, KeyError, EOFError, CodesInternalError) as error:
        raise _unreadable(path, error) from error
    return list(parts)


def _unreadable(path: str, error: Exception) -> InputError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "decode time units" in text:
        units = text.split("'")[1] if text.count("'") > 1 else "of another kind"
        return InputError(
            f"its times are in {units!r}, of which no dates can be made", where=path,
            remedy="Write them as hours or days since a date, such as `days since 2000-01-01`",
        )  # fmt: skip
    return InputError(f"cannot be read: {text}", where=path, remedy="It may be cut short: fetch it again")


def refuse_damaged(path: Path) -> None:
    """Refuse a local Zarr store of which chunks are missing or cut short: a reader takes missing ones for fill values.

    A chunk is missing where the array has others, and cut short where arrays without a codec have smaller files.

    Raises:
        CorruptStoreError: names the chunk.
    """
    for meta in [*path.rglob("zarr.json"), *path.rglob(".zarray")]:
        try:
            card = json.loads(meta.read_text())
        except ValueError as error:
            raise CorruptStoreError("cannot be read", where=str(meta), remedy="Fetch the store again") from error
        if meta.name == "zarr.json" and card.get("node_type") != "array":
            continue
        _refuse_missing_chunks(meta.parent, card)


def _refuse_missing_chunks(folder: Path, card: dict[str, Any]) -> None:
    shape = card["shape"]
    if "chunk_grid" in card:
        chunks = card["chunk_grid"]["configuration"]["chunk_shape"]
        encoding = card.get("chunk_key_encoding", {"name": "default"})
        separator = encoding.get("configuration", {}).get("separator", "/" if encoding["name"] == "default" else ".")
        prefix = ["c"] if encoding["name"] == "default" else []
        plain = all(codec["name"] == "bytes" for codec in card["codecs"])
        width = np.dtype(card["data_type"]).itemsize if plain and isinstance(card["data_type"], str) else 0
    else:
        chunks, separator, prefix = card["chunks"], card.get("dimension_separator", "."), []
        plain = card.get("compressor") is None and not card.get("filters")
        width = np.dtype(card["dtype"]).itemsize if plain and isinstance(card["dtype"], str) else 0
    counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
    if 0 in shape or not shape:
        return
    files = [folder / separator.join([*prefix, *map(str, index)]) for index in np.ndindex(*counts)]
    there = [f.is_file() for f in files]
    if not any(there):
        return  # never written: all fill values, as it was meant
    for file, exists in zip(files, there, strict=True):
        if not exists:
            raise CorruptStoreError("a chunk is missing", where=str(file), remedy="Fetch the store again")
        size = file.stat().st_size
        if size == 0 or (width and size != width * int(np.prod(chunks))):
            raise CorruptStoreError("a chunk is cut short", where=str(file), remedy="Fetch the store again")
