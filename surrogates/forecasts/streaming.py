"""Writes forecasts to Zarr as they are made: none is in memory as a whole, and an interrupted run can be resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Int
from zarr.codecs import Crc32cCodec, ZstdCodec

from data.checksums import seal, sha256_of, unseal
from data.claim import LOCK, take_lock
from data.errors import CorruptStoreError, InputError
from data.files import make_directory, remove_directory, sweep, sweep_beside, write_json
from data.json_files import parse_json, reading
from data.plain import entry, from_plain
from data.sphere.weather_layout import LATITUDE, LEAD, LEVEL, LONGITUDE, TIME
from data.sphere.window_store import WindowStore
from data.store.synced_zarr import SyncedStore
from surrogates.forecasts.request_checks import refuse_other_times, whole_number
from surrogates.forecasts.surrogate import MEMBER, ForecastSurrogate

#: Suffix of the file beside the store that records what the store holds and which forecasts are complete.
NOTE = ".progress.json"
#: Chunks are compressed and get a CRC-32C, which every reader of Zarr verifies.
CODECS = (ZstdCodec(level=0), Crc32cCodec())
RESTORE = "Restore it from a copy, or remove the store and forecast again"


def forecast_to_zarr(
    forecaster: ForecastSurrogate,
    store: WindowStore,
    starts: Int[np.ndarray, " start"],
    steps: int,
    path: Path,
    *,
    members: int = 1,
    seed: int = 0,
    chunk: int = 8,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Write forecasts from some states of a store, one after the other, some leads at a time.

    Args:
        forecaster: the forecaster.
        store: windows with the initial states.
        starts: row of the present state of each forecast.
        steps: number of leads.
        path: path of the Zarr store; one that was begun with the same arguments is resumed.
        members: members of the ensemble.
        seed: seed of the noise; that of each forecast also depends on its number.
        chunk: number of leads computed at a time, and in a chunk of the store.
        advance: called after each forecast.

    Returns:
        The path. `xarray.open_zarr` reads variables with the dims time, [number], prediction_timedelta, [level],
        latitude, longitude.

    Raises:
        InputError: the states differ from those of the forecaster, `path` holds other forecasts, or a forecast has
            values that are not finite; the others are kept.
    """
    path, starts = Path(path), np.asarray(starts, int)
    steps, members = whole_number(steps, "steps"), whole_number(members, "members")
    forecaster.layout.refuse_other_states(store.layout, str(store.path), "those of the forecaster")
    forecaster.refuse_members(members)
    refuse_other_times(store.times[starts], steps, forecaster.facts)
    identity = {
        "forecaster": forecaster.fingerprint, "states": store.fingerprint, "starts": starts.tolist(), "steps": steps,
        "members": members, "seed": seed, "chunk": chunk,
    }  # fmt: skip
    done: list[int] = []
    beside = path.with_name(path.name + NOTE)
    bad: list[str] = []
    # The note beside the store marks it as ours, because readers of Zarr would warn of other files within it.
    if path.is_symlink() or (path.exists() and not beside.is_file() and any(path.iterdir())):
        raise InputError(
            "holds something that is no forecast of this project", where=str(path), remedy="Give a path that is absent"
        )
    make_directory(path.parent)
    with take_lock(path.with_name(f".{path.name}{LOCK}"), where=str(path)):
        for written in (path, beside):
            sweep_beside(written)
        note = _read_note(beside) if beside.is_file() and path.is_dir() else {"done": None}
        if note["done"] is not None:
            if note["identity"] != identity:
                raise InputError("holds other forecasts", where=str(path), remedy="Give another path")
            sweep(path, zarr=True)
            verify_forecasts(path)
            done = note["done"]
        else:
            # The note comes first, so that what a kill leaves is known to be an unfinished store of ours.
            _note(beside, path, identity, None)
            if path.exists():
                remove_directory(path)
            _create(path, forecaster, store.times[starts], steps, members, chunk)
            _note(beside, path, identity, done)
        group: Any = zarr.open_group(SyncedStore(path), mode="r+")
        for number, start in enumerate(starts):
            if number in done:
                continue
            past = store.read(np.array([start - forecaster.history + 1]), forecaster.history)
            lead, finite = 0, True
            parts = forecaster.chunks(
                past, store.times[[start]], steps, members=members, seed=seed + number, chunk=chunk
            )
            for part in parts:
                finite = bool(np.isfinite(part).all())
                if not finite:
                    bad.append(str(store.times[start].astype("datetime64[h]")))
                    break
                _put(group, forecaster, number, lead, part[0], members)
                lead += part.shape[2]
            if finite:
                done.append(number)
                _note(beside, path, identity, done)
            if advance is not None:
                advance()
    if bad:
        raise InputError(
            f"{len(bad)} of {len(starts)} forecasts have values that are not finite, the first that of {bad[0]}",
            where=str(path), remedy="The others are in it; train longer, or with model.loss.unroll above 1",
        )  # fmt: skip
    return path


