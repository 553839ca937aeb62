"""Batches of windows of states, all of one shape, so that a training step is compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from data.batch_rows import WHOLE, BatchRows
from data.sphere.window_store import WindowStore
from surrogates.forecasts.sun import clock

#: Bytes of states up to which a source keeps them in memory; larger ones are read window by window.
MEMORY_BYTES = 4 << 30


class ForecastBatch(NamedTuple):
    """A batch of windows.

    Attributes:
        frames: consecutive states: the history, then those to forecast, in the units of the variables.
        days, seconds: time of the last state of the history; see `sun.clock`.
        weight: weight of each row: 1 or that of its source, or 0 for a row that only fills the batch.
    """

    frames: Float[np.ndarray, "batch frame latitude longitude channel"]
    days: Int[np.ndarray, " batch"]
    seconds: Int[np.ndarray, " batch"]
    weight: Float[np.ndarray, " batch"]


@dataclass(frozen=True)
class WindowBatches:
    """A source of batches that gives every window of a part of a store once in each epoch.

    Attributes:
        store: the states.
        part: [start, stop) of the states that windows may have.
        size: rows of a batch, a multiple of the number of devices.
        history: number of states that a forecast begins with.
        unroll: number of states after them.
        seed: seed of the random order; None keeps the order of time, and fills the last batch instead of dropping it.
        stride: number of states from the start of one window to the start of the next.
        mirror: whether half of the windows, drawn anew in each epoch, are mirrored at the equator.
        also: further stores, all of whose windows are in each epoch too.
        weights: weight in the loss of the windows of `store` and of those of each of `also`; 1 where empty.
    """

    store: WindowStore
    part: tuple[int, int]
    size: int
    history: int
    unroll: int
    seed: int | None
    stride: int = 1
    mirror: bool = False
    also: tuple[WindowStore, ...] = ()
    weights: tuple[float, ...] = ()

    @cached_property
    def starts(self) -> Int[np.ndarray, " window"]:
        """First state of each window, counted through the states of `store` and then those of `also`."""
        frames, firsts = self.history + self.unroll, self._firsts
        return np.concatenate(
            [firsts[k] + store.starts(frames, part, self.stride) for k, (store, part) in enumerate(self._sources)]
        )

    @cached_property
    def _in_memory(self) -> tuple[Float[np.ndarray, "time latitude longitude channel"], ...]:
        """The states of each source; empty where all of them take more than `MEMORY_BYTES`."""
        layout = self.store.layout
        states = sum(high - low for _, (low, high) in self._sources)
        if 4 * states * int(np.prod(layout.grid.shape)) * len(layout.channels) > MEMORY_BYTES:
            return ()
        return tuple(store.read(np.array([low]), high - low)[0] for store, (low, high) in self._sources)

    @property
    def _sources(self) -> list[tuple[WindowStore, tuple[int, int]]]:
        return [(self.store, self.part), *((more, (0, len(more))) for more in self.also)]

    @property
    def _firsts(self) -> Int[np.ndarray, " source_plus_one"]:
        """Index of the first state of each source among the states of all sources."""
        return np.cumsum([0, *(len(store) for store, _ in self._sources)])

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        windows = len(self.starts)
        return -(-windows // self.size) if self.seed is None or windows < self.size else windows // self.size

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[ForecastBatch]:
        """The batches of an epoch; the seed and the index determine their order, `part` the rows that are read."""
        order, turned = self.starts, np.zeros(len(self.starts), bool)
        if self.seed is not None:
            random = np.random.default_rng((self.seed, index))
            order = random.permutation(order)
            if self.mirror:
                turned = random.random(len(order)) < 0.5
        for step in range(self.steps_per_epoch):
            rows = slice(step * self.size, (step + 1) * self.size)
            yield self._batch(order[rows], turned[rows], part.of(self.size))

    def _batch(self, starts: Int[np.ndarray, " n"], turned: Bool[np.ndarray, " n"], here: slice) -> ForecastBatch:
        weight = (np.arange(self.size) < len(starts)).astype(np.float32)[here]
        starts, turned = np.resize(starts, self.size)[here], np.resize(turned, self.size)[here]
        states = np.empty((len(starts), *self._shape), np.float32)
        times = np.empty(len(starts), "datetime64[ns]")
        source = np.searchsorted(self._firsts, starts, side="right") - 1
        for number, (store, (low, _)) in enumerate(self._sources):
            of_source = source == number
            first = starts[of_source] - self._firsts[number]
            if self._in_memory:
                states[of_source] = self._in_memory[number][first[:, None] - low + np.arange(states.shape[1])]
            elif of_source.any():
                states[of_source] = store.read(first, states.shape[1])
            if self.weights:
                weight[of_source] *= self.weights[number]
            times[of_source] = store.times[first + self.history - 1]
        if turned.any():
            states[turned] = self.store.layout.mirror(states[turned])
        days, seconds = clock(times)
        return ForecastBatch(states, days, seconds, weight)

    @property
    def _shape(self) -> tuple[int, ...]:
        layout = self.store.layout
        return self.history + self.unroll, *layout.grid.shape, len(layout.channels)
