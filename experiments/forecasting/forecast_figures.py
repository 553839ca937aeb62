"""Figures of forecasts: the scorecard, errors by lead, maps, spectra, a long run, and an animation."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, cast

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from data.sphere.weather_layout import LEAD, WeatherChannel, WeatherGrid, WeatherLayout
from experiments.pages.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    STYLE,
    VERMILLION,
    Drawing,
    draw,
    legend_below,
)

COLOURS = (BLUE, GREY, GREEN, ORANGE, PURPLE, VERMILLION)
#: Line styles, the next of which begins where the colours begin again.
LINES = ("-", "--", ":")
#: Anomaly correlation above which a forecast is called useful in synoptic practice.
USEFUL = 0.6
#: Skill, 1 - error / error of the reference, at which a cell of the scorecard has its full colour.
FULL = 0.5


def title(channel: WeatherChannel, layout: WeatherLayout) -> str:
    """Title of a channel, such as "temperature, 500 hPa"."""
    name = layout.variable(channel.variable).long_name or channel.variable
    if channel.level is None:
        return name
    return f"{name}, {channel.level:g} hPa" if layout.level_units == "hPa" else f"{name}, sigma {channel.level:.2g}"


def units(channel: WeatherChannel, layout: WeatherLayout) -> str:
    """Unit of a channel as text for figures, such as "m/s"."""
    unit = layout.variable(channel.variable).units
    return {"m s-1": "m/s", "m2 s-2": "m²/s²", "kg kg-1": "kg/kg", "s-1": "1/s", "Pa s-1": "Pa/s"}.get(unit, unit)


def heading(channel: WeatherChannel, layout: WeatherLayout) -> str:
    """The title of a channel with a capital letter."""
    text = title(channel, layout)
    return text[:1].upper() + text[1:]


def lead_hours(scores: xr.Dataset) -> Float[np.ndarray, " lead"]:
    """Leads of the scores, in hours."""
    return (scores[LEAD].values / np.timedelta64(1, "h")).astype(float)


def lead_labels(hours: Float[np.ndarray, " lead"]) -> tuple[list[str], str]:
    """Labels of ticks and their unit: days if all leads are whole days, else hours."""
    if (hours % 24 == 0).all():
        return [f"{h / 24:g}" for h in hours], "days"
    return [f"{h:g}" for h in hours], "h"


def lead_words(hours: Float[np.ndarray, " lead"]) -> list[str]:
    """Each lead with its unit, such as "1 day"."""
    ticks, unit = lead_labels(hours)
    return [f"{text} {'day' if unit == 'days' and text == '1' else unit}" for text in ticks]


def scorecard(scores: xr.Dataset, layout: WeatherLayout, system: str, reference: str, shown: Sequence[int]) -> Drawing:
    """Root mean square errors by channel and lead; colours show 1 - error / error of the reference, blue is better."""
    one = scores["rmse"].isel(region=0)
    ours = one.sel(system=system).transpose("channel", LEAD).values[list(shown)]
    theirs = one.sel(system=reference).transpose("channel", LEAD).values[list(shown)]
    hours = lead_hours(scores)
    columns = np.unique(np.linspace(0, len(hours) - 1, min(12, len(hours))).round().astype(int))
    skill = 1 - ours[:, columns] / np.maximum(theirs[:, columns], 1e-30)
    ticks, unit = lead_labels(hours[columns])

    def paint(axes: Axes) -> None:
        axes.grid(False)
        axes.imshow(skill, cmap="RdBu", vmin=-FULL, vmax=FULL, aspect="auto")
        for row, column in np.ndindex(*skill.shape):
            pale = abs(skill[row, column]) < 0.3
            axes.text(
                column, row, f"{ours[row, columns[column]]:.3g}", ha="center", va="center", fontsize=8.5,
                color=INK if pale else "white",
            )  # fmt: skip
        axes.set_xticks(range(len(columns)), ticks)
        names = [f"{title(layout.channels[k], layout)} ({units(layout.channels[k], layout)})" for k in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set_xlabel(f"lead ({unit})")
        for side in axes.spines.values():
            side.set_visible(False)

    return draw(
        paint, name="scorecard", label=f"errors of {system} by channel and lead, coloured by skill against {reference}",
        width=9.2, height=0.9 + 0.32 * len(shown),
    )  # fmt: skip


def _draw_curves(
    axes: Axes,
    hours: Float[np.ndarray, " lead"],
    curves: Mapping[str, Float[np.ndarray, " lead"]],
    order: Sequence[str],
    names: Mapping[str, str],
) -> Float[np.ndarray, " lead"]:
    """Draw a line a system over the lead, the first of `order` with dots; return the leads in the unit of the axis."""
    days = (hours % 24 == 0).all()
    x = hours / 24 if days else hours
    for place, system in enumerate(order):
        if system in curves:
            first = place == 0
            axes.plot(
                x, curves[system], color=COLOURS[place % len(COLOURS)], marker="o" if first else None,
                linestyle=LINES[place // len(COLOURS) % len(LINES)],
                label=names.get(system, system), linewidth=2.0 if first else 1.4, markersize=3.5,
                zorder=3 if first else 2,
            )  # fmt: skip
    axes.set_xlabel("lead (days)" if days else "lead (h)")
    legend_below(axes, columns=2)
    return x


def errors_by_lead(scores: xr.Dataset, layout: WeatherLayout, channel: int, names: Mapping[str, str]) -> Drawing:
    """Root mean square error of every system by lead; that of the first has its interval, if there is one."""
    one = scores.isel(region=0, channel=channel)
    systems = [str(system) for system in scores["system"].values]

    def paint(axes: Axes) -> None:
        curves = {system: one["rmse"].sel(system=system).values for system in systems}
        x = _draw_curves(axes, lead_hours(scores), curves, systems, names)
        if "rmse_low" in scores:
            low, high = (one[bound].sel(system=systems[0]).values for bound in ("rmse_low", "rmse_high"))
            axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
        axes.set_ylabel(f"RMSE ({units(layout.channels[channel], layout)})")
        axes.set_ylim(bottom=0)

    return draw(
        paint, name=f"leads-{channel}", label=f"error by lead of {title(layout.channels[channel], layout)}", height=4.1
    )


def correlation_by_lead(scores: xr.Dataset, layout: WeatherLayout, channel: int, names: Mapping[str, str]) -> Drawing:
    """Anomaly correlation of every system by lead; a forecast of the climatology, which has none, is left out."""
    one = scores["acc"].isel(region=0, channel=channel)
    systems = [str(system) for system in scores["system"].values]

    def paint(axes: Axes) -> None:
        curves = {system: one.sel(system=system).values for system in systems}
        _draw_curves(axes, lead_hours(scores), {k: v for k, v in curves.items() if np.any(v)}, systems, names)
        axes.axhline(USEFUL, color=INK, linestyle=":", linewidth=0.9)
        axes.set_ylabel("anomaly correlation")

    label = f"anomaly correlation by lead of {title(layout.channels[channel], layout)}"
    return draw(paint, name=f"acc-{channel}", label=label, height=4.1)


def draw_coasts(axes: Axes, grid: WeatherGrid, land: Float[np.ndarray, "latitude longitude"] | None) -> None:
    """Draw the line around the land: half of a cell of the land-sea mask."""
    if land is not None and land.min() < 0.5 < land.max():
        axes.contour(grid.longitude, grid.latitude, land, levels=[0.5], colors=[INK], linewidths=0.8)


def spread_and_error(scores: xr.Dataset, layout: WeatherLayout, channel: int, system: str) -> Drawing:
    """Spread of an ensemble and error of its mean by lead; both are the same for a reliable ensemble."""
    hours = lead_hours(scores)
    days = (hours % 24 == 0).all()
    x = hours / 24 if days else hours
    one = scores.isel(region=0, channel=channel).sel(system=system)
    # The spread is corrected for the number of members, as in the ratio.
    spread = one["spread_skill"].values * one["mean_rmse"].values

    def paint(axes: Axes) -> None:
        axes.plot(
            x, one["mean_rmse"].values, "o-", color=BLUE, label="error of the mean", linewidth=2.0, markersize=3.5
        )
        axes.plot(x, spread, "s--", color=VERMILLION, label="spread", markersize=3.5)
        axes.plot(x, one["crps"].values, "-", color=GREY, label="CRPS")
        axes.set_xlabel("lead (days)" if days else "lead (h)")
        axes.set_ylabel(units(layout.channels[channel], layout))
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")

    label = f"spread and error by lead of {title(layout.channels[channel], layout)}"
    return draw(paint, name=f"spread-{channel}", label=label, height=3.3)


def rank_histogram(scores: xr.Dataset, layout: WeatherLayout, channel: int, system: str) -> Drawing:
    """Rank histogram of the truth among the members, at the first, a middle and the last lead."""
    shares = scores["rank_histogram"].sel(ensemble=system).isel(channel=channel)
    shares = shares.dropna("rank", how="all")
    said_as = lead_words(lead_hours(scores))
    leads = sorted({0, len(said_as) // 2, len(said_as) - 1})
    ranks = np.arange(shares.sizes["rank"])

    def paint(axes: Axes) -> None:
        for place, lead in enumerate(leads):
            axes.step(
                ranks, shares.isel({LEAD: lead}).values, where="mid", color=COLOURS[(0, 2, 5)[place]],
                label=f"lead {said_as[lead]}",
            )  # fmt: skip
        axes.axhline(1 / len(ranks), color=INK, linestyle=":", linewidth=0.9, label="flat: exchangeable")
        axes.set_xlabel("members below the truth")
        axes.set_ylabel("share of area and time")
        axes.set_xticks(ranks if len(ranks) <= 17 else ranks[:: len(ranks) // 8])
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")

    label = f"rank histogram of {title(layout.channels[channel], layout)}"
    return draw(paint, name=f"ranks-{channel}", label=label, height=3.3)


def error_map(
    values: Float[np.ndarray, "latitude longitude"],
    grid: WeatherGrid,
    unit: str,
    name: str,
    land: Float[np.ndarray, "latitude longitude"] | None = None,
) -> Drawing:
    """Map of the root mean square error at each point, with coasts if the share of land is known."""

    def paint(axes: Axes) -> None:
        axes.grid(False)
        mesh = axes.pcolormesh(
            grid.longitude, grid.latitude, values, cmap="viridis", shading="nearest", rasterized=True
        )
        draw_coasts(axes, grid, land)
        axes.figure.colorbar(mesh, ax=axes, label=unit, shrink=0.85)
        axes.set_xlabel("longitude (°E)")
        axes.set_ylabel("latitude (°N)")

    return draw(paint, name=name, label="map of the error", height=3.0)


def spectra(
    truth: Float[np.ndarray, " wavenumber"],
    forecast: Mapping[str, Float[np.ndarray, " wavenumber"]],
    unit: str,
    name: str,
) -> Drawing:
    """Energy by zonal wavenumber of the truth, and of the forecast at some leads."""

    def paint(axes: Axes) -> None:
        waves = np.arange(1, len(truth))
        axes.plot(waves, truth[1:], color=INK, linewidth=2.2, label="truth")
        for place, (label, values) in enumerate(forecast.items()):
            axes.plot(waves, values[1:], color=(BLUE, VERMILLION, GREEN)[place % 3], label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("zonal wavenumber")
        axes.set_ylabel(f"energy ({unit})²")
        axes.legend(loc="lower left")

    return draw(paint, name=name, label="energy spectra of truth and forecast", height=3.3)


def zonal_means(
    ours: Float[np.ndarray, " latitude"],
    truth: Float[np.ndarray, " latitude"],
    grid: WeatherGrid,
    label: str,
    name: str,
) -> Drawing:
    """Means over time and longitude, by latitude, of a long run and of the truth."""

    def paint(axes: Axes) -> None:
        axes.plot(grid.latitude, truth, color=INK, linewidth=2.2, label="truth")
        axes.plot(grid.latitude, ours, color=BLUE, label="forecast")
        axes.set_xlabel("latitude (°N)")
        axes.set_ylabel(label)
        axes.set_xticks([-90, -60, -30, 0, 30, 60, 90])
        axes.legend(loc="best")

    return draw(paint, name=name, label=f"zonal mean: {label}", height=3.1)


def animation(
    forecast: Float[np.ndarray, "lead latitude longitude"],
    truth: Float[np.ndarray, "lead latitude longitude"],
    grid: WeatherGrid,
    leads: Sequence[str],
    unit: str,
    heading: str,
    land: Float[np.ndarray, "latitude longitude"] | None = None,
) -> str:
    """Animation over the leads of forecast, truth and their difference: a GIF embedded in an HTML image."""
    low, high = np.percentile(truth, [0.5, 99.5])
    off = float(np.percentile(np.abs(forecast - truth), 99.5)) or 1.0
    with matplotlib.rc_context(cast(Any, dict(STYLE))):
        figure = Figure(figsize=(10.2, 3.0), dpi=72)
        axes = figure.subplots(1, 3, sharey=True)
        kinds = ("forecast", "truth", "forecast less truth")
        meshes = []
        for one, kind, values in zip(axes, kinds, (forecast, truth, forecast - truth), strict=True):
            last = kind == kinds[2]
            scale = (
                {"cmap": "RdBu_r", "vmin": -off, "vmax": off}
                if last
                else {"cmap": "viridis", "vmin": low, "vmax": high}
            )
            one.grid(False)
            mesh = one.pcolormesh(grid.longitude, grid.latitude, values[0], shading="nearest", **scale)
            draw_coasts(one, grid, land)
            one.set_title(kind)
            one.set_xlabel("longitude (°E)")
            if kind != kinds[0]:
                figure.colorbar(mesh, ax=one, label=unit)
            meshes.append(mesh)
        axes[0].set_ylabel("latitude (°N)")
        text = figure.suptitle(f"{heading}, lead {leads[0]}")

        canvas, images = FigureCanvasAgg(figure), []
        for frame, lead in enumerate(leads):
            for mesh, values in zip(meshes, (forecast, truth, forecast - truth), strict=True):
                mesh.set_array(values[frame].ravel())
            text.set_text(f"{heading}, lead {lead}")
            canvas.draw()
            # All frames have the layout of the first one, which takes longer than to draw one.
            figure.set_layout_engine("none")
            images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    file = io.BytesIO()
    images[0].save(file, "gif", save_all=True, append_images=images[1:], duration=500, loop=0)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{heading}: forecast, truth and difference along the leads" src="data:image/gif;base64,{data}">'
