"""States of the atmosphere in the order of time, laid out so that a training sample is a few contiguous reads.

A store is a directory: `states.zarr`, a Zarr v3 array (time, latitude, longitude, channel) of one time a chunk, many
chunks a shard, not compressed, because a state of floats hardly gets smaller and decoding is slower than a disk; each
chunk has a CRC-32C, which reading verifies. `windows.json` is written last and says what the channels are. Reading is
TensorStore's, several windows at once.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import xarray as xr
from jaxtyping import Float, Int

from data.checksums import sha256_of, verify
from data.costs import PROCESSOR_TIME, CostWarning, unrecorded_message
from data.errors import CorruptStoreError, InputError
from data.json_files import read_plain, reading
from data.plain import entry
from data.sphere.statistics import ChannelStatistics, Climatology, Moments, climatology
from data.sphere.weather_layout import TIME, WeatherLayout

ANEW = "Write the store again"
CARD, STATES, STATIC, PROGRESS = "windows.json", "states.zarr", "static.npy", "progress.json"
CLIMATOLOGY = "climatology"
#: Keys of the card, and attributes of a store; null where unknown.
COSTS = ("seconds_per_step", "label_core_seconds")
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class WindowStore:
    """A finished store, opened for reading.

    Attributes:
        path: its directory.
        layout: what the arrays mean.
        statistics: of all states.
        times: datetime64[ns] of each; without a calendar counted from 2001-01-01.
        segments: [start, stop) of each run of states without a gap between them.
        fingerprint: identity of the data.
        seconds_per_step: core-seconds that its simulator takes for a state; NaN where unknown.
        label_core_seconds: what all of them cost, with spin-up and runs that failed; NaN where unknown.
        counted: the basis of these costs, as `data.costs.cost_basis` names it; None in stores of earlier versions.
    """

    path: Path
    layout: WeatherLayout
    statistics: ChannelStatistics
    times: np.ndarray
    segments: tuple[tuple[int, int], ...]
    fingerprint: str
    seconds_per_step: float
    label_core_seconds: float
    counted: str | None = None

    @staticmethod
    def open(path: Path) -> WindowStore:
        """The store in a directory.

        Raises:
            InputError: there is none, or it was not finished.
            CorruptStoreError: its description or its shards are not what was written.
        """
        path = Path(path)
        if not (path / CARD).is_file():
            begun = (path / PROGRESS).is_file()
            raise InputError(
                "its writing was not finished" if begun else "no store of windows",
                where=str(path),
                remedy="Run the command that began it again" if begun else "Make one with `understudy windows`",
            )
        card = read_object(path / CARD)
        with reading(path / CARD, remedy=ANEW):
            store = WindowStore(
                path,
                entry(card, "layout", WeatherLayout),
                entry(card, "statistics", ChannelStatistics),
                np.array(entry(card, "times", list[str]), "datetime64[s]").astype("datetime64[ns]"),
                entry(card, "segments", tuple[tuple[int, int], ...]),
                entry(card, "fingerprint", str),
                **{k: float("nan") if card[k] is None else entry(card, k, float) for k in COSTS},
                counted=card.get("counted"),
            )
            shards = entry(card, "shards", dict[str, int])
            # Absent in stores of earlier versions.
            described = entry(card, "states_sha256", str) if card.get("states_sha256") is not None else None
            _refuse_misfits(store)
        for name, size in shards.items():
            file = path / STATES / name
            if not file.is_file() or file.stat().st_size != size:
                raise CorruptStoreError(
                    "a shard is missing or cut short", where=str(file), remedy="Write the store again"
                )
        if described is not None and sha256_of(path / STATES / "zarr.json") != described:
            raise CorruptStoreError(
                "is not what was written there: its checksum differs",
                where=str(path / STATES / "zarr.json"),
                remedy="Restore it from a copy, or write the store again",
            )
        return store

    def __len__(self) -> int:
        return len(self.times)

    def label_cost(self) -> float:
        """`label_core_seconds`, for use as a cost.

        Warns:
            CostWarning: it is not processor time, or the store is of a version that did not record the basis.
        """
        if np.isfinite(self.label_core_seconds) and self.counted != PROCESSOR_TIME:
            warnings.warn(unrecorded_message(1, 1, str(self.path)), CostWarning, stacklevel=2)
        return self.label_core_seconds

    @cached_property
    def static(self) -> Float[np.ndarray, "latitude longitude static"]:
        """Fields that do not change, float32, in the order of the layout's.

        Raises:
            CorruptStoreError: their file is not what was written.
        """
        verify(self.path / STATIC, remedy="Restore it from a copy, or write the store again")
        return np.load(self.path / STATIC, allow_pickle=False)

    @cached_property
    def _array(self) -> Any:
        return tensorstore.open(
            {"driver": "zarr3", "kvstore": {"driver": "file", "path": str((self.path / STATES).resolve())}}, read=True
        ).result()

    def starts(self, frames: int, part: tuple[int, int] | None = None, stride: int = 1) -> Int[np.ndarray, " window"]:
        """First index of each window of consecutive states that lies in one segment.

        Args:
            frames: states of a window.
            part: [start, stop) that it has to lie in; None for all.
            stride: from one window of a segment to the next.
        """
        low, high = (0, len(self)) if part is None else part
        ranges = [
            np.arange(max(a, low), min(b, high) - frames + 1, stride)
            for a, b in self.segments
            if min(b, high) - max(a, low) >= frames
        ]
        return np.concatenate(ranges) if ranges else np.zeros(0, int)

    def read(
        self, starts: Int[np.ndarray, " window"], frames: int
    ) -> Float[np.ndarray, "window frame latitude longitude channel"]:
        """Windows of consecutive states, read at the same time.

        Raises:
            CorruptStoreError: a shard is not what was written.
        """
        array, starts = self._array, np.asarray(starts, int)
        out = np.empty((len(starts), frames, *self.layout.grid.shape, len(self.layout.channels)), np.float32)
        # Into the answer itself: an array of TensorStore's own for each window would be a copy more.
        waits = [
            tensorstore.array(window, copy=False).write(array[int(s) : int(s) + frames])
            for window, s in zip(out, starts, strict=True)
        ]
        try:
            for wait in waits:
                wait.result()
        except ValueError as error:
            raise self._damage(str(error)) from error
        return out

    def _damage(self, said: str) -> CorruptStoreError:
        """The error for a shard whose checksum differs, from the message of TensorStore."""
        file = re.search(r'local file "([^"]+)"', said)
        return CorruptStoreError(
            "a state in it is not what was written: its checksum differs",
            where=file[1] if file else str(self.path / STATES),
            remedy="Restore the file from a copy, or write the store again",
        )

    def blocks(self, part: tuple[int, int] | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """States in the order of time, block by block, none across two segments."""
        low, high = (0, len(self)) if part is None else part
        each = max(1, BLOCK_BYTES // (4 * int(np.prod(self.layout.grid.shape)) * len(self.layout.channels)))
        for a, b in self.segments:
            for start in range(max(a, low), min(b, high), each):
                stop = min(start + each, b, high)
                yield slice(start, stop), self.read(np.array([start]), stop - start)[0]

    def statistics_of(self, part: tuple[int, int]) -> ChannelStatistics:
        """Statistics of some of the states, such as those of the training."""
        moments = Moments(len(self.layout.channels))
        ends = {a for a, _ in self.segments}
        for rows, states in self.blocks(part):
            if rows.start in ends:
                moments.new_segment()
            moments.add(states)
        return moments.statistics()

    def climatology(self, part: tuple[int, int] | None = None) -> Climatology:
        """The climatology of the states of a part, such as those of the training.

        A day-of-year climatology is kept in a file of the store, which answers the next call.
        """
        low, high = (0, len(self)) if part is None else part
        blocks = ((np.arange(rows.start, rows.stop) - low, states) for rows, states in self.blocks((low, high)))
        shape = (*self.layout.grid.shape, len(self.layout.channels))
        file = self.path / f"{CLIMATOLOGY}_{low}_{high}.npy" if os.access(self.path, os.W_OK) else None
        return climatology(self.times[low:high], blocks, shape, dated=self.layout.calendar, file=file)

    def dataset(self, part: tuple[int, int] | None = None) -> xr.Dataset:
        """States in WeatherBench 2 names, in memory: all of them, or those of a part."""
        low, high = (0, len(self)) if part is None else part
        states = self.read(np.array([low]), high - low)[0]
        return self.layout.unstack(states, (TIME,), {TIME: self.times[low:high]})


def read_object(path: Path) -> dict[str, Any]:
    """An object of JSON in a store of windows, such as its card.

    Raises:
        CorruptStoreError: the file is missing or damaged.
    """
    return read_plain(path, dict[str, Any], remedy=ANEW)


def _refuse_misfits(store: WindowStore) -> None:
    """Refuse a card whose parts contradict each other.

    Raises:
        ValueError: says which.
    """
    channels, times = len(store.layout.channels), len(store.times)
    if any(len(getattr(store.statistics, f.name)) != channels for f in fields(ChannelStatistics)):
        raise ValueError(f"statistics must be of {channels} channels")
    if any(not 0 <= start < stop <= times for start, stop in store.segments):
        raise ValueError(f"segments must lie within {times} times")
