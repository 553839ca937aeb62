"""Where a library lies in the plane of two predictions: hexagonal counts, streamed from Parquet parts.

Binning by two interleaved rectangular lattices (Carr et al., J. Am. Stat. Assoc. 1987, 82, 424). Memory is
that of the bins and of one batch, however long the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

BATCH = 131_072


def batches(
    parts: Sequence[Path], names: Sequence[str]
) -> Iterator[tuple[Float[np.ndarray, "target row"], Bool[np.ndarray, " row"]]]:
    """Finite predictions of `names` and whether each lies in the domain, batch by batch."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(BATCH, columns=[*names, "in_domain"]):
                values = np.stack([batch.column(n).to_numpy(zero_copy_only=False).astype(np.float64) for n in names])
                domain = batch.column("in_domain").to_numpy(zero_copy_only=False).astype(bool)
                finite = np.isfinite(values).all(axis=0)
                yield values[:, finite], domain[finite]


def quantile_range(
    parts: Sequence[Path], names: Sequence[str], *, tail: float = 5e-4, bins: int = 4096
) -> Float[np.ndarray, "target end"]:
    """Range of each prediction without the outermost `tail` at either end, to one bin in 4096.

    Raises:
        ValueError: there is no finite prediction.
    """
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for values, _ in batches(parts, names):
        if values.shape[1]:
            low, high = np.minimum(low, values.min(axis=1)), np.maximum(high, values.max(axis=1))
    if not np.isfinite(low).all():
        raise ValueError("the parts hold no finite prediction")
    span = np.where(high > low, high - low, 1.0)
    counts = np.zeros((len(names), bins), np.int64)
    for values, _ in batches(parts, names):
        for k, row in enumerate(values):
            index = np.minimum(((row - low[k]) / span[k] * bins).astype(np.int64), bins - 1)
            counts[k] += np.bincount(index, minlength=bins)
    share = np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
    first = np.array([np.searchsorted(row, tail, side="right") for row in share])
    last = np.array([np.searchsorted(row, 1 - tail) for row in share])
    return np.stack([low + first / bins * span, low + (last + 1) / bins * span], axis=1)


@dataclass(frozen=True)
class Hexagons:
    """Counts in hexagons.

    Attributes:
        x, y: centres, in the units of the two predictions.
        counts: candidates in each; no zeros.
        width, height: distance of neighbouring centres along x, and of the rows of one lattice along y.
        total: candidates with finite predictions.
        outside: those beyond the drawn range.
    """

    x: Float[np.ndarray, " hexagon"]
    y: Float[np.ndarray, " hexagon"]
    counts: Int[np.ndarray, " hexagon"]
    width: float
    height: float
    total: int
    outside: int

    @property
    def corners(self) -> Float[np.ndarray, "6 2"]:
        """Corners of one hexagon about the origin."""
        w, h = self.width, self.height / 3
        return np.array([[w / 2, h / 2], [0, h], [-w / 2, h / 2], [-w / 2, -h / 2], [0, -h], [w / 2, -h / 2]])


def hexagons(
    parts: Sequence[Path], x: str, y: str, *, columns: int = 44, rows: int = 22, ends: np.ndarray | None = None
) -> Hexagons:
    """Counts of the library in the plane of predictions `x` and `y`.

    Args:
        parts: Parquet files with columns `x`, `y` and `in_domain`.
        columns, rows: hexagons across, and double rows up.
        ends: [[x low, x high], [y low, y high]]; `quantile_range` if left out.

    Raises:
        ValueError: there is no finite prediction.
    """
    ends = quantile_range(parts, [x, y]) if ends is None else np.asarray(ends, np.float64)
    width, height = (ends[0, 1] - ends[0, 0]) / columns, (ends[1, 1] - ends[1, 0]) / rows
    even = np.zeros((columns + 1, rows + 1), np.int64)
    odd = np.zeros((columns, rows), np.int64)
    total = 0
    for values, _ in batches(parts, [x, y]):
        total += values.shape[1]
        u, v = (values[0] - ends[0, 0]) / width, (values[1] - ends[1, 0]) / height
        inside = (u >= 0) & (u <= columns) & (v >= 0) & (v <= rows)
        u, v = u[inside], v[inside]
        i0, j0 = np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)
        i1 = np.minimum(u.astype(np.int64), columns - 1)
        j1 = np.minimum(v.astype(np.int64), rows - 1)
        near = (u - i0) ** 2 + 3 * (v - j0) ** 2 <= (u - i1 - 0.5) ** 2 + 3 * (v - j1 - 0.5) ** 2
        even += np.bincount(i0[near] * (rows + 1) + j0[near], minlength=even.size).reshape(even.shape)
        odd += np.bincount(i1[~near] * rows + j1[~near], minlength=odd.size).reshape(odd.shape)
    if not total:
        raise ValueError("the parts hold no finite prediction")
    cells = []
    for lattice, shift in ((even, 0.0), (odd, 0.5)):
        i, j = np.nonzero(lattice)
        cells.append((ends[0, 0] + (i + shift) * width, ends[1, 0] + (j + shift) * height, lattice[i, j]))
    centre_x, centre_y, counts = (np.concatenate(arrays) for arrays in zip(*cells, strict=True))
    return Hexagons(centre_x, centre_y, counts, width, height, total, total - int(counts.sum()))


@dataclass(frozen=True)
class Histogram:
    """Counts along one prediction; `edges` has one more entry than `counts`."""

    edges: Float[np.ndarray, " edge"]
    counts: Int[np.ndarray, " bin"]
    total: int


def histogram(parts: Sequence[Path], name: str, *, bins: int = 80) -> Histogram:
    """Counts of the library along one prediction, over `quantile_range`."""
    low, high = quantile_range(parts, [name])[0]
    edges = np.linspace(low, high, bins + 1)
    counts, total = np.zeros(bins, np.int64), 0
    for values, _ in batches(parts, [name]):
        counts += np.histogram(values[0], edges)[0]
        total += values.shape[1]
    return Histogram(edges, counts, total)
