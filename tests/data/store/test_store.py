"""The store gives back what it was given, and survives kills at any step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import small_stores
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stores import FACTS, Variable, assert_same, make, values

from data.encodable import encodable
from data.errors import CorruptStoreError, InputError
from data.store.journal import HEAD, MAGIC
from data.store.records import RecordStore, verify

#: Lone surrogates and NULs too.
ANY_TEXT = st.text(st.characters(), max_size=12)


@given(
    st.lists(st.tuples(st.integers(0, 6), ANY_TEXT), max_size=24),
    st.integers(1, 9),
)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_appended_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], every: int
) -> None:
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    expected = []
    with make(path, flush_every=every, sync=False) as store:
        for i, (atoms, text) in enumerate(rows):
            record = values(i, atoms) | {"smiles": text}
            store.append(f"k{i}", record, message=text, **FACTS)
            expected.append(record | {"smiles": encodable(text)})
    with RecordStore.open(path) as store:
        stored = list(store.records())
    assert [key for key, _ in stored] == [f"k{i}" for i in range(len(rows))]
    for (_, record), want in zip(stored, expected, strict=True):
        assert_same(record, want)


def test_records_are_read_a_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("columns", "records"):
        monkeypatch.setattr(f"data.store.{module}.CHUNK", 4)
    expected = [values(i, atoms) for i, atoms in enumerate([3, 0, 0, 6, 1, 2, 0, 5, 4, 0, 6, 1])]
    with make(tmp_path / "s.zarr", flush_every=5) as store:
        for i, record in enumerate(expected):
            store.append(f"k{i}", record, **FACTS)
        # Some are in chunks and some in the journal.
        during = list(store.records())
    with RecordStore.open(tmp_path / "s.zarr") as store:
        after = list(store.records())
        assert [key for (key,) in store.facts_by_record(["key"])] == [f"k{i}" for i in range(len(expected))]
    for stored in (during, after):
        for (_, record), want in zip(stored, expected, strict=True):
            assert_same(record, want)
    # The last chunk has not been looked at when the first record comes.
    (tmp_path / "s.zarr" / "key" / "c" / "2").unlink()
    with RecordStore.open(tmp_path / "s.zarr") as store:
        reading = store.records()
        assert next(reading)[0] == "k0"
        with pytest.raises(CorruptStoreError, match="chunk 2 of key"):
            list(reading)


def test_failures_are_rows_with_their_inputs_and_a_reason(tmp_path: Path) -> None:
    with make(tmp_path / "s.zarr") as store:
        store.append("a", values(3), **FACTS)
        inputs = {k: v for k, v in values(4).items() if k in ("smiles", "positions")}
        store.append("b", inputs, status="not_converged", message="50 cycles", **FACTS)
        store.append("c", values(5), **FACTS)
    with RecordStore.open(tmp_path / "s.zarr") as store:
        assert [k for k, _ in store.records()] == ["a", "c"]
        assert_same(dict(store.records())["c"], values(5))
        failed = dict(store.records(status=None))["b"]
        assert_same(failed, inputs)
        assert failed["message"] == "50 cycles"
        assert np.isnan(failed["energy"])
        assert len(failed["forces"]) == 0


def test_plain_xarray_opens_a_closed_store_with_units_and_cf_counts(tmp_path: Path) -> None:
    with make(tmp_path / "s.zarr", flush_every=4) as store:
        for i in range(10):
            store.append(f"k{i}", values(i), **FACTS)
        inside = store.dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = xr.open_zarr(tmp_path / "s.zarr", consolidated=False).load()
    for name in inside:
        np.testing.assert_array_equal(plain[name].astype(inside[name].dtype), inside[name])
    assert plain.energy.attrs["units"] == "eV"
    assert plain.atom_count.attrs["sample_dimension"] == "atom"
    assert int(plain.atom_count.sum()) == plain.sizes["atom"]
    assert plain.attrs["simulator"] == "toy"


def test_plain_xarray_opens_an_unfinished_store_sees_the_folded_records_and_is_told_of_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"

    def plain() -> xr.Dataset:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return xr.open_zarr(path, consolidated=False).load()

    with make(path, flush_every=4) as store:
        store.append("k0", values(0), **FACTS)
        assert plain().sizes["sample"] == 0
        for i in range(1, 6):
            store.append(f"k{i}", values(i), **FACTS)
        assert plain().key.values.tolist() == ["k0", "k1", "k2", "k3"]
        with RecordStore.open(path) as reader:
            assert reader.dataset().sizes["sample"] == 6
    assert plain().sizes["sample"] == 6
    assert "RecordStore.open" in plain().attrs["comment"]


def test_a_key_is_stored_once(tmp_path: Path) -> None:
    with make(tmp_path / "s.zarr") as store:
        store.append("a", values(1), **FACTS)
        with pytest.raises(InputError, match="key a"):
            store.append("a", values(1), **FACTS)
        with pytest.raises(InputError, match="lacks"):
            store.append("b", {"smiles": "C"}, **FACTS)
        assert len(store) == 1


def test_a_second_writer_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    with make(tmp_path / "s.zarr"), pytest.raises(InputError, match=str(os.getpid())):
        RecordStore.open(tmp_path / "s.zarr", "a")
    RecordStore.open(tmp_path / "s.zarr", "a").close()


def test_a_reader_sees_what_the_journal_alone_holds(tmp_path: Path) -> None:
    with make(tmp_path / "s.zarr", flush_every=4) as store:
        for i in range(6):
            store.append(f"k{i}", values(i), **FACTS)
        with RecordStore.open(tmp_path / "s.zarr") as reader:
            assert reader.keys() == [f"k{i}" for i in range(6)]
            assert_same(dict(reader.records())["k5"], values(5))


class CrashError(Exception):
    """A stand-in for the power going off."""


@pytest.mark.parametrize("step", ["arrays written", "manifest written", "journal cleared"])
@pytest.mark.parametrize("before", [0, 3])
def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(tmp_path: Path, step: str, before: int) -> None:
    path = tmp_path / "s.zarr"
    store = make(path, flush_every=100)
    for i in range(before):
        store.append(f"k{i}", values(i), **FACTS)
    store.flush()
    for i in range(before, before + 5):
        store.append(f"k{i}", values(i), **FACTS)

    def crash(at: str) -> None:
        if at == step:
            raise CrashError

    store.on_step = crash
    with pytest.raises(CrashError):
        store.flush()
    assert store._lock is not None
    store._lock.close()  # what the kernel does for a dead process
    assert verify(path) == []
    with RecordStore.open(path, "a") as again:
        assert again.keys() == [f"k{i}" for i in range(before + 5)]
        again.append("last", values(99), **FACTS)
    with RecordStore.open(path) as reader:
        stored = list(reader.records())
    assert [k for k, _ in stored] == [*(f"k{i}" for i in range(before + 5)), "last"]
    for i, (_, record) in enumerate(stored[:-1]):
        assert_same(record, values(i))


WRITER = """
import os, sys; sys.path[:0] = sys.argv[2:]
os.fsync = os.fdatasync = lambda handle: None  # a kill is no power failure
from pathlib import Path
import small_stores as t
from data.store.records import RecordStore
path = Path(sys.argv[1])
store = RecordStore.open(path, "a", flush_every=7) if path.exists() else t.make(path, flush_every=7)
for i in range(len(store), 120):
    store.append(f"k{i}", t.values(i), **t.FACTS)
    print(i, flush=True)
