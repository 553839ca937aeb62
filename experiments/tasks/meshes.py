"""Trains and scores surrogates of flows on unstructured meshes, on stores of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from data.meshes.graphs import node_areas
from data.meshes.records import MeshSamples, read_meshes
from data.plain import to_plain
from data.reading import Reading
from data.rejects import RejectLog
from data.spec import content_hash
from experiments.application.stage import build
from experiments.tasks.overlap import Overlap
from experiments.tasks.parts import (
    PartedData,
    domain_share,
    read_parted,
    read_samples,
    say_other_labels,
    score_apart,
    train_on_parts,
)
from experiments.tasks.scores import scores
from surrogates.learning.field_metrics import over
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.learning.normalise import SAME
from surrogates.meshes.facts import MeshConfig
from surrogates.meshes.fit import fit_mesh
from surrogates.meshes.network import MeshNetworkConfig
from surrogates.meshes.surrogate import MeshAnswer, MeshSurrogate


@dataclass(frozen=True)
class MeshData(PartedData):
    """The training data; the keys of `data` in task=fluids/meshes, besides those of `PartedData`.

    The records of the store contain their meshes; the meshes of `test` may be finer or coarser.

    Attributes:
        fields: outputs at the vertices to learn; None for all.
        scalars: scalar outputs to learn, such as drag.
        parameters: inputs that the mesh does not determine, such as a Reynolds number.
    """

    fields: list[str] | None = None
    scalars: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)


def mesh_config(node: DictConfig) -> MeshConfig:
    """The settings of a surrogate on meshes, from the configuration group `model`.

    Raises:
        InputError: a key is unknown, or a value is out of range.
    """
    network = build(MeshNetworkConfig, node.network, where="model.network")
    outer = OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("kind", "network")])
    settings = build(MeshConfig, outer, where="model")
    return MeshConfig(network, settings.ensemble, settings.buckets, settings.scalar_weight)


def train_meshes(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Run `understudy train task=fluids/meshes`.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    data = build(MeshData, config.data, where="data")
    model = mesh_config(config.model)
    recipe = build(TrainConfig, config.train, where="train")
    samples, others = read_parted(data, run_dir, partial(_read, data))
    return train_on_meshes(samples, others, data, model, recipe, run_dir)


def train_on_meshes(
    samples: MeshSamples,
    others: Mapping[str, MeshSamples],
    data: MeshData,
    config: MeshConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Split, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        samples: samples, split by `data.parts`.
        others: more samples, each scored under `test/<name>/`.
        data: fractions and seed of the split.
        config: settings of the surrogate.
        training: training recipe.
        run_dir: directory that receives all results.
        progress: whether to show a progress bar.

    Returns:
        Flat metrics: see `experiments.tasks.parts.train_on_parts`; `train/failed` and
        `train/label_core_seconds` (processor time, failures included) give the cost of the labels.

    Raises:
        InputError: the parts do not fit the number of samples, or `run_dir` holds a training on other data.
    """

    def fitted(
        learned: MeshSamples, valid: MeshSamples | None, calibration: MeshSamples | None
    ) -> tuple[MeshSurrogate, FitResult]:
        return fit_mesh(learned, valid, config, training, run_dir, calibration=calibration, progress=progress)

    for name, other in others.items():
        other.refuse_other(samples.layout, name)
    costs = {
        "train/failed": float(samples.failed),
        "train/label_core_seconds": float(samples.seconds.sum() + samples.failed_seconds),
    }
    network = content_hash(to_plain(config))
    return train_on_parts(
        samples, others, data, run_dir, network=network, fit=fitted, score=score_meshes, costs=costs, least=2
    )


def score_meshes(surrogate: MeshSurrogate, samples: MeshSamples, prefix: str) -> dict[str, float]:
    """Scores on samples.

    Each field has the keys `<name>/relative_l2`, the mean over samples of |error| / |truth| in the L2 norm over the
    domain (weighted by the areas around the vertices, so that refined regions do not count more),
    `<name>/rmse_over_spread`, the root mean square error over the spread of the truth, and the shares `points_in_band`
    and `fields_in_band`. Each scalar has the scores of `experiments.tasks.scores` and `mean_relative_error`, the mean
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


def evaluate_meshes(
    surrogate: MeshSurrogate,
    files: Sequence[Path],
    rejects: RejectLog | None = None,
    readings: list[Reading] | None = None,
    *,
    learned: Hashes | None = None,
) -> dict[str, float]:
    """Score a saved surrogate on stores, each under `test/<stem>/`.

    Args:
        surrogate: surrogate that is scored.
        files: stores of a campaign.
        rejects: receives the records that cannot be used.
        readings: receives what was read from each store.
        learned: hashes of the inputs of its training (`surrogates.learning.learned_from`); None if they were not saved.

    Raises:
        InputError: a store has other inputs, outputs or physics than the surrogate.
    """
    layout = surrogate.facts.layout
    data = MeshData(
        file="",
        fields=[v.name for v in layout.fields],
        scalars=[v.name for v in layout.scalars],
        parameters=[v.name for v in layout.parameters],
    )
    metrics: dict[str, float] = {}
    for path in files:
        samples = read_samples(path, partial(_read, data), rejects, readings)
        samples.refuse_other(layout, str(path))
        say_other_labels(readings, samples.fingerprint, surrogate.labels_fingerprint)
        overlap = Overlap.among(learned, samples.input_keys())
        overlap.note(readings)
        metrics |= score_apart(overlap, partial(score_meshes, surrogate), samples, f"test/{path.stem}")
    return metrics


def _read(data: MeshData, path: Path) -> tuple[MeshSamples, list[tuple[int, str]]]:
    return read_meshes(path, data.fields, data.scalars, data.parameters)
