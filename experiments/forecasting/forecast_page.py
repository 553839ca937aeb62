"""The page of an evaluation of forecasts: one file that needs no network and no JavaScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template

import numpy as np
import xarray as xr

from data.files import write_text
from data.sphere.weather_layout import WeatherLayout
from experiments.comparison.comparison_page import section as comparison_section
from experiments.comparison.result import Comparison
from experiments.forecasting.certainty_section import certainty_section
from experiments.forecasting.forecast_figures import (
    USEFUL,
    correlation_by_lead,
    errors_by_lead,
    heading,
    lead_hours,
    lead_labels,
    rank_histogram,
    scorecard,
    spread_and_error,
    units,
)
from experiments.forecasting.long_runs import LongRun
from experiments.forecasting.system_names import ENSEMBLE_METHOD, METHOD, NAMES, OURS, PROBABILISTIC
from experiments.pages.formatting import escape, table
from experiments.pages.style import Drawing


@dataclass
class Evaluation:
    """The results of an evaluation that the page shows.

    Attributes:
        layout: layout of the states.
        scores: see `surrogates.forecasts.scores.score`.
        shown: indices of the channels with figures of their own.
        maps, spectra, zonal: figures, by section.
        animation: animation as HTML; empty for none.
        long: long rollouts, or None.
        comparison: comparison with the core at coarser truncations, or None.
        speed: simulated years per minute: batch size -> (forecast, core).
        band_coverage: share of forecasts of which the calibrated band holds 90% of the points, by lead.
        notes: choices that were made, and warnings, in sentences.
        members: members of the ensemble whose mean is shown; 1 for a single forecast.
    """

    layout: WeatherLayout
    scores: xr.Dataset
    shown: list[int]
    maps: list[Drawing] = field(default_factory=list)
    spectra: list[Drawing] = field(default_factory=list)
    zonal: list[Drawing] = field(default_factory=list)
    animation: str = ""
    long: LongRun | None = None
    comparison: Comparison | None = None
    speed: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    band_coverage: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    members: int = 1


def count_wins(scores: xr.Dataset, system: str = "forecast") -> dict[str, tuple[int, int]]:
    """For each reference the number of pairs (channel, lead) in which a system errs less, and of all pairs."""
    rmse = scores["rmse"].isel(region=0)
    ours = rmse.sel(system=system).values
    return {
        str(name): (int((ours < rmse.sel(system=name).values).sum()), ours.size)
        for name in rmse["system"].values
        if name not in OURS and name not in PROBABILISTIC
    }


def count_certain(scores: xr.Dataset) -> dict[str, tuple[int, int]]:
    """For each reference the number of pairs (channel, lead) in which the interval of the ratio of errors is below 1.

    Empty without intervals; see `surrogates.forecasts.block_bootstrap`.
    """
    if "rmse_ratio_high" not in scores:
        return {}
    high = scores["rmse_ratio_high"].isel(region=0)
    return {
        name: (int((high.sel(system=name).values < 1).sum()), total) for name, (_, total) in count_wins(scores).items()
    }


def write_page(evaluation: Evaluation, path: Path) -> Path:
    """Write the page atomically."""
    write_text(path, render(evaluation))
    return path


def render(evaluation: Evaluation) -> str:
    """The page as HTML."""
    scores, layout = evaluation.scores, evaluation.layout
    hours = lead_hours(scores)
    wins = count_wins(scores)
    drawn = count_wins(scores, "regressed") if "regressed" in scores["system"].values else {}
    parts = [
        ("scorecard", "Errors by variable and lead", _scorecard(evaluation)),
        ("leads", "Error by lead", _leads(evaluation)),
        (
            "intervals",
            "How certain the differences are",
            certainty_section(evaluation.scores, evaluation.layout, evaluation.shown),
        ),
    ]
    if evaluation.maps:
        parts.append(
            (
                "maps",
                "Where the errors are",
                _panels(
                    evaluation.maps,
                    f"Root mean square error of {_what(evaluation)} at each point, over some forecasts.",
                ),
            )
        )
    if evaluation.spectra:
        text = "A forecast whose line falls below that of the truth at high wavenumbers is too smooth."
        parts.append(("spectra", "Energy by wavenumber", _panels(evaluation.spectra, text)))
    if evaluation.animation:
        text = f"<p>The forecast is {_what(evaluation)}.</p>" if evaluation.members > 1 else ""
        text += f'<figure class="wide">{evaluation.animation}</figure>'
        parts.append(("animation", "A forecast beside the truth", text))
    if "rank_histogram" in scores:
        parts.append(("ensemble", "Reliability of the ensemble", _ensemble(evaluation)))
    if "seeps" in scores:
        parts.append(("seeps", "Precipitation in three classes", _seeps(evaluation)))
    if evaluation.band_coverage:
        parts.append(("bands", "Coverage of the bands", _bands(evaluation)))
    parts.append(("cost", "Cost against accuracy", _cost(evaluation)))
    if evaluation.long is not None:
        parts.append(("long", "A long run", _long(evaluation)))
    method = METHOD if evaluation.members == 1 and "ensemble" not in scores.coords else f"{METHOD} {ENSEMBLE_METHOD}"
    parts.append(("method", "How this was measured", f"<p>{method}</p>"))
    last, unit = lead_labels(hours)
    said = "; ".join(f"{NAMES.get(n, n)} in {w} of {t}" for n, (w, t) in wins.items())
    faded = "; ".join(f"{NAMES.get(n, n)} in {w} of {t}" for n, (w, t) in drawn.items())
    template = Template(resources.files("experiments.pages").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title="Forecasts beside their references",
        subtitle=escape(
            f"{', '.join(dict.fromkeys(c.variable for c in layout.channels))}; {layout.grid.shape[0]} × "
            f"{layout.grid.shape[1]} points; {int(scores.attrs['forecasts'])} forecasts of {last[-1]} {unit}"
            + _dates(scores)
        ),
        warnings="".join(f'<div class="warning">{escape(text)}</div>' for text in evaluation.notes),
        finding=f"The forecast errs less than {escape(said)} pairs of variable and lead."
        + (f" Regressed towards climatology it errs less than {escape(faded)}." if drawn else ""),
        accuracy=_long_words(evaluation.long) if evaluation.long is not None else "",
        tiles="".join(
            f'<div class="tile"><b>{w} of {t}</b><span>better than {escape(NAMES.get(n, n))}</span></div>'
            for n, (w, t) in wins.items()
        ),
        contents="".join(f'<a href="#{anchor}">{escape(text)}</a>' for anchor, text, _ in parts),
        sections="\n".join(f'<section id="{a}"><h2>{escape(t)}</h2>{body}</section>' for a, t, body in parts),
        footer="Written by <code>understudy evaluate</code>; the numbers are in scores.json and scores.zarr beside it.",
    )


def _dates(scores: xr.Dataset) -> str:
    """The dates of the first and the last start, where there are dates."""
    if "first_start" not in scores.attrs:
        return ""
    return f", from {scores.attrs['first_start']} to {scores.attrs['last_start']} UTC"


def _scorecard(evaluation: Evaluation) -> str:
    names = [n for n in evaluation.scores["system"].values if n not in OURS and n not in PROBABILISTIC]
    if not names:
        return "<p>There is no reference to compare the forecast with.</p>"
    reference = "climatology" if "climatology" in names else names[0]
    figure = scorecard(evaluation.scores, evaluation.layout, "forecast", reference, evaluation.shown).inline()
    caption = (
        f"Root mean square error of {_what(evaluation)}. Blue: less than that of {NAMES.get(reference, reference)}, "
        "full colour at half of it; red: more."
    )
    return f'<div class="panels one"><figure>{figure}<figcaption>{escape(caption)}</figcaption></figure></div>'


def _what(evaluation: Evaluation) -> str:
    """The forecast whose errors are shown: itself, or the mean of its members."""
    return "the forecast" if evaluation.members == 1 else f"the mean of {evaluation.members} members"


def _leads(evaluation: Evaluation) -> str:
    drawings = []
    for channel in evaluation.shown[:6]:
        systems = [n for n in evaluation.scores["system"].values if n not in PROBABILISTIC]
        drawing = errors_by_lead(evaluation.scores.sel(system=systems), evaluation.layout, channel, NAMES)
        head = escape(heading(evaluation.layout.channels[channel], evaluation.layout))
        drawings.append(f"<figure><h3>{head}</h3>{drawing.inline()}</figure>")
        drawing = correlation_by_lead(evaluation.scores.sel(system=systems), evaluation.layout, channel, NAMES)
        drawings.append(f"<figure><h3>{head}</h3>{drawing.inline()}</figure>")
    said = "The band is the interval of 95% of the first system. " if "rmse_low" in evaluation.scores else ""
    said += f"The dotted line is an anomaly correlation of {USEFUL:g}, above which a forecast counts as useful."
    return f'<p>{said}</p><div class="panels">{"".join(drawings)}</div>'


def _panels(drawings: list[Drawing], text: str) -> str:
    figures = "".join(
        f"<figure><h3>{escape(d.label[:1].upper() + d.label[1:])}</h3>{d.inline()}</figure>" for d in drawings
    )
    return f'<p>{escape(text)}</p><div class="panels">{figures}</div>'


def _ensemble(evaluation: Evaluation) -> str:
    scores = evaluation.scores
    body = ""
    climate = next((n for n in PROBABILISTIC if n in scores["ensemble"].values), None)
    for system in (n for n in scores["ensemble"].values if n != climate):
        members = int(scores["rank_histogram"].sel(ensemble=system).isel(channel=0)[0].notnull().sum()) - 1
        rows = []
        for k in evaluation.shown:
            one = scores.isel(region=0, channel=k)
            ensemble = one.sel(system=system)
            single = [n for n in one["system"].values if n not in OURS and n not in scores["ensemble"].values]
            others = {n: one["mae"].sel(system=n).mean() for n in single}
            least = min(others, key=lambda n: float(others[n])) if others else ""
            crps = float(ensemble["crps"].mean())
            usual = None if climate is None else float(one["crps"].sel(system=climate).mean())
            rows.append(
                [
                    escape(heading(evaluation.layout.channels[k], evaluation.layout)),
                    escape(units(evaluation.layout.channels[k], evaluation.layout)),
                    f"{crps:.3g}",
                    "" if usual is None else f"{usual:.3g}",
                    "" if not usual else f"{1 - crps / usual:.0%}",
                    f"{float(ensemble['mae'].mean()):.3g}",
                    f"{float(others[least]):.3g} ({escape(NAMES.get(least, least))})" if others else "",
                    f"{float(ensemble['spread_skill'].mean()):.2f}",
                ]
            )
        head = ["Variable", "Unit", "Fair CRPS", "CRPS of the climatological ensemble", "Skill against it"]
        head += ["MAE of the mean", "Least MAE of a single forecast", "Spread over error"]
        body += table(
            head, rows,
            caption=f"{members} members; means over leads. An ensemble is compared with the climatological one, whose "
            "members are states of the training at this time of the year. The CRPS of a single forecast is its mean "
            "absolute error. An ensemble with a ratio of spread to error below 1 is overconfident.",
        )  # fmt: skip
        drawings = []
        for k in evaluation.shown[:3]:
            drawings.append(spread_and_error(scores, evaluation.layout, k, str(system)))
            drawings.append(rank_histogram(scores, evaluation.layout, k, str(system)))
        body += _panels(drawings, "A histogram that is high at both ends shows that the members are too similar.")
    return body


def _seeps(evaluation: Evaluation) -> str:
    scores = evaluation.scores["seeps"].isel(region=0)
    ticks, unit = lead_labels(lead_hours(evaluation.scores))
    columns = sorted({0, len(ticks) // 2, len(ticks) - 1})
    rows = []
    for k, channel in enumerate(evaluation.layout.channels):
        if not scores.isel(channel=k).notnull().any():
            continue
        for system in scores["system"].values:
            values = scores.sel(system=system).isel(channel=k).values
            name = heading(channel, evaluation.layout)
            rows.append([escape(name), escape(NAMES.get(system, system)), *(f"{values[c]:.3f}" for c in columns)])
    return table(
        ["Variable", "System", *(f"Lead {ticks[c]} {unit}" for c in columns)], rows,
        caption="SEEPS (Rodwell et al. 2010): 0 is perfect, 1 without skill. Classes by the training’s climate of each "
        "point; points that are dry less than 10% or more than 85% of the time are left out.",
    )  # fmt: skip


def _bands(evaluation: Evaluation) -> str:
    rows = [[escape(name), f"{value:.1%}"] for name, value in evaluation.band_coverage.items()]
    single = "" if evaluation.members == 1 else " They are bands of a single forecast, compared with one member."
    return f"<p>Bands were calibrated to hold 90% of the points of 90% of the forecasts.{single}</p>" + table(
        ["Lead", "Forecasts of which the band holds 90% of the points"], rows
    )


def _cost(evaluation: Evaluation) -> str:
    if evaluation.comparison is None:
        return "<p>There is no solver to compare with: the states are observed, or forecasts.core was not set.</p>"
    text = comparison_section(evaluation.comparison, "core")
    if evaluation.speed:
        rows = [
            [f"{batch:,}", f"{ours:,.3g}", f"{theirs:,.3g}", f"×{ours / theirs:,.3g}"]
            for batch, (ours, theirs) in evaluation.speed.items()
        ]
        text += table(
            ["States at a time", "Forecast, years per minute", "Core, years per minute", "Ratio"], rows,
            caption="Simulated time on the same cores, summed over the states.",
        )  # fmt: skip
    return text


def _long_words(run: LongRun) -> str:
    count = len(run.ends)
    if run.left is None:
        head = "A rollout" if count == 1 else f"All {count} rollouts"
        return f"{head} of {run.days:,.0f} days stayed within the climatological range."
    head = "A rollout" if count == 1 else f"{count - run.stayed} of {count} rollouts"
    first = "" if count - run.stayed == 1 else ", the first"
    return f"{head} left the climatological range{first} on day {run.left:,.0f} of {run.days:,.0f}: {escape(run.why)}."


def _long(evaluation: Evaluation) -> str:
    run, layout = evaluation.long, evaluation.layout
    assert run is not None
    if run.climate is None:
        return f"<p>{_long_words(run)}</p>"
    weights = layout.grid.weights[:, 0]
    off = run.climate.off(run.truth, weights)
    chance = run.unseen.off(run.truth, weights) if run.unseen is not None else None

    def cell(key: str, k: int, form: str) -> str:
        values = [off[key][k], *(() if chance is None else (chance[key][k],))]
        texts = [format(v, form) if np.isfinite(v) else "–" for v in values]
        return texts[0] if chance is None else f"{texts[0]} ({texts[1]})"

    rows = [
        [
            escape(heading(c, layout)),
            cell("mean", k, ".1%"),
            cell("mean_in_spreads", k, ".1%"),
            cell("variance", k, "+.1%"),
        ]
        for k, c in enumerate(layout.channels)
        if k in evaluation.shown
    ]
    which = "" if run.left is None else " of the rollouts that stayed"
    mirrored = " and of their mirror images at the equator" if run.mirrored else ""
    caption = (
        f"Differences{which} from the climate of the states of the training{mirrored}: of the zonal means, in units "
        "of their contrast between latitudes and of the spread about them, and of the variances."
    )
    if run.unseen is not None:
        caption += (
            f" In brackets: those of the {run.unseen.states:,} true states that are forecast, due to chance alone."
        )
    head = ["Variable", "Zonal mean off, in contrasts", "Zonal mean off, in spreads", "Variance off"]
    body = f"<p>{_long_words(run)}</p>" + table(head, rows, caption=caption)
    return body + (_panels(evaluation.zonal, "Means over time and longitude.") if evaluation.zonal else "")