def verify_forecasts(path: Path) -> None:
    """Check the metadata of a Zarr store that `forecast_to_zarr` wrote, and that no chunk is missing.

    The chunks have checksums of their own, which reading verifies. A store from elsewhere is not checked.

    Raises:
        CorruptStoreError: a file is missing or is not what was written.
    """
    beside = path.with_name(path.name + NOTE)
    if not beside.is_file():
        return
    note = _read_note(beside)
    if note["done"] is None:
        raise InputError("its writing was not finished", where=str(path), remedy="Give the command that began it again")
    for name, digest in note.get("metadata", {}).items():
        file = path / name
        if not file.is_file() or sha256_of(file) != digest:
            problem = "is not what was written there: its checksum differs" if file.is_file() else "is missing"
            raise CorruptStoreError(problem, where=str(file), remedy=RESTORE)
    group: Any = zarr.open_group(str(path), mode="r")
    for name, array in group.arrays():
        chunks = int(np.prod([-(-n // c) for n, c in zip(array.shape[1:], array.chunks[1:], strict=True)]))
        numbers = range(-(-array.shape[0] // array.chunks[0])) if array.ndim == 1 else note["done"]
        for place in [path / name / "c" / str(number) for number in numbers] if "metadata" in note else []:
            if (place.is_file() if array.ndim == 1 else sum(f.is_file() for f in place.rglob("*"))) != chunks:
                raise CorruptStoreError("chunks of it are missing", where=str(place), remedy=RESTORE)


def _read_note(beside: Path) -> dict[str, Any]:
    with reading(beside, remedy=RESTORE):
        note = unseal(from_plain(dict[str, Any], parse_json(beside.read_bytes())), where=str(beside), remedy=RESTORE)
        entry(note, "identity", dict[str, Any])
        if entry(note, "done", Any) is not None:
            entry(note, "done", list[int])
        entry(note, "metadata", dict[str, str], {})
        return note


def _dims(forecaster: ForecastSurrogate, name: str, members: int) -> list[str]:
    several = [MEMBER] if members > 1 else []
    level = [LEVEL] if forecaster.layout.levels(name) else []
    return [TIME, *several, LEAD, *level, LATITUDE, LONGITUDE]


def _create(path: Path, forecaster: ForecastSurrogate, times: np.ndarray, steps: int, members: int, chunk: int) -> None:
    """Create the store: arrays of NaN, and the coordinates."""
    layout = forecaster.layout
    group: Any = zarr.create_group(SyncedStore(path), attributes={"Conventions": "CF-1.11", **layout.attrs})
    lead = np.rint(np.arange(1, steps + 1) * layout.step_hours * 3600).astype(np.int64)
    coords: dict[str, tuple[np.ndarray, dict[str, str]]] = {
        TIME: (
            times.astype("datetime64[s]").astype(np.int64),
            {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"},
        ),
        LEAD: (lead, {"units": "seconds", "dtype": "timedelta64[ns]", "long_name": "lead time"}),
        **{k: (np.asarray(v.values, np.float64), dict(v.attrs)) for k, v in layout.coordinates().items()},
    }
    if members > 1:
        coords[MEMBER] = (np.arange(members), {"standard_name": "realization"})
    for name, (values, attrs) in coords.items():
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=[name], attributes=attrs,
            compressors=CODECS,
        )  # fmt: skip
        # Chunks of fill values are written too, so that an absent chunk is a lost one.
        with zarr.config.set({"array.write_empty_chunks": True}):
            array[:] = values
    for name in layout.variables:
        dims = _dims(forecaster, name, members)
        shape = tuple(len(coords[d][0]) if d != LEVEL else len(layout.levels(name)) for d in dims)
        sizes = dict(zip(dims, shape, strict=True)) | {TIME: 1, MEMBER: 1}
        sizes[LEAD] = min(chunk, steps)
        chunks = tuple(sizes[d] for d in dims)
        attributes = layout.variable(name).attrs()
        group.create_array(
            name, shape=shape, chunks=chunks, dtype="float32", fill_value=float("nan"), dimension_names=dims,
            attributes=attributes, compressors=CODECS,
        )  # fmt: skip


def _put(group: Any, forecaster: ForecastSurrogate, number: int, lead: int, part: np.ndarray, members: int) -> None:
    """Write some leads of one forecast, (member, lead, latitude, longitude, channel)."""
    layout = forecaster.layout
    ends = slice(lead, lead + part.shape[1])
    for name in layout.variables:
        values = part[..., layout.index(name)]
        values = np.moveaxis(values, -1, 2) if layout.levels(name) else values[..., 0]
        if members > 1:
            group[name][number, :, ends] = values
        else:
            group[name][number, ends] = values[0]


def _note(beside: Path, path: Path, identity: dict[str, Any], done: list[int] | None) -> None:
    """Record which forecasts are complete; `done` is None while the store is being created."""
    # The metadata of the arrays do not change once they are created, so that their checksums can be recorded.
    metadata = {file.relative_to(path).as_posix(): sha256_of(file) for file in sorted(path.rglob("zarr.json"))}
    note = seal({"identity": identity, "done": done, "metadata": metadata})
    write_json(beside, note, indent=None, listed=False)
