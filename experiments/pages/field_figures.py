"""Figures of the page of a training of fields: examples, where and when it errs, its spectrum and its bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from experiments.pages.style import BLUE, GREY, INK, VERMILLION, legend_below, logarithmic, plain_logarithmic


def with_unit(name: str, unit: str) -> str:
    """A label of an axis."""
    return name if unit in ("", "1") else f"{name} ({unit})"


def curves(
    axes: Axes,
    x: Float[np.ndarray, " x"],
    truth: Float[np.ndarray, " x"],
    answer: Float[np.ndarray, " x"],
    half_width: Float[np.ndarray, " x"] | None,
    labels: tuple[str, str],
) -> None:
    """Truth, answer and band along a line."""
    if half_width is not None:
        axes.fill_between(
            x, answer - half_width, answer + half_width, color=BLUE, alpha=0.18, linewidth=0, label="band"
        )
    axes.plot(x, truth, color=INK, linewidth=1.4, label="truth")
    axes.plot(x, answer, color=BLUE, linewidth=1.4, linestyle="--", label="answer")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    legend_below(axes)


def difference(
    axes: Axes, x: Float[np.ndarray, " x"], values: Float[np.ndarray, " x"], labels: tuple[str, str]
) -> None:
    """Answer minus truth along a line."""
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(x, values, color=VERMILLION, linewidth=1.4)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])


def image(
    axes: Axes,
    values: Float[np.ndarray, "x y"],
    extent: tuple[float, float, float, float],
    limits: tuple[float, float],
    labels: tuple[str, str, str],
    *,
    signed: bool = False,
) -> None:
    """A field in the plane with its scale of colours."""
    low, high = limits
    shown = axes.imshow(
        values.T, origin="lower", extent=extent, vmin=low, vmax=high if high > low else low + 1,
        cmap="RdBu_r" if signed else "viridis", aspect="equal", interpolation="nearest",
    )  # fmt: skip
    axes.grid(visible=False)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    tall = abs(extent[3] - extent[2]) > 1.4 * abs(extent[1] - extent[0])
    bar = axes.figure.colorbar(shown, ax=axes, orientation="vertical" if tall else "horizontal", shrink=0.85, pad=0.03)
    bar.set_label(labels[2])
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]
    bar.ax.locator_params(nbins=5)


def errors_in_time(
    axes: Axes, times: Float[np.ndarray, " time"], errors: Float[np.ndarray, "sample time"], label: str
) -> None:
    """Relative error of the samples by time: the median, and from the tenth to the ninetieth percentile."""
    low, middle, high = np.quantile(errors, [0.1, 0.5, 0.9], axis=0)
    axes.fill_between(times, low, high, color=BLUE, alpha=0.18, linewidth=0, label="10th to 90th percentile")
    axes.plot(times, middle, color=BLUE, marker="o", markersize=3.5, label="median of the test samples")
    axes.set_xlabel(label)
    axes.set_ylabel("relative L2 error")
    axes.set_ylim(bottom=0)
    legend_below(axes, 2)


def spectrum(axes: Axes, powers: Sequence[tuple[str, str, Float[np.ndarray, " wave"]]]) -> None:
    """Mean power by wave number, of several fields (name, colour, powers from wave number 1 on)."""
    for name, colour, power in powers:
        axes.plot(np.arange(1, len(power) + 1), np.maximum(power, 1e-300), color=colour, label=name)
    largest = max(len(power) for _, _, power in powers)
    plain_logarithmic(axes, "x", [2.0**k for k in range(int(np.log2(largest)) + 1)])
    logarithmic(axes, "y")
    top = max(float(power.max()) for _, _, power in powers)
    least = min(float(power[power > 0].min(initial=top)) for _, _, power in powers)
    axes.set_ylim(max(least, 1e-10 * top) / 2 or 1e-12, 3 * top or 1)
    axes.set_xlabel("waves along the domain")
    axes.set_ylabel("share of the mean power of the truth")
    legend_below(axes)


def coverage_curve(axes: Axes, scale: Float[np.ndarray, " s"], share: Float[np.ndarray, " s"], nominal: float) -> None:
    """Share of the points inside of bands that are narrower or wider than those that were calibrated."""
    axes.axhline(nominal, color=GREY, linewidth=0.9, linestyle=":", label=f"promised: {nominal:.0%}")
    axes.axvline(1, color=GREY, linewidth=0.9)
    axes.plot(scale, share, color=BLUE, label="measured on the test samples")
    axes.set_xlabel("width of the band over the calibrated width")
    axes.set_ylabel("share of points inside")
    axes.set_ylim(0, 1.03)
    legend_below(axes, 2)
