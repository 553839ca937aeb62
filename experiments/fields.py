"""Train and score a surrogate of fields on stores of a campaign, or on files of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError
from data.fields import Fields, read_fields
from data.rejects import RejectLog
from experiments.parts import PartedData, split
from experiments.stage import build, existing_file, first_rejects, names, refuse_equal_stems, write_json
from simulators.base import content_hash
from surrogates.devices import is_first
from surrogates.field_metrics import non_finite, relative_l2, relative_l2_per_step
from surrogates.fit_note import note_fit
from surrogates.operator.bands import covered, horizon
from surrogates.operator.field import FieldSurrogate
from surrogates.operator.field_facts import FieldConfig, FieldSettings
from surrogates.operator.fit_field import fit_field
from surrogates.operator.networks import ARCHITECTURES
from surrogates.resuming import hold_to_data
from surrogates.tracking import log_scores
from surrogates.train import TrainConfig

#: Relative L2 error up to which a rollout counts as reliable.
TOLERANCE = 0.2


@dataclass(frozen=True)
class FieldData(PartedData):
    """What to learn from; the keys of `data` in experiment=fluids/..., besides those of `PartedData`.

    The file may also be a Zarr or NetCDF file with a dim `sample`, or a file of PyTorch tensors; the grids of those of
    `test` may be others.

    Attributes:
        output: variable to learn; None for the only one.
        inputs: variables that decide it; None for those of the store.
        periodic: whether the domain is; None as its attributes say.
    """

    parts: list[Any] = field(default_factory=lambda: [0.8, 0.05, 0.05, 0.1])
    output: str | None = None
    inputs: list[str] | None = None
    periodic: bool | None = None


def field_config(node: DictConfig) -> FieldConfig:
    """What the configuration group `surrogate` says.

    Raises:
        InputError: an architecture or key is unknown, or a value is out of range.
    """
    name = str(node.network.get("architecture"))
    if name not in ARCHITECTURES:
        raise InputError(
            f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}", where="surrogate.network.architecture"
        )
    inner = OmegaConf.masked_copy(node.network, [str(k) for k in node.network if k != "architecture"])
    outer = OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("kind", "network")])
    network = build(ARCHITECTURES[name][0], inner, where="surrogate.network")
    return FieldConfig(**vars(build(FieldSettings, outer, where="surrogate")), network=network)


def train_fields(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """The stage `understudy train experiment=fluids/...`.

    Raises:
        InputError: a file is missing, a key is unknown or a value is out of range.
    """
    data = build(FieldData, config.data, where="data")
    tests = [existing_file(name, "data.test") for name in names(data.test)]
    refuse_equal_stems(tests, "data.test")
    with first_rejects(run_dir) as rejects:
        fields = _read(existing_file(data.file, "data.file"), data, rejects)
        others = {path.stem: _read(path, data, rejects) for path in tests}
    return train_surrogate(
        fields,
        others,
        data,
        field_config(config.surrogate),
        build(TrainConfig, config.train, where="train"),
        run_dir,
    )


def train_surrogate(
    fields: Fields,
    tests: dict[str, Fields],
    data: FieldData,
    config: FieldConfig,
    training: TrainConfig,
    run_dir: Path,
    *,
    progress: bool = True,
) -> dict[str, float]:
    """Split, fit, calibrate, score, and save to `run_dir/surrogate`.

    Args:
        fields: samples to split as `data.parts` says.
        tests: more samples, scored under `test/<name>/`.
        data: the split.
        config: the surrogate.
        training: the recipe.
        run_dir: gets everything.
        progress: show a bar.

    Returns:
        Flat metrics: `train/seconds`, `train/samples`, `train/label_core_seconds` where the store tells,
        `train/data_wait_share`, `train/compilations`, and those of `score_fields`.

    Raises:
        InputError: the parts do not fit the number of samples, or `run_dir` holds a training on other data.
    """
    parts = split(len(fields), data)
    if is_first():
        write_json(run_dir / "split.json", {name: rows.tolist() for name, rows in parts.items()})
    hold_to_data(
        run_dir,
        {
            "training part": fields.take(parts["train"]).content(),
            "validation part": fields.take(parts["valid"]).content(),
            "network": content_hash(config.to_json()),
        },
    )
    surrogate, result = fit_field(
        fields.take(parts["train"]),
        fields.take(parts["valid"]) if len(parts["valid"]) else None,
        config,
        training,
        run_dir,
        calibration=fields.take(parts["calibration"]) if len(parts["calibration"]) else None,
        progress=progress,
    )
    note_fit(result, run_dir)
    if not is_first():
        return {}
    metrics = {
        "train/seconds": result.seconds,
        "train/samples": float(len(parts["train"])),
        "train/data_wait_share": result.data_wait_share,
        "train/compilations": float(result.compilations["train"]),
    }
    if np.isfinite(fields.seconds).all():
        metrics["train/label_core_seconds"] = float(fields.seconds.sum())
    held_out: dict[str, float] = {}
    if len(parts["test"]):
        held_out |= score_fields(surrogate, fields.take(parts["test"]), "test")
    for name, other in tests.items():
        held_out |= score_fields(surrogate, other, f"test/{name}")
    log_scores(run_dir, held_out)
    metrics |= held_out
    surrogate.with_facts(scores=metrics).save(run_dir / "surrogate")
    return metrics


def score_fields(surrogate: FieldSurrogate, fields: Fields, prefix: str) -> dict[str, float]:
    """Scores on samples: relative L2 error, of trajectories also by time, and what the bands hold.

    Args:
        surrogate: what is scored.
        fields: samples that its training has not seen.
        prefix: of the keys.
    """
    answer = surrogate.predict_fields(fields)
    evolves = fields.layout.evolves
    # The first time is given, not predicted.
    first = 1 if evolves else 0
    truth, mean = (np.moveaxis(a, -1, 2)[:, first:] for a in (fields.states, answer.mean))
    metrics = {f"{prefix}/samples": float(len(fields)), f"{prefix}/non_finite": float(non_finite(mean))}
    if metrics[f"{prefix}/non_finite"]:
        return metrics
    metrics[f"{prefix}/relative_l2"] = float(relative_l2(mean, truth))
    if evolves:
        steps = relative_l2_per_step(mean, truth)
        metrics[f"{prefix}/first_step_relative_l2"] = float(steps[0])
        metrics[f"{prefix}/last_step_relative_l2"] = float(steps[-1])
    bands = surrogate.facts.bands
    if bands is not None and fields.states.shape[1] <= len(bands.factor):
        inside = covered(fields.states, answer.mean, bands.half_width(answer.std))[:, first:]
        metrics[f"{prefix}/points_in_band"] = float(inside.mean())
        metrics[f"{prefix}/fields_in_band"] = float((inside >= 1 - bands.alpha).mean())
        if evolves:
            # As far as the bound says, and whether the error was that small until then.
            error = _relative(answer.mean, fields.states)
            said = horizon(bands.error_bound(answer.mean, answer.std), TOLERANCE)
            held = horizon(error, TOLERANCE) >= said
            metrics[f"{prefix}/predicted_horizon_steps"] = float(said.mean())
            metrics[f"{prefix}/true_horizon_steps"] = float(horizon(error, TOLERANCE).mean())
            metrics[f"{prefix}/horizons_held"] = float(held.mean())
    return metrics


def evaluate_fields(surrogate: Path, files: Sequence[Path], rejects: RejectLog | None = None) -> dict[str, float]:
    """Score a saved surrogate on files, each under `test/<stem>/`.

    Raises:
        InputError: a file does not answer the same question.
    """
    refuse_equal_stems(files, "data.test")
    loaded = FieldSurrogate.load(surrogate)
    layout = loaded.facts.layout
    inputs = [v.name for v in (layout.initial, *layout.static, *layout.parameters) if v is not None]
    data = FieldData(file="", output=layout.output.name, inputs=inputs, periodic=all(layout.periodic))
    metrics: dict[str, float] = {}
    for path in files:
        metrics |= score_fields(loaded, _read(path, data, rejects), f"test/{path.stem}")
    return metrics


def _read(path: Path, data: FieldData, rejects: RejectLog | None) -> Fields:
    fields, bad = read_fields(path, output=data.output, inputs=data.inputs, periodic=data.periodic)
    if rejects is not None:
        for row, reason in bad:
            rejects.add(path, row, "", reason)
    return fields


def _relative(mean: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Relative L2 error of each sample at each time."""
    flat = (*mean.shape[:2], -1)
    above = np.linalg.norm((mean - truth).reshape(flat), axis=2)
    return above / np.maximum(np.linalg.norm(truth.reshape(flat), axis=2), 1e-12)
