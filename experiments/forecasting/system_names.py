"""Names of the systems of forecasts, and texts on how they are scored, for tables and pages."""

from __future__ import annotations

from collections.abc import Mapping

#: The forecasts that are evaluated, and the references that they may be compared with.
OURS: Mapping[str, str] = {
    "forecast": "forecast",
    "regressed": "forecast regressed towards climatology",
}
REFERENCES: Mapping[str, str] = {
    "persistence": "persistence",
    "climatology": "climatology",
    "damped_persistence": "damped persistence",
    "linear_inverse_model": "linear inverse model",
    "linear_autoregression": "linear autoregression",
    "climatological_ensemble": "climatological ensemble",
}
#: The references of an evaluation that names none; ensembles are compared with the climatological ensemble too.
DEFAULT_REFERENCES = (
    "persistence", "climatology", "damped_persistence", "linear_inverse_model", "linear_autoregression",
)  # fmt: skip
#: Forecasts from a file, where a surrogate is scored beside them.
EXTERNAL = "external"
NAMES: Mapping[str, str] = {**OURS, EXTERNAL: "forecasts made elsewhere", **REFERENCES}
#: References of ensembles alone, because the error of their mean has no meaning as a reference.
PROBABILISTIC = ("climatological_ensemble",)
METHOD = (
    "Scores follow WeatherBench 2: errors are weighted by the area of cells, the root of the mean square error is "
    "taken after the mean over forecasts, and the anomaly correlation is from the climatology of the training at the "
    "valid time. All systems start from the same states. Linear models are fitted to the states of the training, and "
    "their size is chosen on the validation part. The forecast regressed towards climatology is a regression for each "
    "variable and lead, fitted to the validation part, which lowers the mean square error where skill is small."
)
ENSEMBLE_METHOD = (
    "The mean of an ensemble is scored as a forecast: errors by variable, lead and place, the classes of precipitation "
    "and the forecast regressed towards climatology are those of the mean of all members. The members of the "
    "climatological ensemble are states of the training at the same hour of the day, around the same day of the year."
)
