"""Train and score a surrogate of numbers that are decided by numbers, on the store of a campaign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig

from data.errors import InputError
from data.parameters import ParameterTable, read_parameters
from data.rejects import RejectLog
from experiments.parts import PartedData, split
from experiments.scores import scores
from experiments.stage import build, existing_file, first_rejects, names, refuse_equal_stems, write_json
from simulators.base import content_hash
from surrogates.devices import is_first
from surrogates.fit_note import note_fit
from surrogates.parametric.fit import fit_parametric
from surrogates.parametric.network import ParametricConfig
from surrogates.parametric.parametric import ParametricSurrogate
from surrogates.resuming import hold_to_data
from surrogates.tracking import log_scores
from surrogates.train import TrainConfig


@dataclass(frozen=True)
class ParameterData(PartedData):
    """What to learn from; the keys of `data` in experiment=fluids/drag, besides those of `PartedData`.

    Attributes:
        target: output to learn, or a list of them.
        inputs: variables that decide it; None for those of the store.
    """

    parts: list[Any] = field(default_factory=lambda: [0.6, 0.1, 0.15, 0.15])
    target: Any = MISSING
    inputs: list[str] | None = None


def parametric_config(node: DictConfig) -> ParametricConfig:
    """What `surrogate=` describes, without the key that told the kinds apart."""
    return build(ParametricConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="surrogate")


def train_parametric(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """The stage `understudy train experiment=fluids/drag`.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    data = build(ParameterData, config.data, where="data")
    tests = [existing_file(name, "data.test") for name in names(data.test)]
    refuse_equal_stems(tests, "data.test")
    targets = names(data.target)
    with first_rejects(run_dir) as rejects:
        table = _read(existing_file(data.file, "data.file"), targets, data.inputs, rejects)
        others = {path.stem: _read(path, targets, data.inputs, rejects) for path in tests}
    model = parametric_config(config.surrogate)
    recipe = build(TrainConfig, config.train, where="train")
    return train_on_table(table, others, data, model, recipe, run_dir)


def train_on_table(
    table: ParameterTable,
    others: dict[str, ParameterTable],
    data: ParameterData,
    config: ParametricConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Split, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        table: samples to split as `data.parts` says.
        others: more samples, scored under `test/<name>/`.
        data: the split.
        config: the surrogate.
        training: the recipe.
        run_dir: gets everything.
        progress: show a bar.

    Returns:
        Flat metrics: `train/seconds`, `train/samples`, `train/failed`, `train/label_core_seconds` (failures counted),
        and those of `score_parameters`.

    Raises:
        InputError: the parts do not fit the number of samples, or `run_dir` holds a training on other data.
    """
    parts = split(len(table), data, least=2)
    if is_first():
        write_json(run_dir / "split.json", {name: rows.tolist() for name, rows in parts.items()})
    some = {name: table.take(rows) if len(rows) else None for name, rows in parts.items()}
    learned, held = some["train"], some["valid"]
    assert learned is not None
    hold_to_data(
        run_dir,
        {
            "training part": learned.content(),
            "validation part": "" if held is None else held.content(),
            "network": content_hash(vars(config)),
        },
    )
    surrogate, result = fit_parametric(
        learned, held, config, training, run_dir, calibration=some["calibration"], progress=progress
    )
    note_fit(result, run_dir)
    if not is_first():
        return {}
    metrics = {
        "train/seconds": result.seconds,
        "train/samples": float(len(learned)),
        "train/failed": float(sum(table.failed.values())),
        "train/compilations": float(result.compilations["train"]),
        "train/label_core_seconds": float(table.seconds.sum() + table.failed_seconds),
    }
    held_out: dict[str, float] = {}
    if (test := some["test"]) is not None:
        held_out |= score_parameters(surrogate, test, "test")
    for name, other in others.items():
        held_out |= score_parameters(surrogate, other, f"test/{name}")
    log_scores(run_dir, held_out)
    metrics |= held_out
    surrogate.with_facts(scores=metrics).save(run_dir / "surrogate")
    return metrics


def score_parameters(surrogate: ParametricSurrogate, table: ParameterTable, prefix: str) -> dict[str, float]:
    """Scores on samples, in the targets' own units; with several targets the key names each.

    Besides those of `experiments.scores`: `relative_error`, the mean of |error| / |truth|, and
    `mean_relative_error`, the mean of |error| over the mean of |truth|, which a truth near 0 does not spoil.

    Args:
        surrogate: what is scored.
        table: samples that its training has not seen.
        prefix: of the keys.
    """
    answer = surrogate.predict_table(table.values)
    metrics = {f"{prefix}/samples": float(len(table)), f"{prefix}/in_domain": float(answer["in_domain"].mean())}
    for k, name in enumerate(surrogate.targets):
        truth = table.labels[:, k]
        head = prefix if len(surrogate.targets) == 1 else f"{prefix}/{name}"
        ends = {end: answer[f"{name}_{end}"] for end in ("low", "high") if f"{name}_{end}" in answer}
        found = scores(truth, answer[name], "1", low=ends.get("low"), high=ends.get("high"))
        metrics |= {f"{head}/{key}": value for key, value in found.items()}
        error = np.abs(answer[name] - truth)
        if (np.abs(truth) > 0).all():
            metrics[f"{head}/relative_error"] = float((error / np.abs(truth)).mean())
        if np.abs(truth).mean() > 0:
            metrics[f"{head}/mean_relative_error"] = float(error.mean() / np.abs(truth).mean())
    return metrics


def evaluate_parametric(
    surrogate: ParametricSurrogate, files: Sequence[Path], columns: dict[str, str], rejects: RejectLog | None = None
) -> dict[str, float]:
    """Score a saved surrogate on stores, each under `test/<stem>/`.

    Args:
        surrogate: what is scored.
        files: the stores.
        columns: target -> output of the stores that it is compared with.
        rejects: gets the records that cannot be used.

    Raises:
        InputError: a store does not answer the same question.
    """
    inputs = [v.name for v in surrogate.facts.layout.inputs]
    metrics: dict[str, float] = {}
    for path in files:
        table = _read(path, [columns[t] for t in surrogate.targets], inputs, rejects)
        if (table.layout.columns, table.layout.units) != (surrogate.columns, surrogate.facts.layout.units):
            raise InputError(
                f"its inputs are {', '.join(table.layout.columns)}",
                where=str(path),
                remedy=f"The surrogate takes {', '.join(surrogate.columns)}",
            )
        metrics |= score_parameters(surrogate, table, f"test/{path.stem}")
    return metrics


def _read(path: Path, targets: list[str], inputs: list[str] | None, rejects: RejectLog | None) -> ParameterTable:
    table, bad = read_parameters(path, targets, inputs)
    if rejects is not None:
        for row, reason in bad:
            rejects.add(path, row, "", reason)
    return table
