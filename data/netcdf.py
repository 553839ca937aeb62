"""NetCDF files through xarray, by an engine that is chosen from their first bytes, and nothing else.

Without a named engine xarray asks every plugin that is installed, and that of GRIB would read a pickled index.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from data.errors import InputError


def engine_of(path: Path | str) -> str:
    """The engine that reads a file: "scipy" for the classic format, "h5netcdf" for NetCDF-4.

    Raises:
        InputError: it is something else, which is named.
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


def open_netcdf(path: Path | str) -> xr.Dataset:
    """A NetCDF file, whose arrays are read when they are needed.

    Raises:
        InputError: it is no NetCDF file.
        ImportError, ValueError, OSError, KeyError: whatever the engine raises for a damaged file.
    """
    engine = engine_of(path)
    # Dims that a file of HDF5 does not name get the names that the NetCDF library gives them.
    settings: dict[str, Any] = {"phony_dims": "sort"} if engine == "h5netcdf" else {}
    return xr.open_dataset(path, engine=engine, backend_kwargs=settings)
