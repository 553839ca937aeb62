"""Records of simulations on disk: a Zarr v3 group that opens as an xarray Dataset and survives `kill -9`.

Each finished record goes to a journal first. Every so many records the journal is folded into Zarr arrays, and
`manifest.json`, replaced atomically, says how many rows of each array count and what their bytes sum to. A
row in the manifest is therefore in the arrays, and a record in neither was never finished.

Dims that differ between records (atoms, orbitals) are contiguous ragged arrays after the CF conventions 1.11,
section 9.3.3: values of all records one after the other along `<dim>`, and a count variable `<dim>_count` with the
attribute `sample_dimension`.

Any reader of Zarr opens a store and sees what has been folded: everything once the store was closed, and all but
the last records (512 at most, by default) while a campaign runs or after it was killed. `RecordStore` reads those too.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import xarray as xr
import zarr

from data.checksums import crc32_of, seal, unseal
from data.claim import take_lock
from data.encodable import encodable
from data.errors import CorruptStoreError, InputError
from data.files import is_temporary, make_directory, sweep, write_json
from data.journal import Journal, read_count, read_frames, refuse_lost, write_count
from data.plain import entry, reading
from data.spec import FIXED_DIMS, Coordinate, Variable
from data.store_card import refuse_other_types
from data.store_columns import (
    FACTS,
    KEPT,
    Column,
    array_of,
    crc_of,
    layout,
    plain_attributes,
    write_coordinate,
)
from data.synced_zarr import SyncedStore

#: 2: records have a processor time.
FORMAT = 2
#: Bytes of records in the journal above which it is folded.
FOLD_BYTES = 256_000_000
CARD, MANIFEST, LOCK, JOURNAL = "store.json", "manifest.json", "lock", "journal.bin"
#: The card of a store that is being made; `CARD` takes its place when all else is there.
BEGUN = "creating.json"
#: Arrays that are folded at the same time: most of a fold is waiting for the disk.
FOLDED_TOGETHER = 8
#: For whoever opens the Zarr group by other means.
COMMENT = (
    "Records that are not folded in yet, after a kill or while a campaign runs, are in journal.bin: "
    "data.store.RecordStore.open(path).dataset() has them too, and verifies checksums"
)


class RecordStore:
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
        card: str = CARD,
        lock: IO[str] | None = None,
    ) -> None:
        self.path, self.mode, self.flush_every = Path(path), mode, flush_every
        meta = self._read_json(card)
        with reading(self.path / card, remedy="Restore it from a copy"):
            if entry(meta, "format", int) > FORMAT:
                raise InputError(f"format {meta['format']} is newer than {FORMAT}", where=str(path))
            refuse_other_types(meta, FACTS)
            self.attrs: dict[str, Any] = meta["attrs"]
            self.inputs: tuple[str, ...] = tuple(v["name"] for v in meta["inputs"])
            self.outputs: tuple[str, ...] = tuple(v["name"] for v in meta["outputs"])
            self.coords, self._columns = layout(meta)
        self._lock: IO[str] | None = None
        self._journal: Journal | None = None
        #: Called at each named step of a flush; tests crash there.
        self.on_step: Callable[[str], None] = lambda step: None
        if mode == "a":
            self._lock = lock or take_lock(self.path / LOCK, where=str(path))
            sweep(self.path, zarr=True)
            if card != BEGUN:
                (self.path / BEGUN).unlink(missing_ok=True)
            try:
                self._begin_appending(sync)
            except BaseException:
                self._lock.close()
                raise

    def _begin_appending(self, sync: bool) -> None:
        path, done = self.path / JOURNAL, int(self._manifest()["records"])
        noted = read_count(path)
        if not path.exists():
            refuse_lost(path, done, noted)
        self._journal = Journal(path, sync=sync)
        # A crash between the manifest and the clearing of the journal leaves records in both.
        left = [r for r in self._journal.records if int(r["_sequence"]) >= done]
        refuse_lost(path, done + len(left), noted)
        if self._journal.records and not left:
            self._journal.clear()
        self._journal.records = left
        self._order = list(self._stored("key")) + [r["key"] for r in self._journal.records]
        self._known = set(self._order)

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

        Raises:
            InputError: the directory holds something, or a variable's dims cannot be stored.
        """
        if not set(KEPT) <= set(facts) <= set(FACTS):
            raise ValueError(f"facts must hold {KEPT} and be among {tuple(FACTS)}, got {tuple(facts)}")
        path = Path(path)
        _refuse_taken(path)
        names = [v.name for v in (*inputs, *outputs)]
        names += [c.name for c in coords]
        clash = sorted({n for n in names if names.count(n) > 1 or n in FACTS or n == record})
        if clash:
            raise InputError(f"variables {clash} appear twice, or are names of the store's own")
        sizes = {**FIXED_DIMS, **{c.name: len(c.values) for c in coords}}

        def describe(v: Variable) -> dict[str, Any]:
            Column(v.name, tuple(v.dims), v.dtype, v.units, v.long_name, record, sizes)
            return {"name": v.name, "dims": list(v.dims), "units": v.units, "dtype": v.dtype, "long_name": v.long_name}

        meta = {
            "format": FORMAT,
            "inputs": [describe(v) for v in inputs],
            "outputs": [describe(v) for v in outputs],
            "coords": [
                {"name": c.name, "values": list(c.values), "units": c.units, "long_name": c.long_name} for c in coords
            ],
            "attrs": {**dict(provenance), **dict(attrs or {})},
            "facts": list(facts),
            "record": record,
        }
        make_directory(path)
        lock = take_lock(path / LOCK, where=str(path))
        try:
            # Between the look and the lock another process may have come first.
            _refuse_taken(path)
            _clear_begun(path)
            write_json(path / BEGUN, seal(meta), indent=None, listed=False)
            write_json(path / MANIFEST, seal({"records": 0, "arrays": {}}), indent=None, listed=False)
            store = RecordStore(path, "a", sync=sync, flush_every=flush_every, card=BEGUN, lock=lock)
            # Empty arrays, so that the Zarr group opens before the first fold.
            group = store._group()
            for column in store._columns.values():
                array_of(group, column)
            for name, found in store.coords.items():
                write_coordinate(group, name, found)
            write_json(path / CARD, seal(meta), indent=None, listed=False)
            (path / BEGUN).unlink()
        except BaseException:
            lock.close()
            raise
        return store

    @staticmethod
    def open(path: Path | str, mode: str = "r", *, sync: bool = True, flush_every: int = 512) -> RecordStore:
        """Open a store to read ("r"), also while another process appends, or to append ("a").

        Raises:
            InputError: there is no store, or another process appends to it.
        """
        if mode not in ("r", "a"):
            raise ValueError(f"mode must be 'r' or 'a', got {mode!r}")
        if not (Path(path) / CARD).exists():
            if (Path(path) / BEGUN).exists():
                raise InputError(
                    "the making of this store was not finished",
                    where=str(path),
                    remedy="Give the command that began it again",
                )
            raise InputError("no store here", where=str(path), remedy="Name a directory that understudy simulate made")
        return RecordStore(Path(path), mode, sync=sync, flush_every=flush_every)

    def _read_json(self, name: str) -> Any:
        path = self.path / name
        try:
            value = json.loads(path.read_bytes())
            if not isinstance(value, dict):
                raise ValueError("it is no object")
        except (ValueError, FileNotFoundError, RecursionError) as error:
            raise CorruptStoreError(
                f"not readable: {error}", where=str(path), remedy="Restore it from a copy"
            ) from error
        return unseal(value, where=str(path), remedy="Restore it from a copy")

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
        if key in self._known:
            raise InputError(f"a record with key {key} is in the store", where=str(self.path))
        unknown = sorted(set(values) - {*self.inputs, *self.outputs})
        absent = sorted({*self.inputs, *self.outputs} - set(values)) if status == "ok" else []
        if unknown or absent:
            raise InputError(f"record has unknown variables {unknown} and lacks {absent}", where=str(self.path))
        record: dict[str, Any] = {}
        for name, value in values.items():
            dtype = self._columns[name].dtype
            record[name] = str(value) if dtype == "str" else np.asarray(value, dtype)
            self._columns[name].rows(record[name])
            counted = self._columns[name].ragged
            lengths = {len(record[n]) for n in record if counted and self._columns[n].ragged == counted}
            if len(lengths) > 1:
                raise InputError(f"{name} has another length along {counted} than the rest of its record")
        record |= {"key": key, "status": status, "message": message, "log": log, "seconds": np.float64(seconds)}
        record |= {"threads": np.int32(threads), "attempts": np.int32(attempts)}
        record["core_seconds"] = np.float64(core_seconds)
        record = {name: value for name, value in record.items() if name in self._columns}
        record["_sequence"] = np.int64(len(self._order))
        journal.append(record)
        self._order.append(key)
        self._known.add(key)
        if journal.sync:
            write_count(journal.path, len(self._order))
        if len(journal.records) >= self.flush_every or self._journal_bytes() >= FOLD_BYTES:
            self.flush()

    def _journal_bytes(self) -> int:
        return (self.path / JOURNAL).stat().st_size

    def _writing(self) -> Journal:
        if self._journal is None:
            raise InputError("is open for reading", where=str(self.path), remedy="Open it with mode 'a'")
        return self._journal

    def flush(self) -> None:
        """Fold the journal into the Zarr arrays."""
        journal = self._writing()
        if not journal.records:
            return
        manifest = self._manifest()
        group = self._group()

        def fold(column: Column) -> dict[str, Any]:
            entry = manifest["arrays"].get(column.name, {"rows": 0, "crc": []})
            return self._extend(group, column, entry, self._gather(column, journal.records))

        # A chunk of nothing but fill values is written too, so that an absent file is always a loss.
        with zarr.config.set({"array.write_empty_chunks": True}), ThreadPoolExecutor(FOLDED_TOGETHER) as threads:
            arrays = dict(zip(self._columns, threads.map(fold, self._columns.values()), strict=True))
        self.on_step("arrays written")
        folded = {
            "records": manifest["records"] + len(journal.records),
            "arrays": arrays,
            "zarr.json": crc32_of(self.path / "zarr.json"),
        }
        write_json(self.path / MANIFEST, seal(folded), indent=None, listed=False)
        self.on_step("manifest written")
        journal.clear()
        self.on_step("journal cleared")

    def _gather(self, column: Column, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        dim = column.attrs.get("sample_dimension")
        if dim is not None:
            owners = [c.name for c in self._columns.values() if c.ragged == dim]
            return np.array([max((len(r[n]) for n in owners if n in r), default=0) for r in records], np.int64)
        parts = [column.rows(r.get(column.name)) for r in records]
        return np.concatenate(parts)

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

    def _manifest(self) -> dict[str, Any]:
        return self._read_json(MANIFEST)

    def _stored(self, name: str, manifest: Mapping[str, Any] | None = None) -> np.ndarray:
        """Verified rows of one array, without the journal's."""
        column = self._columns[name]
        manifest = manifest or self._manifest()
        entry = manifest["arrays"].get(name)
        if entry is None or not entry["rows"]:
            return np.empty((0, *column.shape), object if column.dtype == "str" else column.dtype)
        rows = int(entry["rows"])
        parts = []
        for chunk, expected in enumerate(entry["crc"]):
            stop = min(rows, (chunk + 1) * column.chunk)
            where = self._chunk_file(column, chunk)
            try:
                if not where.exists():
                    raise FileNotFoundError("it is missing")
                held: Any = array_of(self._read_group(), column)[chunk * column.chunk : stop]
            except Exception as error:
                raise CorruptStoreError(
                    f"chunk {chunk} of {name} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}",
                    where=str(self._damaged_description(column, manifest) or where),
                    remedy="Restore the file from a copy, or make the store again",
                ) from error
            part = np.asarray(held, object) if column.dtype == "str" else np.asarray(held)
            if len(part) != stop - chunk * column.chunk or crc_of(part) != expected:
                raise CorruptStoreError(
                    f"chunk {chunk} of {name} is not what was written",
                    where=str(self._damaged_description(column, manifest) or where),
                    remedy="Restore the file from a copy, or make the store again",
                )
            parts.append(part)
        return np.concatenate(parts)

    def _damaged_description(self, column: Column, manifest: Mapping[str, Any]) -> Path | None:
        """The file that describes an array, or all of them, if that is what is not as it was written."""
        noted = {"": manifest.get("zarr.json"), column.name: manifest["arrays"][column.name].get("zarr.json")}
        for place, crc in noted.items():
            file = self.path / place / "zarr.json"
            if crc is not None and (not file.is_file() or crc32_of(file) != crc):
                return file
        return None

    def _read_group(self) -> zarr.Group:
        return zarr.open_group(str(self.path), mode="r", zarr_format=3)

    def _chunk_file(self, column: Column, chunk: int) -> Path:
        return self.path / column.name / "c" / "/".join([str(chunk), *["0"] * len(column.shape)])

    def _tail(self, done: int) -> list[dict[str, Any]]:
        """Records that are in the journal alone."""
        if self._journal is not None:
            return self._journal.records
        found = (record for _, record in read_frames(self.path / JOURNAL))
        return [r for r in found if int(r["_sequence"]) >= done]

    def _snapshot(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A manifest and the journal's records behind it, also while a writer folds the one into the other."""
        damage = ""
        while True:
            # First, as there can only be more of them when the rest is read.
            noted = read_count(self.path / JOURNAL)
            manifest = self._manifest()
            try:
                tail = self._tail(manifest["records"])
            except CorruptStoreError as error:
                # A journal that a writer empties and fills while it is read looks damaged too, but not twice.
                if str(error) == damage:
                    raise
                damage = str(error)
                continue
            if self._journal is not None or self._manifest()["records"] == manifest["records"]:
                refuse_lost(self.path / JOURNAL, int(manifest["records"]) + len(tail), noted)
                return manifest, tail

    def column(self, name: str) -> np.ndarray:
        """All rows of one variable, verified: (sample, ...), or (dim, ...) where it is ragged.

        Raises:
            KeyError: there is no such variable.
            CorruptStoreError: a chunk is missing, truncated or changed.
        """
        if name not in self._columns:
            raise KeyError(f"no variable {name!r}; there are {sorted(self._columns)}")
        manifest, tail = self._snapshot()
        stored = self._stored(name, manifest)
        return np.concatenate([stored, self._gather(self._columns[name], tail)]) if tail else stored

    def facts(self) -> dict[str, np.ndarray]:
        """What every record of this store holds besides the simulator's own variables, by name: (record,) each."""
        return {name: self.column(name) for name in FACTS if name in self._columns}

    def dataset(self) -> xr.Dataset:
        """The whole store as a Dataset in memory, verified."""
        variables = {}
        for name, column in self._columns.items():
            variables[name] = xr.Variable(column.dims, self.column(name), column.attrs)
        return xr.Dataset(variables, coords=self.coords, attrs=plain_attributes(self.attrs))

    def records(self, status: str | None = "ok") -> Iterator[tuple[str, dict[str, Any]]]:
        """Each record as (key, values), ragged dims cut apart; `status=None` gives failures as well."""
        columns = {name: self.column(name) for name in self._columns}
        starts: dict[str, int] = {}
        for i, key in enumerate(columns["key"]):
            values: dict[str, Any] = {}
            for name, column in self._columns.items():
                if column.ragged is None:
                    values[name] = columns[name][i]
                    continue
                count = int(columns[f"{column.ragged}_count"][i])
                start = starts.get(name, 0)
                values[name] = columns[name][start : start + count]
                starts[name] = start + count
            if status is None or values["status"] == status:
                yield str(key), values

    def keys(self) -> list[str]:
        """Keys of all records, in order."""
        return list(self._order) if self._journal is not None else [str(k) for k in self.column("key")]

    def has(self, key: str) -> bool:
        """Whether a record with this key is in the store."""
        return encodable(key) in (self._known if self._journal is not None else set(self.keys()))

    def __len__(self) -> int:
        if self._journal is not None:
            return len(self._order)
        manifest, tail = self._snapshot()
        return int(manifest["records"]) + len(tail)

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
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refuse_taken(path: Path) -> None:
    """Refuse a directory that holds anything but a store whose making a kill ended.

    Raises:
        InputError: it does.
    """
    if not path.exists():
        return
    content = {e.name for e in path.iterdir() if e.name != LOCK and not is_temporary(e.name)}
    # Earlier versions began with the manifest.
    if content and content != {MANIFEST} and (BEGUN not in content or CARD in content):
        raise InputError("is not empty", where=str(path), remedy="Open the store that is there, or name another")


def _clear_begun(path: Path) -> None:
    """Remove what a killed process made of a store: what its card names, and nothing else."""
    if not (path / BEGUN).exists():
        return
    try:
        card = json.loads((path / BEGUN).read_bytes())
        remedy = "Remove this directory, or name another"
        coords, columns = layout(unseal(card, where=str(path / BEGUN), remedy=remedy, warn=False))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptStoreError(
            f"not readable: {error}", where=str(path / BEGUN), remedy="Remove this directory, or name another"
        ) from error
    for name in (*coords, *columns):
        if Path(name).name == name and not (path / name).is_symlink():
            shutil.rmtree(path / name, ignore_errors=True)
    (path / "zarr.json").unlink(missing_ok=True)


def verify(path: Path | str) -> list[str]:
    """What is wrong with a store: one line for its journal, and for each array, that is not what was written."""
    problems: dict[str, None] = {}
    store = RecordStore.open(path)
    for name in store._columns:
        try:
            store.column(name)
        except CorruptStoreError as error:
            # Every column ends with the journal's rows, whose damage is one problem.
            problems[str(error)] = None
    return list(problems)
