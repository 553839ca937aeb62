"""Lazy opening of weather data through xarray: Zarr stores by path or URL, NetCDF files and GRIB files."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data.errors import CorruptStoreError, InputError
from data.formats.damage import parsing
from data.formats.lazy_arrays import guard, open_guarded
from data.formats.netcdf import open_netcdf
from data.formats.zarr_files import open_zarr
from data.processes.probe import refuse_deadly
from data.spec import SimulationError
from simulators.atmosphere.reanalysis.cf import rename_to_weatherbench
from simulators.atmosphere.reanalysis.ensemble_member import Member, select_member
from simulators.atmosphere.reanalysis.forecast_steps import along_valid_time
from simulators.atmosphere.reanalysis.joining import INSTALL, SourceData, join_files

GRIB, NETCDF = (".grib", ".grb", ".grib2", ".grb2"), (".nc", ".nc4", ".netcdf", ".cdf")
#: Scheme of a URL -> package that it needs beside fsspec, and options for access without an account.
SCHEMES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gs": ("gcsfs", {"token": "anon"}),
    "s3": ("s3fs", {"anon": True}),
    "http": ("aiohttp", {}),
    "https": ("aiohttp", {}),
}


def open_source(path: str | Sequence[str], member: Member = None, names: Mapping[str, str] | None = None) -> SourceData:
    """Open a source with the names of WeatherBench 2, whose arrays are read when they are needed.

    Args:
        path: a Zarr store (a directory, or a URL that begins with gs://, s3://, http:// or https://), NetCDF files (a
            file, a list of files, or a pattern such as `data/*.nc`), or GRIB files.
        member: ensemble member; see `members.select_member`.
        names: name of a variable or dim in the files -> its name; see `cf.rename_to_weatherbench`.

    Raises:
        InputError: the path does not exist or cannot be read, or no file has a name of `names`.
        CorruptStoreError: chunks of a local Zarr store are missing or cut short.
        SimulationError: `missing_component`: a package that reads the source is not installed.
    """
    names = names or {}
    if not isinstance(path, str):
        return _files([str(p) for p in path], ", ".join(map(str, path)), member, names)
    if "://" in path:
        [(_, data)] = select_member([(path, _open_zarr(_remote(path), path))], member)
        return SourceData(rename_to_weatherbench(data, path, _all_in([data], names, path)))
    pattern = any(c in path for c in "*?[") and not Path(path).exists()
    return _files(sorted(glob(path)) if pattern else [path], path, member, names)


def _files(files: list[str], path: str, member: Member, names: Mapping[str, str]) -> SourceData:
    absent = [f for f in files if not Path(f).exists()]
    if not files or absent:
        raise InputError("no such file or directory", where=absent[0] if absent else path, remedy="Check the path")
    first = Path(files[0])
    if first.is_dir():
        if len(files) > 1:
            raise InputError(f"{len(files)} directories match", where=path, remedy="Name one Zarr store")
        refuse_damaged(first)
        [(_, data)] = select_member([(path, _open_zarr(str(first), path))], member)
        return SourceData(rename_to_weatherbench(data, path, _all_in([data], names, path)))
    kind = {Path(f).suffix.lower() for f in files}
    if kind <= set(GRIB):
        parts = [(f, part) for f in files for part in grib_datasets(f)]
    elif kind <= set(NETCDF):
        parts = [(f, _netcdf(f)) for f in files]
    else:
        raise InputError(
            f"a file of kind {', '.join(sorted(kind))}", where=path, remedy="Give Zarr, NetCDF (.nc) or GRIB (.grib)"
        )
    notes: list[str] = []
    parts = select_member(parts, member)
    _all_in([part for _, part in parts], names, path)
    flat = [(f, rename_to_weatherbench(along_valid_time(part, notes), f, names)) for f, part in parts]
    result = join_files(flat, path)
    result.assumed = [*dict.fromkeys(notes), *result.assumed]
    return result


def _all_in(parts: Sequence[xr.Dataset], names: Mapping[str, str], where: str) -> Mapping[str, str]:
    """The names, each of which some file has.

    Raises:
        InputError: no file has one of them.
    """
    present = {str(n) for part in parts for n in (*part.variables, *part.dims)}
    if lacking := [name for name in names if name not in present]:
        shown = ", ".join(sorted({str(n) for part in parts for n in part.data_vars}))
        raise InputError(
            f"no variable {lacking[0]} in it, which source.names renames", where=where, remedy=f"It has {shown}"
        )
    return names


def _remote(url: str) -> Any:
    """A Zarr store at a URL, accessed without an account.

    Raises:
        InputError: the scheme is unknown.
        SimulationError: `missing_component`: the package of the scheme is not installed.
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
    remedy = "Check the path, and the connection" if "://" in where else "Check the path"
    with _times_named(where):
        # Even without dask, one time step of a store of terabytes is read on its own.
        return open_zarr(store, where, remedy=remedy)


def _netcdf(path: str) -> xr.Dataset:
    try:
        with _times_named(path):
            return open_netcdf(path)
    except ImportError as error:
        raise SimulationError("missing_component", f"{path} needs h5netcdf. {INSTALL}") from error


