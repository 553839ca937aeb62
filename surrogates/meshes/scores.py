"""Scores of surrogates on meshes: errors of fields, weighted by area, and of scalars, and coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.meshes.graphs import node_areas
from data.meshes.mesh_samples import MeshSamples
from surrogates.learning.field_metrics import over
from surrogates.learning.normalise import SAME
from surrogates.learning.sample_parts import domain_share
from surrogates.learning.scores import scores
from surrogates.meshes.surrogate import MeshAnswer, MeshSurrogate


def score_meshes(surrogate: MeshSurrogate, samples: MeshSamples, prefix: str) -> dict[str, float]:
    """Scores on samples.

    Each field has the keys `<name>/relative_l2`, the mean over samples of |error| / |truth| in the L2 norm over the
    domain (weighted by the areas around the vertices, so that refined regions do not count more),
    `<name>/rmse_over_spread`, the root mean square error over the spread of the truth, and the shares `points_in_band`
    and `fields_in_band`. Each scalar has the scores of `surrogates.learning.scores` and `mean_relative_error`, the mean
    of |error| over the mean of |truth|. `in_domain` is the share of samples inside the training domain.

    Args:
        surrogate: surrogate that is scored.
        samples: samples that its training has not seen.
        prefix: prefix of the keys.
    """
    layout, conformal = surrogate.facts.layout, surrogate.facts.conformal
    answers = surrogate.predict_meshes(samples.meshes)
    metrics: dict[str, float] = {f"{prefix}/samples": float(len(samples))}
    outside = [a.outside for a in answers if a.outside is not None]
    metrics |= domain_share(outside if len(outside) == len(answers) else None, prefix)
    start = 0
    for variable in layout.fields:
        columns = slice(start, start + layout.width(variable))
        start = columns.stop
        errors, inside = [], []
        for mesh, answer in zip(samples.meshes, answers, strict=True):
            assert mesh.fields is not None
            area = node_areas(mesh)[:, None]
            gap = mesh.fields[:, columns] - answer.fields[:, columns]
            size = np.sqrt((area * mesh.fields[:, columns] ** 2).sum())
            errors.append(float(over(np.sqrt((area * gap**2).sum()), size)))
            if conformal:
                bands = [conformal[name] for name in layout.channels[columns]]
                half = np.stack(
                    [
                        b.factor * np.hypot(answer.fields_std[:, columns.start + c], b.floor)
                        for c, b in enumerate(bands)
                    ],
                    -1,
                )
                inside.append((np.abs(gap) <= half).mean(axis=0))
        metrics[f"{prefix}/{variable.name}/relative_l2"] = float(np.mean(errors))
        metrics |= _of_deviations(samples, answers, columns, f"{prefix}/{variable.name}")
        if inside:
            shares = np.array(inside)
            alpha = conformal[layout.channels[columns][0]].alpha
            metrics[f"{prefix}/{variable.name}/points_in_band"] = float(shares.mean())
            metrics[f"{prefix}/{variable.name}/fields_in_band"] = float((shares >= 1 - alpha).mean())
    for c, variable in enumerate(layout.scalars):
        truth = np.array([m.scalars[c] for m in samples.meshes])
        mean, std = (np.array([getattr(a, key)[c] for a in answers]) for key in ("scalars", "scalars_std"))
        ends = conformal[variable.name].interval(mean, std) if conformal else (None, None)
        scalar_scores = scores(truth, mean, "1", low=ends[0], high=ends[1])
        metrics |= {f"{prefix}/{variable.name}/{key}": value for key, value in scalar_scores.items()}
        if np.abs(truth).mean() > 0:
            metrics[f"{prefix}/{variable.name}/mean_relative_error"] = float(
                np.abs(mean - truth).mean() / np.abs(truth).mean()
            )
    return metrics


def _of_deviations(
    samples: MeshSamples, answers: Sequence[MeshAnswer], columns: slice, prefix: str
) -> dict[str, float]:
    """`rmse_over_spread` of a field, which a large mean, such as that of an absolute pressure, cannot improve.

    Means are weighted by area over all samples, and predicting the mean scores 1. There is no score for a field that
    does not vary.
    """
    areas = [node_areas(m) for m in samples.meshes]
    weight = np.concatenate([a / a.sum() for a in areas])[:, None] / len(areas)
    truth = np.concatenate([m.fields[:, columns] for m in samples.meshes if m.fields is not None]).astype(np.float64)
    gap = np.concatenate([a.fields[:, columns] for a in answers]) - truth
    mean = (weight * truth).sum(axis=0)
    unit = float(np.abs(truth).max()) or 1.0
    spread = float(np.sqrt((weight * ((truth - mean) / unit) ** 2).sum()))
    if not spread > SAME * float(np.abs(mean).max()) / unit:
        return {}
    return {f"{prefix}/rmse_over_spread": float(np.sqrt((weight * (gap / unit) ** 2).sum())) / spread}
