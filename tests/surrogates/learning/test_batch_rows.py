"""The rows that several processes build are together the batch that one process builds, for every kind of surrogate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import small_fields
import small_meshes
import small_weather
from small_potential import scattered

from data.batch_rows import WHOLE, BatchRows
from data.fields.batches import FieldBatches
from data.molecules.featurise import encode
from data.molecules.graphs import GraphSource, choose_buckets
from data.structures.batches import StructureBatches, shapes
from surrogates.forecasts.batches import WindowBatches
from surrogates.meshes.facts import MeshScale
from surrogates.meshes.fit import MeshBatches
from surrogates.parameters.fit import RowBatches

SIZE = 8
#: Four processes of two devices each, and two with one and three of four devices.
EVEN = [BatchRows(2 * k, 2 * k + 2, 8) for k in range(4)]
UNEVEN = [BatchRows(0, 1, 4), BatchRows(1, 4, 4)]


def molecules(_: Path) -> GraphSource:
    table = encode(["C" * n + end for n in range(1, 8) for end in ("O", "N", "C=O")])[0]
    labels = np.arange(len(table), dtype=np.float64)[:, None]
    buckets = choose_buckets(table.atom_counts, table.bond_counts, 2)
    return GraphSource(table, np.arange(len(table)), labels, buckets, SIZE, seed=1, extra=labels.repeat(2, 1))


def fields(_: Path) -> FieldBatches:
    return FieldBatches(small_fields.waves(5, 0), SIZE, 3, None)


def meshes(_: Path) -> MeshBatches:
    samples = small_meshes.samples(11)
    scale = MeshScale.fit(samples)
    return MeshBatches(tuple(scale.apply(m) for m in samples.meshes), 3, scale.length, SIZE, 2, seed=0)


def parameters(_: Path) -> RowBatches:
    return RowBatches(np.arange(21, dtype=np.float32)[:, None], np.zeros((21, 1), np.float32), SIZE, 0)


def potentials(_: Path) -> StructureBatches:
    table = scattered(19, 8)
    batch_shapes, which = shapes(table, 3.0, (6, 8), molecules=SIZE, pairs=0)
    return StructureBatches(table, tuple(batch_shapes), which, 3.0, seed=None)


def forecasts(folder: Path) -> WindowBatches:
    return WindowBatches(small_weather.store(folder / "w", records=2), (0, 40), SIZE, 1, 2, None, stride=3)


@pytest.mark.parametrize("source", [molecules, fields, meshes, parameters, potentials, forecasts])
def test_the_rows_of_all_processes_are_the_batch(source: Callable[[Path], Any], tmp_path: Path) -> None:
    batches = source(tmp_path)
    whole = list(batches.epoch(1))
    assert len(whole) == batches.steps_per_epoch
    for division in (EVEN, UNEVEN):
        parts = [list(batches.epoch(1, part)) for part in division]
        for batch, *pieces in zip(whole, *parts, strict=True):
            for leaf, *slices in zip(*map(jax.tree.leaves, (batch, *pieces)), strict=True):
                assert [len(rows) for rows in slices] == [(p.stop - p.first) * SIZE // p.devices for p in division]
                np.testing.assert_array_equal(np.concatenate(slices), leaf)
                assert all(rows.dtype == leaf.dtype for rows in slices)


def test_a_store_of_windows_is_read_only_where_this_process_has_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = forecasts(tmp_path)
    monkeypatch.setattr("surrogates.forecasts.batches.MEMORY_BYTES", 0)
    read: list[int] = []

    def windows(store: Any, starts: np.ndarray, count: int) -> np.ndarray:
        read.extend(starts.tolist())
        return original(store, starts, count)

    original = type(batches.store).read
    monkeypatch.setattr(type(batches.store), "read", windows)
    for part in (WHOLE, EVEN[1]):
        read.clear()
        steps = sum(1 for _ in batches.epoch(0, part))
        assert len(read) == steps * SIZE * (part.stop - part.first) // part.devices


def test_a_batch_that_devices_cannot_share_is_refused() -> None:
    assert BatchRows(1, 3, 4).of(8) == slice(2, 6)
    assert BatchRows(1, 3, 4).whole(4) == 8
    with pytest.raises(ValueError, match="not split evenly"):
        BatchRows(0, 1, 3).of(8)
    with pytest.raises(ValueError, match="no range"):
        BatchRows(2, 2, 4)
