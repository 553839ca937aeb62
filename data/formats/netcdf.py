"""NetCDF files through xarray, by an engine that is chosen from their first bytes, and nothing else.

Without a named engine xarray asks every plugin that is installed, and that of GRIB would read a pickled index.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import AbstractDataStore, H5NetCDFStore, ScipyDataStore

from data.errors import InputError
from data.formats.classic_netcdf import refuse_damaged_header
from data.formats.lazy_arrays import open_guarded
from data.processes.probe import refuse_deadly


def engine_of(path: Path | str) -> str:
    """The engine that reads a file: "scipy" for the classic format, "h5netcdf" for NetCDF-4.

    Raises:
        InputError: the file is not NetCDF; the message says what it is.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:3] == b"CDF":
        return "scipy"
    if head == b"\x89HDF\r\n\x1a\n":
        return "h5netcdf"
    for start, what, remedy in (
        (b"PK\x03\x04", "a zip archive", "Unpack it and name the files in it"),
        (b"GRIB", "GRIB", "Rename it to end in .grib"),
        (b"\x1f\x8b", "compressed by gzip", "Unpack it"),
    ):
        if head.startswith(start):
            raise InputError(f"{what}, not NetCDF", where=str(path), remedy=remedy)
    raise InputError("no NetCDF file", where=str(path), remedy="It may be cut short: fetch it again")


def open_netcdf(path: Path | str, **decoding: Any) -> xr.Dataset:
    """A NetCDF file, whose arrays are read when they are needed.

    Args:
        path: of it.
        decoding: arguments of `xarray.open_dataset`.

    Raises:
        InputError: it is no NetCDF file, or is damaged; also later, where an array is read.
        ImportError: the engine that reads it is not installed.
    """
    where, engine = str(path), engine_of(path)
    stores: dict[str, Callable[[], AbstractDataStore]] = {
        "scipy": lambda: ScipyDataStore(where),
        # Dims that a file of HDF5 does not name get the names that the NetCDF library gives them.
        "h5netcdf": lambda: H5NetCDFStore.open(where, phony_dims="sort"),
    }
    if engine == "scipy":
        refuse_damaged_header(path)
    else:
        refuse_deadly("hdf5", path)
    return open_guarded(stores[engine], where, stored=lambda: Path(path).stat().st_size, **decoding)
