"""Refuses files of fields in formats that are not read, and names those that are."""

from __future__ import annotations

from pathlib import Path

from data.errors import InputError

HDF5 = b"\x89HDF\r\n\x1a\n"
#: First bytes of what `data.formats.netcdf` reads, or names with their remedy.
LEFT_TO_NETCDF = (b"CDF", HDF5, b"PK\x03\x04", b"GRIB", b"\x1f\x8b")
NETCDF_SUFFIXES = (".nc", ".nc3", ".nc4", ".cdf", ".netcdf", "")
#: What is read, for errors.
READ = "Zarr, NetCDF, HDF5 (.h5, .hdf5), MATLAB (.mat), PyTorch (.pt, .pth) and NumPy (.npy, .npz)"


def refuse_unread(path: Path) -> None:
    """Refuse a file that is in none of the formats that are read.

    Args:
        path: path of a file whose dims have names.

    Raises:
        InputError: the format is not read; the message names how to convert the file.
    """
    if path.is_dir():
        return
    with open(path, "rb") as file:
        head = file.read(10)
    suffix = path.suffix.lower()
    if suffix not in NETCDF_SUFFIXES and not head.startswith(LEFT_TO_NETCDF):
        raise InputError(
            f"a {suffix} file is not read as fields",
            where=str(path),
            remedy=f"Save its arrays in one of {READ}, such as numpy.savez('{path.stem}.npz', u=U, a=A)",
        )


def is_plain_hdf5(path: Path) -> bool:
    """Whether a file that could not be read as NetCDF is HDF5 by content, and not NetCDF by name."""
    if path.is_dir() or path.suffix.lower() in NETCDF_SUFFIXES:
        return False
    with open(path, "rb") as file:
        return file.read(len(HDF5)) == HDF5
