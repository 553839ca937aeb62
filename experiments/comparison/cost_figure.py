"""Figure of error against cost: the solver's ladder, the surrogates, and their distance at equal error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from experiments.comparison import break_even as fr
from experiments.comparison.contenders import Point
from experiments.comparison.result import Comparison, speed_words
from experiments.pages.style import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    Drawing,
    draw,
    legend_below,
    logarithmic,
    plain_logarithmic,
)

#: Factor of room beyond the outermost points.
ROOM = 2.2
#: Decades of an axis up to which 1, 2 and 5 have ticks.
FEW_DECADES = 2.2
_UNITS = ((1.0, "core-s"), (1e-3, "core-ms"), (1e-6, "core-µs"))


def frontier_drawing(comparison: Comparison, *, name: str = "frontier") -> Drawing:
    """Draw the figure as SVG.

    Args:
        comparison: comparison to show.
        name: name of the figure, unique on a page.
    """
    label = f"{comparison.error_name} error against cost per trajectory: {comparison.title}"
    return draw(lambda axes: paint(axes, comparison), name=name, label=label, width=8.4, height=5.2)


def paint(axes: Axes, comparison: Comparison) -> None:
    """Draw the comparison; contenders whose answers are not finite are left out."""
    shown = [p for p in comparison.points if math.isfinite(p.error)]
    costs = [p.core_seconds for p in shown]
    middle = math.sqrt(min(costs) * max(costs))
    scale, unit = next((u for u in _UNITS if middle >= 0.3 * u[0]), _UNITS[-1])
    best = fr.frontier(comparison.points)
    on = {p.name for p in best}
    off = [p for p in comparison.rungs if p.name not in on and math.isfinite(p.error)]
    surrogates = [p for p in comparison.surrogates if math.isfinite(p.error)]
    x = [p.core_seconds / scale for p in best]
    axes.plot(x, [p.error for p in best], "o-", color=BLUE, label="solver: best rungs", zorder=3)
    if off:
        axes.plot(
            [p.core_seconds / scale for p in off],
            [p.error for p in off],
            "o",
            color=GREY,
            markerfacecolor="white",
            label="solver: rungs that another beats",
            zorder=2,
        )
    for place, p in enumerate(surrogates):
        axes.plot(
            p.core_seconds / scale,
            p.error,
            "D",
            color=VERMILLION,
            markersize=7.5,
            label=None if place else "surrogate",
            zorder=4,
        )
    for p in shown:
        # A logarithmic axis cannot show an error bar that reaches 0.
        low = min(p.error_standard_error or 0.0, 0.9 * p.error)
        axes.errorbar(
            p.core_seconds / scale,
            p.error,
            [[low], [p.error_standard_error or 0.0]],
            color=VERMILLION if p.kind == "surrogate" else BLUE if p.name in on else GREY,
            elinewidth=1,
            zorder=2,
        )
    # Labels are placed in this order, those of surrogates first.
    labels = [_Label(p.name, p.core_seconds / scale, p.error, _colour(p, on)) for p in (*surrogates, *best, *off)]
    lines = [[(p.core_seconds / scale, p.error) for p in best]]
    for place, p in enumerate(surrogates):
        reading = fr.cost_at_error(comparison.points, p.error)
        if reading.relation != "equal":
            continue
        ends = [p.core_seconds / scale, reading.value / scale]
        axes.plot(
            ends,
            [p.error] * 2,
            color=INK,
            linewidth=1,
            linestyle=(0, (4, 3)),
            label=None if place else "equal error",
            zorder=1,
        )
        lines.append([(ends[0], p.error), (ends[1], p.error)])
        ratio = fr.speed_up(p, comparison.points)
        labels.append(_Label(speed_words(ratio), math.sqrt(ends[0] * ends[1]), p.error, INK, bold=True))
    _axis(axes, "x", [p.core_seconds / scale for p in shown])
    _axis(axes, "y", [p.error for p in shown])
    axes.set_xlabel(f"Cost of a trajectory ({unit})")
    axes.set_ylabel(f"{capital(comparison.error_name)} error")
    legend_below(axes, 4)
    _place(axes, labels, lines)


def capital(text: str) -> str:
    """The text with its first letter as a capital, the others as they are."""
    return text[:1].upper() + text[1:]


def _colour(point: Point, on: set[str]) -> str:
    return "#A84600" if point.kind == "surrogate" else "#005A8E" if point.name in on else GREY


def _axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    low, high = min(values) / ROOM, max(values) * ROOM
    if math.log10(high / low) < FEW_DECADES:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
        plain_logarithmic(axes, which, [v for v in every if low <= v <= high])
    else:
        logarithmic(axes, which)
    getattr(axes, f"set_{which}lim")(low, high)


@dataclass(frozen=True)
class _Label:
    """Text beside a point of the data."""

    text: str
    x: float
    y: float
    colour: str
    bold: bool = False


def _place(axes: Axes, labels: Sequence[_Label], lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Place each label within the axes where it covers the fewest other labels, points and lines."""
    figure = cast(Figure, axes.figure)
    canvas = FigureCanvasAgg(figure)
    # The layout moves the axes, and with them every position in pixels.
    figure.draw_without_rendering()
    renderer = canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    pixels = figure.dpi / 72
    taken = [_around(axes.transData.transform((label.x, label.y)), 5 * pixels) for label in labels if not label.bold]
    marks = axes.transData.transform([(label.x, label.y) for label in labels if not label.bold])
    covered = np.concatenate([_along(axes.transData.transform(line)) for line in lines])
    for label in labels:
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            (0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8.6,
            color=label.colour,
            fontweight="bold" if label.bold else "normal",
            zorder=6,
        )
        text.set_in_layout(False)
        box = text.get_window_extent(renderer)
        half = np.array([box.width, box.height]) / 2
        anchor = axes.transData.transform((label.x, label.y))
        best: tuple[float, np.ndarray, Bbox] | None = None
        for order, (right, up, gap) in enumerate(_candidates()):
            shift = np.array([right, up]) * (half + gap * pixels * np.array([1.0, 0.6 if right else 1.0]))
            centre = anchor + shift
            low, high = centre - half - pixels, centre + half + pixels
            grown = Bbox.from_extents(low[0], low[1], high[0], high[1])
            inside = frame.contains(low[0], low[1]) and frame.contains(high[0], high[1])
            cost = 10.0 * sum(grown.overlaps(other) for other in taken) + 0.5 * float(_inside(grown, covered).sum())
            # A label that is nearer to the point of another one would be read as the label of that point.
            anchor_distance = _distance(grown, anchor[None])[0]
            cost += 3.0 * float((_distance(grown, marks) <= anchor_distance + 2 * pixels).sum() - (not label.bold))
            cost += 0.05 * order + 100.0 * (not inside)
            if best is None or cost < best[0]:
                best = (cost, shift / pixels, grown)
        assert best is not None
        text.xyann = (float(best[1][0]), float(best[1][1]))
        taken.append(best[2])


