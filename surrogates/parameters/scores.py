"""Scores of surrogates that predict numbers from numbers: errors, coverage of intervals, and errors as factors."""

from __future__ import annotations

import numpy as np

from data.parameters import ParameterTable
from surrogates.learning.scores import scores
from surrogates.parameters.surrogate import ParameterSurrogate


def score_parameters(surrogate: ParameterSurrogate, table: ParameterTable, prefix: str) -> dict[str, float]:
    """Scores on samples, in the units of the outputs; if there are several outputs, the keys contain their names.

    Besides those of `surrogates.learning.scores`: `relative_error`, the mean of |error| / |truth|, and
    `mean_relative_error`, the mean of |error| over the mean of |truth|, which truths near 0 do not dominate. An output
    that is a curve is scored over all of its entries; of one that is learned as log(x + floor), `factor_error` is the
    typical factor by which x + floor is wrong, exp of the mean of the absolute error of the logarithm, minus 1.

    Args:
        surrogate: surrogate that is scored.
        table: samples that its training has not seen.
        prefix: prefix of the keys.
    """
    answer = surrogate.predict_columns(table.values, table.cheaper)
    inside = surrogate.facts.domain.holds(table.values)
    metrics = {f"{prefix}/samples": float(len(table)), f"{prefix}/in_domain": float(inside.mean())}
    slices, config = surrogate.facts.layout.target_slices, surrogate.facts.config
    for name, columns in slices.items():
        truth, prediction = table.labels[:, columns].ravel(), answer[""][:, columns].ravel()
        head = prefix if len(slices) == 1 else f"{prefix}/{name}"
        ends = {end: answer[end][:, columns].ravel() for end in ("low", "high") if end in answer}
        target_scores = scores(truth, prediction, "1", low=ends.get("low"), high=ends.get("high"))
        metrics |= {f"{head}/{key}": value for key, value in target_scores.items()}
        error = np.abs(prediction - truth)
        if (floor := config.logarithms.get(name)) is not None:
            ratio = np.log((prediction + floor) / (np.maximum(truth, 0.0) + floor))
            metrics[f"{head}/factor_error"] = float(np.expm1(np.abs(ratio).mean()))
        if (np.abs(truth) > 0).all():
            metrics[f"{head}/relative_error"] = float((error / np.abs(truth)).mean())
        if np.abs(truth).mean() > 0:
            metrics[f"{head}/mean_relative_error"] = float(error.mean() / np.abs(truth).mean())
    return metrics
