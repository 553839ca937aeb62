"""Sequential reading of states from sources whose chunks hold many times; each chunk is fetched once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from jaxtyping import Int

from data.errors import CorruptStoreError, InputError
from data.formats.damage import first_line
from data.sphere.weather_layout import TIME

#: Largest chunk of all variables that is kept in memory, bytes; a larger one is read again for each block.
MOST_BYTES = 2 << 30


@dataclass
class ChunkReader:
    """Reads rows of a Dataset along time.

    The last chunk that was read stays in memory, so that smaller blocks do not fetch and decode it again.

    Attributes:
        data: the Dataset, whose arrays have not been read.
        where: name of the source, for errors.
    """

    data: xr.Dataset
    where: str
    _last: tuple[int, xr.Dataset] | None = field(default=None, init=False, repr=False)

    @property
    def length(self) -> int:
        """Number of times in a chunk; 1 if chunks are unknown or too large to be kept in memory."""
        chunks = [v.encoding.get("preferred_chunks", {}).get(TIME, 1) for v in self.data.data_vars.values()]
        longest = max((int(c) for c in chunks), default=1)
        each = self.data.nbytes / max(1, self.data.sizes.get(TIME, 1))
        return longest if longest * each <= MOST_BYTES else 1

    def read(self, rows: Int[np.ndarray, " time"]) -> xr.Dataset:
        """Read these rows into memory.

        Raises:
            CorruptStoreError: a chunk cannot be decoded.
        """
        length = self.length
        if length == 1:
            return load(self.data.isel({TIME: as_slice(rows)}), self.where)
        parts = [self._of_chunk(int(c), rows[rows // length == c], length) for c in np.unique(rows // length)]
        return (
            parts[0]
            if len(parts) == 1
            else xr.concat(parts, TIME, data_vars="minimal", coords="minimal", compat="override")
        )

    def _of_chunk(self, chunk: int, rows: Int[np.ndarray, " time"], length: int) -> xr.Dataset:
        if self._last is None or self._last[0] != chunk:
            self._last = None  # at most one chunk is in memory
            whole = self.data.isel({TIME: slice(chunk * length, (chunk + 1) * length)})
            self._last = (chunk, load(whole, self.where))
        return self._last[1].isel({TIME: rows - chunk * length})


def as_slice(index: Int[np.ndarray, " n"]) -> slice | Int[np.ndarray, " n"]:
    """Turn an index of consecutive numbers into a slice, which stores read faster."""
    if len(index) and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def load(data: xr.Dataset, where: str) -> xr.Dataset:
    """Load a Dataset into memory.

    Raises:
        CorruptStoreError: a variable cannot be decoded; the message names it and its times.
    """
    try:
        return data.load()
    except Exception as error:  # each codec and each protocol raises its own kind
        name = next((str(k) for k, v in data.data_vars.items() if not _reads(v)), "a variable")
        stamps = np.atleast_1d(data[TIME].values) if TIME in data.coords else np.zeros(0)
        times = f" of {_short(stamps[0])} to {_short(stamps[-1])}" if len(stamps) else ""
        # The error of the file library is the cause of the error that the array guard raises.
        text = first_line(error.__cause__ if isinstance(error, InputError) and error.__cause__ else error)
        raise CorruptStoreError(
            f"{name}{times} cannot be read: {text}", where=where, remedy="Fetch it again, or try once more"
        ) from error


def _reads(array: xr.DataArray) -> bool:
    try:
        array.compute()
    except Exception:
        return False
    return True


def _short(stamp: object) -> str:
    return str(stamp)[:16]