def grib_datasets(path: str) -> list[xr.Dataset]:
    """One Dataset, or one Dataset per variable if the variables do not fit the same levels.

    They have our names, as those of GRIB may be the same on levels and at the surface.
    """
    try:
        from cfgrib import DatasetBuildError
        from cfgrib.xarray_plugin import CfGribDataStore
        from cfgrib.xarray_store import open_variable_datasets
    except (ImportError, RuntimeError) as error:
        raise SimulationError("missing_component", f"{path} needs cfgrib and ecCodes. {INSTALL}") from error
    # By default cfgrib writes an index beside the file, and skips a truncated message with a warning.
    options = {"indexpath": "", "errors": "raise"}
    size = Path(path).stat().st_size
    refuse_deadly("grib", path)
    with _times_named(path):
        try:
            return [open_guarded(lambda: CfGribDataStore(path, **options), path, stored=lambda: size)]
        except InputError as error:
            if not isinstance(error.__cause__, DatasetBuildError):
                raise
        with parsing(path):
            parts = open_variable_datasets(path, backend_kwargs=options)
    return [guard(part, path, stored=lambda: size) for part in parts]


@contextmanager
def _times_named(path: str) -> Iterator[None]:
    """Context for opening a file that turns errors about undecodable time units into a clear InputError."""
    try:
        yield
    except InputError as error:
        if "decode time units" not in error.problem:
            raise
        units = error.problem.split("'")[1] if error.problem.count("'") > 1 else "of another kind"
        raise InputError(
            f"its times are in {units!r}, which cannot be converted to dates", where=path,
            remedy="Write them as hours or days since a date, such as `days since 2000-01-01`",
        ) from error  # fmt: skip


def refuse_damaged(path: Path) -> None:
    """Refuse a local Zarr store with missing or truncated chunks, as readers take missing chunks for fill values.

    A chunk counts as missing if the array has other chunks, and as truncated if its file is empty or, in an array
    without compression, too small.

    Raises:
        CorruptStoreError: names the chunk.
    """
    for meta in sorted([*path.rglob("zarr.json"), *path.rglob(".zarray")]):
        with parsing(meta, remedy="Fetch the store again", error=CorruptStoreError):
            chunks = _Chunks.of(meta.name, json.loads(meta.read_text(encoding="utf-8")))
        if chunks is not None:
            chunks.refuse_missing(meta.parent)


@dataclass(frozen=True)
class _Chunks:
    """Chunks of an array: number along each dim, names of their files, and bytes of each (0 if compressed)."""

    counts: tuple[int, ...]
    prefix: tuple[str, ...]
    separator: str
    size: int

    @staticmethod
    def of(name: str, card: Any) -> _Chunks | None:
        """The chunks that the metadata of an array describe; None for a group. Any exception means invalid metadata."""
        if name == "zarr.json" and card.get("node_type") != "array":
            return None
        if "chunk_grid" in card:
            chunks = card["chunk_grid"]["configuration"]["chunk_shape"]
            encoding = card.get("chunk_key_encoding", {"name": "default"})
            default = encoding["name"] == "default"
            separator = encoding.get("configuration", {}).get("separator", "/" if default else ".")
            plain = all(codec["name"] == "bytes" for codec in card["codecs"])
            kind = card["data_type"]
        else:
            default, chunks, separator = False, card["chunks"], card.get("dimension_separator", ".")
            plain = card.get("compressor") is None and not card.get("filters")
            kind = card["dtype"]
        width = np.dtype(kind).itemsize if plain and isinstance(kind, str) else 0
        counts = tuple(-(-operator.index(n) // operator.index(c)) for n, c in zip(card["shape"], chunks, strict=True))
        if separator not in ("/", "."):
            raise ValueError(f"its chunks are separated by {separator!r}")
        return _Chunks(counts, ("c",) if default else (), separator, width * math.prod(chunks))

    def refuse_missing(self, folder: Path) -> None:
        """Check the file of each chunk.

        Raises:
            CorruptStoreError: names the chunk.
        """
        if not self.counts or min(self.counts) < 1:
            return
        for number in range(math.prod(self.counts)):
            file = folder / self.separator.join([*self.prefix, *map(str, self._index(number))])
            if not file.is_file():
                if not number and not self._any_in(folder):
                    return  # no chunk was written, so that all values are fill values on purpose
                raise CorruptStoreError("a chunk is missing", where=str(file), remedy="Fetch the store again")
            size = file.stat().st_size
            if size == 0 or (self.size and size != self.size):
                raise CorruptStoreError("a chunk is cut short", where=str(file), remedy="Fetch the store again")

    def _index(self, number: int) -> list[int]:
        """Index of chunk `number`, without a list of all chunks, of which corrupt metadata may claim billions."""
        index = []
        for count in reversed(self.counts):
            number, at = divmod(number, count)
            index.append(at)
        return index[::-1]

    def _any_in(self, folder: Path) -> bool:
        """Whether any file in the folder is a chunk of the array."""
        for path in folder.rglob("*"):
            parts = tuple(self.separator.join(path.relative_to(folder).parts).split(self.separator))
            index = parts[len(self.prefix) :]
            numbers = len(index) == len(self.counts) and all(part.isdecimal() for part in index)
            if numbers and parts[: len(self.prefix)] == self.prefix and path.is_file():
                return True
        return False
