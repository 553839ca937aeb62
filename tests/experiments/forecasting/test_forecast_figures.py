"""What figures of forecasts show: coasts where the land is known, and correlations of those that have one."""

from __future__ import annotations

import numpy as np
import xarray as xr

from data.sphere.weather_layout import WeatherChannel, WeatherGrid, WeatherLayout
from experiments.forecasting.forecast_figures import correlation_by_lead, error_map, heading

GRID = WeatherGrid((0.0, 10.0, 20.0, 30.0), (0.0, 10.0, 20.0, 30.0))


def test_coasts_are_drawn_between_land_and_sea() -> None:
    errors = np.ones(GRID.shape)
    land = np.zeros(GRID.shape)
    plain = error_map(errors, GRID, "Pa", "a").xml
    assert error_map(errors, GRID, "Pa", "a", land).xml.count("<path") == plain.count("<path")
    land[1:3, 1:3] = 1.0
    assert error_map(errors, GRID, "Pa", "a", land).xml.count("<path") > plain.count("<path")


def test_a_forecast_without_anomalies_has_no_correlation_and_titles_keep_their_units() -> None:
    layout = WeatherLayout(GRID, (WeatherChannel("temperature", 850.0),))
    leads = np.array([24, 48]) * np.timedelta64(1, "h")
    scores = xr.Dataset(
        {
            "acc": (
                ("system", "region", "prediction_timedelta", "channel"),
                np.array([0.9, 0.7, 0, 0]).reshape(2, 1, 2, 1),
            )
        },
        {"system": ["forecast", "climatology"], "prediction_timedelta": leads.astype("timedelta64[ns]")},
    )
    drawn = correlation_by_lead(scores, layout, 0, {}).xml
    assert "forecast" in drawn
    assert "climatology" not in drawn
    assert heading(layout.channels[0], layout) == "Temperature, 850 hPa"
