"""Trains and scores surrogates that predict numbers from numbers, on stores of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.fields.physics import refuse_other_boundary
from data.parameters import ParameterTable, read_parameters
from data.plain import to_plain
from data.reading import Reading
from data.rejects import RejectLog
from data.spec import content_hash
from experiments.application.stage import build, names
from experiments.tasks.overlap import Overlap
from experiments.tasks.parts import PartedData, read_parted, read_samples, say_other_labels, score_apart, train_on_parts
from experiments.tasks.scores import scores
from surrogates.learning.learned_from import Hashes
from surrogates.learning.loop import FitResult, TrainConfig
from surrogates.parameters.fit import fit_parametric
from surrogates.parameters.network import ParametricConfig
from surrogates.parameters.surrogate import ParametricSurrogate


@dataclass(frozen=True)
class ParameterData(PartedData):
    """The training data; the keys of `data` in task=fluids/drag, besides those of `PartedData`.

    Attributes:
        target: output to learn, or a list of outputs.
        inputs: variables from which it is predicted; None for the inputs of the store.
    """

    parts: list[Any] = field(default_factory=lambda: [0.6, 0.1, 0.15, 0.15])
    target: Any = MISSING
    inputs: list[str] | None = None


def parametric_config(node: DictConfig) -> ParametricConfig:
    """The settings of a surrogate of parameters, from the configuration group `model`."""
    return build(ParametricConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="model")


def train_parametric(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Run `understudy train task=fluids/drag`.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    data = build(ParameterData, config.data, where="data")
    model = parametric_config(config.model)
    recipe = build(TrainConfig, config.train, where="train")
    table, others = read_parted(data, run_dir, partial(_read, names(data.target), data.inputs))
    return train_on_table(table, others, data, model, recipe, run_dir)


def train_on_table(
    table: ParameterTable,
    others: Mapping[str, ParameterTable],
    data: ParameterData,
    config: ParametricConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Split, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        table: samples, split by `data.parts`.
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
        learned: ParameterTable, valid: ParameterTable | None, calibration: ParameterTable | None
    ) -> tuple[ParametricSurrogate, FitResult]:
        return fit_parametric(learned, valid, config, training, run_dir, calibration=calibration, progress=progress)

    costs = {
        "train/failed": float(sum(table.failed.values())),
        "train/label_core_seconds": float(table.seconds.sum() + table.failed_seconds),
    }
    network = content_hash(to_plain(config))
    return train_on_parts(
        table, others, data, run_dir, network=network, fit=fitted, score=score_parameters, costs=costs, least=2
    )


def score_parameters(surrogate: ParametricSurrogate, table: ParameterTable, prefix: str) -> dict[str, float]:
    """Scores on samples, in the units of the outputs; if there are several outputs, the keys contain their names.

    Besides those of `experiments.tasks.scores`: `relative_error`, the mean of |error| / |truth|, and
    `mean_relative_error`, the mean of |error| over the mean of |truth|, which truths near 0 do not dominate. An output
    that is a curve is scored over all of its entries; of one that is learned as log(x + floor), `factor_error` is the
    typical factor by which x + floor is wrong, exp of the mean of the absolute error of the logarithm, minus 1.

    Args:
        surrogate: surrogate that is scored.
        table: samples that its training has not seen.
        prefix: prefix of the keys.
    """
    answer = surrogate.predict_columns(table.values)
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


def evaluate_parametric(
    surrogate: ParametricSurrogate,
    files: Sequence[Path],
    columns: dict[str, str],
    rejects: RejectLog | None = None,
    readings: list[Reading] | None = None,
    *,
    learned: Hashes | None = None,
) -> dict[str, float]:
    """Score a saved surrogate on stores, each under `test/<stem>/`.

    Args:
        surrogate: surrogate that is scored.
        files: stores of a campaign.
        columns: output -> output of the stores that it is compared with.
        rejects: receives the records that cannot be used.
        readings: receives what was read from each store.
        learned: hashes of the inputs of its training (`surrogates.learning.learned_from`); None if they were not saved.

    Raises:
        InputError: a store has other inputs, outputs or physics than the surrogate.
    """
    inputs = [v.name for v in surrogate.facts.layout.inputs]
    metrics: dict[str, float] = {}
    for path in files:
        outputs = [columns[v.name] for v in surrogate.facts.layout.outputs]
        table = read_samples(path, partial(_read, outputs, inputs), rejects, readings)
        if (table.layout.columns, table.layout.units) != (surrogate.columns, surrogate.facts.layout.units):
            raise InputError(
                f"its inputs are {', '.join(table.layout.columns)}",
                where=str(path),
                remedy=f"The surrogate takes {', '.join(surrogate.columns)}",
            )
        refuse_other_boundary(table.layout.attrs, surrogate.facts.layout.attrs, str(path))
        for ours, theirs in zip(surrogate.facts.layout.outputs, table.layout.outputs, strict=True):
            if ours.units != theirs.units:
                raise InputError(
                    f"{theirs.name} is in {theirs.units}, the surrogate gives {ours.name} in {ours.units}",
                    where=str(path),
                    remedy=f"Convert it to {ours.units}",
                )
            if (mine := surrogate.facts.layout.positions(ours)) != (their := table.layout.positions(theirs)):
                raise InputError(
                    f"{theirs.name} lies along {_shown(their)}, the surrogate gives it along {_shown(mine)}",
                    where=str(path),
                    remedy="Give a store of the simulator that it learned from, with the same saved positions",
                )
        say_other_labels(readings, table.fingerprint, surrogate.labels_fingerprint)
        overlap = Overlap.among(learned, table.input_keys())
        overlap.note(readings)
        metrics |= score_apart(overlap, partial(score_parameters, surrogate), table, f"test/{path.stem}")
    return metrics


def _shown(positions: Mapping[str, tuple[Any, ...]]) -> str:
    """Dims with their first and last positions, for people."""
    return ", ".join(f"{dim} of {len(v)}, {v[0]} to {v[-1]}" for dim, v in positions.items()) or "no dim"


def _read(targets: list[str], inputs: list[str] | None, path: Path) -> tuple[ParameterTable, list[tuple[int, str]]]:
    return read_parameters(path, targets, inputs)
