"""Opens Zarr stores of unknown origin; every failure is one line that names the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import ZarrStore

from data.errors import DAMAGED
from data.formats.lazy_arrays import open_guarded


def open_zarr(
    store: Any, where: str | None = None, *, consolidated: bool | None = None, remedy: str = DAMAGED, **decoding: Any
) -> xr.Dataset:
    """A Dataset of a store, whose arrays are read when they are needed, and not through dask.

    Args:
        store: a directory, or a store of Zarr.
        where: name of the store for errors; the directory if None.
        consolidated: whether its metadata is consolidated; None to find out.
        remedy: what to do if it cannot be opened.
        decoding: arguments of `xarray.open_dataset`.

    Raises:
        InputError: it cannot be opened; also later, where an array is read.
    """
    stored: Callable[[], int] | None = None
    if isinstance(store, str | Path):
        folder = Path(store)
        store, stored = str(store), lru_cache(lambda: _bytes_in(folder))
    where = where or str(store)
    return open_guarded(
        lambda: ZarrStore.open_group(store, consolidated=consolidated),
        where,
        stored=stored,
        problem="cannot be opened as Zarr",
        remedy=remedy,
        **decoding,
    )


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
