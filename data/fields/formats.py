"""Refuses files of fields in formats that are not read, with the two lines of Python that convert them to NetCDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError

HDF5 = b"\x89HDF\r\n\x1a\n"
#: First bytes of what `data.formats.netcdf` reads, or names with their remedy.
LEFT_TO_NETCDF = (b"CDF", HDF5, b"PK\x03\x04", b"GRIB", b"\x1f\x8b")
NETCDF_SUFFIXES = (".nc", ".nc3", ".nc4", ".cdf", ".netcdf", "")
#: What is read, for errors.
READ = "Zarr, NetCDF, PyTorch (.pt, .pth) and NumPy (.npy, .npz)"
#: Format -> how its arrays are loaded under the name `arrays`, and how one of them, `arrays[n]`, becomes an array.
LOADED = {
    "HDF5 without named dims": ("import h5py, xarray; arrays = h5py.File({source})", "arrays[n][...]"),
    "MATLAB 5": ("import scipy.io, xarray; arrays = scipy.io.loadmat({source})", "arrays[n].squeeze()"),
    # MATLAB stores columns first, and HDF5 shows them as rows.
    "MATLAB 7.3 (HDF5)": ("import h5py, xarray; arrays = h5py.File({source})", "arrays[n][...].T"),
}


def refuse_unread(path: Path, names: Sequence[str]) -> None:
    """Refuse a file that is in none of the formats that are read.

    Args:
        path: path of a file that PyTorch or NumPy did not write.
        names: variables that are asked for, which the suggested lines name.

    Raises:
        InputError: the format is not read; the message names it and how to convert the file.
    """
    if path.is_dir():
        return
    with open(path, "rb") as file:
        head = file.read(10)
    suffix = path.suffix.lower()
    if head.startswith(b"MATLAB"):
        raise foreign(path, "MATLAB 7.3 (HDF5)" if head.startswith(b"MATLAB 7") else "MATLAB 5", names)
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


def foreign(path: Path, kind: str, names: Sequence[str]) -> InputError:
    """The refusal of a file of arrays whose format is one of `LOADED`.

    Args:
        path: of the file.
        kind: its format.
        names: variables that are asked for; a name to be replaced if none.
    """
    load, one = LOADED[kind]
    quoted = ", ".join(repr(n) for n in names or ["NAME"])
    lines = (
        load.format(source=repr(str(path))),
        f"xarray.Dataset({{n: (('sample', 'x', 'y')[:{one}.ndim], {one}) for n in [{quoted}]}})"
        f".to_netcdf({str(path.with_suffix('.nc'))!r})",
    )
    return InputError(
        f"is {kind}, which is not read",
        where=str(path),
        remedy="Convert it in Python, with the dims that its arrays have:\n" + "\n".join(lines),
    )
