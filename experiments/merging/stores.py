"""Merges the stores of a sharded campaign: records in the order of all requests, as one worker would add them."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from data.errors import InputError
from data.files import atomic_directory, sync_directory, write_json
from data.plain import from_plain
from data.spec import Coordinate, Variable
from data.store.columns import FACTS
from data.store.journal import HEAD, decode_record, encode_record
from data.store.key_index import CACHE_KIB
from data.store.records import RecordStore
from data.terminal import progress_bar
from experiments.campaigns.shard_requests import ShardPlaces
from experiments.merging.description import summed_metrics
from simulators.campaigns.campaign import AGAIN

#: Name of the store in the directory of a shard.
STORE = "labels.zarr"
#: Rows of a chunk of most arrays, which are then written once.
FOLD = 4096


def merge_stores(out: Path, directories: Sequence[Path], config: DictConfig) -> dict[str, float]:
    """Write one store of all records.

    Records stand in the order in which a campaign of one worker without shards adds them: first attempts in the order
    of the requests, then second attempts of failed requests, and so on.

    Args:
        out: the new store.
        directories: runs of the shards, each with a store and the places of its requests.
        config: configuration that all shards share.

    Raises:
        InputError: the shards have not the same requests, or not the same simulator.
        CorruptStoreError: a file of a shard is damaged.
    """
    places = [ShardPlaces.read(path) for path in directories]
    counts = {one.requests for one in places}
    if len(counts) > 1:
        raise InputError(
            f"the shards were made of {' and of '.join(f'{n:,}' for n in sorted(counts))} requests",
            where=str(directories[0].parent),
            remedy="Run each of them again with the same inputs",
        )
    stores = [RecordStore.open(path / STORE) for path in directories]
    for store in stores[1:]:
        if store.card() != stores[0].card():
            raise InputError(
                f"is of another simulator or version than {stores[0].path}",
                where=str(store.path),
                remedy="Run that shard again with the version of the others, in an empty directory",
            )
    total = sum(len(store) for store in stores)
    with atomic_directory(out) as target, progress_bar("merging", total) as bar:
        with _begun_as(stores[0], target) as merged:
            streams = [_in_order(store, one) for store, one in zip(stores, places, strict=True)]
            for _, key, values in heapq.merge(*streams, key=lambda item: item[0]):
                facts = {name: values.pop(name) for name in FACTS if name != "key" and name in values}
                merged.append(key, values, **_plain(facts))
                bar.advance()
        sync_directory(target)
    metrics = summed_metrics(directories, "simulate")
    # The store is no run directory: what describes the whole stays beside the shards.
    write_json(directories[0].parent / "metrics.json", metrics)
    return metrics


def _begun_as(store: RecordStore, path: Path) -> RecordStore:
    """An empty store for records of the same kind."""
    card = store.card()
    return RecordStore.create(
        path,
        from_plain(tuple[Variable, ...], card["inputs"]),
        from_plain(tuple[Variable, ...], card["outputs"]),
        coords=from_plain(tuple[Coordinate, ...], card["coords"]),
        provenance=card["attrs"],
        facts=card["facts"],
        record=card["record"],
        sync=False,
        flush_every=FOLD,
    )


def _in_order(store: RecordStore, places: ShardPlaces) -> Iterator[tuple[tuple[int, int], str, dict[str, Any]]]:
    """The records of a shard by attempt and place; workers may have ended in another order than they began.

    Raises:
        InputError: a record is of no request of the shard, or a request has no record.
    """
    attempts, at = _ranks(store, places)
    absent = len(places.rows) - int(((at >= 0) & (attempts == 0)).sum())
    strays = int((at < 0).sum())
    if absent or strays:
        raise InputError(
            f"{absent:,} of its requests have no record, and {strays:,} records are of other requests",
            where=str(store.path),
            remedy="Run the shard again in an empty directory",
        )
    order = np.lexsort((at, attempts))
    facts = [name for name in store.card()["facts"] if name != "key"]
    next_place = 0
    with closing(_Shelf()) as shelf:
        read = store.records(status=None, names=[*facts, *store.inputs, *store.outputs])
        for row, (_, values) in enumerate(read):
            if row != order[next_place]:
                shelf.put(row, values)
                continue
            taken: dict[str, Any] | None = values
            while taken is not None:
                row = int(order[next_place])
                next_place += 1
                yield (int(attempts[row]), int(at[row])), str(taken.pop("key")), taken
                taken = shelf.take(int(order[next_place])) if next_place < len(order) else None


def _ranks(store: RecordStore, places: ShardPlaces) -> tuple[np.ndarray, np.ndarray]:
    """Attempt and place of each record, 12 bytes a record: (record,) each."""
    attempts = np.empty(len(store), np.int32)
    at = np.empty(len(store), np.int64)
    done = 0
    keys = (str(key) for (key,) in store.facts_by_record(["key"]))
    while part := [key.partition(AGAIN) for key in islice(keys, FOLD)]:
        stop = done + len(part)
        attempts[done:stop] = [int(again or 0) for _, _, again in part]
        at[done:stop] = places.of(first for first, _, _ in part)
        done = stop
    return attempts, at


class _Shelf:
    """Records that are not due yet, on the disk beyond a small cache: a slow first request holds back all others."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        self._database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, frame BLOB NOT NULL)")
        self._database.execute("BEGIN")

    def put(self, number: int, record: Mapping[str, Any]) -> None:
        """Keep a record."""
        self._database.execute("INSERT INTO records VALUES (?, ?)", (number, encode_record(record)))

    def take(self, number: int) -> dict[str, Any] | None:
        """Give a record back and forget it; None if it is not here."""
        row = self._database.execute("SELECT frame FROM records WHERE number = ?", (number,)).fetchone()
        if row is None:
            return None
        self._database.execute("DELETE FROM records WHERE number = ?", (number,))
        return decode_record(row[0][HEAD.size :])

    def close(self) -> None:
        """Give its memory and its file back."""
        self._database.close()


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a record as `RecordStore.append` takes them."""
    texts = ("status", "message", "log")
    return {name: str(v) if name in texts else v.item() for name, v in facts.items()}
