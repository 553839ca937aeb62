"""Arrays of .npy and .npz files, read without unpickling and without trust in what their headers say.

The format is that of "NEP 1: A Simple File Format for NumPy Arrays": a header with shape, order and type, and the bytes
of the array. NumPy allocates the memory that a header declares before it reads; here the bytes have to exist first.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from data.errors import InputError
from data.formats.damage import parsing
from data.formats.zip_files import ZipFile

REMEDY = "Save plain arrays of numbers with numpy.save or numpy.savez"


def read_npy(path: Path | str) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        InputError: the file is not a .npy file, is cut short, or holds objects.
    """
    with parsing(path, remedy=REMEDY), open(path, "rb") as file:
        return _array(file, Path(path).stat().st_size, str(path))


def read_npz(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name.

    Raises:
        InputError: the file is not a .npz file, or an array is damaged, holds objects or is larger than the file can
            hold.
    """
    with ZipFile(path, remedy=REMEDY) as archive:
        arrays = {}
        for member in archive.names:
            content = archive.read(member)
            name = member.removesuffix(".npy")
            with parsing(f"{path} ({name})", remedy=REMEDY):
                arrays[name] = _array(io.BytesIO(content), len(content), f"{path} ({name})")
        return arrays


def _array(file: BinaryIO, size: int, where: str) -> np.ndarray:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"its format has version {version}", where=where, remedy=REMEDY)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
        raise InputError("it holds objects of Python, not numbers", where=where, remedy=REMEDY)
    needed, available = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed > available:
        raise InputError(
            f"its header says {' x '.join(map(str, shape))} values, {needed:,} bytes, and {available:,} are there",
            where=where,
            remedy="It is cut short or damaged: write it again",
        )
    values = np.frombuffer(file.read(needed), dtype, math.prod(shape)) if dtype.itemsize else np.zeros(shape, dtype)
    return values.reshape(shape, order="F" if fortran else "C")
