"""Opens datasets whose arrays are read when they are needed, so that a later read, too, can only fail in one line.

A damaged file opens and fails hours later, where a chunk is decoded, in whatever way its library fails. Here the arrays
of a store are wrapped before xarray decodes them, so that opening and reading are both inside `data.formats.damage`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import AbstractDataStore, BackendArray
from xarray.core import indexing

from data.errors import DAMAGED
from data.formats.damage import FREE, UnpackedBytes, parsing


def open_guarded(
    store: Callable[[], AbstractDataStore],
    where: str,
    *,
    stored: Callable[[], int] | None = None,
    problem: str = "cannot be read",
    remedy: str = DAMAGED,
    **decoding: Any,
) -> xr.Dataset:
    """A Dataset of a store.

    Args:
        store: opens the store.
        where: the file, for errors.
        stored: returns the size of the file, bytes; None where that is not known, and declared sizes are trusted.
        problem, remedy: words of the error where it cannot be opened, and what to do then.
        decoding: arguments of `xarray.open_dataset`.

    Raises:
        InputError: the store cannot be opened; or later, when a part of an array is read, it is damaged or larger than
            the file can hold.
    """
    with parsing(where, problem, remedy=remedy):
        return xr.open_dataset(_Guarded(store(), where, stored), engine="store", **decoding)  # type: ignore[arg-type]


def guard(data: xr.Dataset, where: str, *, stored: Callable[[], int] | None = None) -> xr.Dataset:
    """A Dataset that is open already, whose arrays are guarded as those of `open_guarded`; its indexes are read."""
    wrapped = {
        name: _guard(str(name), array, where, stored)
        for name, array in data.variables.items()
        if name not in data.xindexes
    }
    return data.assign({name: wrapped[name] for name in data.data_vars}).assign_coords(
        {name: wrapped[name] for name in data.coords if name in wrapped}
    )


def _guard(name: str, variable: xr.Variable, where: str, stored: Callable[[], int] | None) -> xr.Variable:
    lazy = indexing.LazilyIndexedArray(_Array(name, variable, where, stored))
    return xr.Variable(variable.dims, lazy, variable.attrs, variable.encoding, fastpath=True)


class _Guarded(AbstractDataStore):
    """A store whose arrays are guarded."""

    def __init__(self, store: AbstractDataStore, where: str, stored: Callable[[], int] | None) -> None:
        self._store, self._where, self._stored = store, where, stored

    def get_variables(self) -> Mapping[str, xr.Variable]:
        """The variables of the store."""
        variables = self._store.get_variables()
        return {str(name): _guard(str(name), v, self._where, self._stored) for name, v in variables.items()}

    def get_attrs(self) -> Mapping[str, Any]:
        """The attributes of the store."""
        return dict(self._store.get_attrs())

    def get_dimensions(self) -> Mapping[str, int]:
        """The dims of the store."""
        return dict(self._store.get_dimensions())

    def get_encoding(self) -> dict[str, Any]:
        """The encoding of the store."""
        return dict(self._store.get_encoding())

    def close(self) -> None:
        """Close the store."""
        self._store.close()


class _Array(BackendArray):
    """An array that is read in `parsing`."""

    def __init__(self, name: str, variable: xr.Variable, where: str, stored: Callable[[], int] | None) -> None:
        self.shape, self.dtype = variable.shape, variable.dtype
        self._name, self._variable, self._where, self._stored = name, variable, where, stored

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        with parsing(self._where, f"{self._name} cannot be read"):
            part = self._variable[key]
            size = part.size * max(1, self.dtype.itemsize)
            if size > FREE and self._stored is not None:
                UnpackedBytes(self._where, self._stored()).take(size, self._name)
            return np.asarray(part.values)
