"""Records of simulations on disk: a Zarr v3 group that opens as an xarray Dataset and survives `kill -9`.

Each finished record goes to a journal first. Every so many records the journal is folded into Zarr arrays, and
`manifest.json`, replaced atomically, says how many rows of each array count and what their bytes sum to. A
row in the manifest is therefore in the arrays, and a record in neither was never finished.

Dims that differ between records (atoms, orbitals) are contiguous ragged arrays after the CF conventions 1.11,
section 9.3.3: values of all records one after the other along `<dim>`, and a count variable `<dim>_count` with the
attribute `sample_dimension`.

Any reader of Zarr opens a store and sees what has been folded: everything once the store was closed, and all but
the last records (512 at most, by default; 4096 of a campaign that has thousands in a minute) while a campaign runs or
after it was killed. `RecordStore` reads those too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import zarr

from data.checksums import crc32_of, seal
from data.claim import take_lock
from data.encodable import encodable
from data.errors import CorruptStoreError, InputError
from data.files import make_directory, sweep, write_json
from data.spec import Coordinate, Variable
from data.store.columns import (
    CHUNK,
    FACTS,
    Column,
    array_of,
    crc_of,
    plain_attributes,
    write_coordinate,
)
from data.store.creation import BEGUN, LOCK, clear_begun, describe_store, refuse_taken
from data.store.journal import Journal, read_count, refuse_lost, write_count
from data.store.key_index import KeyIndex
from data.store.owner import LOOK_S, Ownership
from data.store.store_reader import CARD, JOURNAL, MANIFEST, StoreReader
from data.store.synced_zarr import SyncedStore

#: Bytes of records in the journal above which it is folded.
FOLD_BYTES = 256_000_000
#: Arrays that are folded at the same time: most of a fold is waiting for the disk.
FOLDED_TOGETHER = 8
#: For whoever opens the Zarr group by other means.
COMMENT = (
    "Records that are not folded in yet, after a kill or while a campaign runs, are in journal.bin: "
    "data.store.records.RecordStore.open(path).dataset() has them too, and verifies checksums"
)


class RecordStore(StoreReader):
    """An append-only store of records; see `create` and `open`.

    Attributes:
        path: its directory.
        attrs: provenance and what else was given at creation.
    """

    def __init__(
        self,
        path: Path,
        mode: str,
        *,
        sync: bool = True,
        flush_every: int = 512,
        fold_share: float = math.inf,
        card: str = CARD,
        lock: IO[str] | None = None,
    ) -> None:
        super().__init__(path, card)
        self.mode, self.flush_every, self.fold_share = mode, flush_every, fold_share
        self._variables = frozenset((*self.inputs, *self.outputs))
        self._lock: IO[str] | None = None
        self._owner: Ownership | None = None
        #: Called at each named step of a flush; tests crash there.
        self.on_step: Callable[[str], None] = lambda step: None
        if mode == "a":
            self._lock = lock or take_lock(self.path / LOCK, where=str(path))
            try:
                self._owner = Ownership(self.path)
                try:
                    sweep(self.path, zarr=True)
                    if card != BEGUN:
                        (self.path / BEGUN).unlink(missing_ok=True)
                    self._begin_appending(sync)
                except BaseException:
                    self._owner.release()
                    raise
            except BaseException:
                self._lock.close()
                raise

    def _begin_appending(self, sync: bool) -> None:
        path, done = self.path / JOURNAL, int(self._manifest()["records"])
        counted = read_count(path)
        if not path.exists():
            refuse_lost(path, done, counted)
        self._journal = Journal(path, sync=sync)
        # A crash between the manifest and the clearing of the journal leaves records in both.
        left = [r for r in self._journal.records if int(r["_sequence"]) >= done]
        refuse_lost(path, done + len(left), counted)
        if self._journal.records and not left:
            self._journal.clear()
        self._journal.records = left
        self._keys = KeyIndex()
        for (key,) in self.facts_by_record(["key"]):
            self._keys.add(str(key))
        self._count = done + len(left)
        # A fold is due for the first records at once.
        self._folded_at, self._fold_seconds = 0.0, 0.0

    # Making and opening

    @staticmethod
    def create(
        path: Path | str,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        *,
        coords: Sequence[Coordinate] = (),
        provenance: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        facts: Sequence[str] = tuple(FACTS),
        record: str = "sample",
        sync: bool = True,
        flush_every: int = 512,
        fold_share: float = math.inf,
    ) -> RecordStore:
        """Make a store and open it for appending.

        Args:
            path: directory; it must not exist, or be empty.
            inputs, outputs: the variables of a record, with dims, units and dtypes.
            coords: dims that are the same in every record; those of variables that are neither these nor `FIXED_DIMS`
                are ragged.
            provenance: JSON-serialisable: simulator, version, settings, fingerprint.
            attrs: more facts.
            facts: which of `FACTS` each record holds; `KEPT` at least.
            record: name of the dim along which records lie.
            sync: whether each append waits for the disk.
            flush_every: records between folds into Zarr.
            fold_share: share of the wall time that folds may take. Above it they wait until chunks of
                `data.store.columns.CHUNK` records are whole.

        Raises:
            InputError: the directory holds something, or a variable's dims cannot be stored.
        """
        path = Path(path)
        refuse_taken(path)
        meta = describe_store(inputs, outputs, coords, {**provenance, **(attrs or {})}, facts, record)
        make_directory(path)
        lock = take_lock(path / LOCK, where=str(path))
        try:
            # Another process may have come first between the check and the lock.
            refuse_taken(path)
            clear_begun(path)
            write_json(path / BEGUN, seal(meta), indent=None, listed=False)
            write_json(path / MANIFEST, seal({"records": 0, "arrays": {}}), indent=None, listed=False)
            store = RecordStore(
                path, "a", sync=sync, flush_every=flush_every, fold_share=fold_share, card=BEGUN, lock=lock
            )
            # Empty arrays, so that the Zarr group opens before the first fold.
            group = store._group()
            for column in store._columns.values():
                array_of(group, column)
            for name, coordinate in store.coords.items():
                write_coordinate(group, name, coordinate)
            write_json(path / CARD, seal(meta), indent=None, listed=False)
            (path / BEGUN).unlink()
        except BaseException:
            lock.close()
            raise
        return store

    @staticmethod
    def open(
        path: Path | str, mode: str = "r", *, sync: bool = True, flush_every: int = 512, fold_share: float = math.inf
    ) -> RecordStore:
        """Open a store to read ("r"), also while another process appends, or to append ("a").

        Raises:
            InputError: there is no store, or another process appends to it.
        """
        if mode not in ("r", "a"):
            raise ValueError(f"mode must be 'r' or 'a', got {mode!r}")
        if not (Path(path) / CARD).exists():
            if (Path(path) / BEGUN).exists():
                raise InputError(
                    "the creation of this store was not finished",
                    where=str(path),
                    remedy="Run the command that began it again",
                )
            raise InputError("no store here", where=str(path), remedy="Name a directory that understudy simulate made")
        return RecordStore(Path(path), mode, sync=sync, flush_every=flush_every, fold_share=fold_share)

    # Writing

    def append(
        self,
        key: str,
        values: Mapping[str, Any],
        *,
        status: str = "ok",
        message: str = "",
        seconds: float = float("nan"),
        threads: int = 0,
        attempts: int = 1,
        log: str = "{}",
        core_seconds: float = float("nan"),
    ) -> None:
        """Add a finished record; when this returns, a kill does not lose it.

        Args:
            key: identity of the request; each at most once. Texts are stored as `encodable` gives them.
            values: by name; outputs of a failed simulation may be absent.
            status: "ok", or the kind of failure.
            core_seconds: processor time; a store that was made before it was recorded has no place for it.

        Raises:
            InputError: the key is there, a variable is unknown, or an "ok" record lacks an output.
        """
        journal, key = self._writing(), encodable(key)
        if key in self._keys:
            raise InputError(f"a record with key {key} is in the store", where=str(self.path))
        unknown = sorted(values.keys() - self._variables)
        absent = sorted(self._variables - values.keys()) if status == "ok" else []
        if unknown or absent:
            raise InputError(f"record has unknown variables {unknown} and lacks {absent}", where=str(self.path))
        record: dict[str, Any] = {}
        lengths: dict[str, int] = {}
        for name, value in values.items():
            column = self._columns[name]
            if column.dtype == "str":
                record[name] = str(value)
                continue
            record[name] = array = np.asarray(value, column.dtype)
            column.refuse_other_shape(array)
            if column.ragged and lengths.setdefault(column.ragged, len(array)) != len(array):
                raise InputError(f"{name} has another length along {column.ragged} than the rest of its record")
        record |= {"key": key, "status": status, "message": message, "log": log, "seconds": np.float64(seconds)}
        record |= {"threads": np.int32(threads), "attempts": np.int32(attempts)}
        record["core_seconds"] = np.float64(core_seconds)
        record = {name: value for name, value in record.items() if name in self._columns}
        record["_sequence"] = np.int64(self._count)
        self._still_ours(LOOK_S)
        journal.append(record)
        self._keys.add(key)
        self._count += 1
        if journal.sync:
            write_count(journal.path, self._count)
        if self._fold_is_due(journal):
            self.flush()

    def sync(self) -> None:
        """Wait until the disk has every record that was appended."""
        self._writing().wait_for_disk()

    def _fold_is_due(self, journal: Journal) -> bool:
        if journal.size >= FOLD_BYTES:
            return True
        if len(journal.records) < self.flush_every:
            return False
        # Chunks that are whole are not written a second time.
        whole = self._count % CHUNK == 0
        return whole or time.monotonic() - self._folded_at >= self._fold_seconds / self.fold_share

    def _still_ours(self, at_most_every_s: float = 0.0) -> None:
        """Raise an `InputError` if this process was believed dead, and another one writes to the store."""
        if self._owner is not None:
            self._owner.check(at_most_every_s=at_most_every_s)

    def _writing(self) -> Journal:
        if self._journal is None:
            raise InputError("is open for reading", where=str(self.path), remedy="Open it with mode 'a'")
        return self._journal

    def flush(self) -> None:
        """Fold the journal into the Zarr arrays."""
        journal = self._writing()
        if not journal.records:
            return
        self._still_ours()
        began = time.monotonic()
        manifest = self._manifest()
        group = self._group()

        def fold(column: Column) -> dict[str, Any]:
            entry = manifest["arrays"].get(column.name, {"rows": 0, "crc": []})
            return self._extend(group, column, entry, self._gather(column, journal.records))

        # A chunk of nothing but fill values is written too, so that an absent file is always a loss.
        with zarr.config.set({"array.write_empty_chunks": True}), ThreadPoolExecutor(FOLDED_TOGETHER) as threads:
            arrays = dict(zip(self._columns, threads.map(fold, self._columns.values()), strict=True))
        self.on_step("arrays written")
        self._still_ours()
        folded = {
            "records": manifest["records"] + len(journal.records),
            "arrays": arrays,
            "zarr.json": crc32_of(self.path / "zarr.json"),
        }
        write_json(self.path / MANIFEST, seal(folded), indent=None, listed=False)
        self.on_step("manifest written")
        journal.clear()
        self.on_step("journal cleared")
        self._folded_at = time.monotonic()
        self._fold_seconds = self._folded_at - began

    def _group(self) -> zarr.Group:
        attrs = plain_attributes({"comment": COMMENT, **self.attrs})
        return zarr.open_group(SyncedStore(self.path), mode="a", zarr_format=3, attributes=attrs)

    def _extend(self, group: zarr.Group, column: Column, entry: Mapping[str, Any], new: np.ndarray) -> dict[str, Any]:
        """Write rows behind those that the manifest counts; a chunk only ever gains rows.

        Checksums are over the rows that count, so a chunk that a crash left with more is still right.
        """
        old = int(entry["rows"])
        total = old + len(new)
        array = array_of(group, column)
        array.resize((total, *column.shape))
        if len(new):
            array[old:total] = new
        crc = list(entry["crc"])
        first = old // column.chunk
        del crc[first:]
        for chunk in range(first, -(-total // column.chunk)):
            start, stop = chunk * column.chunk, min(total, (chunk + 1) * column.chunk)
            if start >= old:
                crc.append(crc_of(new[start - old : stop - old]))
            else:
                crc.append(crc_of(np.concatenate([array[start:old], new[: stop - old]])))
        return {"rows": total, "crc": crc, "zarr.json": crc32_of(self.path / column.name / "zarr.json")}

    # Reading

    def has(self, key: str) -> bool:
        """Whether a record with this key is in the store."""
        return encodable(key) in self._keys if self._journal is not None else super().has(key)

    def __len__(self) -> int:
        return self._count if self._journal is not None else super().__len__()

    # Closing

    def close(self) -> None:
        """Fold in what the journal holds, and release the store."""
        if self._journal is None:
            return
        try:
            self.flush()
        finally:
            self._journal.close()
            self._journal = None
            self._keys.close()
            if self._owner is not None:
                self._owner.release()
                self._owner = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def verify(path: Path | str) -> list[str]:
    """The damage of a store: one line for its journal, and one for each array that is not what was written."""
    problems: dict[str, None] = {}
    store = RecordStore.open(path)
    for name in store._columns:
        try:
            store.column(name)
        except CorruptStoreError as error:
            # Every column ends with the journal's rows, whose damage is one problem.
            problems[str(error)] = None
    return list(problems)
