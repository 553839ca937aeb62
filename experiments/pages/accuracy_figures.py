"""Figures of how good the predictions are: parity, calibration, intervals, baselines, learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from experiments.pages.pipeline_run import CurvePoint, Target, TargetPredictions
from experiments.pages.sample_statistics import Interval, MeasuredCoverage
from experiments.pages.style import BLUE, GREY, GROUPS, METHODS, PURPLE, VERMILLION, legend_below, plain_logarithmic

GROUP_NAMES: Mapping[str, str] = {"test": "held-out test", "top": "best of the screen", "random": "random candidates"}


def parity(
    axes: Axes, target: Target, groups: Mapping[str, TargetPredictions], expensive: str, *, interval_alpha: float = 0.45
) -> None:
    """Predicted against simulated values with 90% intervals, one colour and marker a group.

    Args:
        axes: to draw on.
        target: of the values.
        groups: "test", "top" or "random" -> its molecules; empty ones are passed over.
        expensive: name of the expensive method.
        interval_alpha: opacity of the intervals.
    """
    shown = {name: p.take(p.complete) for name, p in groups.items() if p.complete.any()}
    every = np.concatenate([np.concatenate([p.truth, p.value]) for p in shown.values()])
    pad = 0.06 * (np.ptp(every) or 1.0)
    ends = (every.min() - pad, every.max() + pad)
    axes.plot(ends, ends, color="#8792A2", linewidth=1, zorder=1)
    for name, p in shown.items():
        colour, marker = GROUPS[name]
        has = np.isfinite(p.low) & np.isfinite(p.high)
        axes.vlines(p.truth[has], p.low[has], p.high[has], color=colour, alpha=interval_alpha, linewidth=1, zorder=2)
        axes.plot(
            p.truth,
            p.value,
            marker,
            color=colour,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=f"{GROUP_NAMES[name]} ({len(p.truth)})",
            zorder=3,
        )
    axes.set(xlim=ends, ylim=ends, aspect="equal", anchor="W")
    axes.set_xlabel(f"{target.label} by {expensive} ({target.unit})")
    axes.set_ylabel(f"Predicted ({target.unit})")
    axes.legend(loc="upper left", handletextpad=0.3)


def calibration(axes: Axes, curves: Sequence[tuple[Target, MeasuredCoverage]]) -> None:
    """Measured against nominal coverage, over the band that the sample sizes allow (the first curve's)."""
    band = curves[0][1]
    axes.fill_between(
        100 * band.level, 100 * band.low, 100 * band.high, color="#E3E8EE", linewidth=0, label="95% band of sampling"
    )
    axes.plot([0, 100], [0, 100], color="#8792A2", linewidth=1)
    for (target, curve), (colour, marker) in zip(curves, _cycle(), strict=False):
        axes.plot(
            100 * curve.level, 100 * curve.measured, marker=marker, color=colour, markersize=4.5, label=target.label
        )
    axes.axvline(90, color="#8792A2", linestyle=":", linewidth=1)
    axes.set(xlim=(0, 100), ylim=(0, 101), xlabel="Nominal coverage (%)", ylabel="Test molecules inside (%)")
    axes.legend(loc="upper left")


def _cycle() -> list[tuple[str, str]]:
    return [(BLUE, "o"), (VERMILLION, "s"), (PURPLE, "^"), (GREY, "D")]


def interval_widths(axes: Axes, target: Target, test: TargetPredictions) -> None:
    """Size of the error against half the interval's width: above the diagonal the interval missed."""
    half, error = (test.high - test.low) / 2, np.abs(test.truth - test.value)
    inside = test.inside
    end = 1.08 * max(half.max(), error.max())
    axes.fill_between([0, end], [0, end], color="#EAF3F9", linewidth=0, zorder=0)
    axes.plot([0, end], [0, end], color="#8792A2", linewidth=1, zorder=1)
    axes.plot(half[inside], error[inside], "o", color=BLUE, alpha=0.85, label=f"interval held ({inside.sum()})")
    axes.plot(half[~inside], error[~inside], "X", color=VERMILLION, markersize=7, label=f"missed ({(~inside).sum()})")
    axes.set(xlim=(0, end), ylim=(0, end))
    axes.set_xlabel(f"Half-width of the 90% interval ({target.unit})")
    axes.set_ylabel(f"Size of the error ({target.unit})")
    axes.legend(loc="upper left")


def method_errors(axes: Axes, target: Target, rows: Sequence[tuple[str, str, Interval]]) -> None:
    """MAE of each method with its bootstrap interval, the best at the top.

    Args:
        axes: to draw on.
        target: of the errors.
        rows: (method, label, MAE with 95% interval).
    """
    ordered = sorted(rows, key=lambda r: -r[2].value)
    for place, (method, _, mae) in enumerate(ordered):
        colour, marker = METHODS[method]
        axes.plot([mae.low, mae.high], [place, place], color=colour, linewidth=2.4, alpha=0.55, solid_capstyle="round")
        axes.plot(mae.value, place, marker, color=colour, markersize=8)
    axes.set_yticks(range(len(ordered)), [label for _, label, _ in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    axes.set_xlim(0, 1.06 * max(r[2].high for r in ordered))
    axes.set_xlabel(f"Mean absolute error ({target.unit})")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def learning_curve(
    axes: Axes,
    target: Target,
    points: Sequence[CurvePoint],
    labels: Mapping[str, str],
    *,
    core_seconds: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Test error after each number of expensive labels, or after what those labels cost.

    Args:
        axes: to draw on.
        target: whose points are drawn.
        points: of any target.
        labels: method -> name in the legend.
        core_seconds: method -> (before the first expensive label, for each expensive label); with it the abscissa is
            core-seconds, and methods without an entry are left out.
    """
    points_of_target = [
        p for p in points if p.target == target.name and (core_seconds is None or p.method in core_seconds)
    ]
    every: list[float] = []
    for method in METHODS:
        line = sorted((p for p in points_of_target if p.method == method), key=lambda p: p.labels)
        if not line:
            continue
        start, each = (core_seconds or {}).get(method, (0.0, 1.0))
        x = [start + each * p.labels for p in line]
        every += x
        colour, marker = METHODS[method]
        dash = (0, (4, 2)) if method == "mean" else "solid"
        axes.plot(x, [p.mae for p in line], marker=marker, color=colour, linestyle=dash, label=labels[method])
    values = [p.mae for p in points_of_target]
    ticks = list(_round_numbers(min(values) * 0.8, max(values) * 1.2))
    plain_logarithmic(axes, "y", ticks)
    axes.set_ylim(min(values) * 0.85, max(values) * 1.15)
    if core_seconds is None:
        plain_logarithmic(axes, "x", sorted({float(p.labels) for p in points_of_target}))
        axes.set_xlabel("Expensive labels to learn from")
    else:
        plain_logarithmic(axes, "x", _round_numbers(min(every) * 0.8, max(every) * 1.2, (1, 3)))
        axes.set_xlabel("Cost of all labels to learn from (core-seconds)")
    axes.set_ylabel(f"Test MAE ({target.unit})")
    legend_below(axes, 2)


def _round_numbers(low: float, high: float, steps: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 6, 8)) -> list[float]:
    """Round numbers between `low` and `high` for a short logarithmic axis: about four to seven of them."""
    start, stop = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    every = [step * 10.0**k for k in range(start, stop + 1) for step in steps]
    ticks = [v for v in every if low <= v <= high]
    while len(ticks) > 7:
        ticks = ticks[::2]
    return ticks


def recheck_errors(
    axes: Axes, target: Target, groups: Mapping[str, tuple[np.ndarray, TargetPredictions]], expensive: str
) -> None:
    """Simulated minus predicted values beside the predicted 90% interval, the groups side by side.

    Args:
        axes: to draw on.
        target: of the values.
        groups: "top" or "random" -> (ranks, molecules) of successful re-checks.
        expensive: name of the expensive method.
    """
    offset, ticks = 0.0, []
    for name, (_, p) in groups.items():
        order = np.arange(len(p.truth))
        x = offset + order + 1
        colour, marker = GROUPS[name]
        error = p.truth - p.value
        for place, low, high in zip(x, p.low - p.value, p.high - p.value, strict=True):
            axes.add_patch(Rectangle((place - 0.32, low), 0.64, high - low, color=colour, alpha=0.22, linewidth=0))
        inside = p.inside
        axes.plot(x[inside], error[inside], marker, color=colour, markersize=4.5, label=f"{GROUP_NAMES[name]}")
        axes.plot(x[~inside], error[~inside], marker, color=colour, markersize=5.5, markerfacecolor="white")
        ticks.append((offset + (len(x) + 1) / 2, f"{GROUP_NAMES[name]}\n{inside.sum()} of {len(x)} inside"))
        offset += len(x) + 2
    axes.axhline(0, color="#8792A2", linewidth=1)
    axes.set_xticks([t for t, _ in ticks], [text for _, text in ticks])
    axes.set_xlim(0, offset - 1)
    axes.autoscale_view(scalex=False)
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(f"{expensive} − predicted ({target.unit})")
