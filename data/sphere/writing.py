"""Writing a store of windows: states go to shards in the order of time, and a write that was stopped is resumed.

A whole shard counts once `progress.json` names its states, so that a call with the same data resumes behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from data.checksums import sha256_of
from data.claim import claim
from data.costs import PROCESSOR_TIME
from data.errors import InputError
from data.files import listed_path, remove_directory, remove_listed, sweep, write_json
from data.json_files import reading
from data.plain import entry, to_plain
from data.sphere.state_checks import refuse_not_finite, static_fields
from data.sphere.statistics import ChannelStatistics
from data.sphere.weather_layout import TIME, WeatherLayout
from data.sphere.window_store import ANEW, CARD, CLIMATOLOGY, COSTS, PROGRESS, STATES, STATIC, WindowStore, read_object
from data.store.synced_zarr import SyncedStore

SCHEMA = 2
#: Bytes of a shard, and of what is held while statistics are taken.
SHARD_BYTES = 256 << 20
#: Most states of a shard: its index has an entry for each, and for grids of few points a longer one takes minutes.
MOST_STATES = 4096


@dataclass(frozen=True)
class Segment:
    """States that follow one another by one step.

    Attributes:
        times: datetime64 of each.
        read: the states in [start, stop), as a Dataset with a dim `time`.
    """

    times: np.ndarray
    read: Callable[[int, int], xr.Dataset]

    @staticmethod
    def of(data: xr.Dataset) -> Segment:
        """All states of a Dataset."""
        return Segment(data[TIME].values, lambda start, stop: data.isel({TIME: slice(start, stop)}))


def write_windows(
    path: Path,
    segments: Iterable[Segment],
    layout: WeatherLayout,
    *,
    static: xr.Dataset | None = None,
    fingerprint: str,
    seconds_per_step: float = float("nan"),
    label_core_seconds: float = float("nan"),
    counted: str = PROCESSOR_TIME,
    shard_bytes: int = SHARD_BYTES,
    advance: Any = None,
) -> WindowStore:
    """Write states to a store; a write of the same data that was stopped is resumed after its last complete shard.

    Args:
        path: the directory.
        segments: each is read block by block.
        layout: what to write.
        static: has the layout's static variables.
        fingerprint: identity of the data.
        seconds_per_step: core-seconds that its simulator takes for a state.
        label_core_seconds: what all of them cost, with spin-up and runs that failed.
        counted: the basis of these costs, as `data.costs.cost_basis` names it.
        shard_bytes: approximate size of a shard, bytes.
        advance: called with the number of states written, for a progress bar.

    Raises:
        InputError: `path` holds other data, a variable is missing, or a value is not finite; names it.
    """
    path = Path(path)
    identity = {
        "schema": SCHEMA, "layout": to_plain(layout), "fingerprint": fingerprint, "shard_bytes": shard_bytes,
    }  # fmt: skip
    if (path / CARD).is_file():
        store = WindowStore.open(path)
        if read_object(path / CARD)["identity"] != json.loads(json.dumps(identity)):
            raise InputError("holds windows of other data", where=str(path), remedy="Give another directory")
        if not (path / PROGRESS).exists():
            sweep(path)
            return store
    with claim(path, "store of windows", adopt=_is_begun):
        return _write_states(
            path,
            segments,
            layout,
            identity,
            static,
            fingerprint,
            (seconds_per_step, label_core_seconds, counted),
            advance,
        )


def _write_states(
    path: Path,
    segments: Iterable[Segment],
    layout: WeatherLayout,
    identity: Mapping[str, Any],
    static: xr.Dataset | None,
    fingerprint: str,
    costs: tuple[float, float, str],
    advance: Any,
) -> WindowStore:
    if (path / CARD).is_file():
        # A kill came between the card and the end.
        remove_listed(path / PROGRESS)
        return WindowStore.open(path)
    shard_bytes = int(identity["shard_bytes"])
    done = _progress(path, identity)
    sweep(path, zarr=True)
    state = (*layout.grid.shape, len(layout.channels))
    each = min(MOST_STATES, max(1, shard_bytes // (4 * int(np.prod(state)))))
    if done == 0:
        if (path / STATES).exists():
            remove_directory(path / STATES)
        for old in path.glob(f"{CLIMATOLOGY}_*"):
            remove_listed(old)
        array = zarr.create_array(
            SyncedStore(path / STATES), shape=(0, *state), chunks=(1, *state), shards=(each, *state), dtype="float32",
            compressors=[Crc32cCodec()], filters=None, fill_value=float("nan"),
            dimension_names=["time", "latitude", "longitude", "channel"],
        )  # fmt: skip
    else:
        array = zarr.open_array(SyncedStore(path / STATES), mode="r+")
    times: list[np.ndarray] = []
    ends: list[tuple[int, int]] = []
    pending: list[np.ndarray] = []
    total, buffered, skip = 0, 0, done
    if done and advance is not None:
        advance(done)

    def flush(block: np.ndarray, at: int) -> None:
        array.resize((at + len(block), *state))
        array[at : at + len(block)] = block
        _write(path / PROGRESS, {"identity": identity, "states": at + len(block)})
        if advance is not None:
            advance(len(block))

    for number, segment in enumerate(segments):
        start = total
        stamps = segment.times.astype("datetime64[ns]")
        times.append(stamps)
        step = max(1, each // 4)
        for first in range(0, len(stamps), step):
            last = min(first + step, len(stamps))
            total += last - first
            if total <= skip:
                continue  # written before a stop
            keep = max(first, last - (total - skip))
            block = layout.stack(segment.read(keep, last), f"segment {number} of {path}")
            refuse_not_finite(block, layout, stamps[keep:last])
            pending.append(block)
            buffered += len(block)
            while buffered >= each:
                joined = np.concatenate(pending)
                flush(joined[:each], done)
                done, pending, buffered = done + each, [joined[each:]], buffered - each
        ends.append((start, total))
    if not total:
        raise InputError("no states to write", where=str(path), remedy="Choose a range of time that holds some")
    if buffered:
        flush(np.concatenate(pending), done)
    fixed = static_fields(static, layout, path)
    with listed_path(path / STATIC) as temporary, open(temporary, "wb") as file:
        np.save(file, fixed, allow_pickle=False)
    stamps = np.concatenate(times)
    bare = WindowStore(path, layout, ChannelStatistics((), (), (), (), ()), stamps, tuple(ends), fingerprint, 0.0, 0.0)
    statistics = bare.statistics_of((0, total))
    shards = {
        str(f.relative_to(path / STATES)): f.stat().st_size for f in sorted((path / STATES).rglob("*")) if f.is_file()
    }
    card = {
        "identity": identity, "layout": to_plain(layout), "statistics": to_plain(statistics),
        "times": stamps.astype("datetime64[s]").astype(str).tolist(), "segments": ends, "fingerprint": fingerprint,
        "shards": shards, "states_sha256": sha256_of(path / STATES / "zarr.json"),
    }  # fmt: skip
    card |= {k: None if np.isnan(v) else v for k, v in zip(COSTS, costs[:2], strict=True)} | {"counted": costs[2]}
    _write(path / CARD, card)
    remove_listed(path / PROGRESS)
    return WindowStore.open(path)


def _is_begun(path: Path) -> bool:
    """Whether an earlier version began to write windows here."""
    try:
        return "identity" in json.loads((path / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _progress(path: Path, identity: Mapping[str, Any]) -> int:
    """States that an earlier call wrote; only complete shards count.

    Raises:
        InputError: it wrote other data.
    """
    if not (path / PROGRESS).is_file():
        return 0
    progress = read_object(path / PROGRESS)
    with reading(path / PROGRESS, remedy=ANEW):
        entry(progress, "states", int)
        entry(progress, "identity", dict[str, Any])
    if progress["identity"] != json.loads(json.dumps(identity)):
        raise InputError("holds windows of other data", where=str(path), remedy="Give another directory")
    state = (*(len(progress["identity"]["layout"]["grid"][k]) for k in ("latitude", "longitude")),)
    size = 4 * int(np.prod(state)) * len(progress["identity"]["layout"]["channels"])
    each = min(MOST_STATES, max(1, int(progress["identity"]["shard_bytes"]) // size))
    return int(progress["states"]) // each * each


def _write(path: Path, value: Any) -> None:
    write_json(path, value, indent=None)
