"""Opening what forecasters have: Zarr stores by path or URL, NetCDF files, GRIB files; lazily, through xarray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import CorruptStoreError, InputError
from data.weather import TIME
from simulators.base import SimulationError
from simulators.weather.cf import KNOWN, STATIC, named

INSTALL = "Install it with `pip install 'understudy[weather]'`"
GRIB, NETCDF = (".grib", ".grb", ".grib2", ".grb2"), (".nc", ".nc4", ".netcdf", ".cdf")
BLOCK_BYTES = 16 << 20
#: What a URL's scheme needs beside fsspec, and how to open it without an account.
SCHEMES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gs": ("gcsfs", {"token": "anon"}),
    "s3": ("s3fs", {"anon": True}),
    "http": ("aiohttp", {}),
    "https": ("aiohttp", {}),
}


def open_source(path: str) -> xr.Dataset:
    """A Dataset with our names, whose arrays are read when they are needed.

    Args:
        path: a Zarr store (a directory, or a URL that begins with gs://, s3://, http:// or https://), NetCDF files (a
            file, or a pattern such as `data/*.nc`), or a GRIB file.

    Raises:
        InputError: there is nothing, or it cannot be read.
        CorruptStoreError: chunks of a local Zarr store are missing or cut short.
        SimulationError: `missing_component`: what reads it is not installed.
    """
    if "://" in path:
        return named(_open_zarr(_remote(path), path), path)
    found = sorted(glob(path)) if any(c in path for c in "*?[") else [path]
    if not found or not Path(found[0]).exists():
        raise InputError("no such file or directory", where=path, remedy="Check the path")
    first = Path(found[0])
    if first.is_dir():
        if len(found) > 1:
            raise InputError(f"{len(found)} directories match", where=path, remedy="Name one Zarr store")
        refuse_damaged(first)
        return named(_open_zarr(str(first), path), path)
    kind = {Path(f).suffix.lower() for f in found}
    if kind <= set(GRIB):
        return _joined([part for f in found for part in _grib(f)], path)
    if kind <= set(NETCDF):
        return _joined([named(_netcdf(f), f) for f in found], path)
    raise InputError(
        f"a file of kind {', '.join(sorted(kind))}", where=path, remedy="Give Zarr, NetCDF (.nc) or GRIB (.grib)"
    )


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
    except (ValueError, OSError, KeyError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot be opened as Zarr: {text}", where=where, remedy="Check the path") from error


def _netcdf(path: str) -> xr.Dataset:
    with open(path, "rb") as file:
        classic = file.read(3) == b"CDF"
    try:
        return xr.open_dataset(path, engine="scipy" if classic else "h5netcdf")
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
    return [named(part, path) for part in parts]


def _unreadable(path: str, error: Exception) -> InputError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"cannot be read: {text}", where=path, remedy="It may be cut short: fetch it again")


def _joined(parts: list[xr.Dataset], where: str) -> xr.Dataset:
    """Files of the same variables one after the other in time, those of different variables beside each other.

    Raises:
        InputError: their grids, levels or times differ.
    """
    if len(parts) == 1:
        return parts[0]
    alike: dict[frozenset[str], list[xr.Dataset]] = {}
    for part in parts:
        bare = part.drop_vars([c for c in part.coords if c not in KNOWN])
        if set(bare.data_vars) <= set(STATIC) and bare.sizes.get(TIME) == 1:
            bare = bare.isel({TIME: 0}, drop=True)
        alike.setdefault(frozenset(map(str, bare.data_vars)), []).append(_unread(bare, where))
    try:
        return xr.merge([_in_time(group) for group in alike.values()], join="exact", compat="no_conflicts")
    except ValueError as error:
        raise InputError(
            f"its files do not fit together: {str(error).splitlines()[0]}", where=where, remedy="Open them one by one"
        ) from error


def _unread(data: xr.Dataset, where: str) -> xr.Dataset:
    """Arrays that stay unread when they are joined: dask's, in chunks of the file's, or of some megabytes."""
    own = [
        v.encoding["preferred_chunks"].get(TIME, 1) for v in data.data_vars.values() if "preferred_chunks" in v.encoding
    ]
    each = max(own, default=max(1, BLOCK_BYTES * data.sizes.get(TIME, 1) // max(1, data.nbytes)))
    try:
        return data.chunk({TIME: each} if TIME in data.dims else {})
    except ImportError as error:
        raise SimulationError("missing_component", f"{where} needs dask, to join its files. {INSTALL}") from error


def _in_time(parts: list[xr.Dataset]) -> xr.Dataset:
    if len(parts) == 1 or TIME not in parts[0].dims:
        return parts[0]
    ordered = sorted(parts, key=lambda part: part[TIME].values.min())
    return xr.concat(ordered, TIME, data_vars="minimal", coords="minimal", compat="override", join="exact")


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
