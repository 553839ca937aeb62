"""Errors of fields by region and by wave number, and fields on a grid of half as many points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from data.fields.samples import Fields

#: Share of a domain, from each end of a dim that is not periodic, that counts as near its boundary.
EDGE = 0.1
#: Share of the points that count as those where the truth is steepest.
STEEP = 0.1
#: Fewest points along a dim of a grid that is halved.
FEWEST = 8


def sizes(values: Float[np.ndarray, "sample time *space channel"]) -> Float[np.ndarray, "sample time"]:
    """Root of the sum of squares of each field."""
    return np.sqrt(np.square(values).reshape(*values.shape[:2], -1).sum(axis=-1))


def regions(
    truth: Float[np.ndarray, "sample time *space channel"],
    mean: Float[np.ndarray, "sample time *space channel"],
    periodic: Sequence[bool],
) -> list[tuple[str, float, float]]:
    """Errors in parts of the domain.

    Args:
        truth, mean: fields of the simulator and answers.
        periodic: whether the ends of each dim meet.

    Returns:
        For each region its name, its share of the points, and the root mean square error in it over the spread of each
        channel, as root mean square over the channels.
    """
    spread = truth.std(axis=tuple(range(truth.ndim - 1)))
    error = np.square((mean - truth) / np.where(spread > 0, spread, np.inf)).mean(axis=-1)
    parts: list[tuple[str, Bool[np.ndarray, "sample time *space"]]] = [("everywhere", np.ones(error.shape, bool))]
    points = truth.shape[2:-1]
    if not all(periodic):
        near = np.zeros(points, bool)
        for axis, (count, closed) in enumerate(zip(points, periodic, strict=True)):
            if not closed:
                place = (np.arange(count) + 0.5) / count
                at_end = np.minimum(place, 1 - place) < EDGE
                near |= at_end.reshape([-1 if a == axis else 1 for a in range(len(points))])
        parts += [
            (f"within {EDGE:.0%} of the boundary", np.broadcast_to(near, error.shape)),
            ("further inside", np.broadcast_to(~near, error.shape)),
        ]
    axes = tuple(2 + a for a, count in enumerate(points) if count > 1)
    scaled = truth / np.where(spread > 0, spread, np.inf)
    steep = sum(np.square(np.gradient(scaled, axis=a)).sum(axis=-1) for a in axes)
    limit = np.quantile(steep, 1 - STEEP)
    parts += [
        (f"where the truth is steepest ({STEEP:.0%} of the points)", steep > limit),
        ("where it is less steep", steep <= limit),
    ]
    return [(name, float(part.mean()), float(np.sqrt(error[part].mean()))) for name, part in parts if part.any()]


def shells(values: Float[np.ndarray, "sample time *space channel"], dims: int) -> Float[np.ndarray, " wave"]:
    """Mean power by whole wave number, from 1 up to half the fewest points; each channel counts in its units.

    Args:
        values: fields.
        dims: number of dims of space.
    """
    axes = tuple(range(2, 2 + dims))
    points = [values.shape[a] for a in axes]
    power = np.square(np.abs(np.fft.fftn(values, axes=axes))).mean(axis=(0, 1, values.ndim - 1))
    waves = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in points), indexing="ij")
    shell = np.rint(np.sqrt(sum(np.square(w) for w in waves))).astype(int)
    counted = np.bincount(shell.ravel(), power.ravel())
    return counted[1 : min(n for n in points if n > 1) // 2 + 1] / float(np.prod(points)) ** 2


def half_grid(fields: Fields) -> Fields | None:
    """The samples on a grid with half as many points along each dim: every second point of a periodic dim, and means of
    two points of others; None if a dim has an odd number of points or too few."""
    layout = fields.layout
    if any(n % 2 or n < FEWEST for n in layout.points):
        return None

    def halved(values: np.ndarray, first: int) -> np.ndarray:
        for axis, closed in enumerate(layout.periodic, start=first):
            even = np.take(values, np.arange(0, values.shape[axis], 2), axis)
            odd = np.take(values, np.arange(1, values.shape[axis], 2), axis)
            values = even if closed else (even + odd) / 2
        return np.ascontiguousarray(values)

    axes = []
    for axis in layout.axes:
        if axis.name in layout.space:
            places = np.asarray(axis.values, float)
            closed = layout.periodic[layout.space.index(axis.name)]
            places = places[::2] if closed else (places[::2] + places[1::2]) / 2
            axis = replace(axis, values=tuple(places.tolist()))
        axes.append(axis)
    return replace(
        fields,
        layout=replace(layout, axes=tuple(axes)),
        states=halved(fields.states, 2),
        static=halved(fields.static, 1),
        reading=None,
    )