def _candidates() -> list[tuple[float, float, float]]:
    """Positions (right, up, gap) of a label, the gap in points (1/72 inch), the preferred ones first."""
    near = [
        (1, 1),
        (1, -1),
        (-1, 1),
        (-1, -1),
        (0, 1),
        (0, -1),
        (1, 0),
        (-1, 0),
        (0.5, 1),
        (0.5, -1),
        (-0.5, 1),
        (-0.5, -1),
    ]
    return [(right, up, gap) for gap in (6.0, 9.0, 14.0, 22.0) for right, up in near]


def _around(centre: np.ndarray, half: float) -> Bbox:
    return Bbox.from_extents(centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half)


def _distance(box: Bbox, points: np.ndarray) -> np.ndarray:
    """Distance of each point from the box in pixels; 0 inside."""
    outside = np.maximum(np.maximum([box.x0, box.y0] - points, points - [box.x1, box.y1]), 0.0)
    return np.linalg.norm(outside, axis=1)


def _inside(box: Bbox, points: np.ndarray) -> np.ndarray:
    return (points[:, 0] >= box.x0) & (points[:, 0] <= box.x1) & (points[:, 1] >= box.y0) & (points[:, 1] <= box.y1)


def _along(corners: np.ndarray) -> np.ndarray:
    """Points in pixels along a polyline, so close to one another that no label fits between them."""
    share = np.linspace(0, 1, 60)[:, None]
    pieces = [(1 - share) * a + share * b for a, b in pairwise(corners)]
    return np.concatenate([corners, *pieces])
