"""The figures of an evaluation of forecasts that need the forecasts themselves, and not their scores alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.forecasting import forecast_figures
from experiments.forecasting.forecast_page import Evaluation
from experiments.pages.style import Drawing
from surrogates.forecasts.facts import LeadBands
from surrogates.forecasts.metrics import zonal_spectrum
from surrogates.forecasts.scores import Protocol

#: Largest number of forecasts for maps, spectra and bands.
MAPPED = 40
#: Static variable from which coasts are drawn.
LAND = "land_sea_mask"


def add_figures(evaluation: Evaluation, forecaster: Any, protocol: Protocol, bands: LeadBands | None) -> None:
    """Add maps, spectra, coverage of the bands and the animation, from some of the forecasts."""
    store, steps = protocol.store, protocol.steps
    layout, grid = store.layout, store.layout.grid
    land = store.static[..., layout.static.index(LAND)] if LAND in layout.static else None
    starts, scored = protocol.starts(forecaster.history), protocol.scored
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(MAPPED, len(starts))).round().astype(int))]
    states = store.read(starts - forecaster.history + 1, forecaster.history + steps)
    past, truth = states[:, : forecaster.history], states[:, forecaster.history + scored - 1]
    several = {} if evaluation.members == 1 else {"members": evaluation.members}
    parts = [
        forecaster.forecast_arrays(past[a : a + 8], store.times[starts[a : a + 8]], steps, **several)[:, :, scored - 1]
        for a in range(0, len(starts), 8)
    ]
    # As in the tables errors are those of the mean, but spectra are of a member, because a mean is smoother.
    mean = np.concatenate([part.mean(axis=1) for part in parts])
    member, steps = np.concatenate([part[:, 0] for part in parts]), len(scored)
    hours = forecast_figures.lead_hours(evaluation.scores)
    said_as = forecast_figures.lead_words(hours)
    middle = steps // 2
    for k in evaluation.shown[:4]:
        channel = layout.channels[k]
        words, measure = forecast_figures.title(channel, layout), forecast_figures.units(channel, layout)
        off = np.sqrt(((mean[:, middle, ..., k] - truth[:, middle, ..., k]) ** 2).mean(axis=0))
        drawing = forecast_figures.error_map(off, grid, measure, f"map-{k}", land)
        drawing = Drawing(drawing.name, f"{words[:1].upper()}{words[1:]}, lead {said_as[middle]}", drawing.xml)
        evaluation.maps.append(drawing)
        if grid.periodic:
            shown = sorted({0, middle, steps - 1})
            who = "forecast" if evaluation.members == 1 else "a member"
            said = {f"{who}, lead {said_as[i]}": zonal_spectrum(member[:, i], grid).mean(axis=0)[:, k] for i in shown}
            came = zonal_spectrum(truth.reshape(-1, *truth.shape[2:]), grid).mean(axis=0)[:, k]
            drawing = forecast_figures.spectra(came, said, measure, f"spectra-{k}")
            evaluation.spectra.append(Drawing(drawing.name, words[:1].upper() + words[1:], drawing.xml))
    k = evaluation.shown[0]
    frames = np.unique(np.linspace(0, steps - 1, min(steps, 12)).round().astype(int))
    valid = store.times[starts[0]] + protocol.lead_times
    dates = [f", {str(t)[:16].replace('T', ' ')} UTC" if layout.calendar else "" for t in valid]
    evaluation.animation = forecast_figures.animation(
        mean[0, frames, ..., k], truth[0, frames, ..., k], grid, [said_as[i] + dates[i] for i in frames],
        forecast_figures.units(layout.channels[k], layout), forecast_figures.heading(layout.channels[k], layout),
        land,
    )  # fmt: skip
    if bands is not None and len(bands.sigma) >= steps:
        half = bands.half_width(steps)[None, :, None, None]
        # Bands were calibrated on single forecasts, so that they apply to a member and not to the mean.
        inside = (np.abs(member - truth) <= half) * grid.weights[..., None]
        share = inside.mean(axis=(2, 3)) >= (1 - bands.alpha) * grid.weights.mean()
        for i in sorted({0, middle, steps - 1}):
            evaluation.band_coverage = {**evaluation.band_coverage, said_as[i]: float(share[:, i].mean())}
