"""One process writes to a store, also where locks do not reach the other machine."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data.store.owner
from data.errors import InputError
from data.spec import Variable
from data.store.owner import DEAD_S, is_owner_file
from data.store.records import RecordStore

X = Variable("x", (), "1", "float64", "a number")
Y = Variable("y", (), "1", "float64", "its square")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordStore:
    """An open store on a file system without locks, whose writer calls itself another machine."""

    def without_locks(handle: Any, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    monkeypatch.setattr(data.store.owner, "host_name", lambda: "node1")
    store = RecordStore.create(tmp_path / "s", [X], [Y], provenance={}, flush_every=2)
    add(store, 1)
    monkeypatch.setattr(data.store.owner, "host_name", lambda: "node2")
    return store


def add(records: RecordStore, x: int) -> None:
    records.append(str(x), {"x": float(x), "y": float(x * x)})


def age(records: RecordStore, seconds: float) -> None:
    """Let the last sign of life of a writer be older."""
    (file,) = (path for path in records.path.iterdir() if is_owner_file(path.name))
    then = file.stat().st_mtime - seconds
    os.utime(file, (then, then))


def test_a_store_with_a_living_writer_on_another_machine_is_refused(store: RecordStore) -> None:
    with pytest.raises(InputError, match="on node1 is writing there"):
        RecordStore.open(store.path, "a")
    age(store, DEAD_S / 2)
    with pytest.raises(InputError, match="node1"):
        RecordStore.open(store.path, "a")
    # Reading is free, and a store that was closed is free at once.
    assert RecordStore.open(store.path).keys() == ["1"]
    store.close()
    with RecordStore.open(store.path, "a") as again:
        add(again, 2)
    assert RecordStore.open(store.path).column("y").tolist() == [1.0, 4.0]


def test_a_writer_that_was_believed_dead_cannot_write(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.store.records.LOOK_S", 0.0)
    age(store, 2 * DEAD_S)
    with RecordStore.open(store.path, "a") as other:
        add(other, 2)
        # It comes back to life with a finished record, and with one that waits to be folded.
        for write in (lambda: add(store, 3), store.flush):
            with pytest.raises(InputError, match="taken the store over"):
                write()
        add(other, 4)
    records = RecordStore.open(store.path)
    assert records.keys() == ["1", "2", "4"]
    np.testing.assert_array_equal(records.column("y"), [1.0, 4.0, 16.0])


def test_one_of_two_processes_that_take_over_at_once_is_the_owner(store: RecordStore, tmp_path: Path) -> None:
    age(store, 2 * DEAD_S)
    # The other took the next epoch a moment earlier, between the look and the file.
    rival = {"host": "node3", "pid": 1, "released": False}
    (store.path / "owner-00000002.json").write_text(json.dumps(rival))
    with pytest.raises(InputError, match="on node3"):
        RecordStore.open(store.path, "a")


def test_a_writer_of_the_same_machine_is_told_by_the_lock(tmp_path: Path) -> None:
    first = RecordStore.create(tmp_path / "s", [X], [Y], provenance={})
    with pytest.raises(InputError, match="is writing there"):
        RecordStore.open(tmp_path / "s", "a")
    first.close()
    with RecordStore.open(tmp_path / "s", "a") as second:
        add(second, 1)
    assert len([path for path in (tmp_path / "s").iterdir() if is_owner_file(path.name)]) == 1
