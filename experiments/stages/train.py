"""`understudy train`: train a surrogate on labels, and write its held-out scores to `metrics.json`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING, DictConfig

from data.files import write_json
from data.identity import molecule_keys
from data.molecules.foreign import graphs
from experiments.application.run_directory import configuration_checked
from experiments.application.stage import (
    StageSettings,
    application,
    build,
    existing_file,
    first_rejects,
    names,
    show_readings,
    summary,
)
from experiments.tasks.parts import VALIDATION
from experiments.tasks.scores import scores
from experiments.tasks.tables import Table, TableSettings, labelled_split, read_table
from experiments.tasks.tuning import fixed_by_weights
from surrogates.learning import fit_note
from surrogates.learning.devices import DeviceConfig, enable_compilation_cache, initialise_distributed, is_first
from surrogates.learning.learned_from import hash_keys, save_hashes
from surrogates.learning.loop import TrainConfig
from surrogates.learning.tracking import log_scores
from surrogates.properties.fit import fit_molecular
from surrogates.properties.surrogate import MolecularConfig, MolecularSurrogate

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings(StageSettings):
    """The keys of `understudy train`; each group is checked where it is used."""

    devices: DeviceConfig = field(default_factory=DeviceConfig)
    model: Any = MISSING
    data: Any = MISSING
    train: Any = MISSING
    tune: Any = MISSING
    baseline: Any = None


def molecular_config(node: DictConfig) -> MolecularConfig:
    """The settings of a molecular surrogate, from the configuration group `model`."""
    return build(MolecularConfig, {str(k): v for k, v in node.items() if k != "kind"}, where="model")


def train_graph(config: DictConfig, run_dir: Path) -> dict[str, float]:
    """Train on a table: split, fit, calibrate, score on the test part; only the first of several processes scores."""
    data = build(TableSettings, config.data, where="data")
    recipe = build(TrainConfig, config.train, where="train")
    model = molecular_config(config.model)
    path = existing_file(data.file, "data.file")
    with first_rejects(run_dir) as rejects:
        labels = read_table(path, data.smiles, names(data.target), names(data.unit), rejects)
    show_readings([labels.reading], run_dir)
    split = labelled_split(labels, data)
    table = graphs(labels.smiles, str(path))

    def start() -> None:
        configuration_checked(run_dir)
        if is_first():
            split.save(run_dir / "split.json")

    surrogate = fit_molecular(
        table,
        labels.values,
        split,
        model,
        recipe,
        run_dir,
        init=None,
        label_fingerprint=labels.fingerprint,
        units=labels.units,
        on_start=start,
    )
    if not is_first():
        return {}
    # These are the costs of all sessions of the fit.
    metrics = {
        **fit_note.fit_metrics(run_dir),
        "train/molecules": float(len(split["train"])),
        **labels.counts("train"),
    }
    part = next((name for name in ("test", VALIDATION) if len(split[name])), "test")
    held_out = score_table(surrogate, labels, split[part], part)
    log_scores(run_dir, held_out)
    surrogate.with_scores(held_out).save(run_dir / "surrogate")
    rows = np.concatenate([split[name] for name in ("train", "valid", "calibration")])
    save_hashes(run_dir / "surrogate", hash_keys(molecule_keys([labels.smiles[i] for i in rows])))
    metrics |= held_out
    return metrics


def score_table(
    surrogate: MolecularSurrogate,
    labels: Table,
    rows: np.ndarray,
    prefix: str,
    columns: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Scores on rows of a table, in the units of the targets; `in_domain` is the share inside the training domain.

    Args:
        surrogate: surrogate that is scored.
        labels: labelled molecules.
        rows: indices of molecules.
        prefix: prefix of the keys; if there are several targets, the target follows it.
        columns: target of the surrogate -> column of the table; None if the names are equal.
    """
    if not len(rows):
        return {}
    answer = surrogate.predict_table(graphs([labels.smiles[i] for i in rows], labels.reading.source))
    inside = answer["in_domain"]
    metrics = {f"{prefix}/in_domain": float(inside.mean())}
    if not inside.all():
        LOG.warning(
            "%s: %d of %d molecules are outside the training domain: predictions for them are extrapolations, and "
            "their intervals are not reliable",
            prefix,
            int((~inside).sum()),
            len(inside),
        )
    for target in labels.values if columns is None else columns:
        truth = labels.values[target if columns is None else columns[target]][rows]
        keep = np.isfinite(truth)
        if not keep.any():
            LOG.warning("no score of %s under %s: none of its %d molecules has a label", target, prefix, len(rows))
            continue
        target_scores = scores(
            truth[keep],
            answer[target][keep],
            "1",
            low=answer[f"{target}_low"][keep],
            high=answer[f"{target}_high"][keep],
        )
        head = prefix if len(labels.values) == 1 else f"{prefix}/{target}"
        metrics |= {f"{head}/{name}": value for name, value in target_scores.items()}
    return metrics


