"""Keeps xarray from importing dask, which takes a third of a second and 30 MB that few processes need."""

from __future__ import annotations

import sys


def leave_out_dask() -> None:
    """Let xarray find dask absent when it looks, with its first array, which kinds of arrays there are.

    It looks once, and imports `dask.array` for that. Arrays of a dask that is imported later are known by their
    protocol, and stay lazy. Where dask is imported already, nothing happens.
    """
    if "dask" in sys.modules:
        return
    import xarray as xr

    sys.modules["dask"] = None  # type: ignore[assignment]
    try:
        xr.Variable((), 0.0)
    finally:
        del sys.modules["dask"]
