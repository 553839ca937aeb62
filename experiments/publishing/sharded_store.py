"""A copy of a store of records as one Zarr group of few, large objects: many chunks lie in one shard.

A bucket answers each object in tens of milliseconds, however small it is. Chunks stay what they are, and are read one
by one from within a shard (the sharding codec of Zarr v3).
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from data.errors import InputError
from data.files import write_json
from data.store.columns import plain_attributes
from data.store.records import RecordStore
from data.store.store_reader import CARD

#: Bytes of an unpacked shard, about; of texts, whose length is not known, a row counts as `TEXT_BYTES`.
SHARD_BYTES = 1 << 28
TEXT_BYTES = 64


def write_sharded(store: Path, target: Path) -> int:
    """Write the records of a store, verified, as a Zarr group that xarray opens; returns their number.

    One variable at a time is in memory.

    Args:
        store: directory of the store.
        target: empty directory.

    Raises:
        InputError: records were added meanwhile.
        CorruptStoreError: the store is damaged.
    """
    with RecordStore.open(store) as records:
        count = len(records)
        group = zarr.create_group(target, zarr_format=3, attributes=plain_attributes(records.attrs), overwrite=True)
        for name, variable in records.coords.items():
            values = np.asarray(variable.values)
            _write(group, name, values, (name,), dict(variable.attrs), max(1, len(values)))
        for name in records.names():
            _write(
                group,
                name,
                records.column(name),
                records.dims(name),
                records.attributes_of(name),
                records.chunk_of(name),
            )
        if len(records) != count or group["key"].shape != (count,):  # type: ignore[union-attr]
            raise InputError("records were added meanwhile", where=str(store), remedy="Publish it once it is complete")
        write_json(target / CARD, records.card(), listed=False)
    with warnings.catch_warnings():
        # Consolidated metadata is an addition to the third version of Zarr: with it one request opens the group.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(target, zarr_format=3)
    return count


def _write(
    group: zarr.Group, name: str, values: np.ndarray, dims: tuple[str, ...], attrs: dict[str, Any], chunk: int
) -> None:
    """Write one array, whole shards one after the other."""
    is_text = values.dtype.kind in "OUT"
    values = values.astype(object) if is_text else values
    chunk = min(chunk, max(1, len(values)))
    row = TEXT_BYTES if is_text else max(1, int(values.dtype.itemsize * math.prod(values.shape[1:])))
    rows = chunk * max(1, min(SHARD_BYTES // (row * chunk), -(-len(values) // chunk)))
    with warnings.catch_warnings():
        # Texts of variable length are not in the third version of Zarr yet.
        warnings.simplefilter("ignore")
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=(chunk, *values.shape[1:]),
            shards=(rows, *values.shape[1:]),
            dtype=str if is_text else values.dtype,
            dimension_names=list(dims),
            attributes=attrs,
        )
        for first in range(0, len(values), rows):
            array[first : first + rows] = values[first : first + rows]
