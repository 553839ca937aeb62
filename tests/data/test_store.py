"""The store gives back what it was given, survives kills at any step, and finds every changed chunk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.encodable import encodable
from data.errors import CorruptStoreError, InputError
from data.journal import HEAD, MAGIC, Journal, read_frames
from data.store import RecordStore, verify


class Variable(NamedTuple):
    """What the store asks of a variable."""

    name: str
    dims: tuple[str, ...]
    units: str
    dtype: str
    long_name: str


INPUTS = (
    Variable("smiles", (), "1", "str", "SMILES"),
    Variable("positions", ("atom", "axis"), "Angstrom", "float64", "positions"),
)
OUTPUTS = (
    Variable("energy", (), "eV", "float64", "energy"),
    Variable("forces", ("atom", "axis"), "eV/Angstrom", "float64", "forces"),
    Variable("orbital_energies", ("orbital",), "eV", "float64", "orbital energies"),
    Variable("dipole", ("axis",), "Debye", "float64", "dipole"),
)
#: Lone surrogates and NULs too.
ANY_TEXT = st.text(st.characters(), max_size=12)
FACTS = {"seconds": 0.5, "threads": 1}


def make(path: Path, **options: Any) -> RecordStore:
    return RecordStore.create(path, INPUTS, OUTPUTS, provenance={"simulator": "toy", "settings": {"a": 1}}, **options)


def values(i: int, atoms: int | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    n = atoms if atoms is not None else 1 + i % 7
    return {
        "smiles": "C" * n,
        "positions": rng.normal(size=(n, 3)),
        "energy": float(i),
        "forces": rng.normal(size=(n, 3)),
        "orbital_energies": rng.normal(size=2 * n),
        "dipole": rng.normal(size=3),
    }


def assert_same(record: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, str):
            assert record[name] == value
        else:
            np.testing.assert_array_equal(record[name], value)


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
import os, sys; sys.path.insert(0, sys.argv[2])
os.fsync = os.fdatasync = lambda handle: None  # a kill is no power failure
from pathlib import Path
import test_store as t
from data.store import RecordStore
path = Path(sys.argv[1])
store = RecordStore.open(path, "a", flush_every=7) if path.exists() else t.make(path, flush_every=7)
for i in range(len(store), 120):
    store.append(f"k{i}", t.values(i), **t.FACTS)
    print(i, flush=True)
store.close()
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_had_finished(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    for pause in (0.05, 0.11, 0.23, None):
        command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
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


def test_a_torn_journal_frame_is_cut_off_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    journal = Journal(path)
    for i in range(3):
        journal.append({"i": np.int64(i), "text": "é", "x": np.arange(i, dtype=np.float64)})
    journal.close()
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
    path = tmp_path / "journal.bin"
    journal = Journal(path)
    for i in range(3):
        journal.append({"i": np.int64(i), "text": "é", "x": np.arange(i, dtype=np.float64)})
    journal.close()
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


def test_ten_thousand_records_are_written_and_read_in_seconds(tmp_path: Path) -> None:
    start = time.perf_counter()
    with make(tmp_path / "s.zarr", sync=False) as store:
        for i in range(10_000):
            store.append(f"k{i}", values(i, 18), **FACTS)
    with RecordStore.open(tmp_path / "s.zarr") as store:
        assert store.column("energy").sum() == sum(range(10_000))
        assert store.column("forces").shape == (180_000, 3)
    assert time.perf_counter() - start < 40


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
    with pytest.raises(InputError, match=r"making of this store was not finished.*began it again"):
        RecordStore.open(path)
    other = (Variable("b", (), "1", "float64", "b"),)
    RecordStore.create(path, other, (), provenance={}, facts=("key", "status")).close()
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
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
