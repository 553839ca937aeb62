"""Figures of the search itself: funnel, map of the library, hit rates, costs, break-even."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, PercentFormatter
from matplotlib.transforms import AffineDeltaTransform

from experiments.pages.density import Hexagons, Histogram
from experiments.pages.formatting import core_time, count, percent
from experiments.pages.pipeline_run import SEARCH_STAGES, CostRow, Target, TargetPredictions
from experiments.pages.style import BLUE, GREEN, GREY, GROUPS, INK, VERMILLION, legend_below, logarithmic
from experiments.screening.hit_rates import HitRate
from experiments.screening.objective import Objective


def funnel(axes: Axes, steps: Sequence[tuple[str, float]], *, size: float = 9.5) -> None:
    """How many candidates are left after each step, as centred bars whose width is logarithmic."""
    widest = math.log10(max(1.0, *(n for _, n in steps)) + 1)
    colours = [BLUE] * (len(steps) - 2) + [VERMILLION, GREEN]
    for place, ((label, n), colour) in enumerate(zip(steps, colours[-len(steps) :], strict=True)):
        width = max(0.012, math.log10(n + 1) / widest)
        axes.add_patch(Rectangle((-width / 2, place - 0.36), width, 0.72, color=colour, linewidth=0))
        inside = width > 0.3
        axes.text(
            0 if inside else width / 2 + 0.02,
            place,
            count(n),
            ha="center" if inside else "left",
            va="center",
            color="white" if inside else INK,
            fontsize=size + 0.5,
            fontweight="bold",
        )
        axes.text(-0.54, place, label, ha="right", va="center", fontsize=size)
    axes.set(xlim=(-1.05, 0.52), ylim=(len(steps) - 0.5, -0.5))
    axes.axis("off")


def density(
    axes: Axes,
    hexagons: Hexagons,
    x: Target,
    y: Target,
    objective: Objective | None,
    best: Mapping[str, TargetPredictions] | None = None,
) -> None:
    """Predictions over the library, the objective's windows framed, the re-checked best on top."""
    cells = PolyCollection(
        [hexagons.corners],
        offsets=np.stack([hexagons.x, hexagons.y], axis=1),
        offset_transform=axes.transData,
        transform=AffineDeltaTransform(cast(Any, axes.transData)),
        array=hexagons.counts,
        cmap="Blues",
        # Starts below one candidate, so that a single one is not white on white.
        norm=LogNorm(0.3, max(10, hexagons.counts.max())),
        linewidth=0.2,
        edgecolor="face",
    )
    axes.add_collection(cells)
    margin = 0.02 * np.array([np.ptp(hexagons.x) or 1, np.ptp(hexagons.y) or 1])
    axes.set_xlim(hexagons.x.min() - margin[0], hexagons.x.max() + margin[0])
    axes.set_ylim(hexagons.y.min() - margin[1], hexagons.y.max() + margin[1])
    if best is not None:
        colour, marker = GROUPS["top"]
        axes.plot(
            best[x.name].value,
            best[y.name].value,
            marker,
            color=colour,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            label=f"the {len(best[x.name].value)} re-checked best",
        )
        low, high = axes.get_ylim()
        top = float(np.nanmax(best[y.name].value)) + 2 * margin[1]
        axes.set_ylim(min(low, float(np.nanmin(best[y.name].value))), max(high, top))
    if objective is not None:
        shade(axes, objective, x, y)
    bar = axes.figure.colorbar(cells, ax=axes, pad=0.02, fraction=0.05)
    bar.ax.set_ylim(1, max(10, hexagons.counts.max()))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
    bar.set_label("Candidates in a hexagon")
    bar.outline.set_visible(False)
    axes.set(xlabel=f"Predicted {x.lower} ({x.unit})", ylabel=f"Predicted {y.lower} ({y.unit})")
    axes.grid(visible=False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right")


def shade(axes: Axes, objective: Objective, x: Target, y: Target) -> None:
    """Frame where a candidate meets the objective: its windows, and what a hit must reach."""
    box = {"x": list(axes.get_xlim()), "y": list(axes.get_ylim())}
    bounds = dict(objective.windows)
    pushed = objective.target([y.name, x.name])
    if objective.hit is not None:
        low, high = bounds.get(pushed, [-math.inf, math.inf])
        rising = objective.sign > 0
        bounds[pushed] = [max(low, objective.hit), high] if rising else [low, min(high, objective.hit)]
    for axis, target in (("x", x), ("y", y)):
        if target.name in bounds:
            low, high = bounds[target.name]
            box[axis] = [max(box[axis][0], low), min(box[axis][1], high)]
    width, height = box["x"][1] - box["x"][0], box["y"][1] - box["y"][0]
    if width > 0 and height > 0 and bounds:
        corner = (box["x"][0], box["y"][0])
        axes.add_patch(Rectangle(corner, width, height, color=VERMILLION, alpha=0.07, linewidth=0))
        axes.add_patch(
            Rectangle(corner, width, height, fill=False, edgecolor=VERMILLION, linewidth=1.3, label="what is sought")
        )


def distribution(axes: Axes, histogram: Histogram, target: Target, objective: Objective | None) -> None:
    """Predictions of one target over the library, what is sought shaded."""
    axes.stairs(histogram.counts, histogram.edges, fill=True, color=BLUE, alpha=0.85)
    axes.set(xlim=(histogram.edges[0], histogram.edges[-1]), ylim=(0, None))
    if objective is not None:
        low, high = objective.windows.get(target.name, [-math.inf, math.inf])
        if objective.target([target.name]) == target.name and objective.hit is not None:
            low, high = (max(low, objective.hit), high) if objective.sign > 0 else (low, min(high, objective.hit))
        low, high = max(low, histogram.edges[0]), min(high, histogram.edges[-1])
        if (low, high) != (histogram.edges[0], histogram.edges[-1]) and low < high:
            axes.axvspan(low, high, color=VERMILLION, alpha=0.18, linewidth=0, label="what is sought")
            axes.legend(loc="upper right")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
    axes.set(xlabel=f"Predicted {target.lower} ({target.unit})", ylabel="Candidates")


def hit_rates(axes: Axes, rates: Sequence[tuple[str, str, HitRate]]) -> None:
    """Share of confirmed molecules with exact 95% intervals.

    Args:
        axes: to draw on.
        rates: (group, label, rate), each with at least one trial.
    """
    for place, (group, _, rate) in enumerate(reversed(rates)):
        colour, marker = GROUPS[group]
        low, high = rate.interval
        value = rate.value or 0.0
        axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.5, solid_capstyle="round")
        axes.plot(value, place, marker, color=colour, markersize=9)
        axes.annotate(
            f"{rate.hits} of {rate.trials}: {percent(value)}  (95%: {percent(low)} to {percent(high)})",
            (0.0, place),
            xytext=(2, 13),
            textcoords="offset points",
            fontsize=9.5,
        )
    axes.set_yticks(range(len(rates)), [label for _, label, _ in reversed(rates)])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.5, len(rates) - 0.35), xlabel="Confirmed by simulation")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def stage_costs(axes: Axes, costs: Sequence[CostRow], fixed: Sequence[str]) -> None:
    """Core-seconds of each stage, those before the first prediction in a colour of their own."""
    total = sum(c.core_seconds for c in costs) or 1.0
    for place, cost in enumerate(costs):
        colour = BLUE if cost.stage in fixed else (VERMILLION if cost.stage in SEARCH_STAGES else GREY)
        axes.barh(place, cost.core_seconds, color=colour, height=0.7)
        axes.text(
            cost.core_seconds + 0.01 * total,
            place,
            f"{core_time(cost.core_seconds)} ({percent(cost.core_seconds / total)})",
            va="center",
            fontsize=9,
        )
    axes.set_yticks(range(len(costs)), [c.stage for c in costs])
    axes.set_ylim(len(costs) - 0.4, -0.6)
    axes.set_xlim(0, 1.5 * max(c.core_seconds for c in costs) or 1.0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
    axes.set_xlabel("Core-seconds")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    for colour, label in (
        (BLUE, "before the first prediction"),
        (VERMILLION, "screen, ranking and re-check"),
        (GREY, "other"),
    ):
        axes.barh(0, 0, color=colour, label=label)
    legend_below(axes, 2)


def break_even(
    axes: Axes,
    *,
    fixed: float,
    expensive: float,
    surrogate: float,
    expensive_name: str,
    screened: float,
    crossing: float | None,
) -> None:
    """Total cost against the number of candidates: simulate every one, or learn first and then predict.

    Args:
        axes: to draw on.
        fixed: core-seconds of labels and training.
        expensive, surrogate: core-seconds for each candidate.
        expensive_name: of the expensive method.
        screened: candidates of this run, 0 if unknown.
        crossing: the break-even number, if there is one.
    """
    end = max(10 * (crossing or 10.0), screened, 1e3) * 3
    n = np.logspace(0, math.log10(end), 200)
    axes.plot(n, expensive * n, color=INK, label=f"{expensive_name} on every candidate")
    axes.plot(n, fixed + surrogate * n, color=BLUE, label="surrogate, labels and training counted")
    if crossing:
        axes.plot(crossing, expensive * crossing, "o", color=VERMILLION, markersize=8, zorder=4)
        axes.annotate(
            f"break-even:\n{count(crossing)} candidates",
            (crossing, expensive * crossing),
            xytext=(-10, 12),
            textcoords="offset points",
            ha="right",
            fontsize=9.2,
        )
    if screened:
        axes.axvline(screened, color=GREY, linestyle=":", linewidth=1.2)
        axes.annotate(
            f"this run: {count(screened)}",
            (screened, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(-5, 0),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    logarithmic(axes, "x")
    logarithmic(axes, "y")
    axes.set(xlabel="Candidates", ylabel="Total cost (core-seconds)", xlim=(1, end))
    axes.legend(loc="upper left")
