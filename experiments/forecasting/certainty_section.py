"""The section of a page of forecasts on how certain its differences are: intervals beside the best reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from data.sphere.weather_layout import LEAD, WeatherLayout
from experiments.forecasting.forecast_figures import heading, lead_hours, lead_words, units
from experiments.forecasting.system_names import NAMES, OURS, PROBABILISTIC
from experiments.pages.formatting import escape, table
from surrogates.forecasts.block_bootstrap import RESAMPLES


def certainty_section(scores: xr.Dataset, layout: WeatherLayout, shown: Sequence[int]) -> str:
    """Errors with intervals, and the ratio to the error of the best reference of each lead, for the shown channels."""
    if "rmse_ratio" not in scores:
        return (
            "<p>There are no intervals: the forecasts span fewer than five times the longest lead and ten days. Score "
            "more starts, or a longer part.</p>"
        )
    references = [n for n in scores["system"].values if n not in OURS and n not in PROBABILISTIC]
    if not references:
        return "<p>There is no reference to compare the forecast with.</p>"
    words = lead_words(lead_hours(scores))
    chosen = sorted({0, min(2, len(words) - 1), len(words) // 2, len(words) - 1})
    rows = []
    for k in shown:
        one = scores.isel(region=0, channel=k)
        for lead in chosen:
            at = one.isel({LEAD: lead})
            best = min(references, key=lambda n: float(at["rmse"].sel(system=n)))
            ours = at.sel(system="forecast")
            ratio, low, high = (float(at[n].sel(system=best)) for n in RATIO)
            rows.append(
                [
                    escape(f"{heading(layout.channels[k], layout)} "
                           f"({units(layout.channels[k], layout)})") if lead == chosen[0] else "",
                    words[lead],
                    f"{float(ours['rmse']):.4g} ({float(ours['rmse_low']):.4g} to {float(ours['rmse_high']):.4g})",
                    f"{float(ours['acc']):.3f}",
                    f"{float(at['rmse'].sel(system=best)):.4g} ({escape(NAMES.get(best, best))})",
                    f"{ratio - 1:+.1%} ({low - 1:+.1%} to {high - 1:+.1%})",
                    _verdict(low, high),
                ]
            )  # fmt: skip
    dates = ""
    if "first_start" in scores.attrs:
        dates = f" from {scores.attrs['first_start']} to {scores.attrs['last_start']}"
    return table(
        ["Variable", "Lead", "Error of the forecast", "Anomaly correlation", "Best reference", "Difference", "Certain"],
        rows,
        caption=f"Root mean square errors of {int(scores.attrs['forecasts'])} forecasts{dates}, with intervals of "
        f"{scores.attrs['coverage']:.0%} by a block bootstrap over time ({RESAMPLES:,} draws of blocks of "
        f"{int(scores.attrs['block'])} consecutive forecasts, the same for both systems). The reference is the one "
        "with the least error at that lead, chosen after the fact, which favours it.",
    )  # fmt: skip


#: Names of the scores that hold the ratio of errors and its bounds.
RATIO = ("rmse_ratio", "rmse_ratio_low", "rmse_ratio_high")


def _verdict(low: float, high: float) -> str:
    if not np.isfinite([low, high]).all():
        return ""
    return "better" if high < 1 else "worse" if low > 1 else "neither"
