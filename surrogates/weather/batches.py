"""Batches of windows of states, all of one shape, so that a step is compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data.windows import WindowStore
from surrogates.weather.sun import clock

#: States that are held in memory, bytes; more are read window by window.
HELD_BYTES = 4 << 30


class WeatherBatch(NamedTuple):
    """Some windows.

    Attributes:
        frames: consecutive states: the history, then what is to be forecast.
        days, seconds: time of the last state of the history; see `sun.clock`.
        weight: 1, or 0 for a row that only fills the batch.
    """

    frames: Float[np.ndarray, "batch frame latitude longitude channel"]
    days: Int[np.ndarray, " batch"]
    seconds: Int[np.ndarray, " batch"]
    weight: Float[np.ndarray, " batch"]


@dataclass(frozen=True)
class WindowBatches:
    """A source of batches: every window of a part of a store once an epoch.

    Attributes:
        store: the states.
        part: [start, stop) that windows have to lie in.
        size: rows of a batch; a multiple of the number of devices.
        history: states that a forecast begins with.
        unroll: states after them.
        seed: of the order; None keeps that of time, and fills the last batch instead of leaving it out.
        stride: states from the beginning of a window to that of the next one.
    """

    store: WindowStore
    part: tuple[int, int]
    size: int
    history: int
    unroll: int
    seed: int | None
    stride: int = 1

    @cached_property
    def starts(self) -> Int[np.ndarray, " window"]:
        """First state of each window."""
        return self.store.starts(self.history + self.unroll, self.part, self.stride)

    @cached_property
    def _held(self) -> Float[np.ndarray, "time latitude longitude channel"] | None:
        low, high = self.part
        layout = self.store.layout
        if 4 * (high - low) * int(np.prod(layout.grid.shape)) * len(layout.channels) > HELD_BYTES:
            return None
        return self.store.read(np.array([low]), high - low)[0]

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        windows = len(self.starts)
        return -(-windows // self.size) if self.seed is None or windows < self.size else windows // self.size

    def epoch(self, index: int) -> Iterator[WeatherBatch]:
        """The batches of an epoch, in an order that seed and index decide."""
        order = self.starts
        if self.seed is not None:
            order = np.random.default_rng((self.seed, index)).permutation(order)
        for step in range(self.steps_per_epoch):
            yield self._batch(order[step * self.size : (step + 1) * self.size])

    def _batch(self, starts: Int[np.ndarray, " n"]) -> WeatherBatch:
        weight = np.zeros(self.size, np.float32)
        weight[: len(starts)] = 1.0
        starts = np.resize(starts, self.size)
        frames = self.history + self.unroll
        if self._held is None:
            states = self.store.read(starts, frames)
        else:
            states = self._held[starts[:, None] - self.part[0] + np.arange(frames)]
        days, seconds = clock(self.store.times[starts + self.history - 1])
        return WeatherBatch(states, days, seconds, weight)
