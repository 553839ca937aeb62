"""Lets xarray look for arrays of dask without importing it.

xarray asks of each array that becomes a variable whether it is one of dask, and imports dask for that with the first:
a quarter of a second of processor time in every process that makes a record, such as each worker of a campaign. An
array can only be one of dask where something has imported `dask.array`.
"""

from __future__ import annotations

import sys
from typing import Any

from xarray.namedarray import pycompat


class LateDask:
    """Stands for dask in what xarray keeps of the packages that it knows."""

    @property
    def type(self) -> tuple[Any, ...]:
        """The class of arrays of dask, if there can be any."""
        array = getattr(sys.modules.get("dask.array"), "Array", None)
        return () if array is None else (array,)

    def __getattr__(self, name: str) -> Any:
        return getattr(pycompat.DuckArrayModule("dask"), name)


def install() -> None:
    """Look for arrays of dask so from now on; a version of xarray that keeps nothing of this kind stays as it is."""
    packages = getattr(pycompat, "_cached_duck_array_modules", None)
    if isinstance(packages, dict):
        packages.setdefault("dask", LateDask())
