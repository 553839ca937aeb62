"""Reading a store of records: the rows that the manifest counts, and those that the journal alone holds.

Every row is verified: that of an array by the checksum of its chunk, that of the journal by the checksum of its frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from data.checksums import crc32_of, unseal
from data.encodable import encodable
from data.errors import CorruptStoreError, InputError
from data.json_files import reading
from data.plain import entry
from data.store.card import refuse_other_types
from data.store.columns import FACTS, Column, array_of, crc_of, layout, plain_attributes
from data.store.journal import Journal, read_count, read_frames, refuse_lost

#: The version of the format; since version 2 records have a processor time.
FORMAT = 2
CARD, MANIFEST, JOURNAL = "store.json", "manifest.json", "journal.bin"


class StoreReader:
    """The records of a store, read also while another process appends to it.

    Args:
        path: directory of the store.
        card: name of the file in it that describes the store.

    Attributes:
        path: directory of the store.
        attrs: provenance and what else was given at creation.
        inputs, outputs: names of the variables of a record.
        coords: coordinates by name, of the dims that are the same in every record.

    Raises:
        InputError: a newer version wrote the store.
        CorruptStoreError: its card is damaged.
    """

    def __init__(self, path: Path, card: str = CARD) -> None:
        self.path = Path(path)
        meta = self._read_json(card)
        with reading(self.path / card, remedy="Restore it from a copy"):
            if entry(meta, "format", int) > FORMAT:
                raise InputError(f"format {meta['format']} is newer than {FORMAT}", where=str(path))
            refuse_other_types(meta, FACTS)
            self.attrs: dict[str, Any] = meta["attrs"]
            self.inputs: tuple[str, ...] = tuple(v["name"] for v in meta["inputs"])
            self.outputs: tuple[str, ...] = tuple(v["name"] for v in meta["outputs"])
            self.coords, self._columns = layout(meta)
        #: The journal of a process that appends; None where the store is open for reading only.
        self._journal: Journal | None = None

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

    def card(self) -> dict[str, Any]:
        """The description of its variables and its simulator, as it was written at creation."""
        card: dict[str, Any] = self._read_json(CARD)
        return card

    def _manifest(self) -> dict[str, Any]:
        return self._read_json(MANIFEST)

    def _stored_rows(self, name: str, manifest: Mapping[str, Any] | None = None) -> np.ndarray:
        """Verified rows of one array, without the journal's."""
        return np.concatenate([self._empty(name), *self._stored_chunks(name, manifest or self._manifest())])

    def _empty(self, name: str) -> np.ndarray:
        """No rows of one array."""
        column = self._columns[name]
        return np.empty((0, *column.shape), object if column.dtype == "str" else column.dtype)

    def _stored_chunks(self, name: str, manifest: Mapping[str, Any]) -> Iterator[np.ndarray]:
        """Verified rows of one array, without the journal's, a chunk at a time."""
        column = self._columns[name]
        with reading(self.path / MANIFEST, remedy="Restore it from a copy"):
            entry = manifest["arrays"].get(name)
            if entry is None or not entry["rows"]:
                return
            rows, checksums = int(entry["rows"]), list(entry["crc"])
            if len(checksums) != -(-rows // column.chunk):
                raise ValueError(f"{len(checksums)} checksums of {rows} rows of {name}")
        array: zarr.Array | None = None
        for chunk, expected in enumerate(checksums):
            stop = min(rows, (chunk + 1) * column.chunk)
            where = self._chunk_file(column, chunk)
            try:
                if not where.exists():
                    raise FileNotFoundError("it is missing")
                array = array_of(self._read_group(), column) if array is None else array
                values: Any = array[chunk * column.chunk : stop]
            except Exception as error:
                raise CorruptStoreError(
                    f"chunk {chunk} of {name} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}",
                    where=str(self._damaged_description(column, manifest) or where),
                    remedy="Restore the file from a copy, or make the store again",
                ) from error
            part = np.asarray(values, object) if column.dtype == "str" else np.asarray(values)
            if len(part) != stop - chunk * column.chunk or crc_of(part) != expected:
                raise CorruptStoreError(
                    f"chunk {chunk} of {name} is not what was written",
                    where=str(self._damaged_description(column, manifest) or where),
                    remedy="Restore the file from a copy, or make the store again",
                )
            yield part

    def _damaged_description(self, column: Column, manifest: Mapping[str, Any]) -> Path | None:
        """The damaged one of the files that describe an array and the group; None if both are as they were written."""
        checksums = {"": manifest.get("zarr.json"), column.name: manifest["arrays"][column.name].get("zarr.json")}
        for place, crc in checksums.items():
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
        frames = (record for _, record in read_frames(self.path / JOURNAL))
        return [r for r in frames if int(r["_sequence"]) >= done]

    def _snapshot(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A manifest and the records that only the journal holds; they fit each other also while a writer folds."""
        damage = ""
        while True:
            # Read the count first: there can only be more records when the rest is read.
            counted = read_count(self.path / JOURNAL)
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
                refuse_lost(self.path / JOURNAL, int(manifest["records"]) + len(tail), counted)
                return manifest, tail

    def column(self, name: str) -> np.ndarray:
        """All rows of one variable, verified: (sample, ...), or (dim, ...) where it is ragged.

        Raises:
            KeyError: there is no such variable.
            CorruptStoreError: a chunk is missing, truncated or changed.
        """
        self._refuse_unknown(name)
        manifest, tail = self._snapshot()
        stored = self._stored_rows(name, manifest)
        return np.concatenate([stored, self._gather(self._columns[name], tail)]) if tail else stored

    def _refuse_unknown(self, name: str) -> None:
        if name not in self._columns:
            raise KeyError(f"no variable {name!r}; there are {sorted(self._columns)}")

    @property
    def attributes(self) -> dict[str, dict[str, str]]:
        """Units and long name of each input and output, by name."""
        return {name: dict(self._columns[name].attrs) for name in (*self.inputs, *self.outputs)}

    def dims(self, name: str) -> tuple[str, ...]:
        """The dims of a variable, the first of which is ragged or that of the records."""
        return self._columns[name].dims

    def names(self) -> list[str]:
        """Names of all arrays, those of facts and of counts included."""
        return list(self._columns)

    def attributes_of(self, name: str) -> dict[str, str]:
        """Attributes of one array, such as its units."""
        return dict(self._columns[name].attrs)

    def chunk_of(self, name: str) -> int:
        """Number of rows of a chunk of one array."""
        return self._columns[name].chunk

    def facts(self) -> dict[str, np.ndarray]:
        """What every record of this store holds besides the simulator's own variables, by name: (record,) each."""
        return {name: self.column(name) for name in FACTS if name in self._columns}

    def dataset(self) -> xr.Dataset:
        """The whole store as a Dataset in memory, verified."""
        variables = {}
        for name, column in self._columns.items():
            variables[name] = xr.Variable(column.dims, self.column(name), column.attrs)
        return xr.Dataset(variables, coords=self.coords, attrs=plain_attributes(self.attrs))

    def records(
        self, status: str | None = "ok", names: Sequence[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each record as (key, values), ragged dims cut apart, in memory for a chunk of each variable.

        Args:
            status: status of the records; None for all.
            names: variables to read besides `key` and `status`; None for all.

        Raises:
            KeyError: there is no such variable.
            CorruptStoreError: as `column`.
        """
        chosen = list(self._columns) if names is None else list(dict.fromkeys(["key", "status", *names]))
        for name in chosen:
            self._refuse_unknown(name)
        ragged = {name: self._columns[name].ragged for name in chosen}
        manifest, journal = self._snapshot()
        # A writer goes on appending to its journal.
        tail = list(journal)
        rows = {name: _Rows(self._parts(name, manifest, tail)) for name in chosen}
        counted = {
            dim: _Rows(self._parts(f"{dim}_count", manifest, tail))
            for dim in dict.fromkeys(ragged.values())
            if dim is not None
        }
        for _ in range(int(manifest["records"]) + len(tail)):
            counts = {dim: int(one.take(1)[0]) for dim, one in counted.items()}
            values: dict[str, Any] = {
                name: rows[name].take(1)[0] if dim is None else rows[name].take(counts[dim])
                for name, dim in ragged.items()
            }
            if status is None or values["status"] == status:
                yield str(values["key"]), values

    def _parts(self, name: str, manifest: Mapping[str, Any], tail: Sequence[Mapping[str, Any]]) -> Iterator[np.ndarray]:
        """The rows of one variable, verified, a chunk at a time."""
        yield self._empty(name)
        yield from self._stored_chunks(name, manifest)
        if tail:
            yield self._gather(self._columns[name], tail)

    def facts_by_record(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The values of variables that are not ragged, record by record, in memory for a chunk of each.

        Raises:
            KeyError: there is no such variable.
            CorruptStoreError: as `column`.
        """
        for name in names:
            self._refuse_unknown(name)
        manifest, journal = self._snapshot()
        tail = list(journal)
        columns = [chain.from_iterable(self._parts(name, manifest, tail)) for name in names]
        yield from zip(*columns, strict=True)

    def _gather(self, column: Column, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        dim = column.attrs.get("sample_dimension")
        if dim is not None:
            owners = [c.name for c in self._columns.values() if c.ragged == dim]
            return np.array([max((len(r[n]) for n in owners if n in r), default=0) for r in records], np.int64)
        values = [r.get(column.name) for r in records]
        if column.dtype == "str":
            texts: np.ndarray = np.empty(len(values), object)
            texts[:] = ["" if value is None else str(value) for value in values]
            return texts
        return np.concatenate([column.rows(value) for value in values])

    def keys(self) -> list[str]:
        """Keys of all records, in order."""
        return [str(k) for k in self.column("key")]

    def has(self, key: str) -> bool:
        """Whether a record with this key is in the store."""
        return encodable(key) in set(self.keys())

    def __len__(self) -> int:
        manifest, tail = self._snapshot()
        return int(manifest["records"]) + len(tail)


class _Rows:
    """Takes rows off a stream of parts, each part an array."""

    def __init__(self, parts: Iterator[np.ndarray]) -> None:
        self._parts = parts
        # There is an empty one at least, with the dtype and the shape of a row.
        self._part = next(parts)
        self._at = 0

    def take(self, count: int) -> np.ndarray:
        """The next rows, which are as many as the manifest says."""
        stop = self._at + count
        if stop > len(self._part):
            rest = [self._part[self._at :]]
            missing = count - len(rest[0])
            while missing > 0:
                part = next(self._parts)
                rest.append(part[:missing])
                missing -= len(rest[-1])
                self._part, self._at = part, len(rest[-1])
            return np.concatenate(rest) if count != len(rest[-1]) else rest[-1]
        taken = self._part[self._at : stop]
        self._at = stop
        return taken
