"""What `data.processes.probe` has a process do that may crash: read what a C library has to interpret of a file.

Raw numbers, and what zlib unpacks, are skipped: they are most of the bytes, and harmless.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from data.processes import row_watch

#: Memory that trying a file may take, bytes: its metadata, or a field of GRIB.
MOST_MEMORY = 1 << 30
#: Filters of HDF5 that are zlib or change the order of bytes or sum them: deflate, shuffle, fletcher32.
HARMLESS = {1, 2, 3}
#: Objects of a file that are looked at.
MOST_OBJECTS = 100_000
#: Bytes of a variable that are read at once.
BLOCK = 1 << 24

Step = Callable[[str], None]


class RefusedError(Exception):
    """A file is refused for what it would do, not for damage; the arguments are the problem and the remedy."""


def try_file(order: tuple[str, str]) -> tuple[str, str | None] | None:
    """Try a file, given as its kind and path; returns the problem and the remedy, or None if there is no problem."""
    kind, path = order
    numbers = count()

    def step(what: str) -> None:
        row_watch.begin(next(numbers), what)

    try:
        step("its beginning")
        {"hdf5": try_hdf5, "grib": try_grib, "vtk": try_vtk}[kind](path, step)
    except RefusedError as error:
        return error.args[0], error.args[1]
    except MemoryError:
        return "reading it needs more memory than its content accounts for", None
    except Exception:  # who opens the file says what is wrong with it
        return None
    return None


def _limit_memory() -> None:
    """Allow `MOST_MEMORY` more than the process has now, with all that it imported."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most, hard = pages * resource.getpagesize() + MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
    except (OSError, ValueError):
        return  # elsewhere than on Linux only the crash is contained


def try_hdf5(path: str, step: Step) -> None:
    """Read all that describes the data of an HDF5 file, and data that is not plain numbers."""
    import h5netcdf  # type: ignore[import-untyped]
    import h5py  # type: ignore[import-untyped]

    _limit_memory()
    size = os.path.getsize(path)
    with h5py.File(path, "r") as file:
        groups, seen = [file["/"]], 0
        _try_attributes(file)
        while groups:
            group = groups.pop()
            for name in group:
                seen += 1
                if seen > MOST_OBJECTS:
                    raise RefusedError(f"it has more than {MOST_OBJECTS:,} objects", None)
                step(f"object {seen} ({name[:40]!r})")
                if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                    raise _reads_others(name)
                try:
                    member = group[name]
                    if isinstance(member, h5py.Group):
                        if member.name.count("/") < 32:
                            groups.append(member)
                    elif isinstance(member, h5py.Dataset):
                        _try_dataset(member, size)
                except (OSError, KeyError, RuntimeError, ValueError, TypeError):
                    continue
    step("its dims and attributes")
    with h5netcdf.File(path, "r", phony_dims="sort") as named:
        for variable in named.variables.values():
            step(f"variable {variable.name[:40]!r}")
            dict(variable.attrs)
            _ = variable.dimensions, variable.dtype, variable.chunks


def _reads_others(name: str) -> RefusedError:
    return RefusedError(
        f"{name[:40]!r} of it lies in another file, which is not read", "Copy it into one file, as h5repack does"
    )


def _try_attributes(owner: Any) -> None:
    """Read them, as who opens the file does; one that took too much memory here would take all of it there."""
    for name in owner.attrs:
        if name == "REFERENCE_LIST":
            continue  # says which variables lie along a dim, and is not asked
        try:
            _ = owner.attrs[name]
        except (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise RefusedError(f"attribute {name[:40]!r} of {owner.name[:40]!r} cannot be read", None) from error


def _try_dataset(data: Any, size: int) -> None:
    import h5py

    if data.external or data.is_virtual:
        raise _reads_others(str(data.name))
    _try_attributes(data)
    for axis in data.dims:
        _ = len(axis)
    h5py.h5ds.is_scale(data.id)
    settings = data.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if data.chunks:
        # Goes through all of the index, which is what can be damaged; the chunks themselves are unpacked by zlib.
        ends: list[int] = []
        data.id.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))
        if max(ends, default=0) > size:
            raise RefusedError(f"a chunk of {str(data.name)[:40]!r} lies beyond the end of the file", None)
    if (filters - HARMLESS or data.dtype.hasobject) and data.size and data.ndim:
        rows = max(1, BLOCK // max(1, data.dtype.itemsize * data.size // data.shape[0]))
        if data.dtype.itemsize * data.size // data.shape[0] > 64 * BLOCK or data.shape[0] > 4096 * rows:
            return  # left to who reads it, whose memory is guarded
        for start in range(0, data.shape[0], rows):
            _ = data[start : start + rows]


def try_grib(path: str, step: Step) -> None:
    """Decode every message of a GRIB file, and read of each what the index of a dataset is made of."""
    import eccodes
    from cfgrib.dataset import INDEX_KEYS

    _limit_memory()
    keys = [str(key).split(":")[0] for key in INDEX_KEYS]
    grids: set[Any] = set()
    # The index is made of messages with several fields, which other code of the library takes apart.
    for several in (True, False):
        (eccodes.codes_grib_multi_support_on if several else eccodes.codes_grib_multi_support_off)()
        number = 0
        with open(path, "rb") as file:
            while True:
                number += 1
                step(f"message {number}")
                message = eccodes.codes_grib_new_from_file(file)
                if message is None:
                    break
                try:
                    _try_message(eccodes, message, keys, grids, values=not several)
                finally:
                    eccodes.codes_release(message)
            if several:
                eccodes.codes_grib_multi_support_reset_file(file)


def _try_message(eccodes: Any, message: Any, keys: list[str], grids: set[Any], *, values: bool) -> None:
    if values:
        with suppress(eccodes.CodesInternalError, ValueError):
            eccodes.codes_get_size(message, "values")
            eccodes.codes_get_values(message)
    for key in keys:
        with suppress(eccodes.CodesInternalError, ValueError):
            eccodes.codes_get(message, key)
    grid = None
    with suppress(eccodes.CodesInternalError):
        grid = eccodes.codes_get(message, "md5GridSection")
    if grid in grids:
        return
    grids.add(grid)
    for key in ("distinctLatitudes", "distinctLongitudes", "latitudes", "longitudes"):
        with suppress(eccodes.CodesInternalError, ValueError):
            eccodes.codes_get_array(message, key)
    # What else is asked of the first message of a variable.
    every = eccodes.codes_keys_iterator_new(message, None)
    while eccodes.codes_keys_iterator_next(every):
        with suppress(eccodes.CodesInternalError, ValueError):
            eccodes.codes_get(message, eccodes.codes_keys_iterator_get_name(every))
    eccodes.codes_keys_iterator_delete(every)


def try_vtk(path: str, step: Step) -> None:
    """Read a file of VTK, whose reader in C++ trusts the sizes and the XML that it finds."""
    from vtkmodules import vtkIOXML
    from vtkmodules.vtkCommonCore import vtkObject

    kinds = {
        ".vti": "ImageData", ".vtr": "RectilinearGrid", ".vts": "StructuredGrid", ".vtu": "UnstructuredGrid",
        ".vtp": "PolyData",
    }  # fmt: skip
    vtkObject.GlobalWarningDisplayOff()
    _limit_memory()
    step("its data")
    reader = getattr(vtkIOXML, f"vtkXML{kinds[Path(path).suffix.lower()]}Reader")()
    reader.SetFileName(path)
    reader.Update()
