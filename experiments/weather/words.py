"""What systems of forecasts are called in tables and pages, and how they are scored."""

from __future__ import annotations

from collections.abc import Mapping

#: Those that are judged, and what they may be held against.
OURS: Mapping[str, str] = {
    "forecast": "forecast",
    "regressed": "forecast drawn towards climatology",
}
REFERENCES: Mapping[str, str] = {
    "persistence": "persistence",
    "climatology": "climatology",
    "linear_inverse_model": "linear inverse model",
    "linear_autoregression": "linear autoregression",
    "climatological_ensemble": "climatological ensemble",
}
#: Forecasts from a file, where a surrogate is scored beside them.
EXTERNAL = "external"
NAMES: Mapping[str, str] = {**OURS, EXTERNAL: "forecasts made elsewhere", **REFERENCES}
#: Held against the distribution of an ensemble only: the error of its mean says nothing.
PROBABILISTIC = ("climatological_ensemble",)
METHOD = (
    "Scores follow WeatherBench 2: errors are weighted by the area of cells, the root of the mean square error is "
    "taken after the mean over forecasts, and the anomaly correlation is from the climatology of the training at the "
    "valid time. All systems start from the same states. Linear models are fitted to the states of the training, their "
    "size chosen on the validation part. The forecast drawn towards climatology is a regression for each variable and "
    "lead, fitted to the validation part: a mean square error rewards a forecast that fades as its skill does."
)
ENSEMBLE_METHOD = (
    "Of an ensemble the mean is scored as a forecast: errors by variable, lead and place, the classes of precipitation "
    "and the forecast drawn towards climatology are those of the mean of all members. The members of the "
    "climatological ensemble are states of the training at the same hour of the day, around the same day of the year."
)
