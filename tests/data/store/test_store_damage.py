"""Every change of a stored byte is found and named, and costs no record that is whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_stores import FACTS, make, values

from data.errors import CorruptStoreError
from data.store.journal import Journal, read_frames
from data.store.records import RecordStore, verify


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize("name", ["energy", "forces", "smiles"])
def test_a_damaged_chunk_is_found_and_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / "s.zarr"
    with make(path) as store:
        for i in range(20):
            store.append(f"k{i}", values(i), **FACTS)
    chunk = path / name / "c" / ("0/0" if name == "forces" else "0")
    content = chunk.read_bytes()
    if damage == "missing":
        chunk.unlink()
    elif damage == "truncated":
        chunk.write_bytes(content[: len(content) // 2])
    else:
        flipped = bytearray(content)
        flipped[len(flipped) // 2] ^= 0x10
        chunk.write_bytes(bytes(flipped))
    with RecordStore.open(path) as store, pytest.raises(CorruptStoreError, match=name) as raised:
        store.column(name)
    assert str(chunk) in str(raised.value)
    assert len(verify(path)) == 1
    assert name in verify(path)[0]


def write_journal(path: Path) -> Path:
    """A journal of three records of different lengths."""
    journal = Journal(path)
    for i in range(3):
        journal.append({"i": np.int64(i), "text": "é", "x": np.arange(i, dtype=np.float64)})
    journal.close()
    return path


def test_a_torn_journal_frame_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "journal.bin")
    whole = path.read_bytes()
    ends = [0, *(end for end, _ in read_frames(path))]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        again = Journal(path)
        kept = max(k for k, end in enumerate(ends) if end <= size)
        assert [int(r["i"]) for r in again.records] == list(range(kept))
        assert again.cut == size - ends[kept]
        again.close()
        assert path.stat().st_size == ends[kept]


def test_a_changed_byte_anywhere_in_the_journal_is_found_and_costs_no_record(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "journal.bin")
    whole = path.read_bytes()
    starts = [0, *(end for end, _ in read_frames(path))]
    for at in range(len(whole)):
        for bit in (0x01, 0x80):
            damaged = bytearray(whole)
            damaged[at] ^= bit
            path.write_bytes(damaged)
            where = max(start for start in starts if start <= at)
            with pytest.raises(CorruptStoreError, match=f"journal.bin: the record at byte {where} is not"):
                Journal(path)
            assert path.read_bytes() == damaged


def test_a_store_with_a_damaged_journal_is_not_appended_to_and_the_remedy_works(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    store = make(path, flush_every=100)
    for i in range(5):
        store.append(f"k{i}", values(i), **FACTS)
    assert store._lock is not None
    store._lock.close()  # what the kernel does for a dead process
    ends = [end for end, _ in read_frames(path / "journal.bin")]
    with open(path / "journal.bin", "r+b") as file:
        file.seek(ends[1] + 40)
        file.write(b"\x00")
    for _ in range(2):
        with pytest.raises(CorruptStoreError, match=f"byte {ends[1]:,} .*truncate -s {ends[1]}"):
            RecordStore.open(path, "a")
    with pytest.raises(CorruptStoreError), RecordStore.open(path) as reader:
        reader.keys()
    assert len(verify(path)) == 1
    os.truncate(path / "journal.bin", ends[1])
    (path / "journal.count").unlink()
    with RecordStore.open(path, "a") as again:
        assert again.keys() == ["k0", "k1"]
    assert verify(path) == []


@pytest.mark.parametrize("loss", ["removed", "emptied", "cut", "counted wrongly"])
def test_records_that_were_finished_and_are_no_longer_there_are_noticed(tmp_path: Path, loss: str) -> None:
    path = tmp_path / "s.zarr"
    store = make(path, flush_every=3)
    for i in range(5):
        store.append(f"k{i}", values(i), **FACTS)
    assert store._lock is not None
    store._lock.close()  # what the kernel does for a dead process
    journal, count = path / "journal.bin", path / "journal.count"
    kept = journal.read_bytes(), count.read_bytes()
    if loss == "removed":
        journal.unlink()
    elif loss == "counted wrongly":
        count.write_bytes(kept[1].replace(b"5", b"4", 1))
    else:
        (first, _) = next(read_frames(journal))
        os.truncate(journal, 0 if loss == "emptied" else first)
    named = "journal.count: is not what was written" if loss == "counted wrongly" else "journal.bin: . finished records"
    for mode in ("r", "a"):
        with pytest.raises(CorruptStoreError, match=named):
            RecordStore.open(path, mode).keys()
    journal.write_bytes(kept[0])
    count.write_bytes(kept[1])
    with RecordStore.open(path, "a") as again:
        assert again.keys() == [f"k{i}" for i in range(5)]
    # All are folded now, and none is lost with the journal.
    journal.unlink()
    assert len(RecordStore.open(path).keys()) == 5


def test_a_store_of_before_checksums_is_read_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "s.zarr"
    with make(path) as store:
        store.append("k0", values(0), **FACTS)
    for name in ("store.json", "manifest.json"):
        card = json.loads((path / name).read_text())
        del card["crc32"]
        (path / name).write_text(json.dumps(card))
    (path / "journal.count").unlink()
    with RecordStore.open(path, "a") as again:
        again.append("k1", values(1), **FACTS)
    assert RecordStore.open(path).keys() == ["k0", "k1"]
    said = [r.getMessage() for r in caplog.records if "made without a checksum" in r.getMessage()]
    assert sorted(Path(line.split(":")[0]).name for line in said) == ["manifest.json", "store.json"]


def test_a_reader_does_not_take_a_fold_in_progress_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(tmp_path / "s.zarr", flush_every=100) as store:
        for i in range(6):
            store.append(f"k{i}", values(i), **FACTS)
        reader = RecordStore.open(tmp_path / "s.zarr")
        truly = RecordStore._tail

        def folding(self: RecordStore, done: int) -> list[dict[str, Any]]:
            # The writer folds and goes on while the journal is being read.
            monkeypatch.setattr(RecordStore, "_tail", truly)
            store.flush()
            store.append("k6", values(6), **FACTS)
            raise CorruptStoreError("a journal that changes while it is read")

        monkeypatch.setattr(RecordStore, "_tail", folding)
        assert reader.keys() == [f"k{i}" for i in range(7)]
