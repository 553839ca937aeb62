"""Batches of windows of trajectories, all of one shape, so that a step is compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from data.batch_rows import WHOLE, BatchRows
from data.fields.samples import Fields


class FieldBatch(NamedTuple):
    """Some samples over a window of time.

    Attributes:
        frames: consecutive states, channels last; a single one where nothing evolves in time.
        static: input fields, channels last.
        parameters: input numbers.
        weight: 1, or 0 for a row that only fills the batch.
    """

    frames: Float[np.ndarray, "batch frame *space channel"]
    static: Float[np.ndarray, "batch *space static"]
    parameters: Float[np.ndarray, "batch parameter"]
    weight: Float[np.ndarray, " batch"]


@dataclass(frozen=True)
class FieldBatches:
    """A source of batches: every window of every sample once an epoch.

    Attributes:
        fields: the samples.
        size: rows of a batch; a multiple of the number of devices.
        frames: states of a window.
        seed: seed of the shuffling; None keeps the order of the samples, and pads the last batch instead of dropping
            it.
        stride: times from the beginning of a window to that of the next one.
    """

    fields: Fields
    size: int
    frames: int
    seed: int | None
    stride: int = 1

    def __post_init__(self) -> None:
        times = self.fields.states.shape[1]
        if not 1 <= self.frames <= times:
            raise ValueError(f"windows of {self.frames} states are asked for, the trajectories have {times}")

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.fields) * self._starts

    @property
    def _starts(self) -> int:
        return (self.fields.states.shape[1] - self.frames) // self.stride + 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        if self.seed is None or self.windows < self.size:
            return -(-self.windows // self.size)
        return self.windows // self.size

    def epoch(self, index: int, part: BatchRows = WHOLE) -> Iterator[FieldBatch]:
        """The batches of an epoch, in an order that seed and index decide; `part`: rows of each that are built."""
        order = np.arange(self.windows)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, index)).permutation(order)
        for step in range(self.steps_per_epoch):
            yield self._batch(order[step * self.size : (step + 1) * self.size], part.of(self.size))

    def _batch(self, rows: Int[np.ndarray, " n"], here: slice) -> FieldBatch:
        weight = (np.arange(self.size) < len(rows)).astype(np.float32)[here]
        rows = np.resize(rows, self.size)[here]
        sample, start = np.divmod(rows, self._starts)
        times = start[:, None] * self.stride + np.arange(self.frames)
        return FieldBatch(
            self.fields.states[sample[:, None], times],
            self.fields.static[sample],
            self.fields.parameters[sample],
            weight,
        )