def train(config: DictConfig, run_dir: Path) -> None:
    """Train the kind of surrogate that the configuration chooses."""
    enable_compilation_cache()
    initialise_distributed(build(TrainSettings, config, where="").devices)
    if config.model.kind == "potentials":
        from experiments.tasks.forces import train_forces

        metrics = train_forces(config, run_dir)
    elif config.model.kind == "fields":
        from experiments.tasks.fields import train_fields

        metrics = train_fields(config, run_dir)
    elif config.model.kind == "forecasts":
        from experiments.tasks.forecasts import train_forecaster

        metrics = train_forecaster(config, run_dir)
    elif config.model.kind == "meshes":
        from experiments.tasks.meshes import train_meshes

        metrics = train_meshes(config, run_dir)
    elif config.model.kind == "parameters":
        from experiments.tasks.parameters import train_parametric

        metrics = train_parametric(config, run_dir)
    else:
        metrics = train_graph(config, run_dir)
    if not is_first():
        return
    write_json(run_dir / "metrics.json", dict(sorted(metrics.items())))
    summary("Trained", {**closing_rows(metrics), "surrogate": run_dir / "surrogate"})


def closing_rows(metrics: Mapping[str, float]) -> dict[str, str]:
    """The rows of the table that ends a training: costs, scores, and the part that they were computed on."""
    # Scores of forecasts for each channel and lead are omitted here; the page of an evaluation shows them.
    shown = [
        name
        for name in metrics
        if (name.startswith(("test/", f"{VALIDATION}/")) and name.count("/") < 3)
        or name in ("train/seconds", "train/core_seconds")
    ]
    rows = {name: f"{metrics[name]:.6g}" for name in shown}
    if not any(name.startswith("test/") for name in metrics):
        validated = any(name.startswith(f"{VALIDATION}/") for name in metrics)
        rows["held-out scores"] = (
            "none: those of the validation part, which chose the weights, are better than on others; set samples aside "
            "for a test to get held-out ones"
            if validated
            else "none, since nothing was set aside for a test"
        )
    return rows


def unused_in_training(config: DictConfig) -> dict[str, str]:
    """Keys that this kind of surrogate or training does not use, with the reason; see `application.strict`."""
    kind = str(config.model.kind)
    unused: dict[str, str] = {}
    tuned = config.tune.surrogate is not None
    if kind not in ("potentials", "forecasts"):
        unused["tune"] = f"a surrogate of {kind} always begins with fresh weights"
    elif kind == "forecasts":
        unused |= {f"tune.{name}": "a forecaster is fine-tuned by tune.surrogate alone" for name in TUNE_OF_POTENTIALS}
    elif tuned:
        unused |= fixed_by_weights(config)
    else:
        unused |= {f"tune.{name}": "nothing is fine-tuned without tune.surrogate" for name in ("replay", "frozen_body")}
    if kind != "potentials":
        unused["baseline"] = f"a surrogate of {kind} learns no difference to a baseline"
    elif config.get("baseline") is not None:
        unused["data.isolated_atoms"] = "differences to a baseline have no energies of isolated atoms"
    if not config.devices.distributed:
        others = ("coordinator", "processes", "process")
        unused |= {f"devices.{name}": "there is one process without devices.distributed=true" for name in others}
    file = config.data.get("file")
    if kind == "properties" and file is not None and Path(str(file)).expanduser().is_dir():
        unused |= {f"data.{name}": "the store says it" for name in ("smiles", "unit")}
    return unused


#: Keys of `tune` that only potentials have.
TUNE_OF_POTENTIALS = ("head", "replay", "frozen_body")

main = application("train", train, unused=unused_in_training)