store.close()
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_had_finished(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    for pause in (0.06, 0.2, None):
        command = [
            sys.executable,
            "-c",
            WRITER,
            str(path),
            str(Path(small_stores.__file__).parent),
        ]
        writer = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        if pause is not None:
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().split("\n")
        writer.wait()
        finished = [int(line) for line in lines if line.strip().isdigit()]
        with RecordStore.open(path) as store:
            stored = list(store.records())
        assert [k for k, _ in stored] == [f"k{i}" for i in range(len(stored))]
        assert len(stored) >= finished[-1] + 1
    assert len(stored) == 120
    for i, (_, record) in enumerate(stored):
        assert_same(record, values(i))


def test_of_many_records_each_costs_what_it_costs_in_few(tmp_path: Path) -> None:
    def cost(count: int) -> float:
        begin = time.process_time()
        with make(tmp_path / f"{count}.zarr", sync=False) as store:
            for i in range(count):
                store.append(f"k{i}", values(i, 18), **FACTS)
        with RecordStore.open(tmp_path / f"{count}.zarr") as store:
            assert store.column("energy").sum() == sum(range(count))
            assert store.column("forces").shape == (18 * count, 3)
        return time.process_time() - begin

    # With a cost that grows with the number of those before, each of ten times as many would cost ten times as much.
    assert cost(2000) < 3 * 10 * cost(200)


def test_a_directory_that_is_no_store_or_not_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store"):
        RecordStore.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        make(tmp_path)


def test_a_fold_is_on_the_disk_before_the_journal_is_emptied(tmp_path: Path, disk: list[tuple[str, ...]]) -> None:
    with make(tmp_path / "s.zarr", flush_every=100, sync=False) as store:
        for i in range(3):
            store.append(f"k{i}", values(i), **FACTS)
        disk.clear()
        store.flush()
    manifest = next(i for i, event in enumerate(disk) if event[0] == "rename" and event[-1] == "manifest.json")
    emptied = disk.index(("sync", "journal.bin"))
    assert ("sync", "s.zarr") in disk[manifest:emptied]
    chunks = [i for i, event in enumerate(disk) if event[0] == "rename" and event[-1] in ("0", "zarr.json")]
    assert len(chunks) >= 2 * len(store._columns)
    for i in chunks:
        assert i < manifest
        assert ("sync", disk[i][1]) in disk[:i]
    folders = [event[1] for event in disk[:manifest] if event[0] == "sync"]
    for name in store._columns:
        assert name in folders


@pytest.mark.parametrize("text", ["\udc80", "a\0b", "half \ud83d"])
def test_any_message_can_be_folded(tmp_path: Path, text: str) -> None:
    inputs = {k: v for k, v in values(4).items() if k in ("smiles", "positions")}
    with make(tmp_path / "s.zarr", flush_every=100) as store:
        store.append(text, inputs | {"smiles": text}, status="crashed", message=text, **FACTS)
        assert store.has(text)
        with pytest.raises(InputError, match="is in the store"):
            store.append(text, inputs, status="crashed", **FACTS)
    with RecordStore.open(tmp_path / "s.zarr") as store:
        shown = encodable(text)
        assert [store.column(name)[0] for name in ("key", "smiles", "message")] == [shown] * 3
    assert verify(tmp_path / "s.zarr") == []


def test_a_journal_of_an_earlier_version_with_such_a_message_is_folded(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    store = make(path, flush_every=100)
    store.append("k0", values(0), message="before", **FACTS)
    assert store._lock is not None
    store._lock.close()  # what the kernel does for a dead process
    line = (path / "journal.bin").read_bytes()[HEAD.size :].replace(b'"before"', b'"\\udc80\\u0000"')
    (path / "journal.bin").write_bytes(HEAD.pack(MAGIC, len(line), zlib.crc32(line)) + line)
    with RecordStore.open(path) as reader:
        assert reader.column("message").tolist() == [r"\udc80\x00"]
    RecordStore.open(path, "a").close()
    assert (path / "journal.bin").stat().st_size == 0
    with RecordStore.open(path) as reader:
        assert reader.column("message").tolist() == [r"\udc80\x00"]


def test_a_store_whose_making_was_killed_is_named_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    make(path).close()
    (path / "store.json").rename(path / "creating.json")
    (path / "energy" / "notes.txt").write_text("of a half-made array")
    (path / "precious.txt").write_text("x")
    with pytest.raises(InputError, match=r"creation of this store was not finished.*began it again"):
        RecordStore.open(path)
    other = (Variable("b", (), "1", "float64", "b"),)
    RecordStore.create(path, other, (), provenance={}, facts=("key", "status")).close()
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith((".", "owner-"))}
    assert names == {
        "zarr.json",
        "store.json",
        "manifest.json",
        "journal.bin",
        "lock",
        "precious.txt",
        *"b",
        "key",
        "status",
    }
    (path / "lost").mkdir()
    (path / "lost" / "manifest.json").write_text('{"records": 5}')
    (path / "lost" / "journal.bin").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        make(path / "lost")
