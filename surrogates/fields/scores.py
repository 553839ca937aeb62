"""Scores of surrogates of fields: relative errors, errors over the spread of the truth, and coverage of the bands."""

from __future__ import annotations

import logging

import numpy as np

from data.fields.layout import Layout
from data.fields.samples import Fields
from surrogates.fields.bands import coverage, horizon
from surrogates.fields.surrogate import FieldAnswer, FieldSurrogate
from surrogates.learning.field_metrics import (
    non_finite,
    relative_l2,
    relative_l2_by_channel,
    relative_l2_per_step,
    rmse_over_spread,
)
from surrogates.learning.sample_parts import domain_share

LOG = logging.getLogger(__name__)
#: Largest relative L2 error at which a rollout counts as reliable.
TOLERANCE = 0.2


def score_fields(surrogate: FieldSurrogate, fields: Fields, prefix: str) -> dict[str, float]:
    """Scores on samples: relative L2 errors (of trajectories also by step) and coverage of the bands.

    `relative_l2` is the published norm, over all channels in their units (Li et al. 2021, arXiv:2010.08895).
    `rmse_over_spread` divides the root mean square error by the spread of the truth; for several channels it is the
    root mean square over the channels that vary, and `<channel>/rmse_over_spread` gives each of them. `in_domain` is
    the share of samples inside the training domain. `solver_alone/relative_l2` is the error of the coarse solver whose
    steps are corrected, if there is one and its answers are finite.

    Args:
        surrogate: surrogate that is scored.
        fields: samples that its training has not seen.
        prefix: prefix of the keys.
    """
    answer = surrogate.predict_fields(fields)
    metrics = score_answer(answer, fields, prefix)
    if metrics[f"{prefix}/non_finite"]:
        return metrics
    evolves, first = fields.layout.evolves, _first(fields)
    truth = np.moveaxis(fields.states, -1, 2)[:, first:]
    if (solver := surrogate.facts.step()) is not None:
        alone = np.moveaxis(solver.alone(fields), -1, 2)[:, first:]
        if not non_finite(alone):
            metrics[f"{prefix}/solver_alone/relative_l2"] = float(relative_l2(alone, truth))
    bands = surrogate.facts.bands
    if bands is not None and fields.states.shape[1] > len(bands.factor):
        LOG.warning(
            "%s: the bands are not scored, because they were calibrated for %d times and these samples have %d",
            prefix,
            len(bands.factor),
            fields.states.shape[1],
        )
    if bands is not None and fields.states.shape[1] <= len(bands.factor):
        inside = coverage(fields.states, answer.mean, bands.half_width(answer.std))[:, first:]
        metrics[f"{prefix}/points_in_band"] = float(inside.mean())
        metrics[f"{prefix}/fields_in_band"] = float((inside >= 1 - bands.alpha).mean())
        if evolves:
            # The horizon that the bound predicts, and whether the error stays below the tolerance up to it.
            error = bands.error(answer.mean, fields.states)
            said = horizon(bands.error_bound(answer.mean, answer.std), TOLERANCE)
            horizon_holds = horizon(error, TOLERANCE) >= said
            metrics[f"{prefix}/predicted_horizon_steps"] = float(said.mean())
            metrics[f"{prefix}/true_horizon_steps"] = float(horizon(error, TOLERANCE).mean())
            metrics[f"{prefix}/horizons_held"] = float(horizon_holds.mean())
    return metrics


def score_answer(answer: FieldAnswer, fields: Fields, prefix: str) -> dict[str, float]:
    """The scores of `score_fields` that need the mean answer for each sample alone.

    Args:
        answer: for the samples, at their times.
        fields: the samples.
        prefix: prefix of the keys.
    """
    first = _first(fields)
    truth, mean = (np.moveaxis(a, -1, 2)[:, first:] for a in (fields.states, answer.mean))
    metrics = {f"{prefix}/samples": float(len(fields)), f"{prefix}/non_finite": float(non_finite(mean))}
    if metrics[f"{prefix}/non_finite"]:
        return metrics
    metrics |= domain_share(answer.outside, prefix)
    metrics |= _by_channel(mean, truth, fields.layout, prefix)
    metrics[f"{prefix}/relative_l2"] = float(relative_l2(mean, truth))
    if fields.layout.evolves:
        steps = relative_l2_per_step(mean, truth)
        metrics[f"{prefix}/first_step_relative_l2"] = float(steps[0])
        metrics[f"{prefix}/last_step_relative_l2"] = float(steps[-1])
    return metrics


def _first(fields: Fields) -> int:
    """The first time that is predicted: of trajectories the first is an input."""
    return 1 if fields.layout.evolves else 0


def _by_channel(mean: np.ndarray, truth: np.ndarray, layout: Layout, prefix: str) -> dict[str, float]:
    """Errors relative to the spread, and scores of each channel if there are several.

    Infinite ratios are omitted, because JSON cannot hold them.
    """
    ratios = rmse_over_spread(mean, truth)
    varying = ratios[np.isfinite(ratios) & (np.ptp(truth, axis=(0, 1, *range(3, truth.ndim))) > 0)]
    metrics = {}
    if len(varying):
        metrics[f"{prefix}/rmse_over_spread"] = float(np.sqrt(np.square(varying).mean()))
    if layout.channels == 1:
        return metrics
    relative = relative_l2_by_channel(mean, truth)
    error = np.sqrt(np.square(mean - truth, dtype=np.float64).mean(axis=(0, 1, *range(3, truth.ndim))))
    for c, name in enumerate(layout.axis("channel").values):
        numbers = {"rmse_over_spread": ratios[c], "relative_l2": relative[c], "rmse": error[c]}
        metrics |= {f"{prefix}/{name}/{key}": float(v) for key, v in numbers.items() if np.isfinite(v)}
    return metrics
